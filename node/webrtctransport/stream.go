package webrtctransport

import (
	"bufio"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/pion/datachannel"
)

const (
	// sendBuffer bounds what a stream has in SCTP, whose own queue takes any amount.
	sendBuffer = 256 << 10
	// receiveBuffer bounds what a stream holds unread. Above it the data channel is not read, and SCTP's window, which the
	// streams of a connection share, holds the peer.
	receiveBuffer = 256 << 10
	// finAckTimeout is how long a closed stream waits for the peer to acknowledge its end.
	finAckTimeout = 10 * time.Second
	// maxChannelMessage is the largest message of a data channel that is taken. Peers write 16 KiB at most.
	maxChannelMessage = 32 << 10
)

var errClosedForWriting = errors.New("the stream is closed for writing")

// stream is one data channel as a libp2p stream. A goroutine moves what arrives into the buffer and obeys the flags.
//
//	writing: open --CloseWrite--> finished --FIN_ACK--> done      open, finished --reset, STOP_SENDING--> done
//	reading: open --FIN--> done                                   open --CloseRead, reset--> done
//
// Once both are done, or FIN_ACK has not come in finAckTimeout, the data channel is closed.
type stream struct {
	channel *datachannel.DataChannel
	ended   func() // tells the connection, once
	room    chan struct{}

	writing sync.Mutex // held while a Write puts its frames
	state   struct {
		sync.Mutex
		changed *sync.Cond

		received []byte // not yet read
		read     half
		write    half

		readDeadline, writeDeadline time.Time
		readTimer, writeTimer       *time.Timer
		finTimer                    *time.Timer
		closed                      bool // the data channel
	}
}

// half is one direction of a stream.
type half struct {
	finished bool  // writing: FIN is sent. Reading: FIN has come
	done     bool  // nothing is to be expected any more
	err      error // why it ended early
}

func newStream(channel *datachannel.DataChannel, ended func()) *stream {
	s := &stream{channel: channel, ended: ended, room: make(chan struct{}, 1)}
	s.state.changed = sync.NewCond(&s.state.Mutex)
	channel.SetBufferedAmountLowThreshold(sendBuffer / 2)
	channel.OnBufferedAmountLow(s.signalRoom) // from pion's receive loop, under its locks
	return s
}

func (s *stream) signalRoom() {
	select {
	case s.room <- struct{}{}:
	default:
	}
}

// channelReader makes the messages of a data channel a stream of bytes: a frame may come in several of them.
type channelReader struct {
	channel *datachannel.DataChannel
	buffer  []byte
	rest    []byte
}

func (r *channelReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		n, err := r.channel.Read(r.buffer)
		if err != nil {
			return 0, err
		}
		r.rest = r.buffer[:n]
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// pump serves the data channel until it ends.
func (s *stream) pump() {
	reader := bufio.NewReaderSize(&channelReader{channel: s.channel, buffer: make([]byte, maxChannelMessage)}, 4<<10)
	for {
		message, err := readPrefixed(reader, reader, maxReceivedFrame)
		var f frame
		if err == nil {
			f, err = decodeFrame(message)
		}
		if err != nil {
			s.cut(err)
			return
		}
		s.take(f)
	}
}

// take obeys one frame. It waits while the buffer is full.
func (s *stream) take(f frame) {
	s.state.Lock()
	defer s.state.Unlock()
	st := &s.state
	for len(f.data) > 0 && len(st.received) >= receiveBuffer && !st.read.done && !st.closed {
		st.changed.Wait()
	}
	if !st.read.done && !st.read.finished {
		st.received = append(st.received, f.data...)
	}
	remote := &network.StreamError{Remote: true, ErrorCode: network.StreamErrorCode(f.errorCode)}
	switch f.flag {
	case flagFIN:
		st.read.finished, st.read.done = true, true
		_, _ = s.channel.Write(frame{flag: flagFINAck}.encode())
	case flagFINAck:
		st.write.done = true
	case flagStopSending:
		st.write.stop(remote)
	case flagReset:
		st.write.stop(remote)
		st.read.stop(remote)
	}
	s.settleLocked()
}

// stop ends a direction early, unless it has ended.
func (h *half) stop(err error) {
	if !h.done {
		h.done = true
		if !h.finished {
			h.err = err
		}
	}
}

// cut ends the stream because its data channel has.
func (s *stream) cut(err error) {
	s.state.Lock()
	defer s.state.Unlock()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = &network.StreamError{Remote: true}
	}
	s.state.read.stop(err)
	s.state.write.stop(err)
	s.settleLocked()
}

// settleLocked wakes who waits, and closes the data channel once both directions are done.
func (s *stream) settleLocked() {
	st := &s.state
	st.changed.Broadcast()
	s.signalRoom()
	if !st.read.done || !st.write.done || st.closed {
		return
	}
	st.closed = true
	for _, timer := range []*time.Timer{st.finTimer, st.readTimer, st.writeTimer} {
		if timer != nil {
			timer.Stop()
		}
	}
	_ = s.channel.Close()
	s.ended()
}

