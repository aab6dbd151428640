package node

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/proto"

	"peerbus/node/envelope"
)

type rosterVectors struct {
	Topic, Receiver string
	Steps           []rosterStep
}

type rosterStep struct {
	Name, Author string
	Bytes        vectorBytes
	Lost         string
	Skipped      uint64
	Roster       *Roster
}

// rendezvousNode subscribes to a rendezvous topic, without a host.
func rendezvousNode(t testing.TB, receiver, topic string) (*Node, channelName) {
	t.Helper()
	n := offlineNode(t, receiver)
	name, err := parseTopic(topic)
	if err != nil {
		t.Fatal(err)
	}
	n.topics.state.rendezvous = newRendezvous(n, name)
	return n, name
}

func validate(t testing.TB, n *Node, name channelName, author string, forwarder peer.ID, data []byte) pubsub.ValidationResult {
	t.Helper()
	from, err := peer.Decode(author)
	if err != nil {
		t.Fatal(err)
	}
	if forwarder == "" {
		forwarder = from
	}
	return n.topics.validateRendezvous(name, forwarder, &pubsub.Message{Message: &pb.Message{From: []byte(from), Data: data}})
}

func TestRendezvousListsOfTheVectors(t *testing.T) {
	var vectors rosterVectors
	readVectors(t, "rendezvous/lists.json", &vectors)
	n, name := rendezvousNode(t, vectors.Receiver, vectors.Topic)
	n.id = "" // the vectors' receiver is also an author
	lost := map[string]uint64{}
	var stored *Roster
	for _, step := range vectors.Steps {
		verdict := validate(t, n, name, step.Author, "", step.Bytes)
		if accepted := step.Lost == ""; accepted != (verdict == pubsub.ValidationAccept) {
			t.Errorf("%s: verdict %v, want loss %q", step.Name, verdict, step.Lost)
		}
		if step.Lost != "" {
			lost[step.Lost]++
		} else {
			stored = step.Roster
		}
		if step.Skipped > 0 {
			lost[lossRendezvousRefused] += step.Skipped
		}
		if got := n.losses.totals()[directionIn]; !maps.Equal(got, lost) {
			t.Fatalf("%s: losses %v, want %v", step.Name, got, lost)
		}
		if got, _ := n.Rendezvous(); !reflect.DeepEqual(got.Roster(), *stored) {
			t.Fatalf("%s: stored %+v, want %+v", step.Name, got, *stored)
		}
	}
	n.losses.close()
}

func TestARefusedListBlamesItsAuthorOnly(t *testing.T) {
	var vectors rosterVectors
	readVectors(t, "rendezvous/lists.json", &vectors)
	n, name := rendezvousNode(t, vectors.Receiver, vectors.Topic)
	n.id = ""
	first, stranger := vectors.Steps[0], vectors.Steps[1]
	someone := mustID(t, vectors.Receiver)
	for _, c := range []struct {
		what      string
		step      rosterStep
		forwarder peer.ID
		want      pubsub.ValidationResult
	}{
		{"the owner's list, forwarded", first, someone, pubsub.ValidationAccept},
		{"a stale list from its author", first, "", pubsub.ValidationIgnore},
		{"a stranger's list, forwarded", stranger, mustID(t, first.Author), pubsub.ValidationIgnore},
		{"a stranger's list from itself", stranger, "", pubsub.ValidationReject},
	} {
		if got := validate(t, n, name, c.step.Author, c.forwarder, c.step.Bytes); got != c.want {
			t.Errorf("%s: verdict %v, want %v", c.what, got, c.want)
		}
	}
	n.losses.close()
}

func TestListsAfterLeavingAreIgnored(t *testing.T) {
	var vectors rosterVectors
	readVectors(t, "rendezvous/lists.json", &vectors)
	n, name := rendezvousNode(t, vectors.Receiver, vectors.Topic)
	n.id = ""
	n.topics.leaveRendezvousLocked(name)
	if got := validate(t, n, name, vectors.Steps[0].Author, "", vectors.Steps[0].Bytes); got != pubsub.ValidationIgnore {
		t.Errorf("verdict %v", got)
	}
	if _, known := n.Rendezvous(); known {
		t.Error("a list is stored")
	}
}

