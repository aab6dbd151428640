package session

import (
	"sync"
	"time"
)

// ReceiverOptions are the same for all sessions of a Table. Zero values mean the defaults.
type ReceiverOptions struct {
	Window      int // bytes: a sender's write may begin while fewer are unacknowledged
	MaxMessage  int // bytes; at least MinMaxMessage
	AckMessages int // acknowledge after so many messages at the latest; a sender may ask for fewer
	AckDelay    time.Duration
	Codecs      uint64 // bit n: codec n is taken; CodecNone always is
}

func (o *ReceiverOptions) fill() {
	setDefault(&o.Window, DefaultWindow)
	setDefault(&o.MaxMessage, DefaultMaxMessage)
	setDefault(&o.AckMessages, DefaultAckMessages)
	setDefault(&o.AckDelay, DefaultAckDelay)
	o.MaxMessage = max(o.MaxMessage, MinMaxMessage)
	o.Codecs |= 1 << CodecNone
}

// A Receiver is the receiving side of one session. It is safe for concurrent use; its streams are not, each has one reader.
type Receiver struct {
	// Turn has room for one token. Who puts messages of this session into the receive queue holds the token from Offer or
	// Reposition to Settle, so that a new stream's messages stay behind those that an old stream's reader still puts.
	Turn chan struct{}

	// Due holds a token when what AckDue answers may have become sooner: look at it.
	Due chan struct{}

	options  ReceiverOptions
	instance ID
	session  ID
	channel  string
	taken    bool // the sender wants to know what the application took
	durable  bool // both sides keep the session: durable_receiver.go
	// forgetful: when the session began, others had lately been forgotten before their time.
	forgetful bool

	state struct {
		sync.Mutex
		generation uint64
		current    *Stream // nil: detached
		born       uint64
		begun      bool   // from expected on, what does not arrive is missing
		finished   bool   // the sender is done with the session
		expected   uint64 // the next sequence number to arrive
		pending    uint64 // offered, not settled
		taken      uint64 // the first that the application did not take; 0: it took nothing yet
		left       uint64 // what Taken was told: it may be ahead of Settle
		window     int
		drops      []Dropped // that the sender may not know of, ascending
		told       int       // of drops, those that this stream was told
		ack        ackState

		// Of a durable session:
		ledger                 Ledger
		stored                 uint64 // Ledger.Next as it is on disk
		version, storedVersion uint64 // of ReceiverState
		retired                bool
	}
}

// Channel is the name of the session's channel.
func (r *Receiver) Channel() string { return r.channel }

// Session is the sender's id of the session.
func (r *Receiver) Session() ID { return r.session }

// ReportsTaken tells whether Taken has a use.
func (r *Receiver) ReportsTaken() bool { return r.taken }

func newReceiver(open Open, instance ID, o ReceiverOptions) *Receiver {
	r := &Receiver{
		Turn: make(chan struct{}, 1), Due: make(chan struct{}, 1), options: o, instance: instance,
		session: open.Session, channel: open.Channel, taken: open.ReportTaken,
	}
	r.state.expected = open.Oldest
	r.state.ledger.Next, r.state.stored = open.Oldest, open.Oldest
	r.state.born, r.state.begun = open.Generation, open.Generation == 1
	r.state.window = o.Window
	r.state.ack.limits(open, o)
	return r
}

// attach begins a stream, fencing the one before. A session that was forgotten when FINISH came would take a delayed first
// stream for a new session: it is remembered, and refuses. A forgetful receiver takes no early data for the same reason.
func (r *Receiver) attach(open Open) (stream, fenced *Stream, err error) {
	r.state.Lock()
	defer r.state.Unlock()
	s := &r.state
	switch {
	case open.Generation <= s.generation:
		return nil, nil, ErrFenced
	case open.Channel != r.channel || s.finished:
		return nil, nil, violation("session %s was opened for another channel, or is finished", r.session)
	}
	fenced = s.current
	stream = &Stream{receiver: r, generation: open.Generation, maxMessage: r.options.MaxMessage, codecs: r.options.Codecs}
	s.generation, s.current = open.Generation, stream
	stream.accept = Accept{
		Instance: r.instance, Born: s.born, Next: s.expected, Forgetful: r.forgetful, Durable: r.durable,
		MaxMessage: uint64(r.options.MaxMessage), Codecs: r.options.Codecs,
	}
	if open.Early {
		stream.begin(open, r.instance, r.forgetful)
	}
	r.forgetDropsLocked(open.Oldest)
	s.told = 0
	s.ack.limits(open, r.options)
	s.ack.force = true
	return stream, fenced, nil
}

