package mux

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
)

var errClosed = errors.New("the stream is closed")

// AtOnce is a write deadline: a Write under it takes everything at once, or nothing and answers os.ErrDeadlineExceeded, when it
// would have to wait for credit, for another writer or for the kernel. It is for frames of up to smallFrame bytes, and passes
// through whatever wraps a stream. To any other stream it is a deadline that has passed.
//
// As a read deadline it is none, but makes every Read with room take what is there, or answer os.ErrDeadlineExceeded, until
// Patient. Meanwhile another goroutine may wait in a Read without room, which returns when there is something to read.
var (
	AtOnce  = time.Unix(0, 1)
	Patient = time.Unix(0, 2)
)

// Stream is one stream of a Conn.
type Stream struct {
	conn *Conn
	id   uint32
	span memorySpan

	state struct {
		sync.Mutex
		in     inbox
		window window // what the peer may send
		ended  bool   // the peer sends no more

		credit  int  // what may still be sent
		stopped bool // the peer reads no more

		reading, writing half
		readers          int  // that wait for the pump to bring something
		atOnce           bool // reads do not wait
		undrained        bool // the last one of these left something in the network
	}
}

var _ network.MuxedStream = &Stream{}

// half is one direction. The stream's lock guards it, except the channel.
type half struct {
	closed   error // not nil: why it is not open any more
	deadline time.Time
	signal   chan struct{} // holds one token when something has changed
}

func (h *half) poke() {
	select {
	case h.signal <- struct{}{}:
	default:
	}
}

// set changes the deadline. Who waits for a later one must look again; who waits for a sooner one will.
func (h *half) set(t time.Time) (sooner bool) {
	sooner = !t.IsZero() && (h.deadline.IsZero() || t.Before(h.deadline))
	h.deadline = t
	if sooner {
		h.poke()
	}
	return sooner
}

// expired answers the error of a deadline that has passed.
func (h *half) expired() error {
	if !h.deadline.IsZero() && !time.Now().Before(h.deadline) {
		return os.ErrDeadlineExceeded
	}
	return nil
}

// wait returns when something has changed, other is closed or the deadline has come.
func (h *half) wait(deadline time.Time, other <-chan struct{}) {
	var expired <-chan time.Time
	if !deadline.IsZero() {
		timer := time.NewTimer(time.Until(deadline))
		defer timer.Stop()
		expired = timer.C
	}
	select {
	case <-h.signal:
	case <-other:
	case <-expired:
	}
}

func newStream(c *Conn, id uint32, span memorySpan) *Stream {
	s := &Stream{conn: c, id: id, span: span}
	s.state.credit = initialWindow
	s.state.window = newWindow()
	s.state.reading.signal = make(chan struct{}, 1)
	s.state.writing.signal = make(chan struct{}, 1)
	return s
}

// Read answers what has arrived, at least a byte. io.EOF is the peer's CloseWrite. Without room in p it waits for that.
func (s *Stream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		s.await()
		return 0, nil
	}
	s.state.Lock()
	atOnce := s.state.atOnce
	s.state.Unlock()
	if atOnce {
		return s.readAtOnce(p)
	}
	for {
		n, deadline, err := s.take(p)
		if n > 0 || err != nil {
			return n, err
		}
		switch n := s.conn.pump.lead(s, p); {
		case n > 0:
			s.took(n)
			return n, nil
		case n < 0:
			s.follow(deadline)
		}
	}
}

// take reads what is buffered. With nothing there it answers why the wait would be in vain, or until when to wait.
func (s *Stream) take(p []byte) (n int, deadline time.Time, err error) {
	s.state.Lock()
	st := &s.state
	if n = st.in.readTo(p); n == 0 {
		if err = st.reading.closed; err == nil && st.ended {
			err = io.EOF
		} else if err == nil {
			err = st.reading.expired()
		}
	}
	if err != nil || st.in.bytes > 0 {
		st.reading.poke() // others that read at the same time
	}
	deadline = st.reading.deadline
	s.state.Unlock()
	if n > 0 {
		s.took(n)
	}
	return n, deadline, err
}

