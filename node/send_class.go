package node

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"peerbus/node/session"
)

// SendClass says how the messages of a channel share the way to their peer with those of other channels. It belongs to the
// channel, because the messages of a channel keep their order. The receiver does not learn it.
type SendClass uint8

// The classes.
//
//   - Control: a message that finds nothing of its channel waiting makes the peer's other channels begin no write until it is
//     written, for yieldTime at most.
//   - Bulk: of all bulk channels of the node only some write at a time (bulkTurns), and together they hold no more than their
//     share of limits.send_bytes, so that the other classes always find room.
const (
	ClassNormal SendClass = iota
	ClassControl
	ClassBulk
)

var sendClassNames = [...]string{ClassNormal: "normal", ClassControl: "control", ClassBulk: "bulk"}

func (c SendClass) String() string { return sendClassNames[c] }

// ParseSendClass answers the class of a name.
func ParseSendClass(name string) (SendClass, error) {
	for c, known := range sendClassNames {
		if name == known {
			return SendClass(c), nil
		}
	}
	return 0, fmt.Errorf("%w: class %q; \"control\", \"normal\" and \"bulk\" are possible", ErrArgument, name)
}

const (
	// yieldTime bounds how long a control message holds others up.
	yieldTime = 50 * time.Millisecond
	// writeStep and bulkStep are how much of a large message is written before the writer looks whether it has to yield. A
	// step is large enough that the transport sees no difference.
	writeStep = 1 << 20
	bulkStep  = 256 << 10
)

// step is how much a channel of the class writes at a time.
func (c SendClass) step() int {
	if c == ClassBulk {
		return bulkStep
	}
	return writeStep
}

// urgency is what the channels to one peer know of control messages that are about to be written.
type urgency struct {
	until atomic.Int64 // nanoseconds since the epoch: the end of the newest claim; 0: none
	state struct {
		sync.Mutex
		over chan struct{} // closed when the claim has ended; nil when nobody waits
	}
}

// claim makes others yield. The answer ends it.
func (u *urgency) claim() int64 {
	until := time.Now().Add(yieldTime).UnixNano()
	u.until.Store(until)
	return until
}

// release ends a claim, unless there is a newer one.
func (u *urgency) release(claim int64) {
	if !u.until.CompareAndSwap(claim, 0) {
		return
	}
	u.state.Lock()
	defer u.state.Unlock()
	if u.state.over != nil {
		close(u.state.over)
		u.state.over = nil
	}
}

// yield waits for the end of the claim that there is, if any. Newer ones are for the next write: nobody waits longer than
// yieldTime before it writes something.
func (u *urgency) yield(done <-chan struct{}) {
	until := u.until.Load()
	if until == 0 {
		return
	}
	left := time.Until(time.Unix(0, until))
	if left <= 0 {
		return
	}
	u.state.Lock()
	if u.until.Load() != until {
		u.state.Unlock()
		return
	}
	if u.state.over == nil {
		u.state.over = make(chan struct{})
	}
	over := u.state.over
	u.state.Unlock()
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-over:
	case <-timer.C:
	case <-done:
	}
}

// bulkShare is the part of limits.send_bytes that bulk channels may hold.
func bulkShare(limit int64) int64 { return limit / 4 * 3 }

// full tells whether what waits for the peer leaves no room for one more message of the class. A channel that holds nothing is an
// exception, so that a stalled channel keeps no other one from sending. What bulk holds beyond its share, which one large message
// may, does not count against the others.
func (p *outPeer) full(class SendClass, size int) bool {
	held, bulk, share := p.held.Load(), p.bulk.Load(), bulkShare(p.limit)
	if class == ClassBulk {
		return held >= p.limit || bulk > 0 && bulk+int64(size) > share
	}
	return held-max(0, bulk-share) >= p.limit
}

// setClassLocked changes the class of what the channel sends from now on, and counts what it holds as of that class.
func (o *outbound) setClassLocked(class SendClass) {
	s := &o.state
	if s.class == class {
		return
	}
	if s.class == ClassBulk {
		o.peer.account(0, int64(-s.held))
	} else if class == ClassBulk {
		o.peer.account(0, int64(s.held))
	}
	s.class = class
}

// urgeLocked claims the way for a control message that was accepted, if nothing of its channel waits before it.
func (o *outbound) urgeLocked() {
	s := &o.state
	if p := s.sender.Progress(); max(p.Sent, p.Settled)+1 == p.Last && s.stream != nil {
		s.claim = o.peer.urgency.claim()
	}
}

// calmLocked ends the channel's claim once everything is written.
func (o *outbound) calmLocked() {
	s := &o.state
	if s.claim != 0 && (s.sender == nil || s.sender.Progress().Sent == s.sender.Progress().Last) {
		o.peer.urgency.release(s.claim)
		s.claim = 0
	}
}

// put writes a piece in steps, as the class of its channel asks for.
func (o *outbound) put(stream *outStream, piece session.Piece, class SendClass) error {
	if class == ClassBulk && !piece.Control() {
		turn, err := o.node.bulk.take(o.node.ctx)
		if err != nil {
			return err
		}
		defer turn.give()
		return o.putSteps(stream, piece, class, turn)
	}
	return o.putSteps(stream, piece, class, nil)
}

func (o *outbound) putSteps(stream *outStream, piece session.Piece, class SendClass, turn *bulkTurn) error {
	o.yield(class)
	if piece.Foreign {
		return o.putUnpacked(stream, piece)
	}
	watched, size := o.progressOf(piece), class.step()
	for rest, next := piece.Bytes, piece.Rest; ; {
		n, err := stream.Write(rest[:min(size, len(rest))])
		if rest = rest[n:]; len(rest) == 0 {
			rest, next = next, nil
		}
		if err != nil || len(rest) == 0 {
			return err
		}
		watched.add(n)
		if turn != nil {
			if err := turn.progress(o.node.ctx); err != nil {
				return err
			}
		}
		o.yield(class)
	}
}

func (o *outbound) yield(class SendClass) {
	if class != ClassControl {
		o.peer.urgency.yield(o.node.ctx.Done())
	}
}
