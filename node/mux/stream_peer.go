package mux

import (
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
)

// This file is what the pump does to a stream.

// handle takes a frame without payload.
func (s *Stream) handle(h header) error {
	switch h.kind {
	case frameCredit:
		s.addCredit(int(h.value))
	case frameEnd:
		return s.peerEnded()
	case frameStop:
		s.peerStopped(network.StreamErrorCode(h.value))
	case frameReset:
		s.end(&network.StreamError{Remote: true, ErrorCode: network.StreamErrorCode(h.value)}, true)
		s.conn.forget(s)
	}
	return nil
}

func (s *Stream) peerEnded() error {
	s.state.Lock()
	again := s.state.ended
	s.state.ended = true
	s.state.reading.poke()
	over := s.overLocked()
	s.state.Unlock()
	if again {
		return fmt.Errorf("%w: stream %d ended twice", errProtocol, s.id)
	}
	if over {
		s.conn.forget(s)
	}
	return nil
}

func (s *Stream) peerStopped(code network.StreamErrorCode) {
	s.state.Lock()
	defer s.state.Unlock()
	if s.state.writing.closed == nil {
		s.state.writing.closed, s.state.stopped = &network.StreamError{Remote: true, ErrorCode: code}, true
		s.state.writing.poke()
	}
}

// announce checks that the peer may send n bytes.
func (s *Stream) announce(n int) error {
	s.state.Lock()
	defer s.state.Unlock()
	switch {
	case s.state.ended:
		return fmt.Errorf("%w: data on stream %d after its end", errProtocol, s.id)
	case !s.state.window.receive(n):
		return fmt.Errorf("%w: stream %d sent %d bytes more than it may", errProtocol, s.id, -s.state.window.left)
	}
	return nil
}

// room answers where payload goes, nil when nobody reads it.
func (s *Stream) room() []byte {
	s.state.Lock()
	defer s.state.Unlock()
	if s.state.reading.closed != nil {
		return nil
	}
	return s.state.in.room()
}

// filled notes that n bytes came into the room, and answers whether somebody waits for them.
func (s *Stream) filled(n int) bool {
	s.state.Lock()
	defer s.state.Unlock()
	s.state.in.filled(n)
	if n > 0 {
		s.state.reading.poke()
	}
	return n > 0 && s.state.readers > 0
}

// isOpen tells whether the peer may still send what somebody reads.
func (s *Stream) isOpen() bool {
	s.state.Lock()
	defer s.state.Unlock()
	return !s.state.ended && s.state.reading.closed == nil
}

// wantsMore tells the pump whether the stream's reader has nothing yet to return with, and until when it waits.
func (s *Stream) wantsMore() (bool, time.Time) {
	s.state.Lock()
	defer s.state.Unlock()
	st := &s.state
	return st.in.bytes == 0 && !st.ended && st.reading.closed == nil && st.reading.expired() == nil, st.reading.deadline
}
