package node

import (
	"sync"
	"sync/atomic"
	"time"
)

// attentions numbers attendances of all nodes, so that a late word about one is never taken for a word about another.
var attentions atomic.Uint64

// attention is what a thread of the host that waits for a message looks at.
type attention struct {
	wanted atomic.Bool
	reader atomic.Pointer[inReader] // that brought the last small message
	state  struct {
		sync.Mutex
		attendance uint64
		reader     *inReader // nil: nobody attends
		descriptor int
		until      time.Time // the attendance lapses then
		lapses     *lapseTimer
	}
}

// Attend makes the next message wake no thread, since the caller looks for it: at the descriptor whether anything came, and by
// Look. It answers false when there is nothing to look at. The attendance lapses at the limit, and gives way to the next one,
// which may be the same again.
func (n *Node) Attend(limit time.Duration) (descriptor int, attendance uint64, ok bool) {
	a := &n.attention
	a.wanted.Store(true)
	r := a.reader.Load()
	if r == nil {
		return 0, 0, false
	}
	a.state.Lock()
	defer a.state.Unlock()
	s := &a.state
	s.until = time.Now().Add(limit) // the timer is later
	if !n.lapseLocked(limit) {
		return 0, 0, false
	}
	if s.reader != r {
		a.endLocked()
		if s.descriptor, ok = r.lent.conn.Attend(); !ok {
			return 0, 0, false
		}
		s.reader, s.attendance = r, attentions.Add(1)
	}
	return s.descriptor, s.attendance, true
}

func (a *attention) endLocked() {
	if a.state.reader != nil {
		a.state.reader.lent.conn.Leave()
		a.state.reader = nil
	}
}

// Look takes what has come into the queue.
func (n *Node) Look(attendance uint64) {
	if r := n.attention.attended(attendance); r != nil {
		r.look()
	}
}

func (a *attention) attended(attendance uint64) *inReader {
	a.state.Lock()
	defer a.state.Unlock()
	if a.state.attendance != attendance {
		return nil
	}
	return a.state.reader
}

// Leave ends an attendance.
func (n *Node) Leave(attendance uint64) {
	n.attention.state.Lock()
	defer n.attention.state.Unlock()
	if n.attention.state.attendance == attendance {
		n.attention.endLocked()
	}
}

// lapseLocked has the attendance that begins end at the limit, whatever becomes of the one who looks.
func (n *Node) lapseLocked(limit time.Duration) bool {
	s := &n.attention.state
	if s.lapses == nil {
		timer, err := newLapseTimer()
		if err != nil {
			n.log.Debug("a program that looks for messages cannot attend", "reason", err)
			return false
		}
		if !n.spawn("attendances", func() { n.endLapsed(timer) }) {
			timer.close()
			return false
		}
		s.lapses = timer
	}
	return s.lapses.set(limit) == nil
}

func (n *Node) endLapsed(timer *lapseTimer) {
	defer timer.close()
	for timer.wait(n.ctx) {
		n.attention.state.Lock()
		if !time.Now().Before(n.attention.state.until) {
			n.attention.endLocked()
		}
		n.attention.state.Unlock()
	}
}
