package node

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"

	"peerbus/queue"
)

// lingersFor is how long a relayed connection without streams stays beside a direct one.
func lingersFor(d time.Duration) func(*Options) {
	return func(o *Options) { o.tune = func(n *Node) { n.punches.linger = d } }
}

func manyTopicMessages(l *Limits) {
	l.ChannelMessages, l.ChannelBytes, l.PeerQueueBytes = 100_000, 1<<30, 1<<30
}

// bothSubscribe answers when each publishes to the other.
func bothSubscribe(t *testing.T, a, b *Node, topic string) {
	t.Helper()
	subscribe(t, a, b, topic)
	subscribe(t, b, a, topic)
}

// publishAll publishes numbered messages, and does something after half of them.
func publishAll(t *testing.T, n *Node, topic string, count, size int, half func()) {
	for i := range count {
		if reached, err := n.Publish(within(t), topic, number(0, i, size)); err != nil || reached.Peers != 1 {
			t.Errorf("message %d of %s reached %d subscribers: %v", i, n.id, reached.Peers, err)
			return
		}
		if i == count/2 && half != nil {
			half()
		}
	}
}

func mustDialDirectly(t *testing.T, from, to *Node) {
	if err := from.punches.forceDial(to.id, to.host.Addrs()); err != nil {
		t.Error(err)
	}
}

func expectOnlyDirect(t *testing.T, a, b *Node) {
	t.Helper()
	for _, pair := range [][2]*Node{{a, b}, {b, a}} {
		n, other := pair[0], pair[1].id
		waitUntil(t, "the relayed connection is closed", func() bool { return len(n.punches.relayedConns(other)) == 0 })
		if n.topics.outboxes.streamOf(other).relayed() {
			t.Error("the topic is on a relayed connection")
		}
	}
}

// TestTopicsMoveToTheDirectConnectionWithoutLossRepetitionOrReordering publishes both ways while the connection changes.
func TestTopicsMoveToTheDirectConnectionWithoutLossRepetitionOrReordering(t *testing.T) {
	for name, c := range map[string]struct{ count, size int }{"small": {1_000, 64}, "large": {100, 300_000}} {
		t.Run(name, func(t *testing.T) {
			a, b, relay := relayedPair(t, limits(manyTopicMessages), lingersFor(20*time.Millisecond))
			topic := topicName(a.id, "x")
			bothSubscribe(t, a, b, topic)
			got := map[*Node][]queue.Message{}
			var group sync.WaitGroup
			group.Go(func() { publishAll(t, a, topic, c.count, c.size, nil) })
			group.Go(func() { publishAll(t, b, topic, c.count, c.size, func() { mustDialDirectly(t, b, a) }) })
			for _, n := range []*Node{a, b} {
				got[n] = receive(t, n, c.count)
			}
			group.Wait()
			for _, n := range []*Node{a, b} {
				eventOf(t, n, EventTopicsMoved, nil)
				expectOrder(t, got[n], 1, c.count)
				expectLosses(t, n, directionOut, map[string]uint64{})
				expectLosses(t, n, directionIn, map[string]uint64{})
			}
			expectOnlyDirect(t, a, b)

			before := relay.Statistics().Relay.Bytes
			publishAll(t, a, topic, 10, c.size, nil)
			publishAll(t, b, topic, 10, c.size, nil)
			expectOrder(t, receive(t, a, 10), 1, 10)
			expectOrder(t, receive(t, b, 10), 1, 10)
			if after := relay.Statistics().Relay.Bytes; after != before {
				t.Errorf("%d bytes went through the relay", after-before)
			}
		})
	}
}

func TestNobodyLeavesATopicThatMoves(t *testing.T) {
	a, b, _ := relayedPair(t, lingersFor(20*time.Millisecond))
	topic := topicName(a.id, "x")
	bothSubscribe(t, a, b, topic)
	mustDialDirectly(t, b, a)
	expectOnlyDirect(t, a, b)
	for _, n := range []*Node{a, b} {
		events, err := n.events.Pop(within(t), 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if e.Type == EventTopicPeerLeft || e.Type == EventPeerDisconnected {
				t.Errorf("event %s %v", e.Type, e.Fields)
			}
		}
	}
}

