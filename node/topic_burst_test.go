package node

import (
	"testing"
	"time"
)

// inBurst makes the next single publication wait for company.
func (b *topicBurst) inBurst() {
	b.state.pace.last, b.state.pace.fast = time.Now(), longRPCBurst
}

func TestPublicationsOfABurstKeepTheirOrderAmongLists(t *testing.T) {
	a, b := startPair(t, limits(func(l *Limits) { l.ChannelMessages = 1000 }))
	c := startNode(t, limits(func(l *Limits) { l.ChannelMessages = 1000 }))
	connect(t, c, a)
	topic := topicName(a.id, "x")
	subscribe(t, a, b, topic)
	subscribe(t, a, c, topic)
	const count = 600
	var numbers []uint64
	for i := 0; i < count; {
		published, err := a.PublishBatch(within(t), topic, [][]byte{number(0, i, 1000), number(0, i+1, 10)})
		if err != nil {
			t.Fatal(err)
		}
		numbers = append(numbers, published[0].ID, published[1].ID)
		for i += 2; i%60 != 0; i++ {
			one, err := a.Publish(within(t), topic, number(0, i, 1000))
			if err != nil || one.Peers != 2 {
				t.Fatalf("%+v, %v", one, err)
			}
			numbers = append(numbers, one.ID)
		}
	}
	if err := a.Close(); err != nil { // lets what waits leave
		t.Fatal(err)
	}
	for _, n := range []*Node{b, c} {
		got := receive(t, n, count)
		expectOrder(t, got, 1, count)
		for i, m := range got {
			if m.ID != numbers[i] {
				t.Fatalf("message %d has number %d, published as %d", i, m.ID, numbers[i])
			}
		}
	}
	expectLosses(t, a, directionOut, map[string]uint64{})
}

func TestAPublicationOfABurstWaitsForCompanyAndLeavesWithIt(t *testing.T) {
	a, b := startPair(t, limits(func(l *Limits) { l.ChannelMessages = 1000 }))
	topic := topicName(a.id, "x")
	subscribe(t, a, b, topic)
	joined, burst := a.topics.state.joined[topic], a.topics.burst
	burst.state.Lock()
	for i := range 3 {
		if _, err := burst.addLocked(joined, number(0, i, 100)); err != nil {
			t.Fatal(err)
		}
	}
	burst.inBurst()
	burst.state.Unlock()
	if _, err := a.Publish(within(t), topic, number(0, 3, publicationGatherBytes)); err != nil {
		t.Fatal(err)
	}
	burst.state.Lock()
	waiting, due := len(burst.state.waiting), burst.state.due
	burst.state.Unlock()
	if waiting != 0 || due {
		t.Errorf("%d publications wait, a flush is due: %t", waiting, due)
	}
	expectOrder(t, receive(t, b, 4), 1, 4)
	burst.state.Lock()
	burst.inBurst()
	burst.state.Unlock()
	if _, err := a.Publish(within(t), topic, number(0, 4, 100)); err != nil {
		t.Fatal(err)
	}
	receive(t, b, 1) // by the clock
}

func TestWhatABurstHoldsWhenTheNodeEndsIsCounted(t *testing.T) {
	a, b := startPair(t)
	topic := topicName(a.id, "x")
	subscribe(t, a, b, topic)
	burst := a.topics.burst
	burst.state.Lock()
	defer burst.state.Unlock()
	if _, err := burst.addLocked(a.topics.state.joined[topic], []byte("late")); err != nil {
		t.Fatal(err)
	}
	a.cancel(ErrClosed)
	burst.flushLocked()
	expectLosses(t, a, directionOut, map[string]uint64{lossNodeClosed: 1})
}
