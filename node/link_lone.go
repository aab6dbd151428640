package node

import (
	"runtime"
	"sync"
	"time"
)

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
	if !quiet || s.serving || len(s.ready) > 0 || box.queued || len(box.chunks) != 1 {
		return false
	}
	if l.node.webrtc.writable(l.peer) != nil { // messages travel on the session, which the writer knows how to write
		s.aside = true
		return false
	}
	if stream == nil || !stream.written || !stream.atOnce {
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

// stepAside lets the writer, which the caller has just made ready, run now. The caller is a thread of the host that goes back to it
// at once, and Go gives what its thread left behind to another one only after 60 us or more: the other one sleeps before it takes
// the goroutine that was made ready last, for 3 us that the kernel's timer slack makes 60, or else the monitor thread has to notice.
func stepAside() { runtime.Gosched() }

// unlockAside is the end of what may have left a lone message to the writer, and then set aside, which the lock guards.
func unlockAside(lock sync.Locker, aside *bool) {
	left := *aside
	*aside = false
	lock.Unlock()
	if left {
		stepAside()
	}
}
