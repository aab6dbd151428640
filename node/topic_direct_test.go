package node

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"peerbus/node/session"
	"peerbus/queue"
)

func openDirect(t testing.TB, topic string, overflow TopicOverflow, nodes ...*Node) {
	t.Helper()
	for _, n := range nodes {
		if err := n.OpenTopic(topic, TopicOptions{Mode: TopicDirect, Overflow: overflow}); err != nil {
			t.Fatal(err)
		}
	}
}

// subscribeDirect makes the subscribers known to the publisher.
func subscribeDirect(t testing.TB, topic string, publisher *Node, subscribers ...*Node) {
	t.Helper()
	openDirect(t, topic, "", append(subscribers, publisher)...)
	for _, n := range subscribers {
		if err := n.Subscribe(topic); err != nil {
			t.Fatal(err)
		}
	}
	awaitSubscribers(t, topic, publisher, len(subscribers))
}

func awaitSubscribers(t testing.TB, topic string, publisher *Node, count int) {
	t.Helper()
	if _, err := publisher.WaitForTopicPeers(within(t), topic, count); err != nil {
		t.Fatal(err)
	}
}

func mustPublish(t testing.TB, n *Node, topic string, payload []byte) Publication {
	t.Helper()
	published, err := n.Publish(within(t), topic, payload)
	if err != nil {
		t.Fatal(err)
	}
	return published
}

var wide = limits(func(l *Limits) { l.ChannelMessages = 100_000 })

// narrow bounds what a publisher holds for one subscriber.
var narrow = limits(func(l *Limits) { l.ChannelSendBytes, l.SendMessages = 256<<10, 1000 })

func TestADirectTopicReachesFourSubscribersCompletelyAndInOrder(t *testing.T) {
	const count, piece = 4000, 100
	publisher := startNode(t)
	subscribers := make([]*Node, 4)
	for i := range subscribers {
		subscribers[i] = startNode(t, limits(func(l *Limits) { l.ChannelMessages = 1000 })) // flow control does the rest
		connect(t, subscribers[i], publisher)
	}
	topic := topicName(publisher.id, "news")
	subscribeDirect(t, topic, publisher, subscribers...)
	var group sync.WaitGroup
	for _, n := range subscribers {
		group.Go(func() {
			var got []queue.Message
			for len(got) < count {
				got = append(got, receive(t, n, piece)...) // each within patience
			}
			expectOrder(t, got, 1, count)
			for i, m := range got {
				if m.From != publisher.id.String() || m.Channel != topic || m.Protocol != session.Protocol || m.Gap != 0 {
					t.Errorf("message from %s on %q by %s, gap %d", m.From, m.Channel, m.Protocol, m.Gap)
					return
				}
				if i > 0 && m.ID != got[i-1].ID+1 {
					t.Errorf("number %d follows %d", m.ID, got[i-1].ID)
					return
				}
			}
		})
	}
	for sent := 0; sent < count; {
		payloads := make([][]byte, min(1+sent%400, count-sent))
		for i := range payloads {
			payloads[i] = number(0, sent+i, []int{8, 900, 20_000, 100, 70_000}[(sent+i)%331/66%5])
		}
		published, err := publisher.PublishBatch(within(t), topic, payloads)
		full := errors.Is(err, ErrWouldBlock) && len(published) > 0 // some found room within patience
		if !full && (err != nil || len(published) != len(payloads)) {
			t.Fatalf("published %d of %d: %v", len(published), len(payloads), err)
		}
		if published[0].Peers != 4 || published[0].Missed != nil {
			t.Fatalf("published %+v", published[0])
		}
		sent += len(published)
	}
	group.Wait()
	if err := publisher.Flush(within(t), topic); err != nil {
		t.Error(err)
	}
	expectLosses(t, publisher, directionOut, map[string]uint64{})
	for _, n := range subscribers {
		expectLosses(t, n, directionIn, map[string]uint64{})
		info, err := n.TopicInfo(topic)
		if err != nil || len(info.Publishers) != 1 || info.Publishers[0].Received != count || info.Publishers[0].Missing != 0 || !info.Publishers[0].Exact {
			t.Errorf("info %+v, %v", info, err)
		}
	}
	if s := publisher.Statistics(); s.Published.Messages != count || s.Sent.Messages != 0 {
		t.Errorf("%d published, %d sent", s.Published.Messages, s.Sent.Messages)
	}
}

