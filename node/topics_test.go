package node

import (
	"errors"
	"slices"
	"testing"
)

func TestATopicReachesEverySubscriberButNotTheSender(t *testing.T) {
	a, b := startPair(t, limits(func(l *Limits) { l.ChannelMessages = 1000 }))
	c := startNode(t, limits(func(l *Limits) { l.ChannelMessages = 1000 }))
	connect(t, c, a)
	topic := topicName(a.id, "news")
	for _, n := range []*Node{a, b, c} {
		if err := errors.Join(n.Subscribe(topic), n.Subscribe(topic)); err != nil {
			t.Fatal(err)
		}
	}
	subscribe(t, a, b, topic)
	subscribe(t, a, c, topic)
	const count = 200
	for i := range count {
		reached, err := a.Publish(within(t), topic, number(0, i, 100+i*200))
		if err != nil || reached.Peers != 2 {
			t.Fatalf("reached %d, %v", reached.Peers, err)
		}
	}
	for _, n := range []*Node{b, c} {
		got := receive(t, n, count)
		expectOrder(t, got, 1, count)
		for _, m := range got {
			if m.From != a.id.String() || m.Channel != topic {
				t.Fatalf("message from %s on %s", m.From, m.Channel)
			}
		}
		expectLosses(t, n, directionIn, map[string]uint64{})
	}
	if waiting := a.queue.Len(); waiting != 0 {
		t.Errorf("%d messages wait at the sender", waiting)
	}
	if peers := a.TopicPeers(); !slices.IsSorted(peers) || len(peers) != 2 {
		t.Errorf("topic peers %v", peers)
	}
}

func TestTopicMessagesOfAllSizesKeepTheirOrder(t *testing.T) {
	const count = 100
	a, b := startPair(t, limits(func(l *Limits) { l.ChannelMessages = count }))
	topic := topicName(a.id, "x")
	subscribe(t, a, b, topic)
	for i := range count {
		if _, err := a.Publish(within(t), topic, number(0, i, []int{20, 500_000, 30, 40}[i%4])); err != nil {
			t.Fatal(err)
		}
	}
	expectOrder(t, receive(t, b, count), 1, count)
}

func TestPublishingWithoutSubscribersIsCounted(t *testing.T) {
	n := startNode(t)
	topic := topicName(n.id, "nobody")
	if reached, err := n.Publish(within(t), topic, []byte("x")); err != nil || reached.Peers != 0 {
		t.Errorf("reached %d, %v", reached.Peers, err)
	}
	expectLosses(t, n, directionOut, map[string]uint64{lossNoPeers: 1})
	eventOf(t, n, EventMessagesLost, map[string]any{"reason": lossNoPeers, "channel": topic})
}

func TestPublishingAfterUnsubscribingGoesOn(t *testing.T) {
	a, b := startPair(t)
	topic := topicName(a.id, "x")
	if err := a.Subscribe(topic); err != nil {
		t.Fatal(err)
	}
	subscribe(t, a, b, topic)
	if err := errors.Join(a.Unsubscribe(topic), a.Unsubscribe(topic), a.Unsubscribe(topicName(a.id, "never seen"))); err != nil {
		t.Fatal(err)
	}
	if reached, err := a.Publish(within(t), topic, []byte("still here")); err != nil || reached.Peers != 1 {
		t.Errorf("reached %d, %v", reached.Peers, err)
	}
	if got := receive(t, b, 1); string(got[0].Data) != "still here" {
		t.Errorf("received %q", got[0].Data)
	}
	if err := b.Unsubscribe(topic); err != nil {
		t.Fatal(err)
	}
	eventOf(t, a, EventTopicPeerLeft, map[string]any{"peer": b.id.String(), "channel": topic})
	subscribe(t, a, b, topic)
	if _, err := a.Publish(within(t), topic, []byte("again")); err != nil {
		t.Fatal(err)
	}
	receive(t, b, 1)
}

func TestTopicMessagesAreChecked(t *testing.T) {
	a, b := startPair(t, limits(func(l *Limits) { l.MessageBytes = 100_000 }))
	topic := topicName(a.id, "x")
	subscribe(t, a, b, topic)
	if _, err := a.Publish(within(t), topic, make([]byte, 100_001)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a message that is too large: %v", err)
	}
	if _, err := a.Publish(within(t), directChannel(a.id, b.id, "~"), []byte("x")); !errors.Is(err, ErrArgument) {
		t.Errorf("a direct channel: %v", err)
	}
	if err := a.Subscribe(directChannel(a.id, b.id, "~")); !errors.Is(err, ErrArgument) {
		t.Errorf("subscribing to a direct channel: %v", err)
	}
	if _, err := a.Publish(within(t), topic, make([]byte, 100_000)); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, b, 1); len(got[0].Data) != 100_000 {
		t.Errorf("%d bytes", len(got[0].Data))
	}
}

func TestFloodNodesTalkToGossipNodes(t *testing.T) {
	a, b := startNode(t, func(o *Options) { o.Config.Network.FloodSub = true }), startNode(t)
	connect(t, a, b)
	topic := topicName(a.id, "x")
	for _, pair := range [][2]*Node{{a, b}, {b, a}} {
		subscribe(t, pair[0], pair[1], topic)
		if _, err := pair[0].Publish(within(t), topic, []byte("x")); err != nil {
			t.Fatal(err)
		}
		if got := receive(t, pair[1], 1); got[0].Protocol != "/floodsub/1.0.0" {
			t.Errorf("it came by %s", got[0].Protocol)
		}
	}
}
