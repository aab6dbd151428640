package mux

import "sync"

// blockBytes is the unit in which a stream buffers: one TLS record fits.
const blockBytes = 16 << 10

type block struct {
	data        [blockBytes]byte
	read, write int // what is between them waits
}

var blocks = sync.Pool{New: func() any { return new(block) }}

func newBlock() *block {
	b := blocks.Get().(*block)
	b.read, b.write = 0, 0
	return b
}

// inbox is what a stream has received and nobody has read. Small frames share blocks, so that the memory is that of the
// bytes, and an empty inbox has none. The stream's lock guards it, except that the pump fills the room it was given without
// the lock: nobody else looks at bytes behind the write mark.
type inbox struct {
	blocks  []*block
	filling *block // whose room the pump has
	bytes   int
}

// room answers where the next bytes go. The pump answers with filled.
func (in *inbox) room() []byte {
	if last := len(in.blocks) - 1; last >= 0 && in.blocks[last].write < blockBytes {
		in.filling = in.blocks[last]
	} else {
		in.filling = newBlock()
		in.blocks = append(in.blocks, in.filling)
	}
	return in.filling.data[in.filling.write:]
}

// filled notes that the first n bytes of the room hold data.
func (in *inbox) filled(n int) {
	b := in.filling
	in.filling = nil
	if b == nil || len(in.blocks) == 0 {
		return // cleared meanwhile
	}
	b.write += n
	in.bytes += n
	in.trim()
}

func (in *inbox) readTo(p []byte) (n int) {
	for n < len(p) && in.bytes > 0 {
		first := in.blocks[0]
		taken := copy(p[n:], first.data[first.read:first.write])
		first.read += taken
		in.bytes -= taken
		n += taken
		in.trim()
	}
	return n
}

// trim gives the first block back when it has been read.
func (in *inbox) trim() {
	if len(in.blocks) > 0 && in.blocks[0].read == in.blocks[0].write && in.blocks[0] != in.filling {
		blocks.Put(in.blocks[0])
		in.blocks[0] = nil
		in.blocks = in.blocks[1:]
	}
}

// clear forgets everything. A block that is being filled is left to the garbage collector.
func (in *inbox) clear() {
	for _, b := range in.blocks {
		if b != in.filling {
			blocks.Put(b)
		}
	}
	in.blocks, in.bytes = nil, 0
}
