package node

import (
	"testing"
	"time"

	"peerbus/node/session"
)

func subscribedOutbound(t *testing.T) (*outbound, *topicPiece) {
	t.Helper()
	o := &outbound{wake: make(chan struct{}, 1)}
	o.state.writer = true
	o.state.sender = session.NewSender(session.SenderOptions{Channel: "x"})
	p := newTopicPiece([][]byte{make([]byte, 1000)})
	p.encode(nil)
	return o, p
}

// takeFor accepts a piece as topicTake does.
func takeFor(t *testing.T, o *outbound, p *topicPiece, burst bool) (waits bool) {
	t.Helper()
	if err := p.acceptInto(o.state.sender); err != nil {
		t.Fatal(err)
	}
	return o.gatherLocked(burst)
}

func woken(o *outbound) bool {
	select {
	case <-o.wake:
		return true
	default:
		return false
	}
}

func TestALonePublicationIsWrittenAtOnce(t *testing.T) {
	o, p := subscribedOutbound(t)
	if takeFor(t, o, p, false) || !woken(o) || o.state.gathering == gatherWaits {
		t.Error("the writer waits for more")
	}
}

func TestTheWriterOfASubscriberWaitsInABurstUntilEnoughIsThere(t *testing.T) {
	o, p := subscribedOutbound(t)
	if !takeFor(t, o, p, true) || woken(o) || o.state.gathering != gatherWaits {
		t.Fatal("the writer does not wait for more")
	}
	for o.state.sender.Queued() < gatherBytes-2000 {
		if takeFor(t, o, p, true) || woken(o) {
			t.Fatal("the wait begins again, or ends early")
		}
	}
	for o.state.sender.Queued() < gatherBytes {
		takeFor(t, o, p, true)
	}
	if !woken(o) || o.state.gathering != gatherDue {
		t.Error("the writer goes on waiting although enough is there")
	}
}

func TestAPublicationAfterTheBurstEndsTheWait(t *testing.T) {
	o, p := subscribedOutbound(t)
	takeFor(t, o, p, true)
	if takeFor(t, o, p, false) || !woken(o) || o.state.gathering == gatherWaits {
		t.Error("the writer waits for more")
	}
}

func TestWhatIsDueIsNotHeldBackByMore(t *testing.T) {
	o, p := subscribedOutbound(t)
	takeFor(t, o, p, true)
	endWait([]*outbound{o})
	if !woken(o) || takeFor(t, o, p, true) || o.state.gathering != gatherDue {
		t.Error("a publication made the writer wait again before it wrote")
	}
}

func TestTheGatherOfATopicEndsEveryWait(t *testing.T) {
	n := startNode(t)
	g := &topicGather{node: n}
	var waiting []*outbound
	for range 3 {
		o, p := subscribedOutbound(t)
		o.node = n
		if !takeFor(t, o, p, true) {
			t.Fatal("the writer does not wait for more")
		}
		waiting = append(waiting, o)
		g.add([]*outbound{o})
	}
	for _, o := range waiting {
		select {
		case <-o.wake:
		case <-time.After(patience):
			t.Fatal("a writer was never woken")
		}
	}
}

func TestNothingWaitsForANodeThatHasClosed(t *testing.T) {
	n := startNode(t)
	n.Close()
	o, p := subscribedOutbound(t)
	o.node = n
	takeFor(t, o, p, true)
	(&topicGather{node: n}).add([]*outbound{o})
	if !woken(o) {
		t.Error("the writer waits although nobody would wake it")
	}
}

func TestABurstOnADirectTopicReachesEverySubscriberWithoutAnotherPublication(t *testing.T) {
	const count = 2000
	publisher, subscribers := startNode(t), []*Node{startNode(t), startNode(t), startNode(t)}
	topic := topicName(publisher.id, "news")
	for _, n := range subscribers {
		connect(t, n, publisher)
	}
	subscribeDirect(t, topic, publisher, subscribers...)
	publisher.topics.direct.find(topic).publishing.pace.fast = longBurst // also where this test's thread is slow
	for i := range count {
		mustPublish(t, publisher, topic, number(0, i, 10))
	}
	for _, n := range subscribers {
		expectOrder(t, receive(t, n, count), 1, count)
		expectLosses(t, n, directionIn, map[string]uint64{})
	}
	expectLosses(t, publisher, directionOut, map[string]uint64{})
}
