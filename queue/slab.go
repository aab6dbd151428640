package queue

import "sync/atomic"

// Slab is memory that the Data of several messages lie in, side by side. It counts who holds it: its owner, who fills it, and
// each message. The last one to release it gives the memory back.
type Slab struct {
	Memory  []byte
	holders atomic.Int64
	lent    atomic.Bool
	free    func([]byte)
}

// NewSlab makes a slab that its owner holds. free hears of the end, from any goroutine.
func NewSlab(memory []byte, free func([]byte)) *Slab {
	s := &Slab{Memory: memory, free: free}
	s.holders.Store(1)
	return s
}

// Hold adds holders. Only who holds the slab may.
func (s *Slab) Hold(holders int) { s.holders.Add(int64(holders)) }

// Release ends so many holds.
func (s *Slab) Release(holders int) {
	switch left := s.holders.Add(-int64(holders)); {
	case left < 0:
		panic("queue: a slab was released more often than it was held")
	case left == 0:
		s.free(s.Memory)
	}
}

// Lend says that somebody who is not counted reads the memory, until long after the last holder may be gone. What he reads
// must not be written again.
func (s *Slab) Lend() { s.lent.Store(true) }

// Lone tells the only holder that nobody else reads the memory.
func (s *Slab) Lone() bool { return s.holders.Load() == 1 && !s.lent.Load() }
