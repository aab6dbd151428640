package mux

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ID is the protocol under which the muxer is negotiated. A change that old nodes would not understand gets a new ID.
const ID = "/peerbus/mux/1.0.0"

// headerBytes is the length of a frame's header: type, three bytes of zero, stream, value.
const headerBytes = 12

// frameType says what a frame is. Its value is, in turn: nothing, payload bytes that follow, nothing, bytes granted, an error
// code, an error code, a number to be answered, that number, an error code.
type frameType byte

const (
	frameOpen frameType = iota
	frameData
	frameEnd
	frameCredit
	frameReset
	frameStop
	framePing
	framePong
	frameGoAway
	frameTypes // how many there are
)

const (
	// initialWindow is what a side may send on a new stream before it is granted more.
	initialWindow = 256 << 10
	// maxWindow bounds what a window grows to.
	maxWindow = 16 << 20
	// maxFrame is the most payload that a frame may have.
	maxFrame = initialWindow
	// sentFrame is the most payload that this implementation puts into a frame: a smaller frame lets others in sooner.
	sentFrame = 128 << 10
	// smallFrame is the payload up to which a frame goes before those that are larger.
	smallFrame = 16 << 10
)

// errProtocol is wrapped by every violation of the rules.
var errProtocol = errors.New("protocol violation")

type header struct {
	kind   frameType
	stream uint32 // 0 for the connection itself
	value  uint32
}

func (h header) appendTo(dst []byte) []byte {
	dst = append(dst, byte(h.kind), 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, h.stream)
	return binary.BigEndian.AppendUint32(dst, h.value)
}

// parseHeader checks what can be checked without knowing the streams.
func parseHeader(p [headerBytes]byte) (header, error) {
	h := header{frameType(p[0]), binary.BigEndian.Uint32(p[4:]), binary.BigEndian.Uint32(p[8:])}
	switch {
	case h.kind >= frameTypes:
		return h, fmt.Errorf("%w: frame type %d", errProtocol, p[0])
	case p[1]|p[2]|p[3] != 0:
		return h, fmt.Errorf("%w: reserved bytes %x", errProtocol, p[1:4])
	case (h.kind >= framePing) != (h.stream == 0):
		return h, fmt.Errorf("%w: frame type %d on stream %d", errProtocol, h.kind, h.stream)
	case (h.kind == frameOpen || h.kind == frameEnd) && h.value != 0:
		return h, fmt.Errorf("%w: frame type %d with value %d", errProtocol, h.kind, h.value)
	case h.kind == frameData && (h.value == 0 || h.value > maxFrame):
		return h, fmt.Errorf("%w: a frame of %d bytes, 1 to %d are allowed", errProtocol, h.value, maxFrame)
	case h.kind == frameCredit && (h.value == 0 || h.value > maxWindow):
		return h, fmt.Errorf("%w: a grant of %d bytes, 1 to %d are allowed", errProtocol, h.value, maxWindow)
	}
	return h, nil
}
