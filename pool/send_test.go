package pool

import (
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"peerbus/node/envelope"
)

func TestSendWrapsForThePeersNetwork(t *testing.T) {
	c := newNodeConn(t, func(o *NodeConnOptions) { o.Common.Token = "tok" })
	c.public.connect(t, "p", Inbound)
	must(t, c.Send(t.Context(), Outgoing{Peer: "p", ContentType: "misc", Content: JSONContent(`{"a":1}`), Trail: "x"}))
	sent := c.public.state.sent[0]
	var m envelope.Message
	must(t, proto.Unmarshal(sent.payload, &m))
	if sent.channel != ownPublic+"::dm:p-misc~x" || m.GetChannel() != sent.channel || m.GetSender() != ownPublic ||
		m.GetPiggyback() != "tok0" || m.GetContentType() != "misc" || m.GetJsonContent() != `{"a":1}` ||
		m.GetTimestampNet() != "2026-01-02 03:04:05.000000" {
		t.Fatalf("got %s: %v", sent.channel, &m)
	}
	must(t, c.SetToken("new"))
	must(t, c.Send(t.Context(), Outgoing{Peer: "q", ContentType: "misc", Network: NetworkWorld}))
	sent = c.private.state.sent[0]
	must(t, proto.Unmarshal(sent.payload, &m))
	if sent.channel != ownPrivate+"::dm:q-misc" || m.GetPiggyback() != "new0" || m.GetContent() != nil {
		t.Fatalf("got %s: %v", sent.channel, &m)
	}
	wantError(t, c.Send(t.Context(), Outgoing{Peer: "q", ContentType: "misc"}), ErrNotPooled)
	wantError(t, c.Send(t.Context(), Outgoing{Peer: "q", Network: "nowhere"}), ErrNotFound)
	wantError(t, c.Send(t.Context(), Outgoing{Network: NetworkWorld}), ErrNotFound)
}

func TestTopicsGoToTheNetworkOfTheirPeer(t *testing.T) {
	c := newNodeConn(t, nil)
	c.public.connect(t, "p", Inbound)
	must(t, c.Subscribe(ownPublic, "own", ""))
	must(t, c.Subscribe("p", "pooled", NetworkWorld))
	must(t, c.Subscribe("q", "default", ""))
	must(t, c.Unsubscribe("q", "default", ""))
	wantList(t, "public", c.public.state.subscribed, "own", "pooled")
	wantList(t, "world", c.private.state.subscribed, "default")
	wantError(t, c.Set.Subscribe("q", "x", ""), ErrNotPooled)
	wantError(t, c.Set.Unsubscribe("q", "x", "nowhere"), ErrNotFound)

	reached, err := c.Publish(t.Context(), ownPrivate, ownPrivate+"::ps:t", "misc", RawContent([]byte("x")))
	if reached != 1 || err != nil || c.private.state.sent[0].channel != ownPrivate+"::ps:t" {
		t.Fatalf("reached %d, error %v", reached, err)
	}
	_, err = c.Publish(t.Context(), "q", "q::ps:t", "misc", Content{})
	wantError(t, err, ErrNotPooled)
}

func TestConnectSaysWhetherARelayWon(t *testing.T) {
	c := newNodeConn(t, nil)
	for address, want := range map[string]bool{"/ip4/127.0.0.1/tcp/1": false, "/ip4/127.0.0.1/tcp/1/p2p/x/p2p-circuit": true} {
		c.public.state.address = address
		id, relayed, err := c.Connect(t.Context(), NetworkPublic, []string{"x"})
		if id != "reached" || relayed != want || err != nil {
			t.Errorf("%s: %s, %v, %v", address, id, relayed, err)
		}
	}
	_, _, err := c.Connect(t.Context(), NetworkPublic, nil)
	wantError(t, err, ErrArgument)
	_, _, err = c.Connect(t.Context(), "nowhere", []string{"x"})
	wantError(t, err, ErrNotFound)
	wantPool(t, c.Set, "reached", "")
}

func TestStatisticsAreNoCommunication(t *testing.T) {
	c := newNodeConn(t, nil)
	if c.PassedTimeSinceLastCommunication() != math.MaxInt64 {
		t.Fatal("huge before the first message")
	}
	for _, kind := range []string{envelope.TypeStatsUpdate, envelope.TypeStatsRequest, envelope.TypeStatsResponse} {
		must(t, c.Send(t.Context(), Outgoing{Peer: "p", ContentType: kind, Network: NetworkPublic}))
	}
	if c.PassedTimeSinceLastCommunication() != math.MaxInt64 {
		t.Fatal("statistics count as sent")
	}
	c.Check(NetworkPublic, "p", someChannel, []byte("any raw message"))
	if passed := c.PassedTimeSinceLastCommunication(); passed < 0 || passed > time.Hour {
		t.Fatalf("passed %v", passed)
	}
}

func TestContentGoesToItsField(t *testing.T) {
	stats, err := proto.Marshal(&envelope.StatBatch{Updates: []*envelope.StatUpdate{{StatName: "s"}}})
	must(t, err)
	sample, err := proto.Marshal(&envelope.StreamSampleContent{Samples: map[string]*envelope.StreamSample{"a": {}}})
	must(t, err)
	for _, c := range []struct {
		content Content
		check   func(*envelope.Message) bool
	}{
		{StatsContent(stats), func(m *envelope.Message) bool { return m.GetStatsUpdate().GetUpdates()[0].GetStatName() == "s" }},
		{StreamSampleContent(sample), func(m *envelope.Message) bool { return len(m.GetStreamSample().GetSamples()) == 1 }},
		{RawContent(nil), func(m *envelope.Message) bool { _, raw := m.GetContent().(*envelope.Message_RawContent); return raw }},
	} {
		var m envelope.Message
		must(t, proto.Unmarshal(wrap("s", "t", "c", "", time.Unix(0, 0), c.content), &m))
		if !c.check(&m) {
			t.Errorf("got %v", &m)
		}
	}
	for _, number := range []int{-1, 1, 5, 10} {
		_, err := ContentOfField(number, nil)
		wantError(t, err, ErrArgument)
	}
	for _, number := range []int{0, 6, 7, 8, 9} {
		_, err := ContentOfField(number, nil)
		must(t, err)
	}
}

func TestTheOwnTokenIsChecked(t *testing.T) {
	c := newNodeConn(t, func(o *NodeConnOptions) { o.Common.Token = "good" })
	for _, token := range []string{strings.Repeat("x", 1<<20), "a b", "a\x00", "é"} {
		wantError(t, c.SetToken(token), ErrArgument)
	}
	if *c.token.Load() != "good" {
		t.Fatal("the old token stays")
	}
}

func TestCloseTransportsClosesEveryNetwork(t *testing.T) {
	c := newNodeConn(t, nil)
	c.private.setBroken(true)
	wantError(t, c.CloseTransports(), errBroken)
	network, err := c.Network(NetworkPublic)
	if network != Network(c.public) || err != nil {
		t.Fatalf("got %v, error %v", network, err)
	}
	_, err = c.Network("nowhere")
	wantError(t, err, ErrNotFound)
}
