package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	ma "github.com/multiformats/go-multiaddr"
)

func punching(o *Options) { o.Config.NAT.HolePunching = true }

func broadly(o *Options) { o.Config.Relay.WithBroadLimits = true }

// relayedPair is two nodes that could dial each other, but a reached b through a relay.
func relayedPair(t *testing.T, change ...func(*Options)) (a, b, relay *Node) {
	t.Helper()
	return relayedPairAt(t, startNode(t, asRelay, broadly), change...)
}

func relayedPairAt(t *testing.T, relay *Node, change ...func(*Options)) (*Node, *Node, *Node) {
	t.Helper()
	a, b := startNode(t, change...), startNode(t, change...)
	reserve(t, b, relay)
	if _, err := a.Connect(within(t), []string{circuitOf(t, b, relay)}); err != nil {
		t.Fatal(err)
	}
	return a, b, relay
}

// relayedConnOf is the relayed connection to a peer.
func relayedConnOf(t *testing.T, n *Node, id peer.ID) network.Conn {
	t.Helper()
	conns := n.punches.relayedConns(id)
	if len(conns) == 0 {
		t.Fatal("no relayed connection")
	}
	return conns[0]
}

func TestARelayedConnectionOnOneMachineBecomesDirectAndTheRelayedOneIsClosed(t *testing.T) {
	quickly := func(o *Options) { o.tune = func(n *Node) { n.punches.linger = 10 * time.Millisecond } }
	a, b, _ := relayedPairAt(t, startNode(t, asRelay), punching, quickly)
	eventOf(t, b, EventConnectionDirect, map[string]any{"peer": a.id.String()})
	eventOf(t, b, EventHolePunch, map[string]any{"peer": a.id.String(), "way": wayNear, "direct": true, "reason": ""})
	eventOf(t, a, EventConnectionDirect, map[string]any{"peer": b.id.String()})
	exchange(t, a, b, 10)
	expectRelayedClosed(t, a, b)
	exchange(t, a, b, 10)
	for _, p := range a.Peers() {
		if p.ID == b.id.String() && p.Relayed {
			t.Errorf("still listed as %+v", p)
		}
	}
}

// TestTheRelayedConnectionStaysUntilThePeerKnowsTheDirectOne holds the news of the direct connection back on the other side.
func TestTheRelayedConnectionStaysUntilThePeerKnowsTheDirectOne(t *testing.T) {
	a, b, _ := relayedPairAt(t, startNode(t, asRelay), lingersFor(time.Millisecond)) // limited: no topic holds it
	a.punches.linger = time.Hour                                                     // a may know, and close it, before all of it is told
	waiting := func() bool {
		return slices.ContainsFunc(ownGoroutines(), func(stack string) bool {
			return strings.Contains(stack, "awaitIdentify") && strings.Contains(stack, "retireRelayed")
		})
	}
	a.host.Network().Notify(&network.NotifyBundle{ConnectedF: func(_ network.Network, c network.Conn) {
		waitUntil(t, "the other side waits, or closes", func() bool { return waiting() || len(b.punches.relayedConns(a.id)) == 0 })
		if len(b.punches.relayedConns(a.id)) == 0 {
			t.Error("the relayed connection was closed")
		}
	}})
	mustDialDirectly(t, b, a)
	expectRelayedClosed(t, a, b)
	eventOf(t, a, EventConnectionDirect, map[string]any{"peer": b.id.String()})
}

// expectRelayedClosed waits until both sides have closed them.
func expectRelayedClosed(t *testing.T, a, b *Node) {
	t.Helper()
	waitUntil(t, "the relayed connection is closed", func() bool {
		return len(a.punches.relayedConns(b.id)) == 0 && len(b.punches.relayedConns(a.id)) == 0
	})
}

func TestWithoutHolePunchingAConnectionStaysRelayed(t *testing.T) {
	a, b, _ := relayedPair(t)
	b.punches.improve(relayedConnOf(t, b, a.id))
	exchange(t, a, b, 5)
	if a.punches.direct(b.id) || len(b.punches.list()) != 0 {
		t.Errorf("attempts %v", b.punches.list())
	}
}

