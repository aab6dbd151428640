package node

import "testing"

func TestRoomThatCameBeforeItWasAskedForIsToldAtOnce(t *testing.T) {
	a, b := startPair(t)
	c := openChannel(t, a, b, "~")
	c.out.peer.wantRoom(c.out.name, ClassNormal, 100) // after a send that found the peer full; it no longer is
	eventOf(t, a, EventWritable, map[string]any{"channel": c.out.name})
}
