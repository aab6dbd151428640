package session

import "time"

// outStream is the newest stream as the sender sees it.
type outStream struct {
	attached bool
	accepted bool // ACCEPT has come
	early    bool // data flows before ACCEPT
	finished bool
	ping     bool
	control  []byte // to be written before more data

	exposedBefore uint64 // newest id that went to earlier streams
	settledBefore uint64 // newest id that was settled when the stream was opened
	ackable       uint64 // newest id that the receiver may acknowledge

	// The cursor is where the next piece begins. next is the number that the receiver gives to the next message, 0 when it
	// needs a POSITION; at is the id at the cursor when that is inside a chunk.
	chunk, offset int
	at, next      uint64
	from          int64 // the chunks' byte count at which this stream began
	limit         int64 // the receiver's window
}

// OpenStream begins a new stream, which replaces the one before. hello is to be written first.
func (s *Sender) OpenStream() (generation uint64, hello []byte) {
	s.detach()
	s.generation++
	s.stream = outStream{attached: true, exposedBefore: s.exposed, settledBefore: s.settled, ackable: s.settled, limit: InitialWindow}
	open := Open{
		Session: s.options.Session, Instance: s.instance, Generation: s.generation, Oldest: s.settled + 1,
		ReportTaken: s.options.ReportTaken, Durable: s.options.Durable, Channel: s.options.Channel,
		AckMessages: uint64(max(1, s.options.Messages/4)), AckBytes: uint64(max(1, s.options.Bytes/4)),
	}
	if s.generation == 1 && !s.instance.IsZero() {
		s.stream.early = true
		open.Early = true
		s.rewind(open.Oldest)
		s.announce(open.Oldest)
	}
	return s.generation, AppendOpen(nil, open)
}

// rewind puts the cursor before the first message with at least this id.
func (s *Sender) rewind(id uint64) {
	st := &s.stream
	st.chunk, st.offset = s.window.locate(id)
	st.at, st.next = id, 0
	st.from = s.cursor()
}

// announce notes that the receiver was told the number of the next message.
func (s *Sender) announce(id uint64) {
	s.stream.next = id
	s.stream.ackable = max(s.stream.ackable, id-1)
	s.exposed = max(s.exposed, id-1)
}

// cursor is the byte count at the cursor.
func (s *Sender) cursor() int64 {
	if s.stream.chunk == len(s.window.chunks) {
		return s.window.start
	}
	return s.window.chunks[s.stream.chunk].start + int64(s.stream.offset)
}

// inFlight is how many bytes this stream carried that are not acknowledged. A chunk counts until all of it is.
func (s *Sender) inFlight() int64 {
	if s.confirmed >= s.stream.ackable || len(s.window.chunks) == 0 {
		return 0
	}
	return s.cursor() - max(s.window.chunks[0].start, s.stream.from)
}

// Piece is what a writer puts on the stream before anything else: whole frames. It must be given back with Done.
type Piece struct {
	Bytes []byte
	Rest  []byte // follows Bytes; of a message whose payload was lent
	// Foreign: some of its messages have a codec that the receiver does not take. They must be unpacked on their way.
	Foreign bool

	chunk *chunk
	last  uint64
}

// Last is the id of the newest message in it.
func (p Piece) Last() uint64 { return p.last }

// Size is how many bytes it has.
func (p Piece) Size() int { return len(p.Bytes) + len(p.Rest) }

// Control tells whether the piece holds no messages.
func (p Piece) Control() bool { return p.chunk == nil }

// NextPiece answers what to write next on the stream of that generation, if anything.
func (s *Sender) NextPiece(generation uint64) (Piece, bool) {
	st := &s.stream
	if generation != s.generation || !st.attached {
		return Piece{}, false
	}
	if len(st.control) > 0 {
		control := st.control
		st.control = nil
		return Piece{Bytes: control}, true
	}
	if c := s.sendable(); c != nil {
		return s.take(c), true
	}
	if st.ping {
		st.ping = false
		return Piece{Bytes: AppendEmpty(nil, TypePing)}, true
	}
	return Piece{}, false
}

// Queued is how many bytes wait for the stream.
func (s *Sender) Queued() int64 { return s.window.start - s.cursor() }

// Sendable tells whether NextPiece has something.
func (s *Sender) Sendable() bool {
	return s.stream.attached && (len(s.stream.control) > 0 || s.stream.ping || s.sendable() != nil)
}