func TestTooManyPeersAreRefused(t *testing.T) {
	entries := strings.Repeat("7,", MaxRosterPeers) + "7"
	data := rosterEnvelope(t, somePeer, `{"peers": [`+entries+`], "update_count": 1}`)
	if _, err := parseRoster(data, "", somePeer); err == nil {
		t.Error("accepted")
	}
}

// rosterEnvelope is for lists that the vectors do not hold.
func rosterEnvelope(t testing.TB, author, content string) []byte {
	t.Helper()
	data, err := proto.Marshal(&envelope.Message{
		Sender: author, ContentType: envelope.TypeWorldAgentsList, Content: &envelope.Message_JsonContent{JsonContent: content},
	})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// listOf is the bytes of a list with ids as ordinary members.
func listOf(t testing.TB, author peer.ID, count int64, ids ...peer.ID) []byte {
	t.Helper()
	roster := Roster{Peers: []RosterPeer{}, UpdateCount: count}
	for _, id := range ids {
		roster.Peers = append(roster.Peers, RosterPeer{ID: id.String(), Addrs: []string{}, Direction: "inbound", Misc: 1})
	}
	content, err := json.Marshal(roster)
	if err != nil {
		t.Fatal(err)
	}
	return rosterEnvelope(t, author.String(), string(content))
}

func TestAPublishedListReachesSubscribersAndNoQueue(t *testing.T) {
	owner, reader := startPair(t)
	topic := rendezvousOf(owner.id)
	subscribe(t, owner, reader, topic)
	for count := range int64(3) {
		if _, err := owner.Publish(within(t), topic, listOf(t, owner.id, count, reader.id)); err != nil {
			t.Fatal(err)
		}
		eventOf(t, reader, EventRendezvousUpdated, map[string]any{"update_count": count, "channel": topic})
	}
	roster, known := reader.Rendezvous()
	if !known || roster.UpdateCount != 2 || len(roster.Peers) != 1 || roster.Peers[0].ID != reader.id.String() {
		t.Errorf("stored %+v", roster)
	}
	if waiting := reader.queue.Len(); waiting != 0 {
		t.Errorf("%d messages wait", waiting)
	}
	lost := reader.Statistics().Lost[directionIn]
	delete(lost, lossRendezvousStale) // what a fetch by the reader overtook
	if len(lost) != 0 {
		t.Errorf("lost %v", lost)
	}
}

func TestTheNodeItselfPublishesOnlyValidLists(t *testing.T) {
	n := startNode(t)
	topic := rendezvousOf(n.id)
	for name, data := range map[string][]byte{
		"no list":           []byte("hello"),
		"in another's name": listOf(t, mustID(t, somePeer), 1),
		"a skipped entry":   rosterEnvelope(t, n.id.String(), `{"peers": [7], "update_count": 1}`),
	} {
		if _, err := n.Publish(within(t), topic, data); err == nil || !strings.Contains(err.Error(), ErrArgument.Error()) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAnotherRendezvousReplacesTheFirst(t *testing.T) {
	owner, reader := startPair(t)
	first, second := topicName(owner.id, "a:rv"), topicName(owner.id, "b:rv")
	subscribe(t, owner, reader, first)
	if _, err := owner.Publish(within(t), first, listOf(t, owner.id, 7)); err != nil {
		t.Fatal(err)
	}
	eventOf(t, reader, EventRendezvousUpdated, nil)
	subscribe(t, owner, reader, second)
	if roster, known := reader.Rendezvous(); known {
		t.Errorf("the first list stayed: %+v", roster)
	}
	waitUntil(t, "the first topic is left", func() bool {
		reached, err := owner.Publish(within(t), first, listOf(t, owner.id, 8))
		return err == nil && reached.Peers == 0
	})
	if _, err := owner.Publish(within(t), second, listOf(t, owner.id, 0)); err != nil {
		t.Fatal(err)
	}
	eventOf(t, reader, EventRendezvousUpdated, map[string]any{"channel": second, "update_count": int64(0)})
}

func rendezvousOf(owner peer.ID) string { return topicName(owner, "rv") }

// subscribe waits until the publisher knows of it.
func subscribe(t *testing.T, publisher, subscriber *Node, topic string) {
	t.Helper()
	if err := subscriber.Subscribe(topic); err != nil {
		t.Fatal(err)
	}
	name, err := parseTopic(topic)
	if err != nil {
		t.Fatal(err)
	}
	joined, err := publisher.topics.forPublishing(name)
	if err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the publisher sees the subscriber of "+topic, func() bool { return joined.hasPeer(subscriber.id) })
}

func TestAPanicOfTheValidatorFailsTheNodeOnly(t *testing.T) {
	n, name := rendezvousNode(t, anotherPeer, rendezvousOf(mustID(t, somePeer)))
	data := listOf(t, mustID(t, somePeer), 1)
	n.topics.state.rendezvous.node = nil // what makes it panic does not matter
	if got := validate(t, n, name, somePeer, "", data); got != pubsub.ValidationIgnore {
		t.Errorf("verdict %v", got)
	}
	if err := n.Usable(); err == nil || !strings.Contains(fmt.Sprint(err), "rendezvous") {
		t.Errorf("the node is usable: %v", err)
	}
}

// masterList is a message with a list of one master.
func masterList(t testing.TB, author string, count int64, master string) []byte {
	t.Helper()
	content, err := json.Marshal(Roster{Peers: []RosterPeer{{ID: master, Addrs: []string{}, Misc: masterRole}}, UpdateCount: count})
	if err != nil {
		t.Fatal(err)
	}
	data, err := proto.Marshal(&envelope.Message{
		Sender: author, ContentType: envelope.TypeWorldAgentsList, Content: &envelope.Message_JsonContent{JsonContent: string(content)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestAfterAResetTheNextAllowedListCountsWhateverItsCount(t *testing.T) {
	owner, other := peerID(t).String(), peerID(t).String()
	n, name := rendezvousNode(t, peerID(t).String(), owner+"::ps:rv")
	give := func(author string, count int64, want pubsub.ValidationResult) {
		t.Helper()
		if verdict := validate(t, n, name, author, "", masterList(t, author, count, owner)); verdict != want {
			t.Fatalf("list %d: verdict %v, not %v", count, verdict, want)
		}
	}
	give(owner, 5, pubsub.ValidationAccept)
	give(owner, 2, pubsub.ValidationIgnore)
	n.ResetRendezvous()
	if newest, ok := n.Rendezvous(); !ok || newest.UpdateCount != 5 {
		t.Fatalf("the newest list stays: %+v", newest)
	}
	give(other, 9, pubsub.ValidationReject) // not allowed, reset or not
	give(owner, 2, pubsub.ValidationAccept)
	give(owner, 2, pubsub.ValidationIgnore)
	give(owner, 3, pubsub.ValidationAccept)
}

func TestMastersOfTheGuardPublishLists(t *testing.T) {
	owner, master := peerID(t).String(), peerID(t).String()
	n, name := rendezvousNode(t, peerID(t).String(), owner+"::ps:rv")
	list := masterList(t, master, 1, owner)
	if verdict := validate(t, n, name, master, "", list); verdict != pubsub.ValidationReject {
		t.Fatalf("nobody knows the master: %v", verdict)
	}
	g := &fakeGuard{}
	g.state.master = master
	if err := n.SetGuard(g); err != nil {
		t.Fatal(err)
	}
	if verdict := validate(t, n, name, master, "", list); verdict != pubsub.ValidationAccept {
		t.Fatalf("the guard knows the master: %v", verdict)
	}
	if newest, _ := n.Rendezvous(); newest.Listed || newest.After != noRoster {
		t.Fatalf("no list named the author: %+v", newest)
	}
}
