package mux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
)

const (
	// maxUnaccepted bounds the peer's new streams that nobody has accepted yet, maxIncoming all that it may hold open.
	maxUnaccepted = 1024
	maxIncoming   = 8192
	// goodbyeTimeout is how long the end of a connection may wait to be told to the peer.
	goodbyeTimeout = 100 * time.Millisecond
	// pingInterval and pingTimeout: a peer that is silent for both together is gone.
	pingInterval = 30 * time.Second
	pingTimeout  = 10 * time.Second
	// lastStream is the highest number of a stream.
	lastStream = 1<<32 - 2
)

var (
	errSilent   = errors.New("the peer answers no more")
	errNoStream = errors.New("the connection has used up its stream numbers")
)

// Transport makes Conns. It has no state.
type Transport struct{}

var _ network.Multiplexer = Transport{}

// NewConn takes a secured connection over.
func (Transport) NewConn(c net.Conn, isServer bool, scope network.PeerScope) (network.MuxedConn, error) {
	conn := &Conn{network: c, scope: scope, turns: newTurns(c), arrived: make(chan struct{}, 1), closed: make(chan struct{})}
	conn.state.streams = map[uint32]*Stream{}
	conn.state.next = 1
	if isServer {
		conn.state.next = 2
	}
	conn.start()
	return conn, nil
}

// Conn is one connection divided into streams.
//
//	open --Close, GoAway, an error--> closed
type Conn struct {
	network net.Conn
	scope   network.PeerScope
	turns   *turns
	pump    pump
	pulse   pulse
	heard   atomic.Uint64 // reads that brought something
	arrived chan struct{} // holds one token when a stream waits to be accepted
	closed  chan struct{}
	opening sync.Mutex // streams are announced in the order of their numbers

	state struct {
		sync.Mutex
		streams    map[uint32]*Stream
		next       uint32 // number of our next stream
		highest    uint32 // of the peer's
		incoming   int
		unaccepted []*Stream
		leaving    error // not nil: Close was called, which is why the connection ends, whatever comes first
		failed     error // not nil: closed, for this reason
	}
	work sync.WaitGroup
}

var _ network.MuxedConn = &Conn{}

func (c *Conn) start() {
	c.pump.conn = c
	switch n := c.network.(type) {
	case interface{ ReadsResume() bool }:
		c.pump.resumes = n.ReadsResume()
	case *net.TCPConn:
		c.pump.resumes = true
	}
	if l, ok := c.network.(lender); ok && c.pump.resumes && l.Lend() {
		c.pump.lender = l
	}
	c.pump.watch = time.AfterFunc(time.Hour, c.pump.look)
	c.pump.watch.Stop()
	c.pump.state.held, c.pump.state.trust = true, absence
	c.pulse.prepare(c)
	c.spawn(c.pump.standIn)
	c.pulse.timer.Reset(0)
}

// spawn runs f in a goroutine that Close waits for, unless the connection is closed.
func (c *Conn) spawn(f func()) bool {
	c.state.Lock()
	defer c.state.Unlock()
	if c.state.failed != nil {
		return false
	}
	c.work.Add(1)
	go func() {
		defer c.work.Done()
		defer func() {
			if value := recover(); value != nil {
				_ = c.fail(fmt.Errorf("panic in the muxer: %v\n%s", value, debug.Stack()))
			}
		}()
		f()
	}()
	return true
}

// OpenStream announces a new stream to the peer.
func (c *Conn) OpenStream(ctx context.Context) (network.MuxedStream, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	span, err := reserveStream(c.scope)
	if err != nil {
		return nil, err
	}
	c.opening.Lock()
	s, err := c.addOwn(span)
	mine := err == nil && c.turns.post(header{frameOpen, s.id, 0})
	c.opening.Unlock()
	if err != nil {
		span.Done()
		return nil, err
	}
	if err := c.flush(mine); err != nil {
		return nil, err
	}
	return s, nil
}

