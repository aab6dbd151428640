package session

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
)

// Receive takes a frame that came back on the stream of that generation. An error means that the peer broke the protocol:
// the sender is closed, the outcome names what is lost, and the stream is to be reset.
func (s *Sender) Receive(generation uint64, h Head, fields []byte) (Outcome, error) {
	var out Outcome
	if generation != s.generation || !s.stream.attached {
		return out, nil // what a replaced stream still says is out of date
	}
	err := s.dispatch(h, fields, &out)
	if err != nil {
		out = s.Violated(generation, err, out)
	}
	return out, err
}

// Violated closes the sender because the peer broke the protocol on the stream of that generation: with what Receive takes, or with
// bytes that are no frame. It adds to the outcome so far.
func (s *Sender) Violated(generation uint64, err error, out Outcome) Outcome {
	if generation == s.generation && s.stream.attached {
		s.fail(fmt.Errorf("%w: %w", ErrClosed, err), ReasonViolation, &out)
	}
	return out
}

func (s *Sender) dispatch(h Head, fields []byte, out *Outcome) error {
	switch h.Type {
	case TypeAccept:
		accept, err := ParseAccept(fields)
		if err != nil {
			return err
		}
		return s.onAccept(accept, out)
	case TypeAck:
		ack, err := ParseAck(fields)
		if err != nil {
			return err
		}
		return s.onAck(ack, out)
	case TypeDropped:
		dropped, err := ParseDropped(fields)
		if err != nil {
			return err
		}
		return s.onDropped(dropped)
	case TypeClose:
		message, err := ParseClose(fields)
		if err == nil {
			s.onClose(message, out)
		}
		return err
	}
	if h.Ignorable() {
		return nil
	}
	return violation("frame type %d from a receiver", h.Type)
}

func (s *Sender) onAccept(a Accept, out *Outcome) error {
	st := &s.stream
	known, born := s.instance, s.born
	// Messages that went ahead of the first answer went by the first stream.
	continues := a.Instance == known && (a.Born == born || born == 0 && a.Born == 1)
	if err := s.checkAccept(a, continues); err != nil {
		return err
	}
	s.instance, s.born, s.durable, st.accepted = a.Instance, a.Born, a.Durable, true
	s.codecs = a.Codecs | 1<<CodecNone
	s.waitingSince = time.Time{}
	out.Sending = true
	discarded := st.early && (a.Instance != known || a.Forgetful)
	if discarded {
		s.exposed = st.exposedBefore
	}
	switch {
	case continues || known.IsZero(): // before an instance is known, nothing is sent
	case a.Instance != known:
		s.startAnew(ReasonRestarted, out)
	case born != 0 || a.Forgetful:
		s.startAnew(ReasonForgotten, out)
	default:
		s.exposed = s.settled // the first stream never got there, and the receiver refuses it from now on
	}
	s.lowerLimit(a.MaxMessage, out)
	if !st.early || discarded {
		st.ackable = max(st.settledBefore, a.Next-1)
		s.rewind(max(a.Next, s.settled+1))
	}
	return nil
}

// checkAccept refuses claims that no honest receiver makes. One that knows the session only from streams that brought it
// nothing expects what one of them named as the oldest.
func (s *Sender) checkAccept(a Accept, continues bool) error {
	st := &s.stream
	most, least := st.settledBefore+1, uint64(1)
	if continues {
		most, least = max(most, st.exposedBefore+1), s.confirmed+1
	}
	if a.Born == s.generation {
		least = st.settledBefore + 1
	}
	switch {
	case st.accepted:
		return violation("a second ACCEPT")
	case a.Born > s.generation || a.Instance == s.instance && a.Born < s.born:
		return violation("ACCEPT of a session born at generation %d, known are %d to %d", a.Born, s.born, s.generation)
	case a.Next < least || a.Next > most:
		return violation("ACCEPT expects %d, possible are %d to %d", a.Next, least, most)
	}
	return nil
}