func TestTheDiallerTriesWhenTheOtherSideCannot(t *testing.T) {
	relay := startNode(t, asRelay, broadly)
	a := startNode(t, hidden, punching, func(o *Options) {
		before := o.tune
		o.tune = func(n *Node) { before(n); n.punches.patience = 10 * time.Millisecond }
	})
	b := startNode(t, punching)
	reserve(t, b, relay)
	if _, err := a.Connect(within(t), []string{circuitOf(t, b, relay)}); err != nil {
		t.Fatal(err)
	}
	eventOf(t, a, EventHolePunch, map[string]any{"peer": b.id.String(), "way": wayNear, "direct": true})
	if !a.punches.direct(b.id) {
		t.Error("no direct connection")
	}
}

// givingUpSoon does not wait for a public address that never comes.
func givingUpSoon(o *Options) {
	before := o.tune
	o.tune = func(n *Node) { before(n); n.punches.service.patience = 10 * time.Millisecond }
}

func TestWhenNothingCanBeTriedTheReasonIsReported(t *testing.T) {
	relay, a, b := startNode(t, asRelay, broadly), startNode(t, hidden, punching), startNode(t, hidden, punching, givingUpSoon)
	reserve(t, b, relay)
	if _, err := a.Connect(within(t), []string{circuitOf(t, b, relay)}); err != nil {
		t.Fatal(err)
	}
	e := eventOf(t, b, EventHolePunch, map[string]any{"peer": a.id.String(), "direct": false})
	if !strings.Contains(e.Fields["reason"].(string), "no public address") {
		t.Errorf("reason %v", e.Fields["reason"])
	}
	exchange(t, a, b, 5)
}

func TestOnlyNearAddressesAreDialledUnasked(t *testing.T) {
	given := addrsOf(t, "/ip4/127.0.0.1/tcp/1", "/ip4/11.0.0.1/tcp/1", "/ip4/192.168.77.1/tcp/1",
		"/ip4/127.0.0.1/tcp/2/p2p/"+somePeer+"/p2p-circuit")
	relay := func(ip string) ma.Multiaddr { return addrsOf(t, "/ip4/"+ip+"/tcp/9/p2p/"+somePeer+"/p2p-circuit")[0] }
	if got := fmt.Sprint(nearAddresses(given, relay("127.0.0.1"))); got != "[/ip4/127.0.0.1/tcp/1]" {
		t.Errorf("with a relay on this machine: %s", got)
	}
	if got := nearAddresses(given, relay("11.0.0.9")); len(got) != 0 {
		t.Errorf("with a relay elsewhere: %s", got)
	}
}

func TestARestrictedDialReachesNoOtherAddress(t *testing.T) {
	a, b := startNode(t), startNode(t)
	a.host.Peerstore().AddAddrs(b.id, b.host.Addrs(), time.Hour)
	if err := a.punches.forceDial(b.id, addrsOf(t, "/ip4/127.0.0.1/tcp/1")); err == nil {
		t.Error("it dialled an address that was not given")
	}
	if err := a.punches.forceDial(b.id, b.host.Addrs()); err != nil {
		t.Error(err)
	}
}

func TestNoForcedDialBeginsOnceTheNodeCloses(t *testing.T) {
	a, b := startNode(t), startNode(t)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := a.punches.forceDial(b.id, b.host.Addrs()); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
}

