package session

import (
	"fmt"
	"time"
)

// SenderOptions configure a Sender. Channel is required; zero values mean the defaults.
type SenderOptions struct {
	Channel string
	Session ID // drawn at random when zero
	// First is the id of the first message, 1 by default: for senders whose messages have numbers from elsewhere.
	First uint64

	Messages   int // bound of unsettled messages
	Bytes      int // bound of the buffers that hold them; a single larger message fits when nothing else is held
	MaxMessage int // largest payload
	// ResumeWindow is how long unsettled messages wait for a new stream, at most MaxResumeWindow.
	ResumeWindow time.Duration
	// ReportTaken asks the receiver to say what its application took.
	ReportTaken bool
	// Durable: the host keeps the messages on disk. They wait for a stream without end.
	Durable bool

	// Get and Put lend buffers of at least the given capacity; by default they come from the heap.
	Get func(size int) []byte
	Put func(buffer []byte)
}

// Default bounds of a Sender.
const (
	DefaultMessages   = 16384
	DefaultBytes      = 8 << 20
	DefaultMaxMessage = 50 << 20
)

func (o *SenderOptions) fill() {
	if o.Session.IsZero() {
		o.Session = NewID()
	}
	setDefault(&o.First, 1)
	setDefault(&o.Messages, DefaultMessages)
	setDefault(&o.Bytes, DefaultBytes)
	setDefault(&o.MaxMessage, DefaultMaxMessage)
	setDefault(&o.ResumeWindow, DefaultResumeWindow)
	o.ResumeWindow = min(o.ResumeWindow, MaxResumeWindow)
	if o.Get == nil {
		o.Get = func(size int) []byte { return make([]byte, 0, size) }
	}
	if o.Put == nil {
		o.Put = func([]byte) {}
	}
}

func setDefault[T comparable](value *T, fallback T) {
	var zero T
	if *value == zero {
		*value = fallback
	}
}

// A Sender is the sending side of one channel. It is not safe for concurrent use: its owner's lock guards it. Message ids
// grow, from 1 unless told otherwise, and are never reused, not even when the receiver starts anew.
type Sender struct {
	options SenderOptions
	window  window
	stream  outStream
	losses  []pendingLoss // of unsettled messages, ascending

	instance   ID     // of the receiver, once known
	born       uint64 // the generation by which it first heard of this session; 0: it has not answered yet
	generation uint64 // of the newest stream
	last       uint64 // newest id
	settled    uint64 // every id up to it has a known fate
	confirmed  uint64 // newest id that this instance of the receiver acknowledged
	exposed    uint64 // newest id of which a byte went to any stream
	sent       uint64 // newest id that a transport took
	taken      uint64 // newest id that the receiver's application took
	awaited    uint64 // newest id that somebody waits for to be taken
	maxMessage int    // the smaller one of both sides' limits
	codecs     uint64 // that the receiver takes; 0: it has not answered yet
	durable    bool   // the receiver keeps the session on disk too

	waitingSince time.Time // unsettled messages, or somebody's question what was taken, wait for a stream since then
	closed       error
}

// NewSender makes a Sender that is not connected.
func NewSender(o SenderOptions) *Sender {
	o.fill()
	before := o.First - 1
	return &Sender{
		options: o, maxMessage: o.MaxMessage, last: before, settled: before, confirmed: before, taken: before,
		window: window{limit: o.Bytes, get: o.Get, put: o.Put, class: firstChunkBytes},
	}
}

// Session is the id that the receiver knows this sender by.
func (s *Sender) Session() ID { return s.options.Session }

// Learn tells the receiver's instance when it is known from elsewhere, so that a first stream needs no round trip.
func (s *Sender) Learn(instance ID) {
	if s.generation == 0 {
		s.instance = instance
	}
}

// Accept takes a message, copying it, and answers its id. ErrFull: wait until an Outcome says Room.
func (s *Sender) Accept(a Attributes, payload []byte) (uint64, error) {
	if size := FrameSize(a, len(payload)); size < soloBytes {
		c, err := s.place(len(payload), size)
		if err != nil {
			return 0, err
		}
		c.frames = AppendMessage(c.frames, a, payload)
		s.window.add(c, size)
		s.last++
		return s.last, nil
	}
	r, err := s.Reserve(a, len(payload))
	if err != nil {
		return 0, err
	}
	copy(r.Payload, payload)
	s.Fill(r)
	return r.ID, nil
}