// startAnew gives up what only the receiver could have told about: it knows nothing of it. What this very stream carried does
// not count: the receiver discarded it.
func (s *Sender) startAnew(reason Reason, out *Outcome) {
	before := s.stream.exposedBefore
	if reason == ReasonRestarted {
		out.Restarted = before >= s.options.First
		if s.options.ReportTaken && s.taken < s.confirmed {
			out.Untaken = Range{s.taken + 1, s.confirmed}
		}
	}
	s.taken = max(s.taken, before)
	s.lose(before, reason, out)
}

// lowerLimit gives up messages that the receiver would refuse. They are in chunks of their own.
func (s *Sender) lowerLimit(limit uint64, out *Outcome) {
	s.maxMessage = int(min(uint64(s.options.MaxMessage), limit))
	for i := 0; i < len(s.window.chunks); i++ {
		c := s.window.chunks[i]
		if h, _ := parseOwn(c.frames); max(h.Size, c.unpacked) <= s.maxMessage || c.first <= s.settled {
			continue
		}
		loss := Loss{Range{c.first, c.first}, ReasonTooLarge, c.first <= s.exposed}
		out.Lost = append(out.Lost, loss)
		s.addLoss(pendingLoss{loss, true})
		s.window.drop(i, i+1)
		i--
	}
	s.skim(out)
}

// skim settles the losses that were told and have no unsettled message before them.
func (s *Sender) skim(out *Outcome) {
	for len(s.losses) > 0 && s.losses[0].told && s.losses[0].First == s.settled+1 {
		s.settled = s.losses[0].Last
		s.losses = slices.Delete(s.losses, 0, 1)
		out.Room = true
	}
}

// addLoss inserts the parts of a loss that are neither settled nor in the list.
func (s *Sender) addLoss(l pendingLoss) {
	l.First = max(l.First, s.settled+1)
	at, _ := slices.BinarySearchFunc(s.losses, l.First, func(e pendingLoss, id uint64) int { return cmp.Compare(e.Last, id) })
	for ; l.First <= l.Last; at++ {
		part := l
		if at < len(s.losses) {
			part.Last = min(l.Last, s.losses[at].First-1)
			l.First = s.losses[at].Last + 1
		} else {
			l.First = l.Last + 1
		}
		if part.First <= part.Last {
			s.losses = slices.Insert(s.losses, at, part)
			at++
		}
	}
}

func (s *Sender) onAck(a Ack, out *Outcome) error {
	st := &s.stream
	accepted := max(a.Accepted, 1) - 1
	switch {
	case !st.accepted:
		return violation("ACK before ACCEPT")
	case accepted > st.ackable:
		return violation("ACK of %d, of which nothing was sent beyond %d", accepted, st.ackable)
	case a.Accepted != 0 && accepted < s.confirmed:
		return violation("ACK falls back from %d to %d", s.confirmed, accepted)
	}
	st.limit = int64(min(a.Window, math.MaxInt64))
	out.Sending = true
	if a.Accepted != 0 {
		s.confirmed = accepted
		s.settleTo(accepted, out, func(r Range) { out.Accepted = append(out.Accepted, r) })
		s.skim(out)
	}
	if taken := max(a.Taken, 1) - 1; taken > s.taken && s.options.ReportTaken {
		out.Taken = Range{s.taken + 1, taken}
		s.taken = taken
	}
	return nil
}

func (s *Sender) onDropped(d Dropped) error {
	last := d.First + d.Count - 1
	switch {
	case !s.stream.accepted:
		return violation("DROPPED before ACCEPT")
	case last > s.stream.ackable:
		return violation("DROPPED names %d, of which nothing was sent beyond %d", last, s.stream.ackable)
	case len(s.losses) >= maxDropsBetweenAcks+s.options.Messages:
		return violation("more than %d DROPPED without an ACK", maxDropsBetweenAcks)
	}
	s.addLoss(pendingLoss{Loss: Loss{Range{d.First, last}, d.Reason.Reason(), d.Reason == DropUnknown}})
	return nil
}

func (s *Sender) onClose(c Close, out *Outcome) {
	out.Ended = true
	if !c.Code.Permanent() {
		s.detach()
		return
	}
	s.fail(fmt.Errorf("%w: the peer refuses channel %q: %q (code %d)", ErrClosed, s.options.Channel, c.Text, c.Code), ReasonRefused, out)
}
