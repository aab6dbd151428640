package queue

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// delivery is what Deliver answered.
type delivery struct {
	stored int
	lost   Reason
	err    error
}

func (f *fixture) deliver(ctx context.Context, texts ...string) delivery {
	stored, lost, err := f.Deliver(ctx, messages(texts...))
	return delivery{stored, lost, err}
}

func (f *fixture) deliverLater(ctx context.Context, texts ...string) <-chan delivery {
	ended := make(chan delivery, 1)
	go func() { ended <- f.deliver(ctx, texts...) }()
	synctest.Wait()
	return ended
}

func expectDelivery(t *testing.T, got, want delivery) {
	t.Helper()
	if got != want {
		t.Fatalf("delivered %+v, want %+v", got, want)
	}
}

func expectBlocked(t *testing.T, ended <-chan delivery) {
	t.Helper()
	synctest.Wait()
	select {
	case d := <-ended:
		t.Fatalf("the delivery ended with %+v, want it blocked", d)
	default:
	}
}

func TestDeliverSaysWhatIsStoredBeforeItWaits(t *testing.T) {
	bubble(t, Limits{ChannelMessages: 2}, func(t *testing.T, f *fixture) {
		expectDelivery(t, f.deliver(forever, "p c 1", "p c 2", "p c 3"), delivery{stored: 2})
		blocked := f.deliverLater(forever, "p c 3", "p c 4")
		time.Sleep(forLong) // there is no other bound than the context
		expectBlocked(t, blocked)
		f.Take(nil, "c", 1, 0)
		expectDelivery(t, <-blocked, delivery{stored: 1})
		f.takes("c", "2 3")
	})
}

func TestCancelledDeliverGivesBackWhatIsNotStored(t *testing.T) {
	bubble(t, Limits{ChannelMessages: 1}, func(t *testing.T, f *fixture) {
		f.put("p c 1")
		ctx, cancel := context.WithCancel(t.Context())
		first := f.deliverLater(ctx, "p c 2", "p c 3")
		second := f.deliverLater(forever, "p c 4")
		cancel()
		expectDelivery(t, <-first, delivery{err: context.Canceled})
		expectBlocked(t, second)
		f.takes("", "1")
		expectDelivery(t, <-second, delivery{stored: 1})
		f.takes("", "4")
		if s := f.Stats(); s.Received != 2 || len(s.Lost) != 0 || len(f.freed) != 0 {
			t.Fatalf("what was given back left traces: %+v, freed %v", s, f.freed)
		}
	})
}

func TestDeliverNamesTheMessageThatThePolicyRefuses(t *testing.T) {
	bubbleWith(t, Limits{ChannelMessages: 2}, DropNewest, func(t *testing.T, f *fixture) {
		expectDelivery(t, f.deliver(forever, "p c 1", "p c 2", "p c 3", "p c 4"), delivery{stored: 2, lost: QueueFull})
		f.takes("c", "1 2")
		expectDelivery(t, f.deliver(forever, "p c 4"), delivery{stored: 1})
		f.takes("c", "[1]4")
		f.loses("c", "p", QueueFull, 1)
	})
}

func TestDeliverRefusesWhatCouldNeverFit(t *testing.T) {
	bubble(t, Limits{PeerBytes: 4, ChannelBytes: 4}, func(t *testing.T, f *fixture) {
		expectDelivery(t, f.deliver(forever, "p c 1", "p c 55555", "p c 2"), delivery{stored: 1, lost: ByteBudget})
	})
}

func TestPolicyChangeEndsAWaitingDelivery(t *testing.T) {
	bubble(t, Limits{ChannelMessages: 1}, func(t *testing.T, f *fixture) {
		f.put("p c 1")
		blocked := f.deliverLater(forever, "p c 2", "p c 3")
		f.SetPolicy("c", DropNewest)
		expectDelivery(t, <-blocked, delivery{lost: QueueFull})
		f.SetPolicy("c", Block)
		blocked = f.deliverLater(forever, "p c 3")
		f.SetPolicy("c", DropOldest)
		expectDelivery(t, <-blocked, delivery{stored: 1})
		f.takes("c", "[2]3")
	})
}