// Reservation is the room for one message, to be filled without holding the sender's lock.
type Reservation struct {
	ID      uint64
	Payload []byte
	chunk   *chunk
}

// Reserve takes a message whose payload the caller copies into the reservation before it calls Fill. Messages accepted
// later wait for it.
func (s *Sender) Reserve(a Attributes, payload int) (*Reservation, error) {
	size := FrameSize(a, payload)
	c, err := s.place(payload, max(size, soloBytes))
	if err != nil {
		return nil, err
	}
	c.frames = AppendMessageHead(c.frames, a, payload)
	head := len(c.frames)
	c.frames = c.frames[:size]
	c.filling, c.users = true, 1
	s.window.add(c, size)
	s.last++
	return &Reservation{ID: s.last, Payload: c.frames[head:], chunk: c}, nil
}

// Fill ends a reservation; its payload is in place.
func (s *Sender) Fill(r *Reservation) {
	r.chunk.filling = false
	s.window.release(r.chunk)
	r.Payload = nil
}

// Lend takes a message of at least MinLent bytes without copying it. The payload must not change until release is called: once,
// when the sender needs it no more, in whatever call brings that about.
func (s *Sender) Lend(a Attributes, payload []byte, release func()) (uint64, error) {
	if err := s.refuses(len(payload)); err != nil {
		return 0, err
	}
	if !s.window.lend(s.last+1, a, payload, release) {
		return 0, s.full()
	}
	s.last++
	return s.last, nil
}

// refuses tells why a message would not be taken, however much room there is.
func (s *Sender) refuses(payload int) error {
	switch {
	case s.closed != nil:
		return s.closed
	case payload > s.maxMessage:
		return s.checkSize(payload)
	case s.last-s.settled >= uint64(s.options.Messages) || s.last == MaxSequence-1:
		return s.full()
	}
	return nil
}

func (s *Sender) place(payload, size int) (*chunk, error) {
	if err := s.refuses(payload); err != nil {
		return nil, err
	}
	c := s.window.place(s.last+1, size, false)
	if c == nil {
		return nil, s.full()
	}
	return c, nil
}

func (s *Sender) checkSize(payload int) error {
	if payload <= s.maxMessage {
		return nil
	}
	return fmt.Errorf("%w: %d bytes, channel %q takes at most %d", ErrTooLarge, payload, s.options.Channel, s.maxMessage)
}

func (s *Sender) full() error {
	return fmt.Errorf("%w: %d messages in %d bytes of buffers are not acknowledged on %q", ErrFull, s.Unsettled(), s.window.held, s.options.Channel)
}

// Unsettled is the number of messages whose fate is open.
func (s *Sender) Unsettled() uint64 { return s.last - s.settled }

// Await says that somebody wants to know when all messages up to id are taken. Without a stream that is a reason for one, as
// unsettled messages are, until the resume window is over.
func (s *Sender) Await(id uint64) { s.awaited = max(s.awaited, min(id, s.last)) }

// Awaits tells whether somebody waits to hear from the receiver's application.
func (s *Sender) Awaits() bool { return s.taken < s.awaited }

// Held is the capacity of the buffers in use, in bytes.
func (s *Sender) Held() int { return s.window.held }

// Progress is how far the messages are; each number is the last id of which the statement holds. Losses are not excepted.
type Progress struct{ Last, Sent, Settled, Taken uint64 }

// Progress answers the present state.
func (s *Sender) Progress() Progress { return Progress{s.last, s.sent, s.settled, s.taken} }

// Err is why the sender takes nothing any more, nil while it does.
func (s *Sender) Err() error { return s.closed }

// Withdraw ends a sender that never opened a stream and answers copies of its messages, so that they can take another way.
// ok is false, and nothing changes, once there was a stream or while a reservation is open.
func (s *Sender) Withdraw() (messages []Withdrawn, ok bool) {
	if s.generation > 0 || s.closed != nil {
		return nil, false
	}
	for _, c := range s.window.chunks {
		if c.filling {
			return nil, false
		}
	}
	for _, c := range s.window.chunks {
		messages = append(messages, c.withdraw()...)
	}
	s.window.drop(0, len(s.window.chunks))
	s.settled, s.closed, s.waitingSince = s.last, ErrClosed, time.Time{}
	return messages, true
}