func TestAListSharesAsFewBuffersAsItsSizeAllows(t *testing.T) {
	list := func(count, size int) (payloads [][]byte) {
		for range count {
			payloads = append(payloads, make([]byte, size))
		}
		return payloads
	}
	mixed := append(append(list(20, 1024), make([]byte, soloBytes)), list(3, 100)...)
	for _, c := range []struct {
		payloads [][]byte
		messages []int // of each run
	}{
		{list(1, 100), []int{1}},
		{list(64, 1024), []int{64}},
		{list(79, 1024), []int{79}},
		{list(80, 1024), []int{63, 17}},
		{list(200, 1024), []int{63, 63, 74}},
		{mixed, []int{20, 1, 3}},
	} {
		p := newTopicPiece(c.payloads)
		p.encode(newFrameBuffers(heapMemory{}))
		var messages []int
		for _, run := range p.runs {
			messages = append(messages, len(run.payloads))
			if shared := session.FramesSize(run.payloads) >= soloBytes; shared != (run.frames != nil) {
				t.Errorf("%d messages share frames: %v", len(run.payloads), run.frames != nil)
			}
		}
		if !slices.Equal(messages, c.messages) {
			t.Errorf("%d messages became runs of %v, not %v", len(c.payloads), messages, c.messages)
		}
		p.release()
	}
}

