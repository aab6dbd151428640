package node

import "testing"

// lender is a Memory that knows what it lent.
type lender struct {
	t    *testing.T
	lent map[*byte]bool
}

func (l *lender) Slab() []byte { return l.Get(SlabBytes) }

func (l *lender) Get(size int) []byte {
	buffer := make([]byte, size)
	l.lent[&buffer[0]] = true
	return buffer
}

func (l *lender) Put(buffer []byte) {
	if first := &buffer[0]; !l.lent[first] {
		l.t.Errorf("a buffer of %d bytes was never lent", cap(buffer))
	} else {
		delete(l.lent, first)
	}
}

func TestMemoryGetsBackWhatItLentAndNothingElse(t *testing.T) {
	memory := &lender{t, map[*byte]bool{}}
	f := newFrameBuffers(memory)
	for _, size := range []int{1, 4 << 10, 4<<10 + 1, 64 << 10, 64<<10 + 1, 1 << 20} {
		f.put(f.get(size))
		f.put(f.get(size)[:0:size]) // by an owner that forgot its capacity
	}
	if len(memory.lent) != 0 {
		t.Errorf("%d buffers were not given back", len(memory.lent))
	}
}