func TestCloseGivesADeliveryBack(t *testing.T) {
	bubble(t, Limits{ChannelMessages: 1}, func(t *testing.T, f *fixture) {
		f.put("p c 1")
		blocked := f.deliverLater(forever, "p c 2")
		f.Close()
		expectDelivery(t, <-blocked, delivery{err: ErrClosed})
		expectDelivery(t, f.deliver(forever, "p c 2"), delivery{err: ErrClosed})
		f.loses("c", "p", NodeClosed, 1) // that which waited
	})
}

// numbered are messages of a source that notes what left.
func numbered(left *[]uint64, texts ...string) []Message {
	source := &Source{Left: func(upTo uint64) { *left = append(*left, upTo) }}
	ms := messages(texts...)
	for i := range ms {
		ms[i].Source, ms[i].Sequence = source, uint64(i+1)
	}
	return ms
}

func expectLeft(t *testing.T, got []uint64, want ...uint64) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("the source was told %v, want %v", got, want)
	}
}

func TestSourceHearsOncePerCallWhatLeft(t *testing.T) {
	bubble(t, Limits{ChannelMessages: 8}, func(t *testing.T, f *fixture) {
		var left []uint64
		if _, _, err := f.Deliver(forever, numbered(&left, "p c 1", "p c 2", "p c 3", "p c 4")); err != nil {
			t.Fatal(err)
		}
		expectLeft(t, left)
		f.Take(nil, "", 3, 0)
		expectLeft(t, left, 3)
		f.Take(nil, "c", 0, 0)
		expectLeft(t, left, 3, 4)
	})
}

func TestEvictedMessagesLeaveAndThoseOfAClosedQueueDoNot(t *testing.T) {
	bubbleWith(t, Limits{ChannelMessages: 2}, DropOldest, func(t *testing.T, f *fixture) {
		var left []uint64
		if _, _, err := f.Deliver(forever, numbered(&left, "p c 1", "p c 2", "p c 3")); err != nil {
			t.Fatal(err)
		}
		expectLeft(t, left, 1)
		f.Close()
		expectLeft(t, left, 1)
	})
}

func TestGapOfAPutShowsBeforeItsMessage(t *testing.T) {
	bubbleWith(t, Limits{ChannelMessages: 1}, DropNewest, func(t *testing.T, f *fixture) {
		behindGap := message("p c 1")
		behindGap.Gap = 7
		if err := f.Put(forever, behindGap, 0); err != nil {
			t.Fatal(err)
		}
		lost := message("p c 2")
		lost.Gap = 3
		if err := f.Put(forever, lost, 0); err != ErrFull {
			t.Fatal(err)
		}
		f.takes("c", "[7]1")
		f.put("p c 3")
		f.takes("c", "[4]3")
	})
}

// TestDeliveriesOfManyPeersAllArriveInOrder races senders with a slow reader.
func TestDeliveriesOfManyPeersAllArriveInOrder(t *testing.T) {
	f := newFixture(t, Limits{ChannelMessages: 3, PeerBytes: 64, Bytes: 128}, Block)
	const peers, each = 4, 500
	for p := range peers {
		go func() {
			for i := 0; i < each; {
				run := messages(fmt.Sprintf("%d c%d %d", p, p%2, i), fmt.Sprintf("%d c%d %d", p, p%2, i+1))
				stored, lost, err := f.Deliver(forever, run)
				if lost != "" || err != nil {
					panic(fmt.Sprint(lost, err))
				}
				i += stored
			}
		}()
	}
	next := map[string]int{}
	for taken := 0; taken < peers*each; {
		ms, err := f.Receive(forever, "", 5, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range ms {
			if string(m.Data) != fmt.Sprint(next[m.From]) && next[m.From] < each {
				t.Fatalf("peer %s: got %s, want %d", m.From, m.Data, next[m.From])
			}
			next[m.From]++
		}
		taken = 0
		for _, n := range next {
			taken += min(n, each)
		}
	}
	f.Close()
}
