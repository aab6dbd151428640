package node

import (
	"errors"
	"testing"
	"time"

	"peerbus/node/session"
)

func TestASubscriberThatLeavesGetsNothingAndReturns(t *testing.T) {
	a, b := startPair(t)
	topic := topicName(a.id, "x")
	subscribeDirect(t, topic, a, b)
	mustPublish(t, a, topic, []byte("one"))
	receive(t, b, 1)
	if err := a.Flush(within(t), topic); err != nil { // an unacknowledged message would be in doubt
		t.Fatal(err)
	}
	if err := errors.Join(b.Unsubscribe(topic), b.Unsubscribe(topic)); err != nil {
		t.Fatal(err)
	}
	eventOf(t, a, EventTopicPeerLeft, map[string]any{"channel": topic, "peer": b.id.String()})
	if p := mustPublish(t, a, topic, []byte("two")); p.Peers != 0 || p.Missed != nil {
		t.Errorf("published %+v without a subscriber", p)
	}
	expectLosses(t, a, directionOut, map[string]uint64{lossNoPeers: 1})
	if err := b.Subscribe(topic); err != nil {
		t.Fatal(err)
	}
	awaitSubscribers(t, topic, a, 1)
	mustPublish(t, a, topic, []byte("three"))
	if m := receive(t, b, 1)[0]; string(m.Data) != "three" || m.Gap != 0 {
		t.Errorf("received %q with gap %d", m.Data, m.Gap)
	}
	for _, e := range mustPop(t, b) {
		if e.Type == EventSenderRestarted {
			t.Error("the publisher has not restarted")
		}
	}
}

