package queue

import "errors"

// Message is one received message. The queue owns Data until it hands the message over or frees it. The bounds count
// len(Data); Data that lies in a Slab keeps all of that.
type Message struct {
	From, Channel, Protocol string
	// ID is the sender's number of the message, 0 when the protocol has none.
	ID      uint64
	Data    []byte
	Slab    *Slab // that Data lies in, which the message holds; nil: the memory is its own
	Verdict Verdict
	// Gap is set on hand-over: messages lost on this channel right before this one. A Put may give those that it knows of.
	Gap uint64

	// Again says that the message may have been handed over before, by an earlier process.
	Again bool

	Source   *Source // who wants to know when it is out of the queue; nil: nobody
	Sequence uint64  // of the message within its source, growing
}

// Free gives the memory of the message back: once, by whoever has the message last. free is for memory of its own.
func (m *Message) Free(free func([]byte)) {
	switch {
	case m.Slab != nil:
		m.Slab.Release(1)
	case m.Data != nil && free != nil:
		free(m.Data)
	}
}

// Verdict is what whoever put the message knows of its sender. The queue only carries it.
type Verdict struct {
	NodeID              string // "" unless Verified
	Verified, Inspector bool
	Judged              bool // somebody has judged the message
	Pending             bool // the sender is not decided about: ask again at the hand-over
}

// Reason says why a message was lost, in the words of SPEC GEN-02.
type Reason string

const (
	QueueFull       Reason = "queue_full"
	TooManyChannels Reason = "too_many_channels"
	ByteBudget      Reason = "byte_budget"
	NodeClosed      Reason = "node_closed"
)

// Loss is Count messages of one peer on one channel, lost for one reason within one call.
type Loss struct {
	Channel, From string
	Reason        Reason
	Count         uint64
}

var (
	// ErrFull: at least one message found no room; it is dropped, counted and freed.
	ErrFull = errors.New("queue: no room for a received message, it was dropped; take messages faster, raise the limits or choose another policy")
	// ErrClosed: the queue is closed; messages given to it are counted as NodeClosed and freed.
	ErrClosed = errors.New("queue: closed, nothing can be put or received any more")
	// ErrInterrupted: Interrupt ended this Receive; waiting messages stay.
	ErrInterrupted = errors.New("queue: receive was interrupted, call it again to go on")
)