func TestATopicOfAPeerThatCannotMoveStaysOnTheRelayedConnectionAndTheDiagnosisSaysSo(t *testing.T) {
	relay := startNode(t, asRelay, broadly)
	a, b := startNode(t, lingersFor(5*time.Millisecond)), startNode(t, lingersFor(5*time.Millisecond))
	a.host.RemoveStreamHandler(TopicMoveProtocol)
	reserve(t, b, relay)
	if _, err := a.Connect(within(t), []string{circuitOf(t, b, relay)}); err != nil {
		t.Fatal(err)
	}
	topic := topicName(a.id, "x")
	bothSubscribe(t, a, b, topic)
	mustDialDirectly(t, b, a)
	eventOf(t, a, EventTopicsMoved, map[string]any{"peer": b.id.String()})
	publishAll(t, a, topic, 50, 100, nil)
	publishAll(t, b, topic, 50, 100, nil)
	expectOrder(t, receive(t, a, 50), 1, 50)
	expectOrder(t, receive(t, b, 50), 1, 50)
	d, err := b.Diagnose(within(t))
	if err != nil {
		t.Fatal(err)
	}
	if held := d.Connections.Lingering; len(held) != 1 || held[0].Peer != a.id.String() || !slices.Equal(held[0].Protocols, []string{"/meshsub/1.3.0"}) {
		t.Errorf("lingering connections %+v", held)
	}
	if !b.topics.outboxes.streamOf(a.id).relayed() {
		t.Error("the topic has moved")
	}
}

func TestWithARelayThatLimitsTopicsBeginOnTheDirectConnection(t *testing.T) {
	a, b, relay := relayedPairAt(t, startNode(t, asRelay), lingersFor(5*time.Millisecond))
	topic := topicName(a.id, "x")
	if err := b.Subscribe(topic); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Publish(within(t), topic, []byte("x")); err == nil {
		t.Error("publishing over the limited connection was not refused")
	}
	before := relay.Statistics().Relay.Bytes
	mustDialDirectly(t, b, a)
	if _, err := a.WaitForTopicPeers(within(t), topic, 1); err != nil {
		t.Fatal(err)
	}
	publishAll(t, a, topic, 50, 1000, nil)
	expectOrder(t, receive(t, b, 50), 1, 50)
	if after := relay.Statistics().Relay.Bytes; after-before > 50*1000 {
		t.Errorf("%d bytes went through the relay", after-before)
	}
	expectOnlyDirect(t, a, b)
}

func TestWhenTheDirectConnectionEndsTopicsGoOnThroughTheRelayAndMoveAgain(t *testing.T) {
	a, b, _ := relayedPair(t, lingersFor(5*time.Millisecond))
	topic := topicName(a.id, "x")
	bothSubscribe(t, a, b, topic)
	a.gate.restrict(b.id, []ma.Multiaddr{relayedConnOf(t, a, b.id).RemoteMultiaddr()}) // no way but the relay
	for range 3 {
		mustDialDirectly(t, b, a)
		eventOf(t, b, EventTopicsMoved, map[string]any{"peer": a.id.String()})
		expectOnlyDirect(t, a, b)
		if err := b.punches.directConn(a.id).Close(); err != nil { // as when the hole closes
			t.Fatal(err)
		}
		waitUntil(t, "the peers are connected through the relay", func() bool { return a.webrtc.onlyRelayed(b.id) && b.webrtc.onlyRelayed(a.id) })
		waitUntil(t, "both streams are there again", func() bool {
			there := func(n, other *Node) bool { s := n.topics.outboxes.streamOf(other.id); return s != nil && s.relayed() }
			return there(a, b) && there(b, a)
		})
		for _, pair := range [][2]*Node{{a, b}, {b, a}} {
			if _, err := pair[0].WaitForTopicPeers(within(t), topic, 1); err != nil {
				t.Fatal(err)
			}
			publishAll(t, pair[0], topic, 20, 100, nil)
			expectOrder(t, receive(t, pair[1], 20), 1, 20)
		}
	}
}