// Read implements network.MuxedStream.
func (s *stream) Read(p []byte) (int, error) {
	s.state.Lock()
	defer s.state.Unlock()
	st := &s.state
	for {
		switch {
		case len(st.received) > 0 && st.read.err == nil:
			n := copy(p, st.received)
			st.received = st.received[n:]
			if len(st.received) == 0 {
				st.received = nil
			}
			st.changed.Broadcast()
			return n, nil
		case st.read.err != nil:
			return 0, st.read.err
		case st.read.done:
			return 0, io.EOF
		case passed(st.readDeadline):
			return 0, os.ErrDeadlineExceeded
		case len(p) == 0:
			return 0, nil
		}
		st.changed.Wait()
	}
}

func passed(deadline time.Time) bool { return !deadline.IsZero() && !time.Now().Before(deadline) }

// Write implements network.MuxedStream.
func (s *stream) Write(p []byte) (written int, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	for written < len(p) {
		piece := p[written:min(len(p), written+maxFrame-frameOverhead)]
		if err := s.awaitRoom(); err != nil {
			return written, err
		}
		if err := s.put(frame{flag: noFlag, data: piece}); err != nil {
			return written, err
		}
		written += len(piece)
	}
	return written, nil
}

// writable answers why nothing may be written, if so.
func (s *stream) writable() error {
	s.state.Lock()
	defer s.state.Unlock()
	switch w := s.state.write; {
	case w.err != nil:
		return w.err
	case w.finished, w.done:
		return errClosedForWriting
	case passed(s.state.writeDeadline):
		return os.ErrDeadlineExceeded
	}
	return nil
}

func (s *stream) awaitRoom() error {
	for {
		if err := s.writable(); err != nil {
			return err
		}
		if s.channel.BufferedAmount()+maxFrame <= sendBuffer {
			return nil
		}
		<-s.room // also when the state or the deadline changes
	}
}

// put writes a frame unless the stream has been finished meanwhile: nothing may follow FIN.
func (s *stream) put(f frame) error {
	s.state.Lock()
	defer s.state.Unlock()
	if w := s.state.write; w.err != nil || w.finished || w.done {
		return errors.Join(w.err, errClosedForWriting)
	}
	_, err := s.channel.Write(f.encode())
	return err
}

// CloseWrite implements network.MuxedStream.
func (s *stream) CloseWrite() error {
	s.state.Lock()
	defer s.state.Unlock()
	st := &s.state
	if st.write.finished || st.write.done {
		return nil
	}
	_, err := s.channel.Write(frame{flag: flagFIN}.encode())
	st.write.finished = true
	st.finTimer = time.AfterFunc(finAckTimeout, func() {
		s.state.Lock()
		defer s.state.Unlock()
		st.write.done = true
		s.settleLocked()
	})
	s.settleLocked()
	return err
}

// CloseRead implements network.MuxedStream.
func (s *stream) CloseRead() error {
	s.state.Lock()
	defer s.state.Unlock()
	st := &s.state
	if st.read.done {
		return nil
	}
	_, err := s.channel.Write(frame{flag: flagStopSending}.encode())
	st.read.stop(&network.StreamError{})
	st.received = nil
	s.settleLocked()
	return err
}

// Close implements network.MuxedStream.
func (s *stream) Close() error { return errors.Join(s.CloseWrite(), s.CloseRead()) }

// Reset implements network.MuxedStream.
func (s *stream) Reset() error { return s.ResetWithError(0) }

// ResetWithError implements network.MuxedStream.
func (s *stream) ResetWithError(code network.StreamErrorCode) error {
	s.state.Lock()
	defer s.state.Unlock()
	st := &s.state
	if st.closed {
		return nil
	}
	_, err := s.channel.Write(frame{flag: flagReset, errorCode: uint32(code)}.encode())
	reason := &network.StreamError{ErrorCode: code}
	st.received = nil
	st.read.stop(reason)
	st.write.stop(reason)
	s.settleLocked()
	return err
}

// SetDeadline implements network.MuxedStream.
func (s *stream) SetDeadline(at time.Time) error {
	return errors.Join(s.SetReadDeadline(at), s.SetWriteDeadline(at))
}

// SetReadDeadline implements network.MuxedStream.
func (s *stream) SetReadDeadline(at time.Time) error {
	s.state.Lock()
	defer s.state.Unlock()
	s.state.readDeadline = at
	s.wakeAtLocked(&s.state.readTimer, at)
	return nil
}

// SetWriteDeadline implements network.MuxedStream.
func (s *stream) SetWriteDeadline(at time.Time) error {
	s.state.Lock()
	defer s.state.Unlock()
	s.state.writeDeadline = at
	s.wakeAtLocked(&s.state.writeTimer, at)
	return nil
}

// wakeAtLocked makes those who wait look at their deadline now and when it passes.
func (s *stream) wakeAtLocked(timer **time.Timer, at time.Time) {
	if *timer != nil {
		(*timer).Stop()
		*timer = nil
	}
	if !at.IsZero() && !s.state.closed {
		*timer = time.AfterFunc(time.Until(at), func() {
			s.state.Lock() // a reader between its look at the clock and its wait would miss the broadcast
			defer s.state.Unlock()
			s.state.changed.Broadcast()
			s.signalRoom()
		})
	}
	s.state.changed.Broadcast()
	s.signalRoom()
}
