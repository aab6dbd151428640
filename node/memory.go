package node

import "peerbus/queue"

// LargePayload is the size in bytes from which a received payload lies in a buffer of its own that Memory gave, so that
// it can be handed to the host without a copy. Smaller ones lie in a slab, or on the Go heap.
const LargePayload = 16 << 10

// Memory gives the buffers of large payloads. Get returns a buffer of exactly that length with undefined content; Put
// takes back what the node did not hand over. Slab is Get of SlabBytes for memory that a node may keep as long as it lives.
type Memory interface {
	Get(size int) []byte
	Slab() []byte
	Put(buffer []byte)
}

type heapMemory struct{}

func (heapMemory) Get(size int) []byte { return make([]byte, size) }
func (heapMemory) Slab() []byte        { return make([]byte, SlabBytes) }
func (heapMemory) Put([]byte)          {}

// freeMessage gives back the memory of a received message.
func freeMessage(memory Memory, m *queue.Message) {
	m.Free(func(payload []byte) { freePayload(memory, payload) })
}

// freePayload gives back a received payload. Only buffers that came from Memory have that length.
func freePayload(memory Memory, payload []byte) {
	if len(payload) >= LargePayload {
		memory.Put(payload)
	}
}