// TestTheRelayedConnectionWhoseEndIsToldLastGoesBack is the order of events of a direct connection that ends right after the
// relayed one was closed for it.
func TestTheRelayedConnectionWhoseEndIsToldLastGoesBack(t *testing.T) {
	a, b, _ := relayedPair(t)
	relayed := relayedConnOf(t, a, b.id)
	a.punches.back.note(b.id, []network.Conn{relayed})
	if err := relayed.Close(); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the peers are connected again", func() bool { return a.isConnected(b.id) })
}

func TestAPeerThatWasDisconnectedIsNotDialledBackThroughTheRelay(t *testing.T) {
	for name, disconnects := range map[string]func(a, b *Node) error{
		"by this side":  func(a, b *Node) error { return a.Disconnect(b.id) },
		"by the other":  func(a, b *Node) error { return b.Disconnect(a.id) },
		"it has closed": func(_, b *Node) error { return b.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			a, b, _ := relayedPair(t, lingersFor(5*time.Millisecond))
			mustDialDirectly(t, b, a)
			expectNoRelayed := func(n, other *Node) {
				waitUntil(t, "the relayed connection is closed", func() bool { return len(n.punches.relayedConns(other.id)) == 0 })
			}
			expectNoRelayed(a, b)
			expectNoRelayed(b, a)
			if err := disconnects(a, b); err != nil {
				t.Fatal(err)
			}
			waitUntil(t, "the peer is gone", func() bool { return !a.isConnected(b.id) })
			waitUntil(t, "the way back was decided about", func() bool {
				a.punches.back.state.Lock()
				defer a.punches.back.state.Unlock()
				return a.punches.back.state.byPeer[b.id] == nil
			})
			waitUntil(t, "nothing dials", func() bool {
				return !slices.ContainsFunc(ownGoroutines(), func(stack string) bool { return strings.Contains(stack, "(*waysBack).dial") })
			})
			// The dialler of a connection that the other side refuses may have it for a moment.
			waitUntil(t, "it is not connected again", func() bool { return !a.isConnected(b.id) })
		})
	}
}

func TestWhenTheRelayedConnectionBreaksDuringTheMoveTopicsStartAnew(t *testing.T) {
	a, b, _ := relayedPair(t, limits(manyTopicMessages), lingersFor(time.Hour))
	topic := topicName(a.id, "x")
	bothSubscribe(t, a, b, topic)
	for i := range 100 {
		if _, err := a.Publish(within(t), topic, number(0, i, 100_000)); err != nil {
			t.Fatal(err)
		}
	}
	relayed := relayedConnOf(t, b, a.id)
	mustDialDirectly(t, b, a)
	eventOf(t, a, EventTopicsMoved, nil)
	_ = relayed.Close()
	waitUntil(t, "both streams are on the direct connection", func() bool {
		there := func(n, other *Node) bool { s := n.topics.outboxes.streamOf(other.id); return s != nil && !s.relayed() }
		return there(a, b) && there(b, a)
	})
	for _, pair := range [][2]*Node{{a, b}, {b, a}} {
		if _, err := pair[0].WaitForTopicPeers(within(t), topic, 1); err != nil {
			t.Fatal(err)
		}
	}
	waitUntil(t, "a message arrives", func() bool {
		if _, err := a.Publish(within(t), topic, number(1, 0, 50)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond) // before both have announced themselves none comes
		defer cancel()
		got, err := b.queue.Receive(ctx, "", 1000, 0)
		return err == nil && len(got) > 0 && len(got[len(got)-1].Data) == 50
	})
}