func (c *Conn) addOwn(span memorySpan) (*Stream, error) {
	c.state.Lock()
	defer c.state.Unlock()
	if c.state.failed != nil {
		return nil, c.state.failed
	}
	if c.state.next > lastStream {
		return nil, errNoStream
	}
	s := newStream(c, c.state.next, span)
	c.state.next += 2
	c.state.streams[s.id] = s
	return s, nil
}

// AcceptStream waits for a stream of the peer.
func (c *Conn) AcceptStream() (network.MuxedStream, error) {
	for {
		s, err := c.nextArrived()
		if err != nil {
			return nil, err
		}
		if s != nil {
			return s, nil
		}
		select {
		case <-c.arrived:
		case <-c.closed:
		}
	}
}

func (c *Conn) nextArrived() (*Stream, error) {
	c.state.Lock()
	defer c.state.Unlock()
	if c.state.failed != nil {
		return nil, c.state.failed
	}
	if len(c.state.unaccepted) == 0 {
		return nil, nil
	}
	s := c.state.unaccepted[0]
	c.state.unaccepted[0] = nil
	c.state.unaccepted = c.state.unaccepted[1:]
	if len(c.state.unaccepted) > 0 {
		c.announceArrival() // others that accept at the same time
	}
	return s, nil
}

func (c *Conn) announceArrival() {
	select {
	case c.arrived <- struct{}{}:
	default:
	}
}

// admit takes a stream that the peer opened, or refuses it.
func (c *Conn) admit(id uint32) error {
	c.state.Lock()
	highest, room := c.state.highest, c.state.incoming < maxIncoming && len(c.state.unaccepted) < maxUnaccepted
	if id&1 == c.state.next&1 || id <= highest {
		c.state.Unlock()
		return fmt.Errorf("%w: stream %d opened after %d", errProtocol, id, highest)
	}
	c.state.highest = id
	c.state.Unlock()
	if room {
		if span, err := reserveStream(c.scope); err == nil {
			c.addArrived(newStream(c, id, span))
			return nil
		}
	}
	return c.answer(header{frameReset, id, uint32(network.StreamResourceLimitExceeded)})
}

func (c *Conn) addArrived(s *Stream) {
	c.state.Lock()
	defer c.state.Unlock()
	if c.state.failed != nil {
		s.span.Done()
		return
	}
	c.state.streams[s.id] = s
	c.state.incoming++
	c.state.unaccepted = append(c.state.unaccepted, s)
	c.announceArrival()
}

// find answers the stream of a frame, nil if it is over, or an error if it never was.
func (c *Conn) find(id uint32) (*Stream, error) {
	c.state.Lock()
	defer c.state.Unlock()
	if s := c.state.streams[id]; s != nil {
		return s, nil
	}
	own := id&1 == c.state.next&1
	if own && id >= c.state.next || !own && id > c.state.highest {
		return nil, fmt.Errorf("%w: a frame of stream %d, which was not opened", errProtocol, id)
	}
	return nil, nil
}

// receiverOf answers whose payload comes, nil for nobody's.
func (c *Conn) receiverOf(h header) (*Stream, error) {
	s, err := c.find(h.stream)
	if s == nil {
		return nil, err
	}
	return s, s.announce(int(h.value))
}

// handle does what a frame without payload asks for. It is the reading side, so it neither waits nor writes.
func (c *Conn) handle(h header) error {
	switch h.kind {
	case frameOpen:
		return c.admit(h.stream)
	case framePing:
		return c.answer(header{framePong, 0, h.value})
	case framePong:
		c.pulse.answered(h.value)
		return nil
	case frameGoAway:
		return &network.ConnError{Remote: true, ErrorCode: network.ConnErrorCode(h.value)}
	}
	s, err := c.find(h.stream)
	if s == nil {
		return err
	}
	return s.handle(h)
}

// forget ends what the connection keeps for a stream.
func (c *Conn) forget(s *Stream) {
	c.state.Lock()
	known := c.state.streams[s.id] == s
	if known {
		delete(c.state.streams, s.id)
		if s.id&1 != c.state.next&1 {
			c.state.incoming--
		}
	}
	c.state.Unlock()
	if known {
		s.span.Done()
	}
}

// post sends a control frame: at once, or by whoever writes just now.
func (c *Conn) post(h header) error { return c.flush(c.turns.post(h)) }

