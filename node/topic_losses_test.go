package node

import (
	"fmt"
	"math"
	"slices"
	"testing"
)

// lossesOf are those of a topic, as texts.
func lossesOf(t testing.TB, n *Node, topic string) (texts []string) {
	t.Helper()
	info, err := n.TopicInfo(topic)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range info.Losses {
		texts = append(texts, fmt.Sprintf("%s %s %s %d", l.Direction, l.Reason, l.Peer, l.Count))
	}
	return texts
}

func TestATopicsLossesAreCountedForEachPeer(t *testing.T) {
	a, b := startPair(t)
	topic, other := topicName(a.id, "x"), topicName(a.id, "other")
	mustPublish(t, a, topic, []byte("for nobody"))
	subscribe(t, a, b, topic)
	subscribe(t, a, b, other)
	if err := b.SetTopicRules(topic, &TopicRules{MaxBytes: 3}); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		mustPublish(t, a, topic, []byte("four"))
	}
	mustPublish(t, a, topic, []byte("end"))
	receive(t, b, 1)
	if got, want := lossesOf(t, b, topic), []string{"in oversize " + a.id.String() + " 5"}; !slices.Equal(got, want) {
		t.Errorf("lost on %s: %q, want %q", topic, got, want)
	}
	if got, want := lossesOf(t, a, topic), []string{"out no_peers  1"}; !slices.Equal(got, want) {
		t.Errorf("lost on %s: %q, want %q", topic, got, want)
	}
	if got := lossesOf(t, b, other); len(got) > 0 {
		t.Errorf("lost on %s: %q", other, got)
	}
}

func TestLossesOfTooManyPeersStandTogether(t *testing.T) {
	l := newLosses(NewEvents(10, func(bool) {}), func(string, func()) bool { return true })
	const topic = "a::ps:x"
	for i := range 2 * maxLossKinds {
		l.add(directionIn, lossOversize, topic, fmt.Sprint(i), 2)
	}
	if len(l.state.topics) > maxLossKinds {
		t.Errorf("%d kinds are kept", len(l.state.topics))
	}
	sum, together := uint64(0), uint64(0)
	for _, loss := range l.ofTopic(topic) {
		sum += loss.Count
		if loss.Peer == "" {
			together = loss.Count
		}
	}
	if sum != 4*maxLossKinds || together != sum-2*maxLossKinds/4*3 {
		t.Errorf("%d losses, %d of them without a peer", sum, together)
	}
}

func TestAnOversizedMessageOfAPeerIsCountedWhereItEndsTheStream(t *testing.T) {
	for _, floodsub := range []bool{false, true} {
		t.Run(fmt.Sprintf("floodsub %v", floodsub), func(t *testing.T) {
			a, b := startNode(t, func(o *Options) { o.Config.Network.FloodSub = floodsub }), startNode(t, func(o *Options) {
				o.Config.Network.FloodSub = floodsub
				o.Config.Limits.MessageBytes = 100_000
			})
			connect(t, a, b)
			topic := topicName(a.id, "x")
			subscribe(t, a, b, topic)
			mustPublish(t, a, topic, make([]byte, 200_000))
			eventOf(t, b, EventMessagesLost, map[string]any{"direction": directionIn, "reason": lossOversize, "peer": a.id.String()})
			expectLosses(t, b, directionIn, map[string]uint64{lossOversize: 1})
			waitUntil(t, "the publisher knows that it is not heard", func() bool {
				return mustPublish(t, a, topic, []byte("x")).Peers == 0
			})
		})
	}
}

func TestACountOfLossesDoesNotBeginAnewHoweverMuchAPeerLeavesOut(t *testing.T) {
	events := NewEvents(10, func(bool) {})
	l := newLosses(events, func(string, func()) bool { return true })
	const topic = "a::ps:x"
	for range 6 { // 5 * 2^62 is 2^62 modulo 2^64; the first is an event of its own
		l.add(directionIn, lossSkipped, topic, "peer", 1<<62)
	}
	if got := l.totals()[directionIn][lossSkipped]; got != math.MaxInt64 {
		t.Errorf("%d in all", got)
	}
	if got := l.ofTopic(topic); len(got) != 1 || got[0].Count != math.MaxInt64 {
		t.Errorf("%+v on the topic", got)
	}
	l.flush()
	got, err := events.Pop(within(t), 10)
	if err != nil || len(got) != 2 || got[1].Fields["count"] != uint64(math.MaxInt64) {
		t.Errorf("%v, %v", got, err)
	}
}
