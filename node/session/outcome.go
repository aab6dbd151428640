package session

import "slices"

// Reason says why a message was not delivered.
type Reason string

// The reasons besides the receiver's DropReason.
const (
	ReasonExpired   Reason = "resume_expired"
	ReasonRestarted Reason = "peer_restarted"
	ReasonForgotten Reason = "session_forgotten"
	ReasonTooLarge  Reason = "oversize"
	ReasonRefused   Reason = "peer_refused"
	ReasonViolation Reason = "protocol_violation"
	ReasonClosed    Reason = "closed"
	ReasonSkipped   Reason = "skipped"
	ReasonDamaged   Reason = "store_damaged"
)

// Reason is the word for events and counters. It differs from that of the peer, which counts the same message as its own loss.
func (d DropReason) Reason() Reason {
	switch d {
	case DropQueueFull:
		return "peer_queue_full"
	case DropTooManyChannels:
		return "peer_too_many_channels"
	case DropByteBudget:
		return "peer_byte_budget"
	case DropNodeClosed:
		return "peer_node_closed"
	case DropDecodeError:
		return "peer_decode_error"
	case DropRefused:
		return "peer_refused_message"
	}
	return "peer_dropped"
}

// ByReceiver tells the reasons of a receiver who did not want the message: its queue, by the policy that its host chose, or its rules.
func (r Reason) ByReceiver() bool {
	return r == DropQueueFull.Reason() || r == DropTooManyChannels.Reason() || r == DropByteBudget.Reason() ||
		r == DropRefused.Reason()
}

// Loss is a run of messages that the sender gives up. InDoubt: each of them may have reached the receiver's queue, at most
// once; otherwise none did.
type Loss struct {
	Range
	Reason  Reason
	InDoubt bool
}

// pendingLoss is a loss among unsettled messages. It is told when they are settled, or was told before.
type pendingLoss struct {
	Loss
	told bool
}

// Outcome is what a call changed. Ranges and losses ascend, and no id is ever in two of them.
type Outcome struct {
	Accepted []Range // now in the receiver's queue
	Lost     []Loss
	Taken    Range // taken by the receiver's application; empty when First is 0

	// Restarted: the receiver runs anew. Untaken, when First is not 0, were in the queue of the one before, and it never
	// said that its application took them. Untaken needs ReportTaken.
	Restarted bool
	Untaken   Range

	Unheard bool // what is settled and not taken is no longer awaited

	Room    bool // the window has room again
	Sending bool // NextPiece may have something new
	Ended   bool // the peer closed the stream
}

// settleTo makes the fate of all ids up to id known: those without a pending loss go to survivors.
func (s *Sender) settleTo(id uint64, out *Outcome, survivor func(Range)) {
	if id <= s.settled {
		return
	}
	next := s.settled + 1
	n := 0
	for ; n < len(s.losses) && s.losses[n].First <= id; n++ {
		loss := s.losses[n]
		if loss.First > next {
			survivor(Range{next, loss.First - 1})
		}
		if !loss.told {
			out.Lost = append(out.Lost, loss.Loss)
		}
		next = loss.Last + 1
	}
	s.losses = slices.Delete(s.losses, 0, n)
	if next <= id {
		survivor(Range{next, id})
	}
	s.settled = max(id, next-1)
	s.popSettled()
	out.Room = true
}

// lose gives up all ids up to id.
func (s *Sender) lose(id uint64, reason Reason, out *Outcome) {
	give := func(inDoubt bool) func(Range) {
		return func(r Range) { out.Lost = append(out.Lost, Loss{r, reason, inDoubt}) }
	}
	s.settleTo(min(id, s.exposed), out, give(true))
	s.settleTo(id, out, give(false))
}

// popSettled drops settled chunks; the cursor is never before them.
func (s *Sender) popSettled() {
	n := s.window.settle(s.settled)
	if n == 0 {
		return
	}
	if s.stream.chunk < n {
		s.stream.chunk, s.stream.offset = 0, 0
		return
	}
	s.stream.chunk -= n
}
