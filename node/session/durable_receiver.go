package session

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// A durable session, one whose sender and receiver both keep it, differs at the receiver in this: a message is accepted, and
// taken, once the application has confirmed it and the host has that on disk. Until then the sender keeps it. The host keeps a
// ReceiverState, no messages:
//
//	1 .... Ledger.Next .... expected ....
//	 done, on   | with the      | with the
//	 both disks | application   | sender only
//	            | or queued     |
//
// After a crash of the receiver the session goes on at Ledger.Next, and what the sender sends again of Ledger.Done is discarded.

// ErrUnknownMessage: no message of that number has come.
var ErrUnknownMessage = errors.New("no message with that id came on the channel")

// ErrScattered: confirmations leave too many gaps.
var ErrScattered = errors.New("too many messages between confirmed ones are not confirmed")

// ReceiverState is what the host of a durable session keeps of its Receiver.
type ReceiverState struct {
	Session     ID
	Channel     string
	Born        uint64
	ReportTaken bool
	Ledger      Ledger
	Drops       []Dropped `json:",omitempty"` // that the sender may not know of

	Expected uint64 `json:"-"` // the next that has not come
	Settled  uint64 `json:"-"` // the next that the queue has not taken
	Version  uint64 `json:"-"` // grows with every change of what is kept
}

// Durable tells whether both sides keep the session.
func (r *Receiver) Durable() bool { return r.durable }

// State answers what is to be kept.
func (r *Receiver) State() ReceiverState {
	r.state.Lock()
	defer r.state.Unlock()
	s := &r.state
	return ReceiverState{
		Session: r.session, Channel: r.channel, Born: s.born, ReportTaken: r.taken,
		Ledger: Ledger{s.ledger.Next, slices.Clone(s.ledger.Done)}, Drops: slices.Clone(s.drops),
		Expected: s.expected, Settled: s.expected - s.pending, Version: s.version,
	}
}

// Stored says that a state is on disk: the sender may hear of it.
func (r *Receiver) Stored(state ReceiverState) {
	r.state.Lock()
	defer r.state.Unlock()
	s := &r.state
	s.storedVersion = max(s.storedVersion, state.Version)
	if state.Ledger.Next > s.stored {
		s.stored = state.Ledger.Next
		s.ack.force = true
		r.signalLocked(true)
	}
}

// Unstored tells whether something changed since the last state that is on disk.
func (r *Receiver) Unstored() bool {
	r.state.Lock()
	defer r.state.Unlock()
	return r.state.version > r.state.storedVersion
}

// Has tells whether a message is done with, so that it must not be put again.
func (r *Receiver) Has(id uint64) bool {
	r.state.Lock()
	defer r.state.Unlock()
	return r.state.ledger.Has(id)
}

// Confirmable tells whether messages may be confirmed: each has come, now or by the host's word (known) before.
func (r *Receiver) Confirmable(ids []uint64, known uint64) error {
	r.state.Lock()
	defer r.state.Unlock()
	s := &r.state
	for _, id := range ids {
		if id == 0 || id >= s.expected && id > known {
			return fmt.Errorf("%w: %d on %q", ErrUnknownMessage, id, r.channel)
		}
	}
	if len(s.ledger.Done)+len(ids) > MaxLedgerRuns && s.ledger.scattered(ids) {
		return fmt.Errorf("%w on %q: confirm message %d and those behind it first", ErrScattered, r.channel, s.ledger.Next)
	}
	return nil
}

// scattered tells whether adding messages would leave too many runs.
func (l *Ledger) scattered(ids []uint64) bool {
	after := Ledger{l.Next, slices.Clone(l.Done)}
	for _, id := range ids {
		after.Add(Range{id, id})
	}
	return len(after.Done) > MaxLedgerRuns
}

// Confirm says that the application is done with messages. The sender hears of it after Stored.
func (r *Receiver) Confirm(ids ...uint64) {
	r.state.Lock()
	defer r.state.Unlock()
	for _, id := range ids {
		r.doneLocked(Range{id, id})
	}
}

func (r *Receiver) doneLocked(done Range) {
	if r.durable {
		r.state.ledger.Add(done)
		r.state.version++
	}
}

// retire ends a session for good and answers its stream, nil if none.
func (r *Receiver) retire() *Stream {
	r.state.Lock()
	defer r.state.Unlock()
	current := r.state.current
	r.state.current, r.state.generation, r.state.retired = nil, MaxSequence+1, true
	return current
}

// Retired tells whether another session has taken the place of this one.
func (r *Receiver) Retired() bool {
	r.state.Lock()
	defer r.state.Unlock()
	return r.state.retired
}

// KeepSessions makes sessions durable whose senders ask for it. instance names what they are kept in. It comes before the first
// session.
func (t *Table) KeepSessions(instance ID) { t.durable = instance }

// Restore takes up a durable session that another process left behind. It has no stream.
func (t *Table) Restore(peer string, state ReceiverState, now time.Time) *Receiver {
	open := Open{
		Session: state.Session, Channel: state.Channel, Generation: state.Born, Oldest: state.Ledger.Next,
		ReportTaken: state.ReportTaken, Durable: true,
	}
	r := t.newReceiver(open)
	r.state.begun, r.state.generation = true, state.Born
	r.state.ledger, r.state.drops = state.Ledger, state.Drops
	t.state.Lock()
	defer t.state.Unlock()
	owner := t.ownerLocked(peer)
	e := &entry{receiver: r, peer: peer, since: now}
	owner.sessions[state.Session], owner.channels[state.Channel] = e, state.Session
	e.global, e.own = t.state.detached.PushBack(e), owner.detached.PushBack(e)
	t.state.count++
	return r
}

// Position is the sequence number of the stream's next message.
func (st *Stream) Position() uint64 { return st.position }
