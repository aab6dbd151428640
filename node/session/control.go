package session

import (
	"encoding/binary"
	"unicode/utf8"
)

// minor is the version of what this package writes within 1.x; it is informative.
const minor = 0

// Flags of OPEN and ACCEPT. Unknown ones are ignored.
const (
	openReportTaken = 1
	openEarly       = 2
	openDurable     = 4

	acceptForgetful = 1
	acceptDurable   = 2
)

// Open is the first frame of a stream, from the sender.
type Open struct {
	Session    ID
	Instance   ID     // of the receiver that the sender knows; zero: none yet
	Generation uint64 // counts the streams of the session from 1
	Oldest     uint64 // the first sequence number that the sender does not know to be settled

	ReportTaken bool   // the receiver shall say what its application took
	Early       bool   // messages follow at once, from Oldest on; only on the first stream and with an instance
	AckMessages uint64 // acknowledge at the latest after so many messages ...
	AckBytes    uint64 // ... or so many payload bytes
	Channel     string
	Durable     bool // the sender keeps the session on disk, and asks the receiver to
}

// Accept is the first frame of the answer.
type Accept struct {
	Instance   ID
	Born       uint64 // the generation of the stream that the receiver first heard of the session by
	Next       uint64 // the sequence number that it expects
	MaxMessage uint64 // the largest payload that it takes
	Codecs     uint64 // bit n: takes codec n
	Forgetful  bool   // when the session began, others had lately been forgotten before their time: this one perhaps too
	Durable    bool   // the receiver keeps the session on disk: accepted messages are there, taken ones were confirmed
}

// Ack says how far the receiver is. Each number is the first one of which the statement does not hold.
type Ack struct {
	Accepted uint64 // the queue took it, or a DROPPED frame before this one names it
	Taken    uint64 // the application took it; 0: not reported
	Window   uint64 // a write may begin while fewer bytes than this are unacknowledged
}

// Dropped names messages that the receiver's queue did not take.
type Dropped struct {
	First, Count uint64
	Reason       DropReason
}

// DropReason says why, in the words of SPEC GEN-02.
type DropReason uint8

// The drop reasons. DropUnknown: some of these messages were dropped, the receiver does not remember which.
const (
	DropUnknown         DropReason = 0
	DropQueueFull       DropReason = 1
	DropTooManyChannels DropReason = 2
	DropByteBudget      DropReason = 3
	DropNodeClosed      DropReason = 4
	DropDecodeError     DropReason = 5
	DropRefused         DropReason = 6
)

// Close ends a stream and says why.
type Close struct {
	Code CloseCode
	Text string // for people
}

// CloseCode says what to do after a CLOSE.
type CloseCode uint8

// The close codes.
const (
	CloseGoingAway       CloseCode = 1 // the node shuts down or needs the resources; resume later
	CloseFenced          CloseCode = 2 // a newer stream serves the session
	CloseTooManySessions CloseCode = 3 // resume later
	CloseViolation       CloseCode = 4
	CloseRefused         CloseCode = 5 // the channel is not for this peer
	CloseUnsupported     CloseCode = 6
)

// Permanent tells the codes after which resuming the session is pointless. Unknown codes are not.
func (c CloseCode) Permanent() bool { return c >= CloseViolation && c <= CloseUnsupported }

// flagByte answers the byte of a flag; flags below 128 are their own varint.
func flagByte(set bool, value byte) byte {
	if set {
		return value
	}
	return 0
}

func appendControl(b []byte, t Type, fields []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(fields)+1))
	return append(append(b, byte(t)), fields...)
}

// AppendOpen appends an OPEN frame.
func AppendOpen(b []byte, o Open) []byte {
	f := make([]byte, 0, 128)
	f = append(f, minor)
	f = append(f, o.Session[:]...)
	f = append(f, o.Instance[:]...)
	f = binary.AppendUvarint(f, o.Generation)
	f = binary.AppendUvarint(f, o.Oldest)
	f = append(f, flagByte(o.ReportTaken, openReportTaken)|flagByte(o.Early, openEarly)|flagByte(o.Durable, openDurable))
	f = binary.AppendUvarint(f, o.AckMessages)
	f = binary.AppendUvarint(f, o.AckBytes)
	f = binary.AppendUvarint(f, uint64(len(o.Channel)))
	f = append(f, o.Channel...)
	return appendControl(b, TypeOpen, f)
}

// ParseOpen decodes the body of an OPEN frame.
func ParseOpen(fields []byte) (Open, error) {
	f := body{rest: fields}
	f.byte() // minor
	o := Open{Session: f.id(), Instance: f.id(), Generation: f.sequence(), Oldest: f.sequence()}
	flags := f.uvarint()
	o.ReportTaken, o.Early, o.Durable = flags&openReportTaken != 0, flags&openEarly != 0, flags&openDurable != 0
	o.AckMessages, o.AckBytes = f.uvarint(), f.uvarint()
	o.Channel = f.text(MaxChannelName)
	if err := f.extensions(); err != nil {
		return Open{}, err
	}
	return o, o.check()
}

func (o Open) check() error {
	switch {
	case o.Session.IsZero():
		return violation("OPEN without a session")
	case o.Generation == 0 || o.Oldest == 0:
		return violation("OPEN with generation %d and oldest %d; both count from 1", o.Generation, o.Oldest)
	case o.Early && (o.Generation != 1 || o.Instance.IsZero()):
		return violation("OPEN with early data on generation %d for instance %s", o.Generation, o.Instance)
	case o.Channel == "" || !utf8.ValidString(o.Channel):
		return violation("OPEN with channel %q", o.Channel)
	}
	return nil
}