// detach notes the end of a stream and answers whether it was the session's newest.
func (r *Receiver) detach(st *Stream) bool {
	r.state.Lock()
	defer r.state.Unlock()
	if r.state.current != st {
		return false
	}
	r.state.current, r.state.finished = nil, st.phase == streamFinished
	return true
}

// Batch says what became of the messages that a stream counted since its last Offer.
type Batch struct {
	First      uint64 // the sequence number of the first new message
	Duplicates int    // of the batch, so many first ones were received before: discard them
	Fresh      int    // the others: put them into the queue, in order, and call Settle or Drop for each
}

// Offer takes the messages that the stream counted. The caller holds the Turn. With ErrFenced all of them are discarded.
func (r *Receiver) Offer(st *Stream) (Batch, error) {
	r.state.Lock()
	defer r.state.Unlock()
	s := &r.state
	first, count := st.position-uint64(st.counted), st.counted
	bytes := st.bytes
	st.counted, st.bytes = 0, 0
	switch {
	case st.generation != s.generation:
		return Batch{Duplicates: count}, ErrFenced
	case count == 0:
		return Batch{First: s.expected}, nil
	case s.pending > 0 || first > s.expected:
		return Batch{}, ErrUnsettled // also when Reposition was left out
	}
	duplicates := min(uint64(count), s.expected-first)
	fresh := count - int(duplicates)
	s.begun = s.begun || fresh > 0
	batch := Batch{First: s.expected, Duplicates: int(duplicates), Fresh: fresh}
	s.expected += uint64(fresh)
	s.pending = uint64(fresh)
	s.ack.bytes += bytes
	return batch, nil
}

// Reposition follows a POSITION frame that the stream took: it answers how many messages the sender gave up, which are missing
// between the last message and the next. The caller holds the Turn and has offered and settled what came before.
func (r *Receiver) Reposition(st *Stream) (gap uint64, err error) {
	r.state.Lock()
	defer r.state.Unlock()
	s := &r.state
	switch {
	case st.generation != s.generation:
		return 0, ErrFenced
	case s.pending > 0 || st.counted > 0:
		return 0, ErrUnsettled
	case st.position <= s.expected:
		return 0, nil
	}
	if s.begun {
		gap = st.position - s.expected
	}
	r.doneLocked(Range{s.expected, st.position - 1})
	s.expected = st.position
	return gap, nil
}

// Settle says that the queue took the next count messages of the batch.
func (r *Receiver) Settle(count int, now time.Time) error {
	r.state.Lock()
	defer r.state.Unlock()
	first, err := r.settleLocked(count, now)
	r.signalLocked(first)
	return err
}

// Drop says that the queue did not take the next count messages of the batch.
func (r *Receiver) Drop(count int, reason DropReason, now time.Time) error {
	r.state.Lock()
	defer r.state.Unlock()
	dropped := r.state.expected - r.state.pending
	first, err := r.settleLocked(count, now)
	if err != nil || count == 0 {
		return err
	}
	r.addDropLocked(Dropped{First: dropped, Count: uint64(count), Reason: reason})
	r.doneLocked(Range{dropped, dropped + uint64(count) - 1})
	r.signalLocked(first)
	return nil
}

func (r *Receiver) settleLocked(count int, now time.Time) (first bool, err error) {
	s := &r.state
	if count < 0 || uint64(count) > s.pending {
		return false, ErrUnsettled
	}
	s.pending -= uint64(count)
	first = s.ack.note(count, now)
	return r.takeLocked(now) || first, nil
}

// Taken says that the application has taken, or the queue's policy evicted, all messages below next. It may be quicker than the
// Settle of those messages, whose effect it then waits for.
func (r *Receiver) Taken(next uint64, now time.Time) {
	r.state.Lock()
	defer r.state.Unlock()
	r.state.left = max(r.state.left, next)
	r.signalLocked(r.takeLocked(now))
}

// takeLocked brings taken up to what has left and is settled.
func (r *Receiver) takeLocked(now time.Time) (first bool) {
	s := &r.state
	next := min(s.left, s.expected-s.pending)
	if next <= s.taken || !r.taken || r.durable {
		return false
	}
	first = s.ack.note(int(min(next-max(s.taken, 1), 1<<20)), now)
	s.taken = next
	return first
}

// SetWindow changes how much the sender may have in flight; the sender learns it with the next acknowledgement, which is due
// at once.
func (r *Receiver) SetWindow(bytes int) {
	r.state.Lock()
	defer r.state.Unlock()
	r.state.window = max(0, bytes)
	r.state.ack.force = true
	r.signalLocked(true)
}