// TestANewSubscriptionTellsOfNoRestart: the session of the one before may not have ended yet when its publisher begins anew.
func TestANewSubscriptionTellsOfNoRestart(t *testing.T) {
	n, h := startNode(t), startRawHost(t)
	dialRaw(t, h, n)
	topic := topicName(h.ID(), "x")
	openDirect(t, topic, "", n)
	publish := func() {
		t.Helper()
		s, err := h.NewStream(within(t), n.id, session.Protocol)
		if err != nil {
			t.Fatal(err)
		}
		open := session.AppendOpen(nil, session.Open{Session: session.NewID(), Generation: 1, Oldest: 1, Channel: topic})
		message := session.AppendMessage(session.AppendPosition(nil, 1), session.Attributes{}, []byte("x"))
		if _, err := s.Write(append(open, message...)); err != nil {
			t.Fatal(err)
		}
		receive(t, n, 1)
	}
	for range 2 {
		if err := n.Subscribe(topic); err != nil {
			t.Fatal(err)
		}
		publish()
		if err := n.Unsubscribe(topic); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range mustPop(t, n) {
		if e.Type == EventSenderRestarted {
			t.Error("the publisher has not restarted")
		}
	}
	if err := n.Subscribe(topic); err != nil {
		t.Fatal(err)
	}
	publish()
	publish()
	eventOf(t, n, EventSenderRestarted, map[string]any{"peer": h.ID().String(), "channel": topic})
}

func mustPop(t testing.TB, n *Node) []Event {
	t.Helper()
	events, err := n.events.Pop(atOnce(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	return events
}

// TestASubscriberThatIsGoneIsReported: for the resume window its messages wait; then each is reported, until it returns.
func TestASubscriberThatIsGoneIsReported(t *testing.T) {
	dir := t.TempDir()
	a := startNode(t, func(o *Options) { o.Config.Channel.ResumeWindow = 300 * time.Millisecond })
	start := func() *Node {
		return startNode(t, func(o *Options) { o.Config.IdentityDir = dir })
	}
	b := start()
	connect(t, b, a)
	topic := topicName(a.id, "x")
	subscribeDirect(t, topic, a, b)
	mustPublish(t, a, topic, []byte("one"))
	receive(t, b, 1)
	if err := a.Flush(within(t), topic); err != nil {
		t.Fatal(err)
	}
	sever(t, a, b)
	waitUntil(t, "the subscriber is away", func() bool {
		for _, s := range a.topics.direct.find(topic).audience.Load().subscribers {
			if s.awaySince.Load() != 0 {
				return true
			}
		}
		return false
	})
	if p := mustPublish(t, a, topic, []byte("two")); p.Peers != 1 {
		t.Errorf("published %+v within the resume window", p)
	}
	waitUntil(t, "the subscriber is reported", func() bool {
		p := mustPublish(t, a, topic, []byte("more"))
		return p.Peers == 0 && len(p.Missed) == 1 && p.Missed[0] == MissedSubscriber{b.id, lossNotConnected}
	})
	eventOf(t, a, EventMessagesLost, map[string]any{"reason": lossNotConnected, "peer": b.id.String(), "channel": topic})
	if info, err := a.TopicInfo(topic); err != nil || len(info.Subscribers) != 1 || info.Subscribers[0].State != lossNotConnected {
		t.Errorf("info %+v, %v", info, err)
	}
}

// TestAStreamThatEndsBeforeItsConnectionMeansAwayNotUnsubscribed: pub/sub may notice the end of a killed peer first.
func TestAStreamThatEndsBeforeItsConnectionMeansAwayNotUnsubscribed(t *testing.T) {
	a, b := startPair(t)
	topic := topicName(a.id, "x")
	subscribeDirect(t, topic, a, b)
	d := a.topics.direct.find(topic)
	d.left(b.id)
	sever(t, a, b)
	eventOf(t, a, EventTopicPeerLeft, map[string]any{"peer": b.id.String(), "channel": topic})
	if info, err := a.TopicInfo(topic); err != nil || len(info.Subscribers) != 1 || info.Subscribers[0].State != "away" {
		t.Errorf("info %+v, %v", info, err)
	}
}

// sever ends the connections of two nodes and keeps them from connecting again.
func sever(t testing.TB, a, b *Node) {
	t.Helper()
	a.gate.refuse(b.id)
	b.gate.refuse(a.id)
	a.host.Peerstore().ClearAddrs(b.id)
	b.host.Peerstore().ClearAddrs(a.id)
	if err := a.host.Network().ClosePeer(b.id); err != nil {
		t.Fatal(err)
	}
}

func TestSubscribersByGossipAreReported(t *testing.T) {
	a, b := startPair(t)
	topic := topicName(a.id, "x")
	openDirect(t, topic, "", a)
	if err := b.Subscribe(topic); err != nil {
		t.Fatal(err)
	}
	want := MissedSubscriber{b.id, lossGossipOnly}
	waitUntil(t, "the subscriber by gossip is reported", func() bool {
		p := mustPublish(t, a, topic, []byte("x"))
		return p.Peers == 0 && len(p.Missed) == 1 && p.Missed[0] == want
	})
	if b.queue.Len() != 0 {
		t.Error("it received something")
	}
	if peers, err := a.WaitForTopicPeers(atOnce(), topic, 1); err == nil {
		t.Errorf("%d subscribers", peers)
	}
}

func TestANodeRefusesATopicThatItDidNotAskFor(t *testing.T) {
	a, b := startPair(t)
	topic := topicName(a.id, "x")
	openDirect(t, topic, "", a, b)
	d := a.topics.direct.find(topic)
	d.joined(b.id) // it never said so
	mustPublish(t, a, topic, []byte("x"))
	eventOf(t, a, EventDelivery, map[string]any{"channel": topic, "peer": b.id.String(), "state": "lost", "reason": string(session.ReasonRefused)})
	refusing := d.audience.Load().subscribers[0]
	if at := time.Unix(0, refusing.refusedAt.Load()); refusing.misses(at) != string(session.ReasonRefused) {
		t.Error("the refusal was told before it was noted")
	}
	waitUntil(t, "a publication says that the subscriber refuses", func() bool { // the first one may come after refusalPause
		p := mustPublish(t, a, topic, []byte("y"))
		return len(p.Missed) == 1 && p.Missed[0].Reason == string(session.ReasonRefused)
	})
	if b.queue.Len() != 0 {
		t.Error("it received something")
	}
}

func TestRulesHoldForDirectTopics(t *testing.T) {
	a, b := startPair(t)
	topic := topicName(a.id, "x")
	subscribeDirect(t, topic, a, b)
	if err := b.SetTopicRules(topic, &TopicRules{MaxBytes: 10}); err != nil {
		t.Fatal(err)
	}
	mustPublish(t, a, topic, make([]byte, 11))
	mustPublish(t, a, topic, []byte("small"))
	if m := receive(t, b, 1)[0]; string(m.Data) != "small" {
		t.Errorf("received %d bytes", len(m.Data))
	}
	expectLosses(t, b, directionIn, map[string]uint64{lossOversize: 1})
	eventOf(t, a, EventDelivery, map[string]any{"state": "lost", "peer": b.id.String(), "reason": "peer_refused_message"})
	if err := a.SetTopicRules(topic, &TopicRules{MaxBytes: 3}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Publish(within(t), topic, []byte("long")); !errors.Is(err, ErrArgument) {
		t.Errorf("an own message against the own rules: %v", err)
	}
	if err := errors.Join(a.SetTopicRules(topic, nil), b.Unsubscribe(topic), b.SetTopicRules(topic, &TopicRules{Allow: []string{}})); err != nil {
		t.Fatal(err)
	}
	eventOf(t, a, EventTopicPeerLeft, nil)
	if err := b.Subscribe(topic); err != nil {
		t.Fatal(err)
	}
	awaitSubscribers(t, topic, a, 1)
	mustPublish(t, a, topic, []byte("x"))
	eventOf(t, b, EventMessagesLost, map[string]any{"reason": lossNotMember})
	eventOf(t, a, EventDelivery, map[string]any{"state": "lost", "reason": string(session.ReasonRefused)})
}

func TestTheModeOfATopicStaysWhileItIsSubscribedTo(t *testing.T) {
	n := startNode(t)
	topic := topicName(n.id, "x")
	direct, gossip := TopicOptions{Mode: TopicDirect}, TopicOptions{Mode: TopicGossip}
	if err := n.Subscribe(topic); err != nil {
		t.Fatal(err)
	}
	if err := n.OpenTopic(topic, direct); !errors.Is(err, ErrRefused) {
		t.Errorf("direct while subscribed by gossip: %v", err)
	}
	if err := errors.Join(n.Unsubscribe(topic), n.OpenTopic(topic, direct), n.Subscribe(topic)); err != nil {
		t.Fatal(err)
	}
	if err := n.OpenTopic(topic, gossip); !errors.Is(err, ErrRefused) {
		t.Errorf("gossip while subscribed directly: %v", err)
	}
	if err := errors.Join(n.Unsubscribe(topic), n.OpenTopic(topic, gossip), n.Subscribe(topic), n.Unsubscribe(topic), n.OpenTopic(topic, direct)); err != nil {
		t.Fatal(err)
	}
	if err := n.OpenTopic(topic+":rv", direct); !errors.Is(err, ErrArgument) {
		t.Errorf("a rendezvous topic: %v", err)
	}
	if err := n.Subscribe(directAnnouncement + topic); !errors.Is(err, ErrArgument) {
		t.Errorf("the name of an announcement: %v", err)
	}
	silent := startNode(t, overChat)
	if err := silent.OpenTopic(topic, direct); !errors.Is(err, ErrUnsupported) {
		t.Errorf("without acknowledged channels: %v", err)
	}
}

func TestAClosingSubscriberLeaves(t *testing.T) {
	a, b := startPair(t)
	topic := topicName(a.id, "x")
	subscribeDirect(t, topic, a, b)
	mustPublish(t, a, topic, []byte("x"))
	receive(t, b, 1)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "nobody subscribes", func() bool {
		p := mustPublish(t, a, topic, []byte("x"))
		return p.Peers == 0 && len(p.Missed) == 0
	})
}
