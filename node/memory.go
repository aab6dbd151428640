package node

// LargePayload is the size in bytes from which a received payload lies in a buffer of its own that Memory gave, so that
// it can be handed to the host without a copy. Smaller ones live on the Go heap.
const LargePayload = 16 << 10

// Memory gives the buffers of large payloads. Get returns a buffer of exactly that length with undefined content; Put
// takes back what the node did not hand over.
type Memory interface {
	Get(size int) []byte
	Put(buffer []byte)
}

type heapMemory struct{}

func (heapMemory) Get(size int) []byte { return make([]byte, size) }
func (heapMemory) Put([]byte)          {}

// freePayload gives back a received payload. Only buffers that came from Memory have that length.
func freePayload(memory Memory, payload []byte) {
	if len(payload) >= LargePayload {
		memory.Put(payload)
	}
}
