package webrtc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/datachannel"
	"github.com/pion/sctp"
	pion "github.com/pion/webrtc/v4"
)

const (
	// sctpBuffer bounds what waits in SCTP, whose own queue takes any amount; a write goes on at half of it.
	sctpBuffer = 1 << 20
	// maxMessage is the largest message of a data channel that is taken.
	maxMessage = 64 << 10
)

var (
	// ErrTimeout says that the peer acknowledged too little before the deadline.
	ErrTimeout = errors.New("the peer takes nothing")
	// ErrEnded is wrapped by what calls on an ended session answer.
	ErrEnded = errors.New("the WebRTC session has ended")
	// ErrSilent says that no path to the peer works any more.
	ErrSilent = fmt.Errorf("%w: no packet from the peer for %s", ErrEnded, FailedTimeout)
	// ErrPeerEnded says that the peer closed it.
	ErrPeerEnded = fmt.Errorf("%w: the peer closed it", ErrEnded)
	// errReadDeadline is what Read answers at its deadline.
	errReadDeadline = sctp.ErrReadDeadlineExceeded
)

// Session is an open data channel to one peer. One goroutine may read and one may write at the same time; Close may come from
// any other.
type Session struct {
	connection *pion.PeerConnection
	channel    *datachannel.DataChannel
	room       chan struct{} // holds one token when SCTP's buffer has drained to half

	foreignChannels atomic.Int32
	claimed         atomic.Bool
	doubtful        atomic.Bool

	flight struct {
		sync.Mutex
		written uint64 // bytes given to SCTP, flag bytes included
		frames  []inFlight
	}
	finish struct {
		sync.Mutex
		err   error
		ended chan struct{}
	}
	closed sync.Once
	chunk  []byte // the writer's
}

// inFlight is a frame that the peer's SCTP may not have yet.
type inFlight struct {
	end     uint64 // of its last byte, counted as written
	channel string
}

func newSession(c *pion.PeerConnection) *Session {
	s := &Session{connection: c, room: make(chan struct{}, 1), chunk: make([]byte, 0, ChunkBytes)}
	s.finish.ended = make(chan struct{})
	return s
}

// open begins with the channel. The callback comes from pion's receive loop, under its locks.
func (s *Session) open(raw *datachannel.DataChannel) {
	s.channel = raw
	raw.SetBufferedAmountLowThreshold(sctpBuffer / 2)
	raw.OnBufferedAmountLow(func() {
		select {
		case s.room <- struct{}{}:
		default:
		}
	})
}

// claimChannel answers true once: a session has one data channel.
func (s *Session) claimChannel() bool { return s.claimed.CompareAndSwap(false, true) }

func (s *Session) onState(state pion.PeerConnectionState) {
	s.doubtful.Store(state == pion.PeerConnectionStateDisconnected)
	switch state {
	case pion.PeerConnectionStateFailed:
		s.end(ErrSilent)
	case pion.PeerConnectionStateClosed:
		s.end(ErrPeerEnded)
	}
}

// Doubtful tells whether nothing has come from the peer for a while, so that a new session may replace this one.
func (s *Session) Doubtful() bool { return s.doubtful.Load() }

// end makes the session end for a reason; the first one counts. Close still has to be called.
func (s *Session) end(reason error) {
	s.finish.Lock()
	defer s.finish.Unlock()
	if s.finish.err == nil {
		s.finish.err = reason
		close(s.finish.ended)
	}
}

// End makes the session end because its owner wants so.
func (s *Session) End(reason error) { s.end(fmt.Errorf("%w: %w", ErrEnded, reason)) }

// Ended is closed when the session has ended, or must.
func (s *Session) Ended() <-chan struct{} { return s.finish.ended }

// Err is why the session ended, nil before.
func (s *Session) Err() error {
	s.finish.Lock()
	defer s.finish.Unlock()
	return s.finish.err
}

// Close ends the session at once and waits for pion's goroutines. What has not been acknowledged is lost: Drain first.
func (s *Session) Close() {
	s.end(ErrEnded)
	s.closed.Do(func() { _ = s.connection.GracefulClose() })
}