// took notes that the host has n bytes more, and grants the peer as much when it is time.
func (s *Stream) took(n int) {
	s.state.Lock()
	grant := 0
	if !s.state.ended && s.state.reading.closed == nil {
		grant = s.state.window.take(n, s.conn.pulse.roundTrip(), s.span)
	}
	s.state.Unlock()
	if grant > 0 {
		_ = s.conn.post(header{frameCredit, s.id, uint32(grant)}) // a failed connection says so at the next read
	}
}

// follow waits while another reads the connection.
func (s *Stream) follow(deadline time.Time) {
	s.state.Lock()
	s.state.readers++
	arrived := s.state.in.bytes > 0
	s.state.Unlock()
	if !arrived {
		s.state.reading.wait(deadline, nil)
	}
	s.state.Lock()
	s.state.readers--
	s.state.Unlock()
}

// Write returns when the kernel has all of p, or with the number of bytes that it has and an error.
func (s *Stream) Write(p []byte) (written int, err error) {
	s.state.Lock()
	atOnce := s.state.writing.deadline.Equal(AtOnce)
	s.state.Unlock()
	if atOnce {
		return s.writeAtOnce(p)
	}
	for written < len(p) && err == nil {
		var n int
		n, err = s.writeFrame(p[written:min(len(p), written+sentFrame)])
		written += n
	}
	return written, err
}

// writeFrame writes as much of the piece as the credit allows, at least a byte.
func (s *Stream) writeFrame(piece []byte) (int, error) {
	n, err := s.awaitCredit(len(piece))
	if err != nil {
		return 0, err
	}
	if waiting := s.conn.turns.request(n <= smallFrame); waiting != nil {
		err = s.awaitTurn(waiting)
	} else {
		err = s.ownTurn()
	}
	if err != nil {
		s.addCredit(n)
		return 0, err
	}
	if err := s.conn.turns.write(header{frameData, s.id, uint32(n)}, piece[:n]); err != nil {
		return 0, s.conn.writeFailed(err)
	}
	return n, nil
}

func (s *Stream) writeAtOnce(p []byte) (int, error) {
	if len(p) > smallFrame || !s.takeCredit(len(p)) {
		return 0, os.ErrDeadlineExceeded
	}
	if !s.conn.turns.try() {
		s.addCredit(len(p))
		return 0, os.ErrDeadlineExceeded
	}
	err := s.ownTurn()
	if err == nil && !s.conn.writable() {
		err = os.ErrDeadlineExceeded
		if failed := s.conn.turns.release(); failed != nil {
			err = s.conn.writeFailed(failed)
		}
	}
	if err != nil {
		s.addCredit(len(p))
		return 0, err
	}
	if err := s.conn.turns.write(header{frameData, s.id, uint32(len(p))}, p); err != nil {
		return 0, s.conn.writeFailed(err)
	}
	return len(p), nil
}

// takeCredit takes all that is asked for, or nothing.
func (s *Stream) takeCredit(n int) bool {
	s.state.Lock()
	defer s.state.Unlock()
	if s.state.writing.closed != nil || s.state.credit < n {
		return false
	}
	s.state.credit -= n
	return true
}

// awaitCredit takes credit for up to most bytes.
func (s *Stream) awaitCredit(most int) (int, error) {
	for {
		s.state.Lock()
		err, deadline := s.writableLocked(), s.state.writing.deadline
		n := min(most, s.state.credit)
		if err == nil {
			s.state.credit -= n
		}
		s.state.Unlock()
		if err != nil || n > 0 {
			return n, err
		}
		s.state.writing.wait(deadline, nil)
	}
}

// addCredit is for what the peer granted, and what was not used.
func (s *Stream) addCredit(n int) {
	s.state.Lock()
	defer s.state.Unlock()
	s.state.credit += n
	s.state.writing.poke()
}

// awaitTurn gives the turn up when the stream ends or its deadline comes first.
func (s *Stream) awaitTurn(waiting *turn) error {
	for {
		select {
		case <-waiting.granted:
			return s.ownTurn()
		default:
		}
		s.state.Lock()
		err, deadline := s.writableLocked(), s.state.writing.deadline
		s.state.Unlock()
		if err != nil {
			if failed := s.conn.turns.cancel(waiting); failed != nil {
				return s.conn.writeFailed(failed)
			}
			return err
		}
		s.state.writing.wait(deadline, waiting.granted)
	}
}

