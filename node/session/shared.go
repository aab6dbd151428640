package session

import (
	"fmt"
	"sync/atomic"
)

// Frames are encoded messages that several senders carry: an encoded frame is valid at any place of any stream. The buffer goes
// back when the last user has released it. A message of soloBytes and more must be alone.
type Frames struct {
	bytes    []byte
	messages uint64
	users    atomic.Int32
	put      func(buffer []byte)
}

// NewFrames encodes messages, in a buffer that get lends and put takes back. The caller is the first user.
func NewFrames(payloads [][]byte, get func(size int) []byte, put func(buffer []byte)) *Frames {
	f := &Frames{messages: uint64(len(payloads)), put: put}
	f.users.Store(1)
	buffer := get(FramesSize(payloads))[:0]
	for _, payload := range payloads {
		buffer = AppendMessage(buffer, Attributes{}, payload)
	}
	f.bytes = buffer
	return f
}

// FramesSize is how many bytes messages take.
func FramesSize(payloads [][]byte) (size int) {
	for _, payload := range payloads {
		size += FrameSize(Attributes{}, len(payload))
	}
	return size
}

// Release ends the use of the frames by one user.
func (f *Frames) Release() {
	if f.users.Add(-1) == 0 {
		f.put(f.bytes[:0])
		f.bytes = nil
	}
}

// Fits tells why messages that take so many bytes, the largest payload of them as given, would not be accepted now. ErrFull: wait
// until an Outcome says Room.
func (s *Sender) Fits(bytes, largest int) error {
	switch {
	case s.closed != nil:
		return s.closed
	case largest > s.maxMessage:
		return fmt.Errorf("%w: %d bytes, channel %q takes at most %d", ErrTooLarge, largest, s.options.Channel, s.maxMessage)
	case s.last-s.settled >= uint64(s.options.Messages), s.window.held > 0 && s.window.held+bytes > s.options.Bytes:
		return s.full()
	}
	return nil
}

// AcceptFitting takes a message that Fits was asked about, copying it. The bounds may be exceeded by what else Fits said would
// fit, and by the waste at the ends of buffers.
func (s *Sender) AcceptFitting(payload []byte) error {
	if s.closed != nil {
		return s.closed
	}
	size := FrameSize(Attributes{}, len(payload))
	c := s.window.place(s.last+1, size, true)
	c.frames = AppendMessage(c.frames, Attributes{}, payload)
	s.window.add(c, size)
	s.last++
	return nil
}

// AcceptFrames is AcceptFitting for encoded messages, without copying them. The sender becomes one more user of the frames.
func (s *Sender) AcceptFrames(f *Frames) error {
	if s.closed != nil {
		return s.closed
	}
	f.users.Add(1)
	w := &s.window
	// Nothing is ever appended to a chunk without spare capacity.
	c := &chunk{frames: f.bytes[:len(f.bytes):len(f.bytes)], first: s.last + 1, count: f.messages, start: w.start, shared: f}
	w.append(c)
	w.start += int64(len(c.frames))
	s.last += f.messages
	return nil
}

// Skip passes over ids: the next message gets this one, the receiver sees the gap. The caller knows, and is told nothing.
func (s *Sender) Skip(next uint64) {
	if s.closed != nil || next <= s.last+1 {
		return
	}
	s.giveUp(Range{s.last + 1, next - 1})
	s.last = next - 1
	s.skim(&Outcome{})
}

// giveUp notes messages that the caller lost on purpose.
func (s *Sender) giveUp(r Range) {
	if n := len(s.losses); n > 0 && s.losses[n-1].told && s.losses[n-1].Reason == ReasonSkipped && s.losses[n-1].Last+1 == r.First {
		s.losses[n-1].Last = r.Last
		return
	}
	s.addLoss(pendingLoss{Loss{r, ReasonSkipped, false}, true})
}

// DropOldest gives up the oldest messages of which no byte was handed to a stream, all those of one buffer, and answers their
// ids. ErrFull: every buffer is on its way.
func (s *Sender) DropOldest() (Range, error) {
	for i, c := range s.window.chunks {
		if c.first > s.exposed && c.users == 0 {
			dropped := Range{c.first, c.last()}
			s.giveUp(dropped)
			s.window.drop(i, i+1)
			s.skim(&Outcome{})
			return dropped, nil
		}
	}
	return Range{}, fmt.Errorf("%w, and all are on their way", s.full())
}
