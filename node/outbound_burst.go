package node

import "time"

const (
	// burstMessages is how many messages must follow each other, each within loneAfter, to be a burst.
	burstMessages = 32
	// longBurst is what counts at most, so that a burst is over after a few pauses.
	longBurst = 8 * burstMessages
	// burstPause is how long the thread that sends a burst may be off its processor without the burst being over: its next
	// message is not taken for a lone one.
	burstPause = 5 * time.Millisecond
	// gatherBytes is what a writer has at least before it writes in a burst, or else it waits for gatherTime once.
	gatherBytes = 16 << 10
	gatherTime  = 100 * time.Microsecond
)

// pace tells messages of a burst from lone ones.
type pace struct {
	last time.Time // when a message came
	fast int       // messages in a row that came fast
}

// lone notes a message and tells whether it follows the one before by so much that nothing is likely to come right behind it.
func (p *pace) lone(now time.Time) bool {
	gap := now.Sub(p.last)
	p.last = now
	if gap <= loneAfter {
		p.fast = min(p.fast+1, longBurst)
		return false
	}
	inBurst := p.burst() && gap < burstPause
	p.fast /= 2
	return !inBurst
}

func (p *pace) burst() bool { return p.fast >= burstMessages }

func (o *outbound) loneLocked(now time.Time) bool { return o.state.pace.lone(now) }

// gathersLocked tells the writer to wait for more: in a burst, whose messages come faster than one write takes, each write of a
// few of them would cost as much as one of a hundred.
func (o *outbound) gathersLocked() bool {
	s := &o.state
	queued := s.sender.Queued()
	gather := !s.gathered && s.pace.burst() && 0 < queued && queued < gatherBytes
	s.gathered = gather
	return gather
}