// ownTurn gives a turn back that has come too late: no data follows the frame that ends the stream.
func (s *Stream) ownTurn() error {
	s.state.Lock()
	err := s.state.writing.closed
	s.state.Unlock()
	if err == nil {
		return nil
	}
	if failed := s.conn.turns.release(); failed != nil {
		return s.conn.writeFailed(failed)
	}
	return err
}

func (s *Stream) writableLocked() error {
	err := s.state.writing.closed
	if err == nil {
		err = s.state.writing.expired()
	}
	if err != nil {
		s.state.writing.poke() // others that write at the same time
	}
	return err
}

// Close closes both halves. What was written arrives.
func (s *Stream) Close() error {
	_ = s.CloseRead()
	return s.CloseWrite()
}

// CloseWrite tells the peer that no more comes.
func (s *Stream) CloseWrite() error {
	s.state.Lock()
	if closed := s.state.writing.closed; closed != nil && !s.state.stopped {
		s.state.Unlock()
		if closed == errClosed {
			return nil
		}
		return closed
	}
	s.state.writing.closed, s.state.stopped = errClosed, false
	s.state.writing.poke()
	over := s.overLocked()
	s.state.Unlock()
	return s.leave(header{frameEnd, s.id, 0}, over)
}

// CloseRead drops what has arrived and what will. The peer's writes fail.
func (s *Stream) CloseRead() error {
	s.state.Lock()
	if s.state.reading.closed != nil {
		s.state.Unlock()
		return nil
	}
	ended := s.state.ended
	s.state.reading.closed = errClosed
	s.state.in.clear()
	s.state.reading.poke()
	over := s.overLocked()
	s.state.Unlock()
	s.conn.pump.gone(s)
	if !ended {
		return s.leave(header{frameStop, s.id, 0}, over)
	}
	if over {
		s.conn.forget(s)
	}
	return nil
}

// leave tells the peer, and then forgets a stream that is over.
func (s *Stream) leave(h header, over bool) error {
	err := s.conn.post(h)
	if over {
		s.conn.forget(s)
	}
	return err
}

// overLocked tells whether neither half is open any more.
func (s *Stream) overLocked() bool {
	return s.state.writing.closed != nil && !s.state.stopped && (s.state.ended || s.state.reading.closed != nil)
}

// Reset ends both halves at once, without regard to what was sent.
func (s *Stream) Reset() error { return s.ResetWithError(network.StreamNoError) }

// ResetWithError is Reset with a code for the peer.
func (s *Stream) ResetWithError(code network.StreamErrorCode) error {
	if s.end(&network.StreamError{ErrorCode: code}, true) {
		_ = s.leave(header{frameReset, s.id, uint32(code)}, true) // a connection that failed needs no reset
	}
	return nil
}

// end closes what is open for the reason, and answers whether anything was. What has arrived is dropped, or can still be
// read before the reason is told.
func (s *Stream) end(reason error, drop bool) bool {
	s.state.Lock()
	st := &s.state
	open := !s.overLocked()
	if st.writing.closed == nil || st.stopped {
		st.writing.closed, st.stopped = reason, false
	}
	if st.reading.closed == nil && !st.ended {
		st.reading.closed = reason
		if drop {
			st.in.clear()
		}
	}
	st.reading.poke()
	st.writing.poke()
	st.Unlock()
	s.conn.pump.gone(s)
	return open
}

// SetDeadline sets both deadlines; the zero time is none.
func (s *Stream) SetDeadline(t time.Time) error {
	_ = s.SetReadDeadline(t)
	return s.SetWriteDeadline(t)
}

// SetReadDeadline holds for the reads in progress, too.
func (s *Stream) SetReadDeadline(t time.Time) error {
	if atOnce := t.Equal(AtOnce); atOnce || t.Equal(Patient) {
		s.setAtOnce(atOnce)
		return nil
	}
	s.state.Lock()
	sooner := s.state.reading.set(t)
	s.state.Unlock()
	if sooner {
		s.conn.pump.kick(s)
	}
	return nil
}

// SetWriteDeadline holds for the writes in progress, too.
func (s *Stream) SetWriteDeadline(t time.Time) error {
	s.state.Lock()
	defer s.state.Unlock()
	s.state.writing.set(t)
	return nil
}
