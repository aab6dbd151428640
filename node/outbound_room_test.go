package node

import (
	"testing"

	"peerbus/node/session"
)

func TestRoomThatCameBeforeItWasAskedForIsToldAtOnce(t *testing.T) {
	a, b := startPair(t)
	c := openChannel(t, a, b, "~")
	c.out.peer.wantRoom(c.out.name, ClassNormal, 100) // after a send that found the peer full; it no longer is
	eventOf(t, a, EventWritable, map[string]any{"channel": c.out.name})
}

func TestRoomThatComesWithTheEndOfAWriteIsTold(t *testing.T) {
	a, b := startPair(t)
	c := openChannel(t, a, b, "~")
	mustReach(t, c, mustSend(t, c, []byte("x")), DeliveryAccepted)
	s := &c.out.state
	s.Lock()
	s.wantRoom = true // as when the buffer of a message that is acknowledged already is still being written
	stream, sender := s.stream, s.sender
	s.Unlock()
	c.out.wrote(stream, sender, session.Piece{}, nil)
	eventOf(t, a, EventWritable, map[string]any{"channel": c.out.name})
}