// writable tells whether the kernel has room for a small frame.
func (c *Conn) writable() bool {
	prober, ok := c.network.(interface{ Writable() bool })
	return ok && prober.Writable()
}

// flush ends the turn that post may have taken.
func (c *Conn) flush(mine bool) error {
	if mine {
		if err := c.turns.release(); err != nil {
			return c.writeFailed(err)
		}
	}
	return nil
}

// answer is post for the reading side, which must not wait: two sides that wait for each other to read would wait for ever.
func (c *Conn) answer(h header) error {
	mine, fits := c.turns.answer(h)
	if !fits {
		return fmt.Errorf("%w: %d bytes of answers are not read", errProtocol, maxControl)
	}
	if mine && !c.spawn(func() { _ = c.flush(true) }) {
		c.turns.drop()
	}
	return nil
}

// fail closes the connection for a reason, unless it is closed, and answers the reason that counts.
func (c *Conn) fail(reason error) error {
	c.state.Lock()
	if c.state.failed != nil {
		defer c.state.Unlock()
		return c.state.failed
	}
	if c.state.leaving != nil {
		reason = c.state.leaving
	}
	failed := connError(reason)
	c.state.failed = failed
	streams := c.state.streams
	c.state.streams, c.state.unaccepted = map[uint32]*Stream{}, nil
	c.state.Unlock()
	close(c.closed)
	c.pulse.stop()
	_ = c.network.Close()
	for _, s := range streams {
		s.end(failed, !failed.Remote)
		s.span.Done()
	}
	return failed
}

// writeFailed is fail for a writer. A peer that closes says why before; that is still to be read, and counts.
func (c *Conn) writeFailed(reason error) error {
	timer := time.NewTimer(goodbyeTimeout)
	defer timer.Stop()
	select {
	case <-c.closed:
	case <-timer.C:
	}
	return c.fail(reason)
}

// connError gives a reason the type that libp2p expects. Only the end that this side decided is not the peer's.
func connError(reason error) *network.ConnError {
	if known := (*network.ConnError)(nil); errors.As(reason, &known) {
		return known
	}
	if errors.Is(reason, errProtocol) {
		return &network.ConnError{ErrorCode: network.ConnProtocolViolation, TransportError: reason}
	}
	if reason == io.EOF {
		reason = io.ErrUnexpectedEOF // to a reader, EOF means that all came
	}
	return &network.ConnError{Remote: true, TransportError: reason}
}

// Close tells the peer and closes the connection.
func (c *Conn) Close() error { return c.CloseWithError(network.ConnNoError) }

// CloseWithError is Close with a code for the peer.
func (c *Conn) CloseWithError(code network.ConnErrorCode) error {
	c.state.Lock()
	first := c.state.failed == nil && c.state.leaving == nil
	if first {
		c.state.leaving = &network.ConnError{ErrorCode: code}
	}
	c.state.Unlock()
	if first {
		c.sayGoodbye(code)
		_ = c.fail(c.state.leaving)
	}
	c.pump.watch.Stop()
	c.work.Wait()
	return nil
}

// sayGoodbye sends GoAway behind what was written, unless the connection takes nothing.
func (c *Conn) sayGoodbye(code network.ConnErrorCode) {
	timer := time.NewTimer(goodbyeTimeout)
	defer timer.Stop()
	if waiting := c.turns.request(true); waiting != nil {
		select {
		case <-waiting.granted:
		case <-timer.C:
			_ = c.fail(c.state.leaving) // ends the write that holds the turn
			_ = c.turns.cancel(waiting)
			return
		}
	}
	c.turns.deadline = time.Now().Add(goodbyeTimeout)
	_ = c.network.SetWriteDeadline(c.turns.deadline)
	c.turns.hurried = true
	_ = c.turns.write(header{frameGoAway, 0, uint32(code)}, nil)
}

// IsClosed tells whether the connection has ended.
func (c *Conn) IsClosed() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}

// As answers the Conn itself.
func (c *Conn) As(target any) bool {
	if t, ok := target.(**Conn); ok {
		*t = c
		return true
	}
	return false
}
