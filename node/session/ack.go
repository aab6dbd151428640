package session

import (
	"slices"
	"time"
)

const (
	// busyMessages, counted since the acknowledgement before, make an exchange busy if the last one of them is younger than a
	// busyDelays-th of the delay. A message counts twice whose sender wants to know that it was taken.
	busyMessages = 64
	// busyDelays is how many delays pass between two acknowledgements of a busy exchange.
	busyDelays = 5
)

// ackState decides when an acknowledgement is due: at once when asked, after so many messages or bytes, and otherwise a
// moment after the first message that none covers. Each costs both sides the wake of a thread, which the messages of a quick
// exchange feel that are on their way meanwhile. So while it is busy acknowledgements are fewer, and follow a clock that no
// message has to set. A pause ends that: a sender may be waiting for the acknowledgement of all that it sent.
type ackState struct {
	maxMessages, maxBytes int // and never more than a quarter of the receiver's window
	delay                 time.Duration
	steady                bool // never busy

	messages, bytes int // since the last acknowledgement
	since, last     time.Time
	force           bool
	flowing         bool // when it was last asked what is due, the last message was young
	busy            bool
	ticking         bool // who sends the acknowledgements looks again when it is time
}

// limits follows the sender's wish as far as it asks for more acknowledgements, not for fewer.
func (a *ackState) limits(open Open, o ReceiverOptions) {
	a.maxMessages = int(max(1, min(open.AckMessages, uint64(o.AckMessages))))
	a.maxBytes = int(min(open.AckBytes, uint64(o.Window)))
	a.delay = o.AckDelay
}

// note answers whether these are the first ones that no acknowledgement covers.
func (a *ackState) note(messages int, now time.Time) (first bool) {
	if messages == 0 {
		return false
	}
	first = a.messages == 0 && !a.ticking
	if first {
		a.since = now
	}
	a.messages += messages
	a.last = now
	return first
}

func (a *ackState) clear() {
	a.busy = a.messages >= busyMessages && a.flowing && !a.steady
	a.messages, a.bytes, a.force, a.since, a.ticking = 0, 0, false, time.Time{}, false
}

// timed tells whether the time has come, or when it will, the zero time for never. Who asks looks again then.
func (a *ackState) timed(now time.Time) (due bool, at time.Time) {
	delay := a.delay
	if a.busy {
		if !a.ticking && a.messages == 0 {
			a.ticking, a.since = true, now
		}
		delay *= busyDelays
	}
	at = a.since.Add(delay)
	switch {
	case a.messages > 0:
		return !now.Before(at), at
	case a.ticking && now.Before(at):
		return false, at
	}
	a.busy, a.ticking = false, false
	return false, time.Time{}
}

// AckDue tells whether an acknowledgement shall be sent now; if not, when one will be due, the zero time for never.
func (r *Receiver) AckDue(now time.Time) (bool, time.Time) {
	r.state.Lock()
	defer r.state.Unlock()
	a := &r.state.ack
	a.flowing = now.Sub(a.last) < a.delay/busyDelays
	switch {
	case r.state.current == nil:
		return false, time.Time{}
	case r.ackDueLocked():
		return true, now
	}
	return a.timed(now)
}

// ackDueLocked tells whether an acknowledgement is due whatever the time is.
func (r *Receiver) ackDueLocked() bool {
	a := &r.state.ack
	if a.force || a.messages >= a.maxMessages || len(r.state.drops)-r.state.told >= maxDrops/2 {
		return true
	}
	return a.messages > 0 && a.bytes >= max(1, min(a.maxBytes, r.state.window/4))
}

// signalLocked tells who sends acknowledgements that one is due, or that the time of the next one is known now. Messages
// between the first and the one that makes it due wake nobody.
func (r *Receiver) signalLocked(first bool) {
	if !first && !r.ackDueLocked() {
		return
	}
	select {
	case r.Due <- struct{}{}:
	default:
	}
}

// AppendAck appends what the sender shall know now, for the stream of that generation; nothing when that one is fenced.
func (r *Receiver) AppendAck(b []byte, generation uint64) []byte {
	r.state.Lock()
	defer r.state.Unlock()
	s := &r.state
	if s.current == nil || generation != s.generation {
		return b
	}
	for _, drop := range s.drops[s.told:] {
		b = AppendDropped(b, drop)
	}
	s.told = len(s.drops)
	s.ack.clear()
	ack := Ack{Accepted: s.expected - s.pending, Window: uint64(s.window)}
	if r.durable {
		ack.Accepted = min(ack.Accepted, s.stored)
		s.taken = ack.Accepted
	}
	if r.taken {
		ack.Taken = s.taken
	}
	return AppendAck(b, ack)
}

// addDropLocked remembers a drop until the sender is known to know it. When there are too many, the two oldest become one
// whose messages are in doubt.
func (r *Receiver) addDropLocked(d Dropped) {
	s := &r.state
	if last := len(s.drops) - 1; last >= s.told {
		if l := &s.drops[last]; l.Reason == d.Reason && l.First+l.Count == d.First {
			l.Count += d.Count
			return
		}
	}
	s.drops = append(s.drops, d)
	if len(s.drops) <= maxDrops {
		return
	}
	a, b := s.drops[0], s.drops[1]
	s.drops[1] = Dropped{First: a.First, Count: b.First + b.Count - a.First, Reason: DropUnknown}
	s.drops = slices.Delete(s.drops, 0, 1)
	s.told = max(0, s.told-1)
}

// forgetDropsLocked forgets the drops of messages that the sender knows to be settled.
func (r *Receiver) forgetDropsLocked(oldest uint64) {
	r.state.drops = slices.DeleteFunc(r.state.drops, func(d Dropped) bool { return d.First+d.Count <= oldest })
}
