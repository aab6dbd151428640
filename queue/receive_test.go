package queue

import (
	"context"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

type received struct {
	data string
	err  error
}

func (f *fixture) receiveLater(ctx context.Context, channel string, max int) <-chan received {
	ended := make(chan received, 1)
	go func() {
		ms, err := f.Receive(ctx, channel, max, 0)
		ended <- received{data(ms), err}
	}()
	synctest.Wait()
	return ended
}

func returns(t *testing.T, ended <-chan received, data string, err error) {
	t.Helper()
	synctest.Wait()
	select {
	case got := <-ended:
		if got != (received{data, err}) {
			t.Fatalf("receive: got %q, %v, want %q, %v", got.data, got.err, data, err)
		}
	default:
		t.Fatalf("receive is blocked, want %q, %v", data, err)
	}
}

func blocks(t *testing.T, ended <-chan received) {
	t.Helper()
	synctest.Wait()
	select {
	case got := <-ended:
		t.Fatalf("receive: got %q, %v, want it blocked", got.data, got.err)
	default:
	}
}

func TestTakeGoesRoundTheChannels(t *testing.T) {
	f := newFixture(t, Limits{}, Block)
	f.put("p a a1", "p a a2", "p a a3", "p b b1", "p c c1", "p c c2")
	if got := data(f.Take(nil, "", 4, 0)); got != "a1 b1 c1 a2" {
		t.Fatalf("got %q", got)
	}
	if got := data(f.Take(messages("p c x"), "", 0, 0)); got != "x c2 a3" {
		t.Fatalf("got %q", got)
	}
}

func TestTakeStopsBeforeMaxBytesButTakesOne(t *testing.T) {
	f := newFixture(t, Limits{}, Block)
	f.put("p a 12345", "p a 67", "p a 8", "p b 9")
	for _, step := range []struct {
		channel, want string
		bytes         int64
	}{{"", "12345", 1}, {"", "9 67", 3}, {"a", "8", 1}, {"a", "", 1}, {"none", "", 0}} {
		if got := data(f.Take(nil, step.channel, 0, step.bytes)); got != step.want {
			t.Fatalf("take %q, %d bytes: got %q, want %q", step.channel, step.bytes, got, step.want)
		}
	}
}

func TestTakeOldestOfEachTakesOnePerChannel(t *testing.T) {
	f := newFixture(t, Limits{}, Block)
	f.put("p a a1", "p a a2", "p b b1", "p c c1", "p c c2")
	for _, want := range []string{"a1 b1 c1", "a2 c2", ""} {
		if got := data(f.TakeOldestOfEach(nil, 0)); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
}

func TestReceiveWaitsForItsChannel(t *testing.T) {
	bubble(t, Limits{}, func(t *testing.T, f *fixture) {
		a, all := f.receiveLater(forever, "a", 0), f.receiveLater(forever, "", 0)
		f.put("p b 1")
		returns(t, all, "1", nil)
		blocks(t, a)
		f.put("p a 2")
		returns(t, a, "2", nil)
	})
}

func TestEachMessageFindsOneOfSeveralReceivers(t *testing.T) {
	bubble(t, Limits{}, func(t *testing.T, f *fixture) {
		first, second := f.receiveLater(forever, "", 1), f.receiveLater(forever, "", 1)
		if err := f.PutBatch(forever, messages("p c 1", "p c 2", "p c 3"), 0); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if one, two := <-first, <-second; one.data+two.data != "12" && one.data+two.data != "21" {
			t.Fatalf("got %v and %v", one, two)
		}
		f.takes("", "3")
	})
}

func TestReceiveEndsWithItsContext(t *testing.T) {
	bubble(t, Limits{}, func(t *testing.T, f *fixture) {
		ctx, cancel := context.WithTimeout(forever, time.Second)
		defer cancel()
		blocked := f.receiveLater(ctx, "", 0)
		time.Sleep(time.Second)
		returns(t, blocked, "", context.DeadlineExceeded)
		if n := len(f.Queue.mu.receivers) + f.Queue.mu.receiving.n; n != 0 {
			t.Fatalf("%d receivers left behind", n)
		}
		f.put("p c 1")
		returns(t, f.receiveLater(ctx, "", 0), "1", nil)
	})
}

func TestInterruptEndsEveryBlockedReceive(t *testing.T) {
	bubble(t, Limits{}, func(t *testing.T, f *fixture) {
		a, all := f.receiveLater(forever, "a", 0), f.receiveLater(forever, "", 0)
		f.Interrupt()
		returns(t, a, "", ErrInterrupted)
		returns(t, all, "", ErrInterrupted)
		next := f.receiveLater(forever, "", 0)
		blocks(t, next)
		f.put("p c 1")
		returns(t, next, "1", nil)
	})
}

func TestInterruptThatNobodyHearsEndsTheNextReceiveThatWouldBlock(t *testing.T) {
	bubble(t, Limits{}, func(t *testing.T, f *fixture) {
		f.Interrupt()
		f.Interrupt()
		f.put("p c 1")
		returns(t, f.receiveLater(forever, "", 0), "1", nil)
		ended, cancel := context.WithCancel(forever)
		cancel()
		returns(t, f.receiveLater(ended, "", 0), "", ErrInterrupted)
		returns(t, f.receiveLater(ended, "", 0), "", context.Canceled)
		f.wokeLike(true, false)
		next := f.receiveLater(forever, "", 0)
		blocks(t, next)
		f.Close()
		returns(t, next, "", ErrClosed)
	})
}

func TestInterruptedReceiveTakesNothing(t *testing.T) {
	bubble(t, Limits{}, func(t *testing.T, f *fixture) {
		blocked := f.receiveLater(forever, "", 0)
		// Both happen before the receiver can run: it holds no lock and the test has not waited.
		f.Queue.mu.Lock()
		ch, p := f.channelLocked("c"), f.holdPeerLocked("p")
		m := message("p c 1")
		f.offerLocked(ch, p, &m)
		f.dropPeerLocked(p)
		for k := f.Queue.mu.receiving.first; k != nil; k = k.next {
			k.owner.interrupted = true
		}
		f.unlock()
		returns(t, blocked, "", ErrInterrupted)
		f.takes("", "1")
	})
}

func TestCloseEndsReceive(t *testing.T) {
	bubble(t, Limits{}, func(t *testing.T, f *fixture) {
		blocked := f.receiveLater(forever, "", 0)
		f.Close()
		returns(t, blocked, "", ErrClosed)
		returns(t, f.receiveLater(forever, "c", 0), "", ErrClosed)
		f.Interrupt()
		f.SetPolicy("c", Latest)
		returns(t, f.receiveLater(forever, "c", 0), "", ErrClosed)
	})
}

func TestCallbackMayCallTheQueue(t *testing.T) {
	var q *Queue
	calls := 0
	q = New(Options{
		Limits: Limits{ChannelMessages: 1},
		Lost:   func(Loss) { calls += q.Len() },
		Free:   func([]byte) { calls += int(q.Bytes()) },
	})
	for i := range 2 {
		_ = q.Put(forever, message("p c "+strconv.Itoa(i)), 0)
	}
	if calls != 2 {
		t.Fatalf("callbacks saw %d, want one message and one byte", calls)
	}
}

func TestLossesOfOneCallAreMerged(t *testing.T) {
	var losses []Loss
	q := New(Options{Limits: Limits{ChannelMessages: 1}, Lost: func(l Loss) { losses = append(losses, l) }})
	if err := q.PutBatch(forever, messages("p c 1", "p c 2", "p c 3", "q c 4"), 0); err != ErrFull {
		t.Fatal(err)
	}
	want := []Loss{{"c", "p", QueueFull, 2}, {"c", "q", QueueFull, 1}}
	if len(losses) != 2 || losses[0] != want[0] || losses[1] != want[1] {
		t.Fatalf("got %v, want %v", losses, want)
	}
}

func TestSteadyStateAllocatesNothing(t *testing.T) {
	q := New(Options{})
	m := message("p c 1")
	taken := make([]Message, 0, 1)
	allocs := testing.AllocsPerRun(1000, func() {
		_ = q.Put(forever, m, time.Second)
		taken = q.Take(taken[:0], "", 0, 0)
	})
	if allocs != 0 {
		t.Fatalf("%v allocations per message", allocs)
	}
}

func TestWaitTakesNothingAndPassesTheWakeUpOn(t *testing.T) {
	bubble(t, Limits{}, func(t *testing.T, f *fixture) {
		waited := make(chan error, 2)
		go func() { waited <- f.Wait(forever, "c") }()
		synctest.Wait()
		receiving := f.receiveLater(forever, "c", 0)
		blocks(t, receiving)
		f.put("p c 1")
		if err := <-waited; err != nil {
			t.Fatal(err)
		}
		returns(t, receiving, "1", nil)
		f.put("p c 2")
		if err := f.Wait(forever, ""); err != nil || f.Len() != 1 {
			t.Fatalf("wait: %v, %d messages", err, f.Len())
		}
		if err := f.Wait(forever, "c"); err != nil {
			t.Fatal(err)
		}
		go func() { waited <- f.Wait(forever, "other") }()
		synctest.Wait()
		f.Close()
		if err := <-waited; err != ErrClosed {
			t.Fatalf("wait on a closed queue: %v", err)
		}
	})
}