// TestMessagesMoveToTheDirectConnectionWithoutLossRepetitionOrReordering sends both ways while the connection changes.
func TestMessagesMoveToTheDirectConnectionWithoutLossRepetitionOrReordering(t *testing.T) {
	const each, switchAt = 100_000, 20_000
	a, b, relay := relayedPair(t, limits(func(l *Limits) { l.ChannelMessages, l.ChannelBytes = each, 1<<30 }))
	if !isRelayed(relayedConnOf(t, b, a.id).RemoteMultiaddr()) || a.punches.direct(b.id) {
		t.Fatal("not relayed")
	}
	var group sync.WaitGroup
	for _, pair := range [][2]*Node{{a, b}, {b, a}} {
		channel := directChannel(pair[0].id, pair[1].id, "~")
		group.Go(func() {
			var ctx context.Context
			for i := range each {
				if i%1000 == 0 { // patience is for progress, not for the whole
					ctx = within(t)
				}
				if err := pair[0].Send(ctx, channel, number(0, i, 64)); err != nil {
					t.Error(err)
					return
				}
				if i == switchAt && pair[0] == b {
					if err := b.punches.forceDial(a.id, a.host.Addrs()); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	fromRelay := receive(t, b, each)
	fromOther := receive(t, a, each)
	group.Wait()
	for _, pair := range [][2]*Node{{a, b}, {b, a}} {
		if err := pair[0].Flush(within(t), directChannel(pair[0].id, pair[1].id, "~")); err != nil {
			t.Error(err)
		}
	}
	expectOrder(t, fromRelay, 1, each)
	expectOrder(t, fromOther, 1, each)
	for _, n := range []*Node{a, b} {
		expectLosses(t, n, directionOut, nil)
		expectLosses(t, n, directionIn, nil)
		for _, l := range n.links.all() {
			l.state.Lock()
			if l.peer != relay.id && l.state.current != nil && l.state.current.relayed {
				t.Error("chat is still on the relayed connection")
			}
			l.state.Unlock()
		}
	}
	if stats := relay.Statistics().Relay; stats.Bytes == 0 {
		t.Error("nothing went through the relay")
	}
}

func TestAChannelWhoseStreamOpensOnTheRelayWhileADirectConnectionComesLeavesTheRelay(t *testing.T) {
	a, b, _ := relayedPair(t)
	channel := directChannel(b.id, a.id, "~")
	deliver := func() {
		t.Helper()
		if err := b.Send(within(t), channel, []byte("x")); err != nil {
			t.Fatal(err)
		}
		receive(t, a, 1)
	}
	deliver()
	relayed := relayedConnOf(t, b, a.id)
	if err := b.punches.forceDial(a.id, a.host.Addrs()); err != nil {
		t.Fatal(err)
	}
	o := b.outbounds.find(channel)
	direct := func() bool {
		deliver() // an idle channel opens its stream with the next message
		address := o.info().Address
		return address != "" && !strings.Contains(address, "/p2p-circuit")
	}
	waitUntil(t, "the channel is on the direct connection", direct)

	// As if the direct connection had come after the stream was asked for and before it was there.
	o.state.Lock()
	stream := o.state.stream
	o.state.moveTo = relayed
	o.state.Unlock()
	o.streamEnded(stream, errMoved)
	deliver()
	waitUntil(t, "the channel has left the relay", direct)
}

func TestWhatDCUtRTellsBecomesOneRecordPerPunch(t *testing.T) {
	n := startNode(t)
	other := startNode(t).id
	tell := func(events ...any) {
		for _, e := range events {
			n.punches.Trace(&holepunch.Event{Remote: other, Evt: e})
		}
	}
	attempt := func(success bool, reason string) []any {
		return []any{&holepunch.StartHolePunchEvt{}, &holepunch.HolePunchAttemptEvt{Attempt: 7},
			&holepunch.EndHolePunchEvt{Success: success, EllapsedTime: 5 * time.Second, Error: reason}}
	}
	for _, c := range []struct {
		name   string
		events []any
		want   PunchRecord
	}{
		{"the dial back works", []any{&holepunch.DirectDialEvt{Success: true, EllapsedTime: time.Second}},
			PunchRecord{Way: wayDial, Direct: true, Attempts: 1, TookMs: 1000}},
		{"the second attempt works", append(append([]any{&holepunch.DirectDialEvt{Error: "no"}}, attempt(false, "late")...), attempt(true, "")...),
			PunchRecord{Way: wayPunch, Direct: true, Attempts: 2, TookMs: 5000}},
		{"no attempt works", append(append(attempt(false, "a"), attempt(false, "b")...), attempt(false, "c")...),
			PunchRecord{Way: wayPunch, Attempts: 3, TookMs: 5000, Reason: "c"}},
		{"the exchange fails", []any{&holepunch.ProtocolErrorEvt{Error: "no stream"}},
			PunchRecord{Way: wayPunch, Attempts: 1, Reason: "no stream"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(n.punches.list())
			tell(c.events...)
			records := n.punches.list()[before:]
			if len(records) != 1 {
				t.Fatalf("records %v", records)
			}
			c.want.Peer, c.want.Time = other.String(), records[0].Time
			if records[0] != c.want {
				t.Errorf("got %+v, want %+v", records[0], c.want)
			}
			eventOf(t, n, EventHolePunch, map[string]any{"way": c.want.Way, "direct": c.want.Direct, "reason": c.want.Reason})
		})
	}
	for range 2 * maxPunchRecords {
		tell(&holepunch.ProtocolErrorEvt{Error: "again"})
	}
	if got := len(n.punches.list()); got != maxPunchRecords {
		t.Errorf("%d records are kept", got)
	}
}
