package node

import "sync"

// frameBuffers lends the buffers of unacknowledged frames: small ones, which come and go, are recycled here, large ones by
// Memory.
type frameBuffers struct {
	memory  Memory
	classes [len(frameClasses)]sync.Pool
}

// frameClasses are the capacities of recycled buffers; package session asks for these as a channel gets busier.
var frameClasses = [...]int{4 << 10, 16 << 10, 64 << 10}

func newFrameBuffers(memory Memory) *frameBuffers { return &frameBuffers{memory: memory} }

func (f *frameBuffers) get(size int) []byte {
	for i, capacity := range frameClasses {
		if size > capacity {
			continue
		}
		if buffer, ok := f.classes[i].Get().(*[]byte); ok {
			return (*buffer)[:0]
		}
		return make([]byte, 0, capacity)
	}
	return f.memory.Get(size)[:0]
}

func (f *frameBuffers) put(buffer []byte) {
	for i, capacity := range frameClasses {
		if cap(buffer) == capacity {
			f.classes[i].Put(&buffer)
			return
		}
	}
	if cap(buffer) > frameClasses[len(frameClasses)-1] { // what Memory did not lend must never get there: it may be C's
		f.memory.Put(buffer[:cap(buffer)])
	}
}
