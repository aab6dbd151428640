package node

import (
	"context"
	"slices"
	"sync"
	"time"
)

// bulkPatience is how long a bulk message that makes no progress keeps its turn.
const bulkPatience = time.Second

// bulkTurns bounds how many bulk messages a node writes at a time. Who waits longest is next. A peer that takes nothing does not
// hold the others up: its message loses the turn after bulkPatience, though its write goes on, and takes one again before its next
// step.
//
//	waiting --granted--> held --give--> over
//	   ^                  |
//	   |                  +-- no progress while others wait --> lapsed
//	   +---------------------- progress after all ----------------+
type bulkTurns struct {
	limit int
	state struct {
		sync.Mutex
		held    []*bulkTurn // the one that made progress last is the last one
		waiting []*bulkTurn
	}
}

// bulkTurn is the right of one message to be written. Its turns' lock guards progressed.
type bulkTurn struct {
	turns      *bulkTurns
	granted    chan struct{}
	progressed time.Time
}

// take waits for a turn until ctx ends.
func (b *bulkTurns) take(ctx context.Context) (*bulkTurn, error) {
	t := &bulkTurn{turns: b}
	return t, t.obtain(ctx)
}

func (t *bulkTurn) obtain(ctx context.Context) error {
	s := &t.turns.state
	s.Lock()
	t.granted = make(chan struct{})
	s.waiting = append(s.waiting, t)
	t.turns.grantLocked(time.Now())
	granted := t.granted
	for {
		lapse := t.turns.lapseLocked()
		s.Unlock()
		select {
		case <-granted:
			return nil
		default:
		}
		timer := time.NewTimer(lapse)
		select {
		case <-granted:
			timer.Stop()
			return nil
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			t.give()
			return context.Cause(ctx)
		}
		s.Lock()
		t.turns.grantLocked(time.Now())
	}
}

// progress notes that a step was written. A turn that lapsed meanwhile has to be obtained again.
func (t *bulkTurn) progress(ctx context.Context) error {
	s := &t.turns.state
	s.Lock()
	i := slices.Index(s.held, t)
	if i >= 0 {
		t.progressed = time.Now()
		s.held = append(slices.Delete(s.held, i, i+1), t)
	}
	s.Unlock()
	if i < 0 {
		return t.obtain(ctx)
	}
	return nil
}

// give ends a turn, or the wait for it.
func (t *bulkTurn) give() {
	s := &t.turns.state
	s.Lock()
	defer s.Unlock()
	if i := slices.Index(s.held, t); i >= 0 {
		s.held = slices.Delete(s.held, i, i+1)
	}
	if i := slices.Index(s.waiting, t); i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
	}
	t.turns.grantLocked(time.Now())
}

// grantLocked gives turns to who waits, also those that have lapsed.
func (b *bulkTurns) grantLocked(now time.Time) {
	s := &b.state
	for len(s.waiting) > 0 {
		if len(s.held) >= b.limit {
			if now.Sub(s.held[0].progressed) < bulkPatience {
				return
			}
			s.held = slices.Delete(s.held, 0, 1)
		}
		next := s.waiting[0]
		s.waiting = slices.Delete(s.waiting, 0, 1)
		next.progressed = now
		s.held = append(s.held, next)
		close(next.granted)
	}
}

// lapseLocked is how long it takes until the next turn lapses.
func (b *bulkTurns) lapseLocked() time.Duration {
	if len(b.state.held) == 0 {
		return bulkPatience
	}
	return max(0, time.Until(b.state.held[0].progressed.Add(bulkPatience)))
}
