package session

import (
	"math"
	"time"
)

// SenderState is what a host keeps of a Sender whose session outlives its process.
type SenderState struct {
	Session    ID
	Instance   ID     // of the receiver, once it has answered
	Born       uint64 // as in its answer
	Generation uint64 // at least that of every stream so far
	Settled    uint64 // every id up to it was settled
	Taken      uint64
}

// Kept is a message that a host kept. Missing: it cannot be read any more.
type Kept struct {
	Attributes
	Payload []byte
	Missing bool
}

// RestoreSender makes the Sender that another process left behind. exposed are the unsettled messages that may have gone to a stream,
// in order; the outcome names those that are missing.
func RestoreSender(o SenderOptions, state SenderState, exposed []Kept) (*Sender, Outcome) {
	o.Session = state.Session
	s := NewSender(o)
	s.instance, s.born, s.generation = state.Instance, state.Born, state.Generation
	s.last, s.settled, s.confirmed, s.taken = state.Settled, state.Settled, state.Settled, state.Taken
	var out Outcome
	bounds := s.options
	s.options.Messages, s.window.limit, s.maxMessage = math.MaxInt, math.MaxInt, math.MaxInt // they were within bounds once
	for _, m := range exposed {
		if m.Missing {
			s.forgo(ReasonDamaged, true, &out)
		} else if _, err := s.Accept(m.Attributes, m.Payload); err != nil {
			s.forgo(ReasonDamaged, true, &out) // more than 2^62 messages
		}
	}
	s.options.Messages, s.window.limit, s.maxMessage = bounds.Messages, bounds.Bytes, bounds.MaxMessage
	s.exposed, s.sent = s.last, s.last
	s.skim(&out)
	return s, out
}

// Forgo gives the next message up: it gets its id, and is lost.
func (s *Sender) Forgo(reason Reason) Outcome {
	var out Outcome
	s.forgo(reason, false, &out)
	s.skim(&out)
	return out
}

func (s *Sender) forgo(reason Reason, inDoubt bool, out *Outcome) {
	s.last++
	loss := Loss{Range{s.last, s.last}, reason, inDoubt}
	out.Lost = append(out.Lost, loss)
	s.addLoss(pendingLoss{loss, true})
	out.Room = true
}

// MaxMessage is the largest payload that Accept takes at present.
func (s *Sender) MaxMessage() int { return s.maxMessage }

// Accepting tells whether the receiver has answered the newest stream.
func (s *Sender) Accepting() bool { return s.stream.attached && s.stream.accepted }

// Durable tells whether the receiver keeps the session on disk, as far as it has answered.
func (s *Sender) Durable() bool { return s.durable }

// ReceiverState is what a host keeps of a Receiver whose session outlives its process.
type ReceiverState struct {
	Session     ID
	Channel     string
	Born        uint64
	Next        uint64 // every message below it was kept, dropped or passed over
	Taken       uint64 // the first that the application did not confirm
	ReportTaken bool
}

// State answers what is to be kept of a Receiver before its stream is answered.
func (r *Receiver) State() ReceiverState {
	r.state.Lock()
	defer r.state.Unlock()
	return ReceiverState{r.session, r.channel, r.state.born, r.state.expected, r.state.taken, r.taken}
}

// Restore puts a session into the table that another process left behind, or that is to begin again where it was kept last: one
// that the table knows is replaced. It has no stream.
func (t *Table) Restore(peer string, state ReceiverState, now time.Time) *Receiver {
	open := Open{Session: state.Session, Channel: state.Channel, Generation: state.Born, Oldest: state.Next, ReportTaken: state.ReportTaken}
	r := newReceiver(open, t.options.Instance, t.options.Receiver)
	r.state.begun, r.state.taken, r.state.left = true, state.Taken, state.Taken
	t.state.Lock()
	defer t.state.Unlock()
	owner := t.ownerLocked(peer)
	if old := owner.sessions[state.Session]; old != nil {
		t.unlistLocked(old)
		t.state.count--
	}
	e := &entry{receiver: r, peer: peer, since: now}
	if before, known := owner.channels[state.Channel]; known && before != state.Session {
		owner.sessions[before].replaced = true
	}
	owner.sessions[state.Session], owner.channels[state.Channel] = e, state.Session
	e.global, e.own = t.state.detached.PushBack(e), owner.detached.PushBack(e)
	t.state.count++
	return r
}

// Position is the sequence number of the stream's next message.
func (st *Stream) Position() uint64 { return st.position }

// forgettable tells whether a session may be forgotten to make room, or after a while. One that a disk keeps may only when its
// sender is done with it: nobody could tell then what arrived.
func (t *Table) forgettable(e *entry) bool {
	return !t.options.Receiver.Durable || e.replaced || e.receiver.isFinished()
}

func (r *Receiver) isFinished() bool {
	r.state.Lock()
	defer r.state.Unlock()
	return r.state.finished
}
