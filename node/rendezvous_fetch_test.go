package node

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

func subscribeTo(t *testing.T, n *Node, topic string) {
	t.Helper()
	if err := n.Subscribe(topic); err != nil {
		t.Fatal(err)
	}
}

func publishList(t *testing.T, owner *Node, count int64, ids ...peer.ID) {
	t.Helper()
	if _, err := owner.Publish(within(t), rendezvousOf(owner.id), listOf(t, owner.id, count, ids...)); err != nil {
		t.Fatal(err)
	}
}

func TestAJoiningNodeFetchesTheNewestListFromItsOwner(t *testing.T) {
	owner, early, late := startNode(t), startNode(t), startNode(t)
	publishList(t, owner, 5, early.id)
	want := map[string]any{"update_count": int64(5), "peer": owner.id.String(), "channel": rendezvousOf(owner.id)}

	connect(t, early, owner) // subscribes while connected
	subscribeTo(t, early, rendezvousOf(owner.id))
	eventOf(t, early, EventRendezvousUpdated, want)
	subscribeTo(t, late, rendezvousOf(owner.id)) // connects while subscribed
	connect(t, late, owner)
	eventOf(t, late, EventRendezvousUpdated, want)
	for _, n := range []*Node{early, late} {
		newest, known := n.Rendezvous()
		if !known || newest.UpdateCount != 5 || len(newest.Peers) != 1 || newest.Author != owner.id.String() || newest.Owner != owner.id.String() {
			t.Errorf("fetched %+v", newest)
		}
		expectLosses(t, n, directionIn, map[string]uint64{})
	}
}

// fetchRaw asks a node as a peer of its own making would.
func fetchRaw(t *testing.T, s network.Stream, request string) (string, error) {
	t.Helper()
	if err := writeSized(s, []byte(request)); err != nil {
		return "", err
	}
	answer, err := readSized(s, MaxRosterBytes)
	return string(answer), err
}

func TestOnlyNewerListsOfTheOwnTopicAreServed(t *testing.T) {
	owner := startNode(t)
	h := startRawHost(t)
	dialRaw(t, h, owner)
	ask := func(request string) (string, error) {
		s, err := h.NewStream(within(t), owner.id, RendezvousProtocol)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Reset() }()
		return fetchRaw(t, s, request)
	}
	topic, err := json.Marshal(rendezvousOf(owner.id))
	if err != nil {
		t.Fatal(err)
	}
	have := func(count string) string { return `{"topic":` + string(topic) + `,"update_count":` + count + `}` }
	if got, err := ask(have("-1")); got != "" || err != nil {
		t.Fatalf("before the first list: %q, %v", got, err)
	}
	publishList(t, owner, 5, h.ID())
	publishList(t, owner, 7, h.ID())
	for _, c := range []struct{ request, wants string }{
		{have("-1"), `"update_count":7`}, {have("6"), `"update_count":7`}, {have("7"), ""}, {have("8"), ""},
		{`{"topic":"x::ps:rv","update_count":-1}`, ""}, {`{}`, ""},
	} {
		if got, err := ask(c.request); err != nil || (c.wants == "") != (got == "") || !strings.Contains(got, c.wants) {
			t.Errorf("%s: %.200q, %v", c.request, got, err)
		}
	}
	for _, bad := range []string{"", "7", "[", strings.Repeat(" ", maxFetchRequest+1)} {
		if got, err := ask(bad); err == nil {
			t.Errorf("%.20q is answered %q", bad, got)
		}
	}
	guarded(t, owner, newFakeGuard())
	if got, err := ask(have("-1")); err == nil {
		t.Errorf("a stranger is answered %q", got)
	}
}

func TestAListThatWasFetchedBeforeItsPublicationArrivesIsNoLoss(t *testing.T) {
	n := startNode(t)
	owner := "the owner"
	r := newRendezvous(n, channelName{text: "list", owner: owner})
	for _, step := range []struct {
		count   int64
		fetched bool
		fresh   bool
		reason  string
	}{
		{5, true, true, ""},
		{5, false, false, ""}, // its copy on the topic
		{5, false, false, lossRendezvousStale},
		{6, false, true, ""},
		{6, true, false, lossRendezvousStale}, // takeFetched does not count it
		{6, false, false, lossRendezvousStale},
		{7, true, true, ""},
		{6, false, false, lossRendezvousStale},
		{8, false, true, ""},
		{8, false, false, lossRendezvousStale},
	} {
		list := Snapshot{Owner: owner, Author: owner}
		list.UpdateCount = step.count
		if fresh, reason := r.accept(list, step.fetched); fresh != step.fresh || reason != step.reason {
			t.Errorf("%+v: fresh %v, reason %q", step, fresh, reason)
		}
	}
}

func TestFetchesThatAreServedSideBySideAreBounded(t *testing.T) {
	var s rosterServer
	for k := range maxFetchesOfPeer {
		if _, ok := s.begin("greedy"); !ok {
			t.Fatalf("request %d is refused", k)
		}
	}
	if _, ok := s.begin("greedy"); ok {
		t.Error("one peer occupies more than its share")
	}
	for k := range maxFetchesServed - maxFetchesOfPeer {
		if _, ok := s.begin(peer.ID(rune(k))); !ok {
			t.Fatalf("peer %d is refused", k)
		}
	}
	if _, ok := s.begin("one more"); ok {
		t.Error("one more is served")
	}
	s.end("greedy")
	if _, ok := s.begin("one more"); !ok {
		t.Error("the freed place is not given")
	}
}

// TestAHostileOwnerCannotHurt: what a fetch answers is judged like a publication.
func TestAHostileOwnerCannotHurt(t *testing.T) {
	reader := startNode(t)
	h := startRawHost(t)
	answers := make(chan []byte, 1)
	h.SetStreamHandler(RendezvousProtocol, func(s network.Stream) {
		_, _ = readSized(s, maxFetchRequest)
		_, _ = s.Write(<-answers)
		_ = s.Close()
	})
	h.SetStreamHandler(ChatProtocol, func(s network.Stream) { _, _ = io.Copy(io.Discard, s) })
	subscribeTo(t, reader, rendezvousOf(h.ID()))
	dialRaw(t, h, reader)
	sized := func(text string) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...)
	}
	current := reader.topics.state.rendezvous
	for _, c := range []struct {
		answer []byte
		lost   map[string]uint64
	}{
		{binary.BigEndian.AppendUint32(nil, 1<<32-1), map[string]uint64{}},
		{sized("{")[:4], map[string]uint64{}},
		{sized("[]"), map[string]uint64{lossDecodeError: 1}},
		{sized(`{"peers":[],"update_count":-1}`), map[string]uint64{lossDecodeError: 2}},
		{sized(`{"peers":[7,{"id":"x"}],"update_count":9223372036854775807}`), map[string]uint64{lossDecodeError: 2, lossRendezvousRefused: 2}},
		{sized(`{"peers":[],"update_count":3}`), map[string]uint64{lossDecodeError: 2, lossRendezvousRefused: 2}},
	} {
		answers <- c.answer
		_ = reader.fetch(current, h.ID())
		expectLosses(t, reader, directionIn, c.lost)
	}
	if newest, _ := reader.Rendezvous(); newest.UpdateCount != 1<<63-1 {
		t.Errorf("stored %+v", newest)
	}
}

func FuzzReadSized(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 7})
	f.Add([]byte{255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, data []byte) {
		body, err := readSized(bytes.NewReader(data), 100)
		if err == nil && (len(body) > 100 || !bytes.Equal(body, data[4:4+len(body)])) {
			t.Errorf("%v reads as %v", data, body)
		}
	})
}
