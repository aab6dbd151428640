package node

import (
	"context"
	"slices"
	"sync"
)

// byteBudget bounds bytes. Who comes first is served first, and more than the limit at once is granted when nothing else is.
type byteBudget struct {
	limit int64
	state struct {
		sync.Mutex
		used    int64
		waiting []*budgetWaiter
	}
}

type budgetWaiter struct {
	size    int64
	granted chan struct{}
}

// try takes size bytes if they are free.
func (b *byteBudget) try(size int64) bool {
	b.state.Lock()
	defer b.state.Unlock()
	if len(b.state.waiting) > 0 || !b.fitsLocked(size) {
		return false
	}
	b.state.used += size
	return true
}

func (b *byteBudget) fitsLocked(size int64) bool {
	return b.state.used == 0 || b.state.used+size <= b.limit
}

// take waits for size bytes until ctx ends.
func (b *byteBudget) take(ctx context.Context, size int64) error {
	if b.try(size) {
		return nil
	}
	w := &budgetWaiter{size, make(chan struct{})}
	b.state.Lock()
	b.state.waiting = append(b.state.waiting, w)
	b.grantLocked()
	b.state.Unlock()
	select {
	case <-w.granted:
		return nil
	case <-ctx.Done():
	}
	b.state.Lock()
	defer b.state.Unlock()
	if i := slices.Index(b.state.waiting, w); i >= 0 {
		b.state.waiting = slices.Delete(b.state.waiting, i, i+1)
	} else {
		b.state.used -= size
	}
	b.grantLocked()
	return context.Cause(ctx)
}

func (b *byteBudget) give(size int64) {
	b.state.Lock()
	defer b.state.Unlock()
	b.state.used -= size
	b.grantLocked()
}

func (b *byteBudget) grantLocked() {
	s := &b.state
	for len(s.waiting) > 0 && b.fitsLocked(s.waiting[0].size) {
		s.used += s.waiting[0].size
		close(s.waiting[0].granted)
		s.waiting = slices.Delete(s.waiting, 0, 1)
	}
}
