package webrtc

import (
	"encoding/binary"
	"time"
)

const (
	// ReassemblyTimeout is how long the chunks of one frame may take.
	ReassemblyTimeout = 120 * time.Second
	// firstPayloadBuffer is what a claimed payload length gets before a byte of it has arrived.
	firstPayloadBuffer = 64 << 10

	totalBytes  = 4
	headerBytes = totalBytes + 1 // u32 total, u8 channel length
	maxHeader   = headerBytes + 255
)

// Defect is why a frame was lost, as a reason of GEN-02.
type Defect string

// Defects of received frames.
const (
	DefectFrame    Defect = "bad_frame"
	DefectOversize Defect = "oversize"
	DefectTimeout  Defect = "reassembly_timeout"
)

// Frame is one complete frame of the chat protocol.
type Frame struct {
	Channel string
	Payload []byte // of Receiver.Get
}

// Receiver is what an Assembler asks of its owner.
type Receiver interface {
	Get(size int) []byte // a payload buffer of exactly that length
	Put(buffer []byte)   // one that holds no message
	// Accept answers the channel's name and whether its frames are taken; it counts those that are not.
	Accept(channel []byte) (string, bool)
	Lost(defect Defect) // one frame
}

// Assembler puts the chunks of one peer together. It holds at most one frame, of at most limit bytes without its first field.
//
//	between frames --start--> header --header complete--> payload --end--> between frames
//	                             \-- refused, oversize, malformed --> skipping --end--/
type Assembler struct {
	receiver Receiver
	limit    int

	state   assembly
	began   time.Time
	header  []byte // as far as it has come
	channel string
	payload []byte // grows with what arrives
	filled  int
	size    int // of the payload, as the header says
}

type assembly int

const (
	betweenFrames assembly = iota
	inHeader
	inPayload
	skipping // the frame is counted already; its chunks go nowhere
)

// NewAssembler makes an Assembler for frames whose total is at most limit.
func NewAssembler(receiver Receiver, limit int) *Assembler {
	return &Assembler{receiver: receiver, limit: limit, header: make([]byte, 0, maxHeader)}
}

// Add takes one message of the data channel and answers the frame that it completes, if it does.
func (a *Assembler) Add(message []byte, now time.Time) (Frame, bool) {
	if len(message) == 0 {
		a.receiver.Lost(DefectFrame)
		return Frame{}, false
	}
	a.Expire(now)
	flags, piece := message[0], message[1:]
	switch {
	case flags == flagMiddle && a.state == betweenFrames:
		flags, piece = flagWhole, message
	case flags&^flagWhole != 0:
		a.receiver.Lost(DefectFrame)
		return Frame{}, false
	}
	if flags&flagStart != 0 {
		a.Abandon(DefectFrame)
		a.begin(now)
	} else if a.state == betweenFrames {
		a.receiver.Lost(DefectFrame) // the end of a frame that never began
		return Frame{}, false
	}
	a.take(piece)
	if flags&flagEnd == 0 {
		return Frame{}, false
	}
	return a.end()
}

func (a *Assembler) begin(now time.Time) {
	a.state = inHeader
	a.began = now
	a.header = a.header[:0]
	a.payload, a.filled, a.size = nil, 0, 0
}

func (a *Assembler) take(piece []byte) {
	if a.state == inHeader {
		piece = a.takeHeader(piece)
	}
	if a.state != inPayload || len(piece) == 0 {
		return
	}
	if a.filled+len(piece) > a.size {
		a.fail(DefectFrame)
		return
	}
	a.grow(a.filled + len(piece))
	a.filled += copy(a.payload[a.filled:], piece)
}

// takeHeader answers what of the piece lies behind the header.
func (a *Assembler) takeHeader(piece []byte) []byte {
	piece = a.fillHeader(piece, headerBytes)
	if len(a.header) < headerBytes {
		return nil
	}
	length := headerBytes + int(a.header[totalBytes])
	piece = a.fillHeader(piece, length)
	if len(a.header) == length {
		a.readHeader()
	}
	return piece
}

func (a *Assembler) fillHeader(piece []byte, length int) []byte {
	missing := min(max(length-len(a.header), 0), len(piece))
	a.header = append(a.header, piece[:missing]...)
	return piece[missing:]
}

func (a *Assembler) readHeader() {
	total := int64(binary.BigEndian.Uint32(a.header))
	size := total + totalBytes - int64(len(a.header))
	switch {
	case total > int64(a.limit):
		a.fail(DefectOversize)
		return
	case size < 0:
		a.fail(DefectFrame)
		return
	}
	channel, taken := a.receiver.Accept(a.header[headerBytes:])
	if !taken {
		a.state = skipping
		return
	}
	a.channel, a.size = channel, int(size)
	a.state = inPayload
	a.payload = a.receiver.Get(min(a.size, firstPayloadBuffer))
}

// grow makes the payload buffer hold need bytes, doubling it so that copying costs no more than the payload.
func (a *Assembler) grow(need int) {
	if need <= len(a.payload) {
		return
	}
	larger := a.receiver.Get(min(a.size, max(need, 2*len(a.payload))))
	copy(larger, a.payload[:a.filled])
	a.receiver.Put(a.payload)
	a.payload = larger
}

func (a *Assembler) end() (Frame, bool) {
	switch {
	case a.state == skipping:
		a.state = betweenFrames
		return Frame{}, false
	case a.state == inHeader && len(a.header) == totalBytes && binary.BigEndian.Uint32(a.header) == 0:
		a.state = betweenFrames // total 0 is skipped (P2P-15)
		return Frame{}, false
	case a.state != inPayload || a.filled != a.size:
		a.Abandon(DefectFrame)
		return Frame{}, false
	}
	frame := Frame{a.channel, a.payload}
	a.state, a.payload = betweenFrames, nil
	return frame, true
}

// fail counts the frame in progress and skips the rest of it.
func (a *Assembler) fail(defect Defect) {
	a.receiver.Lost(defect)
	a.release()
	a.state = skipping
}

// Abandon counts the frame in progress, if there is one, and forgets it.
func (a *Assembler) Abandon(defect Defect) {
	if a.state == inHeader || a.state == inPayload {
		a.receiver.Lost(defect)
	}
	a.release()
	a.state = betweenFrames
}

func (a *Assembler) release() {
	if a.payload != nil {
		a.receiver.Put(a.payload)
		a.payload = nil
	}
}

// Deadline is when the frame in progress must be complete; zero when none is.
func (a *Assembler) Deadline() time.Time {
	if a.state == inHeader || a.state == inPayload {
		return a.began.Add(ReassemblyTimeout)
	}
	return time.Time{}
}

// Expire gives up a frame that has taken too long. What still comes of it is skipped.
func (a *Assembler) Expire(now time.Time) {
	if deadline := a.Deadline(); !deadline.IsZero() && !now.Before(deadline) {
		a.fail(DefectTimeout)
	}
}

// Extend gives the frame in progress time that its receiver, not the peer, has taken.
func (a *Assembler) Extend(by time.Duration) { a.began = a.began.Add(by) }
