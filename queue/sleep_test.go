package queue

import (
	"testing"
)

// sleeper notes that it was roused.
type sleeper struct {
	*Sleep
	roused int
}

func (f *fixture) sleeps(channel string) *sleeper {
	f.t.Helper()
	s := new(sleeper)
	s.Sleep = f.Sleep(channel, func() {
		f.Len() // without the lock
		s.roused++
	})
	if s.Sleep == nil {
		f.t.Fatalf("a sleep of channel %q is refused", channel)
	}
	return s
}

func (f *fixture) roused(s *sleeper, want int) {
	f.t.Helper()
	if s.roused != want {
		f.t.Fatalf("roused %d times, want %d", s.roused, want)
	}
}

func TestASleepIsRousedOnceByWhatItWaitsFor(t *testing.T) {
	f := newFixture(t, Limits{}, Block)
	all, other := f.sleeps(""), f.sleeps("other")
	f.put("p c 1", "p c 2")
	f.roused(all, 1)
	f.roused(other, 0)
	if err := all.End(); err != nil {
		t.Fatal(err)
	}
	f.takes("", "1 2")
	f.put("p other 3")
	f.roused(other, 1)
	if err := other.End(); err != nil {
		t.Fatal(err)
	}
	f.takes("", "3")
}

func TestASleepIsRefusedWhereAReceiveWouldNotBlock(t *testing.T) {
	f := newFixture(t, Limits{}, Block)
	f.put("p c 1")
	if f.Sleep("", nil) != nil || f.Sleep("c", nil) != nil {
		t.Fatal("a sleep beside a message that waits")
	}
	f.sleeps("other").End()
	f.takes("", "1")
	f.Interrupt()
	if f.Sleep("", nil) != nil {
		t.Fatal("a sleep that an interruption waits for")
	}
	f.Close()
	if f.Sleep("", nil) != nil {
		t.Fatal("a sleep on a closed queue")
	}
}

func TestAnInterruptEndsEverySleep(t *testing.T) {
	f := newFixture(t, Limits{}, Block)
	a, all := f.sleeps("a"), f.sleeps("")
	f.Interrupt()
	for _, s := range []*sleeper{a, all} {
		f.roused(s, 1)
		if err := s.End(); err != ErrInterrupted {
			t.Fatalf("interrupted sleep: %v", err)
		}
	}
	next := f.sleeps("")
	f.Close()
	f.roused(next, 1)
	if err := next.End(); err != nil {
		t.Fatal(err)
	}
}

func TestASleepThatHasEndedIsNotRoused(t *testing.T) {
	f := newFixture(t, Limits{}, Block)
	gone, there := f.sleeps(""), f.sleeps("")
	if err := gone.End(); err != nil {
		t.Fatal(err)
	}
	f.put("p c 1")
	f.roused(gone, 0)
	f.roused(there, 1)
	f.takes("", "1")
}
