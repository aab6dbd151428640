package node

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"peerbus/node/session"
)

// burst sends messages that follow each other fast, by the clock that it is given, and answers the time of the last one.
func burst(o *outbound, messages int, now time.Time) time.Time {
	for range messages {
		now = now.Add(loneAfter / 2)
		o.loneLocked(now)
	}
	return now
}

func TestABurstGoesOnAfterItsThreadWasOffItsProcessor(t *testing.T) {
	o := &outbound{}
	now := burst(o, burstMessages+1, time.Now())
	if now = now.Add(burstPause - 1); o.loneLocked(now) {
		t.Error("the next message of a burst is taken for a lone one")
	}
	for pauses := 1; ; pauses++ {
		if now = now.Add(2 * loneAfter); o.loneLocked(now) {
			break
		}
		if pauses == 10 {
			t.Fatal("messages that come slowly are taken for a burst")
		}
	}
}

func TestABurstIsOverAfterALongPause(t *testing.T) {
	o := &outbound{}
	now := burst(o, longBurst, time.Now())
	if !o.loneLocked(now.Add(burstPause)) {
		t.Error("a message long after a burst is not taken for a lone one")
	}
}

func TestAFewFastMessagesAreNoBurst(t *testing.T) {
	o := &outbound{}
	now := burst(o, burstMessages-1, time.Now())
	if !o.loneLocked(now.Add(2 * loneAfter)) {
		t.Error("a message after a few fast ones is not taken for a lone one")
	}
}

func TestAWriterGathersOnceInABurstAndNotWhenMuchWaits(t *testing.T) {
	o := &outbound{}
	o.state.sender = session.NewSender(session.SenderOptions{Channel: "x"})
	if o.gathersLocked() {
		t.Error("it gathers for a lone message")
	}
	burst(o, burstMessages+1, time.Now())
	if o.gathersLocked() {
		t.Error("it gathers although nothing waits")
	}
	if _, err := o.state.sender.Accept(session.Attributes{}, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if !o.gathersLocked() || o.gathersLocked() || !o.gathersLocked() {
		t.Error("it does not gather once for each write")
	}
	for o.state.sender.Queued() < gatherBytes {
		if _, err := o.state.sender.Accept(session.Attributes{}, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	o.state.gathered = false
	if o.gathersLocked() {
		t.Error("it gathers although enough waits")
	}
}

func TestMessagesOfABurstOfAllSizesArriveAsTheyWereSent(t *testing.T) {
	a, b := startPair(t)
	c := openChannel(t, a, b, "0")
	const messages = 3000
	sizes := []int{8, 9, 100, 1000, soloBytes - 10, soloBytes, 20 << 10}
	content := func(k int) []byte {
		payload := number(0, k, sizes[k%len(sizes)])
		for i := 8; i < len(payload); i++ {
			payload[i] = byte(k * i)
		}
		return payload
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for k := range messages {
			if _, err := c.Send(within(t), content(k)); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	got := receive(t, b, messages)
	<-done
	for k, m := range got {
		if want := content(k); string(m.Data) != string(want) {
			t.Fatalf("message %d is not what was sent: %d bytes, want %d", k, len(m.Data), len(want))
		}
	}
}

func TestABatchIsOneRunOfIDs(t *testing.T) {
	a, b := startPair(t)
	c := openChannel(t, a, b, "0")
	sizes := []int{8, 100, 64 << 10, 200, soloBytes, 8}
	var payloads [][]byte
	for k, size := range sizes {
		payloads = append(payloads, number(0, k, size))
	}
	if first, taken, err := c.SendBatch(within(t), payloads); err != nil || first != 1 || taken != len(sizes) {
		t.Fatalf("first %d, taken %d, %v", first, taken, err)
	}
	got := receive(t, b, len(sizes))
	expectOrder(t, got, 1, len(sizes))
	for k, m := range got {
		if m.ID != uint64(k+1) || len(m.Data) != sizes[k] {
			t.Errorf("message %d has the id %d and %d bytes", k, m.ID, len(m.Data))
		}
	}
	mustReach(t, c, uint64(len(sizes)), DeliveryAccepted)
	if next := mustSend(t, c, []byte("next")); next != uint64(len(sizes)+1) {
		t.Errorf("the id after the batch is %d", next)
	}
}

func TestABatchTakesWhatFindsRoomAndNoMore(t *testing.T) {
	a, b := startPair(t, limits(func(l *Limits) { l.SendMessages, l.ChannelMessages = 5, 5 }))
	c := openChannel(t, a, b, "0")
	var payloads [][]byte
	for k := range 100 {
		payloads = append(payloads, number(0, k, 10))
	}
	sent := 0
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		first, taken, err := c.SendBatch(ctx, payloads[sent:])
		cancel()
		if errors.Is(err, ErrWouldBlock) {
			break
		}
		if err != nil || first != uint64(sent+1) || taken == 0 {
			t.Fatalf("after %d: first %d, taken %d, %v", sent, first, taken, err)
		}
		if sent += taken; sent == len(payloads) {
			t.Fatal("all were taken although nobody receives")
		}
	}
	expectOrder(t, receive(t, b, sent), 1, sent)
	expectLosses(t, a, directionOut, map[string]uint64{})
}

func TestBatchesOfSeveralThreadsKeepTheOrderOfEach(t *testing.T) {
	a, b := startPair(t)
	const threads, each = 4, 1500
	var group sync.WaitGroup
	for thread := range threads {
		c := openChannel(t, a, b, "0")
		random := rand.New(rand.NewPCG(1, uint64(thread)))
		group.Go(func() {
			for sent := 0; sent < each; {
				var payloads [][]byte
				for k := sent; k < min(each, sent+1+random.IntN(100)); k++ {
					payloads = append(payloads, number(thread, k, 8+random.IntN(random.IntN(30<<10)+1)))
				}
				_, taken, err := c.SendBatch(within(t), payloads)
				if err != nil {
					t.Error(err)
					return
				}
				sent += taken
			}
		})
	}
	got := receive(t, b, threads*each)
	group.Wait()
	expectOrder(t, got, threads, each)
	ids := map[uint64]bool{}
	for _, m := range got {
		if ids[m.ID] {
			t.Fatalf("two messages have the id %d", m.ID)
		}
		ids[m.ID] = true
	}
}