// AppendAccept appends an ACCEPT frame.
func AppendAccept(b []byte, a Accept) []byte {
	f := make([]byte, 0, 64)
	f = append(f, minor)
	f = append(f, a.Instance[:]...)
	f = binary.AppendUvarint(f, a.Born)
	f = binary.AppendUvarint(f, a.Next)
	f = binary.AppendUvarint(f, a.MaxMessage)
	f = binary.AppendUvarint(f, a.Codecs)
	f = append(f, flagByte(a.Forgetful, acceptForgetful)|flagByte(a.Durable, acceptDurable))
	return appendControl(b, TypeAccept, f)
}

// ParseAccept decodes the body of an ACCEPT frame.
func ParseAccept(fields []byte) (Accept, error) {
	f := body{rest: fields}
	f.byte() // minor
	a := Accept{Instance: f.id(), Born: f.sequence(), Next: f.sequence(), MaxMessage: f.uvarint(), Codecs: f.uvarint()}
	flags := f.uvarint()
	a.Forgetful, a.Durable = flags&acceptForgetful != 0, flags&acceptDurable != 0
	if err := f.extensions(); err != nil {
		return Accept{}, err
	}
	switch {
	case a.Instance.IsZero():
		return Accept{}, violation("ACCEPT without an instance")
	case a.Born == 0 || a.Next == 0:
		return Accept{}, violation("ACCEPT born at generation %d expects %d; both count from 1", a.Born, a.Next)
	case a.MaxMessage < MinMaxMessage:
		return Accept{}, violation("ACCEPT with a message limit of %d bytes, below %d", a.MaxMessage, MinMaxMessage)
	case a.Codecs&(1<<CodecNone) == 0:
		return Accept{}, violation("ACCEPT without uncompressed messages")
	}
	return a, nil
}

// AppendAck appends an ACK frame.
func AppendAck(b []byte, a Ack) []byte {
	size := 1 + uvarintSize(a.Accepted) + uvarintSize(a.Taken) + uvarintSize(a.Window)
	b = append(b, byte(size), byte(TypeAck))
	b = binary.AppendUvarint(b, a.Accepted)
	b = binary.AppendUvarint(b, a.Taken)
	return binary.AppendUvarint(b, a.Window)
}

// ParseAck decodes the body of an ACK frame.
func ParseAck(fields []byte) (Ack, error) {
	f := body{rest: fields}
	a := Ack{Accepted: f.sequence(), Taken: f.sequence(), Window: f.uvarint()}
	if err := f.extensions(); err != nil {
		return Ack{}, err
	}
	if a.Taken > a.Accepted {
		return Ack{}, violation("ACK says taken up to %d, accepted up to %d", a.Taken, a.Accepted)
	}
	return a, nil
}

// AppendPosition appends a POSITION frame: the next message has this sequence number.
func AppendPosition(b []byte, sequence uint64) []byte {
	b = append(b, byte(1+uvarintSize(sequence)), byte(TypePosition))
	return binary.AppendUvarint(b, sequence)
}

// ParsePosition decodes the body of a POSITION frame.
func ParsePosition(fields []byte) (uint64, error) {
	f := body{rest: fields}
	sequence := f.sequence()
	if err := f.extensions(); err != nil {
		return 0, err
	}
	if sequence == 0 {
		return 0, violation("POSITION 0; sequence numbers count from 1")
	}
	return sequence, nil
}

// AppendEmpty appends a frame without a body: PING or FINISH.
func AppendEmpty(b []byte, t Type) []byte { return append(b, 1, byte(t)) }

// ParseEmpty checks the body of PING or FINISH.
func ParseEmpty(fields []byte) error {
	f := body{rest: fields}
	return f.extensions()
}

// AppendDropped appends a DROPPED frame.
func AppendDropped(b []byte, d Dropped) []byte {
	f := make([]byte, 0, 32)
	f = binary.AppendUvarint(f, d.First)
	f = binary.AppendUvarint(f, d.Count)
	return appendControl(b, TypeDropped, append(f, byte(d.Reason)))
}

// ParseDropped decodes the body of a DROPPED frame.
func ParseDropped(fields []byte) (Dropped, error) {
	f := body{rest: fields}
	d := Dropped{First: f.sequence(), Count: f.sequence(), Reason: DropReason(f.byte())}
	if err := f.extensions(); err != nil {
		return Dropped{}, err
	}
	if d.First == 0 || d.Count == 0 {
		return Dropped{}, violation("DROPPED names %d messages from %d", d.Count, d.First)
	}
	return d, nil
}

// AppendClose appends a CLOSE frame; a long text is cut.
func AppendClose(b []byte, c Close) []byte {
	text := c.Text
	for len(text) > MaxCloseText || !utf8.ValidString(text) {
		text = text[:min(len(text)-1, MaxCloseText)]
	}
	f := binary.AppendUvarint([]byte{byte(c.Code)}, uint64(len(text)))
	return appendControl(b, TypeClose, append(f, text...))
}

// ParseClose decodes the body of a CLOSE frame. Its text comes from the peer: quote it in logs.
func ParseClose(fields []byte) (Close, error) {
	f := body{rest: fields}
	c := Close{Code: CloseCode(f.byte()), Text: f.text(MaxCloseText)}
	if err := f.extensions(); err != nil {
		return Close{}, err
	}
	if !utf8.ValidString(c.Text) {
		return Close{}, violation("CLOSE with a text that is not UTF-8")
	}
	return c, nil
}
