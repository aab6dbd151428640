package node

import (
	"time"

	"peerbus/node/mux"
	"peerbus/node/session"
)

// leftPiece is what could not be written at once.
type leftPiece struct {
	stream *outStream
	sender *session.Sender
	piece  session.Piece
}

// sendLoneLocked writes a small message that nothing else waits with, if that needs no waiting, and answers whether nothing is
// left for the writer. The lock is free while it writes.
func (o *outbound) sendLoneLocked() bool {
	s := &o.state
	now := time.Now()
	if !o.loneLocked(now) || s.class == ClassBulk || s.class == ClassNormal && o.peer.urgency.until.Load() > now.UnixNano() {
		return false
	}
	if s.writing || s.left != nil || s.stream == nil {
		return false
	}
	if !s.stream.atOnce {
		s.aside = true
		return false
	}
	stream, sender := s.stream, s.sender
	piece, some := sender.NextPiece(stream.generation)
	if !some {
		return false
	}
	if piece.Foreign || piece.Rest != nil {
		s.left = &leftPiece{stream, sender, piece}
		return false
	}
	s.writing = true
	o.state.Unlock()
	err := stream.writeAtOnce(piece.Bytes)
	if isDeadline(err) {
		o.state.Lock()
		s.writing, s.left = false, &leftPiece{stream, sender, piece}
		return false
	}
	o.wrote(stream, sender, piece, err)
	o.state.Lock()
	passedBy := s.passedBy
	s.passedBy = false
	return err == nil && !passedBy && s.sender == sender && !sender.Sendable()
}

func (s *outStream) writeAtOnce(p []byte) error {
	if err := s.SetWriteDeadline(mux.AtOnce); err != nil {
		return err
	}
	_, err := s.Write(p)
	if restored := s.SetWriteDeadline(time.Time{}); err == nil {
		err = restored
	}
	return err
}