// sendable answers the chunk at the cursor if some of it may be written now.
func (s *Sender) sendable() *chunk {
	st := &s.stream
	if !st.accepted && !st.early || s.inFlight() >= st.limit {
		return nil
	}
	if st.chunk+1 < len(s.window.chunks) && st.offset == s.window.chunks[st.chunk].size() {
		st.chunk, st.offset = st.chunk+1, 0
	}
	if st.chunk == len(s.window.chunks) {
		return nil
	}
	c := s.window.chunks[st.chunk]
	switch {
	case c.filling || st.offset == c.size():
		return nil
	case !st.accepted && (c.size() > MinMaxMessage || c.codecs != 0):
		return nil // the receiver may not take messages that large, or not this codec
	case !st.accepted && st.next != s.position(c):
		return nil // a receiver that discards early data takes the first POSITION for the end of it
	}
	return c
}

// position is the id at the cursor, which is in c.
func (s *Sender) position(c *chunk) uint64 {
	if s.stream.offset == 0 {
		return c.first
	}
	return s.stream.at
}

// take answers the rest of the chunk at the cursor, or first a POSITION when the receiver expects another number.
func (s *Sender) take(c *chunk) Piece {
	st := &s.stream
	if st.at = s.position(c); st.next != st.at {
		s.announce(st.at)
		return Piece{Bytes: AppendPosition(nil, st.at)}
	}
	piece := Piece{Bytes: c.frames[st.offset:], Rest: c.lent, Foreign: c.codecs&^s.codecs != 0, chunk: c, last: c.last()}
	c.users++
	st.offset = c.size()
	st.at = piece.last + 1
	s.announce(st.at)
	return piece
}

// Done gives a piece back. taken: the transport took all of it.
func (s *Sender) Done(p Piece, taken bool) {
	if p.chunk == nil {
		return
	}
	s.window.release(p.chunk)
	if taken {
		s.sent = max(s.sent, p.last)
	}
}

// RequestAck makes the receiver acknowledge at once what it gets before: for flushes.
func (s *Sender) RequestAck() { s.stream.ping = s.stream.attached }

// Finish ends the session in an orderly way. It answers false while messages are unsettled or no stream is up; otherwise the
// last piece tells the receiver to forget the session, and the sender is closed.
func (s *Sender) Finish() bool {
	st := &s.stream
	if s.Unsettled() > 0 || !st.attached || !st.accepted || s.closed != nil {
		return false
	}
	st.finished = true
	st.control = AppendEmpty(st.control, TypeFinish)
	s.closed = ErrClosed
	return true
}

// StreamLost notes that the stream of that generation has ended.
func (s *Sender) StreamLost(generation uint64, now time.Time) {
	if generation == s.generation {
		s.detach()
	}
	s.startWaiting(now)
}

// detach forgets the stream, and the drops that were named without the ACK that confirms them: the receiver repeats them.
func (s *Sender) detach() {
	kept := s.losses[:0]
	for _, loss := range s.losses {
		if loss.told {
			kept = append(kept, loss)
		}
	}
	clear(s.losses[len(kept):])
	s.losses = kept
	s.stream = outStream{}
}

func (s *Sender) startWaiting(now time.Time) {
	switch {
	case s.stream.accepted || s.Unsettled() == 0 && !s.Awaits() || s.options.Durable:
		s.waitingSince = time.Time{}
	case s.waitingSince.IsZero():
		s.waitingSince = now
	}
}

// Tick gives up the unsettled messages and what is awaited when the resume window is over, and answers when to call it again: the zero time when
// nothing waits for a stream. Call it also after the first message that finds no stream: that starts the window.
func (s *Sender) Tick(now time.Time) (Outcome, time.Time) {
	var out Outcome
	s.startWaiting(now)
	if s.waitingSince.IsZero() {
		return out, time.Time{}
	}
	if deadline := s.waitingSince.Add(s.options.ResumeWindow); now.Before(deadline) {
		return out, deadline
	}
	s.lose(s.last, ReasonExpired, &out)
	out.Unheard, s.awaited = s.Awaits(), 0
	s.waitingSince = time.Time{}
	return out, time.Time{}
}

// Close gives up all unsettled messages. Only Done and Fill may be called afterwards.
func (s *Sender) Close() Outcome {
	var out Outcome
	s.fail(ErrClosed, ReasonClosed, &out)
	return out
}

func (s *Sender) fail(err error, reason Reason, out *Outcome) {
	s.lose(s.last, reason, out)
	s.detach()
	s.waitingSince = time.Time{}
	if s.closed == nil {
		s.closed = err
	}
	out.Ended = true
}
