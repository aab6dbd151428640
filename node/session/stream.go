package session

type streamPhase uint8

const (
	streamWaiting    streamPhase = iota // for the first POSITION
	streamDiscarding                    // early data that this receiver does not take
	streamFlowing
	streamFinished
)

// A Stream is one stream of a Receiver, used by its reader alone.
//
//	waiting ----- POSITION -----> flowing -- FINISH --> finished
//	   ^                             ^
//	   +-- OPEN                      +-- OPEN with early data, for this instance
//
//	discarding -- POSITION --> flowing
//	   ^
//	   +-- OPEN with early data, for another instance or while forgetful
type Stream struct {
	receiver   *Receiver
	accept     Accept
	generation uint64
	phase      streamPhase
	position   uint64 // sequence number of the next message
	counted    int    // messages since the last Offer
	bytes      int
	maxMessage int
	codecs     uint64
}

func (st *Stream) begin(open Open, instance ID, forgetful bool) {
	st.phase = streamDiscarding
	if open.Instance == instance && !forgetful {
		st.phase = streamFlowing
		st.position = open.Oldest
	}
}

// Receiver is the session that the stream belongs to.
func (st *Stream) Receiver() *Receiver { return st.receiver }

// Generation is the number of the stream within its session.
func (st *Stream) Generation() uint64 { return st.generation }

// AppendAccept appends the answer to OPEN; it is to be written before anything else, and AppendAck follows it.
func (st *Stream) AppendAccept(b []byte) []byte { return AppendAccept(b, st.accept) }

// Next is the sequence number of the next message.
func (st *Stream) Next() uint64 { return st.position }

// MaxMessage is the limit for ParseHead.
func (st *Stream) MaxMessage() int { return st.maxMessage }

// Admit checks the head of a message before its payload is read. keep is false when the payload is to be discarded.
func (st *Stream) Admit(h Head) (keep bool, err error) {
	switch st.phase {
	case streamWaiting:
		return false, violation("a message without a position")
	case streamFinished:
		return false, violation("a message after FINISH")
	case streamDiscarding:
		return false, nil
	}
	if st.position >= MaxSequence {
		return false, violation("sequence numbers above 2^62")
	}
	if st.codecs&(1<<h.Codec) == 0 {
		return false, violation("codec %d, which was not accepted", h.Codec)
	}
	return true, nil
}

// Count counts a message that was admitted, once all of it has arrived. Nothing is counted across a POSITION: offer what
// came before it first.
func (st *Stream) Count(payload int) {
	st.position++
	st.counted++
	st.bytes += payload
}

// Control is what a control frame asks of the reader.
type Control uint8

// The controls.
const (
	ControlNone       Control = iota
	ControlReposition         // call Receiver.Reposition
	ControlFinish             // the sender is done with the session; nothing follows
	ControlClose              // the sender closes the stream
)

// Take takes a control frame.
func (st *Stream) Take(h Head, fields []byte) (Control, error) {
	if st.phase == streamFinished {
		return ControlNone, violation("frame type %d after FINISH", h.Type)
	}
	switch h.Type {
	case TypePosition:
		return st.reposition(fields)
	case TypePing:
		st.receiver.forceAck()
		return ControlNone, ParseEmpty(fields)
	case TypeFinish:
		st.phase = streamFinished
		return ControlFinish, ParseEmpty(fields)
	case TypeClose:
		_, err := ParseClose(fields)
		return ControlClose, err
	}
	if h.Ignorable() {
		return ControlNone, nil
	}
	return ControlNone, violation("frame type %d from a sender", h.Type)
}

// reposition only lets a stream's numbers grow. On its first POSITION it may go back, to what was received before.
func (st *Stream) reposition(fields []byte) (Control, error) {
	sequence, err := ParsePosition(fields)
	switch {
	case err != nil:
		return ControlNone, err
	case st.counted > 0:
		return ControlNone, ErrUnsettled
	case st.phase == streamFlowing && sequence < st.position:
		return ControlNone, violation("POSITION falls back from %d to %d", st.position, sequence)
	}
	st.phase = streamFlowing
	st.position = sequence
	return ControlReposition, nil
}

func (r *Receiver) forceAck() {
	r.state.Lock()
	defer r.state.Unlock()
	r.state.ack.force = true
	r.signalLocked(true)
}
