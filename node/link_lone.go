package node

import "time"

// loneAfter is how long a sender must have been quiet for its next message to be written by the thread that sends it, which
// saves waking the writer. Messages that follow each other faster are gathered by the writer.
const loneAfter = 20 * time.Microsecond

// sendLoneLocked writes the outbox's one small message if nothing else waits for the peer and the write needs no waiting. It
// answers false when the writer must see to it. The lock is free while it writes.
func (l *link) sendLoneLocked(box *outbox) bool {
	s := &l.state
	now := time.Now()
	quiet := now.Sub(s.lastSend) > loneAfter
	s.lastSend = now
	stream := s.current
	if l.node.webrtc.writable(l.peer) != nil { // messages travel on the session, which the writer knows how to write
		return false
	}
	if !quiet || s.serving || len(s.ready) > 0 || box.queued || len(box.chunks) != 1 || stream == nil || !stream.written || !stream.atOnce {
		return false
	}
	c := box.chunks[0]
	box.busy, box.queued, s.serving = true, true, true // as if the writer had it
	l.state.Unlock()
	err := stream.writeAtOnce(c.frames)
	if err == nil {
		l.settle(box, c, delivery{c.messages, len(c.frames)}, nil)
	}
	l.state.Lock()
	if err != nil { // the writer meets the same failure, and knows what to do
		box.busy, box.queued, s.serving = false, false, false
		return false
	}
	if len(s.ready) > 0 {
		l.startWriterLocked()
	}
	return true
}
