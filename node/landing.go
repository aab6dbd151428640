package node

import (
	"io"
	"unsafe"

	"peerbus/queue"
)

const (
	// SlabBytes is the memory that a stream is read into, and that small payloads share.
	SlabBytes = 64 << 10
	// leastRoom is how much a read is given at least: what one TLS record carries.
	leastRoom = 16 << 10
	// directRead is how much must be missing of a large payload to be read without the slab.
	directRead = 4 << 10
	// maxWaste is how many useless bytes may lie before or between messages that are stored together.
	maxWaste = 4 << 10
	// maxEmptyReads is how often a stream may answer neither bytes nor an error.
	maxEmptyReads = 100
)

// landing is where a stream arrives: memory that small payloads stay in until the host is done with them, so that nothing is
// allocated or copied for a message.
//
//	| messages of others | decoded, of no use | arrived, not decoded | room |
//	0                  kept                 next                 arrived  SlabBytes
//
// A slab that nobody else holds any more is used again from its start. One that others hold is used up to its end: what lies
// between two messages that stay is at most maxWaste.
type landing struct {
	memory Memory
	// settle is called before the stream is read, which may wait: it passes on what was decoded. read reads the stream.
	settle func() error
	read   func([]byte) (int, error)

	slab                *queue.Slab
	kept, next, arrived int
}

// begin takes what was read before.
func (l *landing) begin(early []byte) {
	l.slab = newSlab(l.memory)
	l.arrived = copy(l.slab.Memory, early)
}

func newSlab(memory Memory) *queue.Slab { return queue.NewSlab(memory.Slab(), memory.Put) }

// end gives the slab up; messages keep it.
func (l *landing) end() {
	l.slab.Release(1)
	l.slab = nil
}

func (l *landing) buffered() int { return l.arrived - l.next }

// peek answers the next n bytes, at most SlabBytes, or all there are and the error that ended them. They are valid until the
// next read.
func (l *landing) peek(n int) ([]byte, error) {
	for l.buffered() < n {
		if err := l.more(n); err != nil {
			return l.slab.Memory[l.next:l.arrived], err
		}
	}
	return l.slab.Memory[l.next : l.next+n], nil
}

// skip passes over bytes that have arrived.
func (l *landing) skip(n int) { l.next += n }

// take answers the next n bytes where they are, at most SlabBytes. They stay valid for who holds the slab before the next read.
func (l *landing) take(n int) ([]byte, error) {
	if _, err := l.peek(n); err != nil {
		return nil, err
	}
	taken := l.slab.Memory[l.next : l.next+n : l.next+n]
	l.next += n
	return taken, nil
}

// Read copies what has arrived, or else reads the stream.
func (l *landing) Read(p []byte) (int, error) {
	if l.buffered() == 0 {
		if len(p) >= directRead {
			if err := l.settle(); err != nil {
				return 0, err
			}
			return l.read(p)
		}
		if err := l.more(1); err != nil {
			return 0, err
		}
	}
	n := copy(p, l.slab.Memory[l.next:l.arrived])
	l.next += n
	return n, nil
}

// more reads the stream once, into a slab with room for n bytes that are not decoded.
func (l *landing) more(n int) error {
	if err := l.settle(); err != nil {
		return err
	}
	l.makeRoom(n)
	for range maxEmptyReads {
		read, err := l.read(l.slab.Memory[l.arrived:])
		l.arrived += read
		if read > 0 {
			return nil // the error, if any, comes again
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

func (l *landing) makeRoom(n int) {
	if l.buffered() == 0 || !l.fits(n) {
		l.reclaim()
	}
	if l.fits(n) {
		return
	}
	before := l.slab
	l.slab = newSlab(l.memory)
	l.arrived = copy(l.slab.Memory, before.Memory[l.next:l.arrived])
	l.kept, l.next = 0, 0
	before.Release(1)
}

func (l *landing) fits(n int) bool {
	return SlabBytes-l.next >= n && SlabBytes-l.arrived >= leastRoom
}

// reclaim moves what is not decoded up to what others hold.
func (l *landing) reclaim() {
	if l.slab.Lone() {
		l.kept = 0
	}
	l.arrived = l.kept + copy(l.slab.Memory[l.kept:], l.slab.Memory[l.next:l.arrived])
	l.next = l.kept
}

// hold makes messages of the slab its holders, which until now only lie there.
func (l *landing) hold(messages []queue.Message) {
	holders := 0
	for i := range messages {
		if messages[i].Slab != nil {
			holders++
		}
	}
	if holders > 0 {
		l.slab.Hold(holders)
	}
}

// pack moves messages that are about to be stored together, if too much of what lies between them is of no use. Nobody else
// may know them yet, and those behind them must follow.
func (l *landing) pack(messages []queue.Message) {
	size := 0
	for i := range messages {
		if messages[i].Slab != nil {
			size += len(messages[i].Data)
		}
	}
	if l.endOf(messages)-l.kept-size <= maxWaste {
		return
	}
	at := l.kept
	for i := range messages {
		if m := &messages[i]; m.Slab != nil {
			end := at + copy(l.slab.Memory[at:], m.Data)
			m.Data = l.slab.Memory[at:end:end]
			at = end
		}
	}
}

// keep notes that messages are stored.
func (l *landing) keep(stored []queue.Message) { l.kept = l.endOf(stored) }

// endOf answers where the last of the messages that lie in the slab ends. An empty one lies nowhere.
func (l *landing) endOf(messages []queue.Message) int {
	for i := len(messages) - 1; i >= 0; i-- {
		if m := &messages[i]; m.Slab != nil && len(m.Data) > 0 {
			begin := uintptr(unsafe.Pointer(unsafe.SliceData(m.Data))) - uintptr(unsafe.Pointer(unsafe.SliceData(l.slab.Memory)))
			return int(begin) + len(m.Data)
		}
	}
	return l.kept
}
