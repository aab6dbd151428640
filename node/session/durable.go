package session

import "math"

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
