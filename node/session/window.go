package session

import (
	"cmp"
	"slices"
)

// Range is the message ids from First to Last, both included.
type Range struct{ First, Last uint64 }

// Len is the number of messages.
func (r Range) Len() uint64 { return r.Last - r.First + 1 }

// chunk is a run of encoded frames whose messages are not all settled. Frames are only ever appended behind those that a
// writer has in its hands, so the two never touch the same bytes.
type chunk struct {
	frames  []byte
	first   uint64 // id of the first message
	count   uint64
	start   int64 // bytes of all chunks before it, since the sender was made
	users   int   // writers and fillers that hold the buffer
	filling bool
	dropped bool
	shared  *Frames // whose buffer it is; nil: the window's
	lent    []byte  // follows frames, in memory that release gives back; nil: frames are all
	release func()

	codecs   uint64 // that occur in it, bit n for codec n; codec 0 is not noted
	unpacked int    // size of the only payload as the receiver's application sees it; 0: not compressed, or never too large
}

func (c *chunk) last() uint64 { return c.first + c.count - 1 }

func (c *chunk) size() int { return len(c.frames) + len(c.lent) }

func (c *chunk) capacity() int { return cap(c.frames) + len(c.lent) }

// window holds the frames of unsettled messages, in order of their ids. Settling messages out of the middle leaves holes
// between chunks.
type window struct {
	chunks []*chunk
	start  int64 // of the next chunk
	held   int   // capacity of all buffers that are not given back
	class  int   // capacity of the next chunk for small frames

	limit int
	get   func(size int) []byte
	put   func(buffer []byte)
}

func (w *window) tail() *chunk {
	if len(w.chunks) == 0 {
		return nil
	}
	return w.chunks[len(w.chunks)-1]
}

// place answers the chunk that the next frame goes to, nil when there is no room. A frame that finds no buffer in use
// always fits, and any does with over.
func (w *window) place(id uint64, size int, over bool) *chunk {
	if c := w.tail(); c != nil && size < soloBytes && !c.filling && c.unpacked == 0 && c.lent == nil && c.last()+1 == id && len(c.frames)+size <= cap(c.frames) {
		return c
	}
	capacity := size
	if size < soloBytes {
		capacity = max(size, min(max(w.class, firstChunkBytes), w.limit-w.held))
	}
	if !over && !w.fits(capacity) {
		return nil
	}
	if size < soloBytes {
		w.class = min(4*max(w.class, firstChunkBytes), chunkBytes)
	}
	c := &chunk{frames: w.get(capacity)[:0], first: id, start: w.start}
	w.append(c)
	return c
}

// lend is place and add for a large message whose payload stays where it is, but for its beginning. It answers false when there is
// no room.
func (w *window) lend(id uint64, a Attributes, payload []byte, release func()) bool {
	if !w.fits(FrameSize(a, len(payload))) {
		return false
	}
	frames := AppendMessageHead(w.get(lentHead)[:0], a, len(payload))
	copied := lentHead - len(frames)
	c := &chunk{frames: append(frames, payload[:copied]...), lent: payload[copied:], release: release, first: id, start: w.start}
	w.append(c)
	w.add(c, c.size())
	return true
}

func (w *window) fits(capacity int) bool { return w.held == 0 || w.held+capacity <= w.limit }

func (w *window) append(c *chunk) {
	w.held += c.capacity()
	w.chunks = append(w.chunks, c)
}

// add counts a frame that was appended, or will be filled in, at the end of the tail.
func (w *window) add(c *chunk, size int) {
	c.count++
	w.start += int64(size)
}

func (w *window) release(c *chunk) {
	c.users--
	w.recycle(c)
}

func (w *window) recycle(c *chunk) {
	if c.dropped && c.users == 0 {
		w.held -= c.capacity()
		if c.shared != nil {
			c.shared.Release()
		} else {
			w.put(c.frames[:0])
		}
		if c.release != nil {
			c.release()
		}
		c.frames, c.lent, c.release = nil, nil, nil
	}
}

// drop removes the chunks from i to j.
func (w *window) drop(i, j int) {
	for _, c := range w.chunks[i:j] {
		c.dropped = true
		w.recycle(c)
	}
	w.chunks = slices.Delete(w.chunks, i, j)
	if len(w.chunks) == 0 {
		w.chunks, w.class = nil, firstChunkBytes
	}
}

// settle drops the chunks whose last message is at most id and answers how many.
func (w *window) settle(id uint64) int {
	n := 0
	for n < len(w.chunks) && w.chunks[n].last() <= id {
		n++
	}
	if n > 0 {
		w.drop(0, n)
	}
	return n
}

// locate answers where the first message with at least this id begins, or will begin: chunk and offset.
func (w *window) locate(id uint64) (index, offset int) {
	index, _ = slices.BinarySearchFunc(w.chunks, id, func(c *chunk, id uint64) int { return cmp.Compare(c.last(), id) })
	if index == len(w.chunks) {
		if c := w.tail(); c != nil {
			return index - 1, c.size() // the next message may join the tail
		}
		return 0, 0
	}
	c := w.chunks[index]
	for at := c.first; at < id; at++ {
		offset += frameLength(c.frames[offset:])
	}
	return index, offset
}

// frameLength is the length of a frame that this package wrote.
func frameLength(b []byte) int {
	length, n, _ := uvarint(b)
	return n + int(length)
}