func TestSinglePublicationsArriveInOrderFromSeveralPublishers(t *testing.T) {
	const each = 1000
	subscriber := startNode(t, wide)
	publishers := []*Node{startNode(t), startNode(t)}
	topic := topicName(subscriber.id, "inbox")
	for _, p := range publishers {
		connect(t, p, subscriber)
		subscribeDirect(t, topic, p, subscriber)
	}
	var group sync.WaitGroup
	for sender, p := range publishers {
		group.Go(func() {
			for i := range each {
				if _, err := p.Publish(within(t), topic, number(sender, i, 100)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	expectOrder(t, receive(t, subscriber, 2*each), 2, each)
	group.Wait()
}

// publishUntilFull publishes until there is no room at once, and answers how many were published.

func publishUntilFull(t testing.TB, n *Node, topic string, size int) int {
	t.Helper()
	for i := 0; ; i++ {
		_, err := n.Publish(atOnce(), topic, number(0, i, size))
		switch {
		case errors.Is(err, ErrWouldBlock):
			return i
		case err != nil:
			t.Fatal(err)
		case i > 1_000_000:
			t.Fatal("a subscriber that takes nothing never held the publisher back")
		}
	}
}

func TestAStalledSubscriberHoldsThePublisherBackUntilItTakes(t *testing.T) {
	a, b := startNode(t, narrow), startNode(t)
	connect(t, a, b)
	topic := topicName(a.id, "x")
	subscribeDirect(t, topic, a, b)
	count := publishUntilFull(t, a, topic, 1000)
	expectOrder(t, receive(t, b, count), 1, count)
	eventOf(t, a, EventWritable, map[string]any{"channel": topic})
	mustPublish(t, a, topic, number(0, 0, 10))
	receive(t, b, 1)
	expectLosses(t, a, directionOut, map[string]uint64{})
	expectLosses(t, b, directionIn, map[string]uint64{})
}

// flushTo waits until one subscriber has everything.

func flushTo(t testing.TB, publisher *Node, topic string, to *Node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, s := range publisher.topics.direct.find(topic).audience.Load().subscribers {
		if s.id == to.id {
			if err := s.out.flush(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestOverflowConcernsOnlyTheStalledSubscriberAndIsCounted(t *testing.T) {
	for _, overflow := range []TopicOverflow{OverflowDropNewest, OverflowDropOldest} {
		t.Run(string(overflow), func(t *testing.T) {
			a, stalled, quick := startNode(t, narrow), startNode(t), startNode(t)
			connect(t, stalled, a)
			connect(t, quick, a)
			topic := topicName(a.id, "x")
			subscribeDirect(t, topic, a, stalled, quick)
			openDirect(t, topic, overflow, a)
			taken := make(chan int)
			go func() {
				count := 0
				for err := error(nil); err == nil; {
					var got []queue.Message
					got, err = quick.queue.Receive(t.Context(), "", 1000, 0)
					if count += len(got); len(got) > 0 && len(got[len(got)-1].Data) == 1 { // the end
						taken <- count - 1
						return
					}
				}
			}()
			count, missed := uint64(0), uint64(0)
			first := uint64(0)
			for end := time.Now().Add(patience); missed < 2000; {
				p := mustPublish(t, a, topic, binary.BigEndian.AppendUint64(make([]byte, 1000), count))
				if first == 0 {
					first = p.ID
				}
				count++
				missed = a.losses.totals()[directionOut][lossSendQueueFull]
				flushTo(t, a, topic, quick) // or it might miss some, too
				if time.Now().After(end) {
					t.Fatal("the stalled subscriber never overflowed")
				}
			}
			eventOf(t, a, EventMessagesLost, map[string]any{"reason": lossSendQueueFull, "peer": stalled.id.String(), "channel": topic})
			// Now it takes: what it gets and its gaps are everything.
			last, gaps, got := uint64(0), uint64(0), uint64(0)
			before := a.losses.totals()[directionOut][lossSendQueueFull]
			for last < count-1 {
				for _, m := range receive(t, stalled, 1) {
					number := binary.BigEndian.Uint64(m.Data[1000:])
					if m.ID != first+number || got > 0 && number != last+1+m.Gap {
						t.Fatalf("message %d has number %d; gap %d after %d", number, m.ID-first, m.Gap, last)
					}
					last = number
					gaps += m.Gap
					got++
				}
				if got+before == count && last < count-1 { // the end was dropped: the next one tells
					openDirect(t, topic, OverflowBlock, a)
					mustPublish(t, a, topic, binary.BigEndian.AppendUint64(make([]byte, 1000), count))
					count++
				}
			}
			openDirect(t, topic, OverflowBlock, a)
			mustPublish(t, a, topic, []byte("."))
			if got := <-taken; uint64(got) != count {
				t.Errorf("the quick subscriber got %d of %d messages", got, count)
			}
			receive(t, stalled, 1)
			count, got = count+1, got+1
			dropped := a.losses.totals()[directionOut][lossSendQueueFull]
			if gaps != dropped || got+dropped != count {
				t.Errorf("%d published, %d received, gaps of %d, %d counted as dropped", count, got, gaps, dropped)
			}
			info, err := stalled.TopicInfo(topic)
			if err != nil || info.Publishers[0].Missing != dropped || info.Publishers[0].Received != got {
				t.Errorf("info %+v, %v", info, err)
			}
			if of := a.losses.totals()[directionOut]; len(of) != 1 {
				t.Errorf("losses %v", of)
			}
		})
	}
}

func TestALostConnectionInterruptsADirectTopicWithoutLoss(t *testing.T) {
	const count = 3000
	a, b := startNode(t), startNode(t)
	connect(t, a, b)
	topic := topicName(a.id, "x")
	subscribeDirect(t, topic, a, b)
	done := make(chan struct{})
	go func() {
		defer close(done)
		expectOrder(t, receive(t, b, count), 1, count)
	}()
	for i := range count {
		if i%1000 == 500 {
			if err := a.host.Network().ClosePeer(b.id); err != nil {
				t.Error(err)
			}
		}
		if p := mustPublish(t, a, topic, number(0, i, 500)); p.Peers != 1 {
			t.Fatalf("message %d: %+v", i, p)
		}
	}
	<-done
	expectLosses(t, a, directionOut, map[string]uint64{})
}

func TestAClosingPublisherDeliversWhatItTook(t *testing.T) {
	const count = 500
	a, b := startNode(t), startNode(t, wide)
	connect(t, a, b)
	topic := topicName(a.id, "x")
	subscribeDirect(t, topic, a, b)
	for i := range count {
		mustPublish(t, a, topic, number(0, i, 2000))
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	expectOrder(t, receive(t, b, count), 1, count)
	if _, err := a.Publish(within(t), topic, []byte("x")); !errors.Is(err, ErrClosed) {
		t.Errorf("publishing on a closed node: %v", err)
	}
}

func TestAPublisherThatWaitsEndsWithItsNode(t *testing.T) {
	a, b := startNode(t, narrow), startNode(t)
	connect(t, a, b)
	topic := topicName(a.id, "x")
	subscribeDirect(t, topic, a, b)
	publishUntilFull(t, a, topic, 1000)
	ended := make(chan error, 1)
	ctx := within(t)
	go func() {
		_, err := a.Publish(ctx, topic, make([]byte, 1000))
		ended <- err
	}()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, ErrClosed) {
		t.Errorf("the waiting publish: %v", err)
	}
	expectNoGoroutinesOf(t, a)
}

func expectNoGoroutinesOf(t *testing.T, n *Node) {
	t.Helper()
	n.tasks.Lock()
	defer n.tasks.Unlock()
	if n.tasks.running != 0 {
		t.Errorf("%d tasks are left", n.tasks.running)
	}
}

func TestTheHostsPolicyOfADirectTopicHolds(t *testing.T) {
	a, b := startPair(t)
	topic := topicName(a.id, "x")
	if err := b.SetPolicy(topic, queue.Latest); err != nil {
		t.Fatal(err)
	}
	subscribeDirect(t, topic, a, b)
	for i := range 20 {
		mustPublish(t, a, topic, []byte{byte(i)})
	}
	if err := a.Flush(within(t), topic); err != nil {
		t.Fatal(err)
	}
	if m := receive(t, b, 1)[0]; m.Data[0] != 19 || m.Gap != 19 {
		t.Errorf("received %v, gap %d", m.Data, m.Gap)
	}
}