// Drain waits until the peer has acknowledged everything, the session ends or patience is over.
func (s *Session) Drain(patience time.Duration) {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	// SCTP tells only about half of its buffer; the rest is short.
	poll := time.NewTicker(drainPoll)
	defer poll.Stop()
	for s.channel.BufferedAmount() > 0 {
		select {
		case <-poll.C:
		case <-deadline.C:
			return
		case <-s.finish.ended:
			return
		}
	}
}

// drainPoll is how often Drain looks.
const drainPoll = 5 * time.Millisecond

// Write sends whole frames of one channel and answers how many bytes of them SCTP took, in whole frames unless it fails.
// It waits for room, at most timeout for each chunk. After a failure the session is of no use any more.
func (s *Session) Write(frames []byte, channel string, timeout time.Duration) (written int, err error) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for written < len(frames) {
		frame := firstFrame(frames[written:])
		err := eachChunk(frame, s.chunk, func(chunk []byte) error {
			timer.Reset(timeout)
			return s.writeChunk(chunk, timer.C)
		})
		if err != nil {
			return written, err
		}
		s.flying(channel)
		written += len(frame)
	}
	return written, nil
}

func firstFrame(frames []byte) []byte {
	return frames[:min(len(frames), totalBytes+int(binary.BigEndian.Uint32(frames)))]
}

func (s *Session) writeChunk(chunk []byte, deadline <-chan time.Time) error {
	for s.channel.BufferedAmount()+uint64(len(chunk)) > sctpBuffer {
		select {
		case <-s.room:
		case <-s.finish.ended:
			return s.Err()
		case <-deadline:
			return ErrTimeout
		}
	}
	if err := s.Err(); err != nil {
		return err
	}
	if _, err := s.channel.Write(chunk); err != nil {
		return fmt.Errorf("%w: %v", ErrEnded, err)
	}
	s.flight.Lock()
	defer s.flight.Unlock()
	s.flight.written += uint64(len(chunk))
	return nil
}

// flying notes a frame that was written, and forgets those that the peer has by now.
func (s *Session) flying(channel string) {
	s.flight.Lock()
	defer s.flight.Unlock()
	s.landLocked()
	s.flight.frames = append(s.flight.frames, inFlight{s.flight.written, channel})
}

// landLocked forgets acknowledged frames. SCTP acknowledges also what arrived behind a gap, so that after a loss on the way
// a frame may count as arrived a little early.
func (s *Session) landLocked() {
	buffered := min(s.channel.BufferedAmount(), s.flight.written)
	acknowledged := s.flight.written - buffered
	landed := sort.Search(len(s.flight.frames), func(i int) bool { return s.flight.frames[i].end > acknowledged })
	if landed == len(s.flight.frames) {
		s.flight.frames = s.flight.frames[:0]
	} else {
		s.flight.frames = s.flight.frames[landed:]
	}
}

// Unacknowledged counts, by channel, the frames that were written whole and that the peer has not acknowledged.
func (s *Session) Unacknowledged() map[string]uint64 {
	s.flight.Lock()
	defer s.flight.Unlock()
	s.landLocked()
	counts := map[string]uint64{}
	for _, f := range s.flight.frames {
		counts[f.channel]++
	}
	return counts
}

// Read takes the next message of the data channel into buffer, which holds MessageBytes, and answers its length. It waits
// until a message comes, the deadline set by SetReadDeadline passes (IsDeadline) or the session ends.
func (s *Session) Read(buffer []byte) (int, error) {
	n, err := s.channel.Read(buffer)
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, errReadDeadline):
		return 0, err
	case errors.Is(err, io.ErrShortBuffer):
		err = fmt.Errorf("%w: the peer sent a message of more than %d bytes", ErrEnded, maxMessage)
	default:
		err = ErrPeerEnded
	}
	s.end(err)
	return 0, s.Err()
}

// MessageBytes is the size of a buffer for Read.
const MessageBytes = maxMessage

// SetReadDeadline bounds the Read after it; zero: unbounded.
func (s *Session) SetReadDeadline(at time.Time) { _ = s.channel.SetReadDeadline(at) }

// IsDeadline tells whether a Read ended at its deadline.
func IsDeadline(err error) bool { return errors.Is(err, errReadDeadline) }
