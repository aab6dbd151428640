package session

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Type is the second part of every frame: length, type, body.
type Type uint8

// The frame types. From optionalTypes on a receiver skips what it does not know.
const (
	TypeOpen     Type = 1
	TypeData     Type = 2
	TypeExtended Type = 3
	TypePosition Type = 4
	TypePing     Type = 5
	TypeFinish   Type = 6
	TypeAccept   Type = 16
	TypeAck      Type = 17
	TypeDropped  Type = 18
	TypeClose    Type = 32

	optionalTypes Type = 128
)

// Codec says how the payload of one message is compressed.
type Codec uint8

// The codecs.
const (
	CodecNone Codec = 0
	CodecZstd Codec = 1
	CodecLZ4  Codec = 2
	CodecGzip Codec = 3

	maxCodec Codec = 63 // ACCEPT has one bit for each
)

// Class is the send class of one message.
type Class uint8

// The classes. A receiver treats one that it does not know as ClassNormal.
const (
	ClassNormal  Class = 0
	ClassControl Class = 1
	ClassBulk    Class = 2
)

// Attributes travel with a message. A message whose attributes are all zero travels in the short form.
type Attributes struct {
	Codec    Codec
	Class    Class
	HopLimit uint8 // how often the message may be forwarded
}

// Head is what precedes the payload of a message or the body of a control frame.
type Head struct {
	Type Type
	Attributes
	Size int // of the payload or body
}

const (
	attributeBytes = 3
	// maxLengthBytes holds every length up to 2^35 - 1, more than an int32 payload needs.
	maxLengthBytes = 5
	// MaxHead is the most bytes that ParseHead looks at.
	MaxHead = maxLengthBytes + 1 + attributeBytes + 2 + MaxExtensions
)

// NoMessages, as the limit for ParseHead, refuses messages of any size.
const NoMessages = -1

// IsData tells messages from control frames.
func (h Head) IsData() bool { return h.Type == TypeData || h.Type == TypeExtended }

// Ignorable tells a frame of a later version that this one skips.
func (h Head) Ignorable() bool { return h.Type >= optionalTypes }

// FrameSize is the length of the whole frame of a message.
func FrameSize(a Attributes, payload int) int {
	length := dataLength(a, payload)
	return uvarintSize(uint64(length)) + length
}

func dataLength(a Attributes, payload int) int {
	if a == (Attributes{}) {
		return 1 + payload
	}
	return 1 + attributeBytes + 1 + payload
}

// AppendMessageHead appends everything of a message's frame but the payload, which must follow.
func AppendMessageHead(b []byte, a Attributes, payload int) []byte {
	b = binary.AppendUvarint(b, uint64(dataLength(a, payload)))
	if a == (Attributes{}) {
		return append(b, byte(TypeData))
	}
	return append(b, byte(TypeExtended), byte(a.Codec), byte(a.Class), a.HopLimit, 0)
}

// AppendMessage appends the frame of a message.
func AppendMessage(b []byte, a Attributes, payload []byte) []byte {
	return append(AppendMessageHead(b, a, len(payload)), payload...)
}

// ParseHead decodes the head of the frame that b begins with and answers its length, 0 when b is too short to tell.
// Payloads above maxPayload (NoMessages: all) and control bodies above MaxControl are refused before a byte of them is read.
func ParseHead(b []byte, maxPayload int) (Head, int, error) {
	length, n, err := uvarint(b)
	switch {
	case err != nil:
		return Head{}, 0, err
	case n == 0 && len(b) >= maxLengthBytes || n > maxLengthBytes:
		return Head{}, 0, violation("a length of more than %d bytes", maxLengthBytes)
	case n == 0:
		return Head{}, 0, nil
	case length == 0:
		return Head{}, 0, violation("a frame without a type")
	case n == len(b):
		return Head{}, 0, nil
	}
	h := Head{Type: Type(b[n]), Size: int(length) - 1}
	n++
	switch {
	case h.IsData() && maxPayload == NoMessages:
		return Head{}, 0, violation("a message where none belongs")
	case h.Type == TypeData:
		return h, n, checkPayload(h.Size, maxPayload)
	case h.Type == TypeExtended:
		return parseExtended(h, b, n, maxPayload)
	}
	return h, n, h.checkControl()
}

// parseOwn is ParseHead for a frame that this package wrote.
func parseOwn(b []byte) (Head, int) {
	h, n, _ := ParseHead(b, math.MaxInt32)
	return h, n
}

func checkPayload(size, limit int) error {
	if size > limit {
		return fmt.Errorf("%w: %w: %d bytes, at most %d are taken", ErrViolation, ErrTooLarge, size, limit)
	}
	return nil
}

func (h Head) checkControl() error {
	switch h.Type {
	case TypeOpen, TypePosition, TypePing, TypeFinish, TypeAccept, TypeAck, TypeDropped, TypeClose:
	default:
		if !h.Ignorable() {
			return violation("frame type %d is unknown", h.Type)
		}
	}
	if h.Size >= MaxControl {
		return violation("a control frame of %d bytes, at most %d are allowed", h.Size+1, MaxControl)
	}
	return nil
}

func parseExtended(h Head, b []byte, n, maxPayload int) (Head, int, error) {
	if h.Size > maxPayload+attributeBytes+2+MaxExtensions {
		return Head{}, 0, checkPayload(h.Size, maxPayload)
	}
	if h.Size < attributeBytes+1 {
		return Head{}, 0, violation("an extended message of %d bytes", h.Size)
	}
	if len(b) < n+attributeBytes+1 {
		return Head{}, 0, nil
	}
	h.Attributes = Attributes{Codec(b[n]), Class(b[n+1]), b[n+2]}
	if h.Codec > maxCodec {
		return Head{}, 0, violation("codec %d", h.Codec)
	}
	size, used, err := uvarint(b[n+attributeBytes:])
	switch {
	case err != nil:
		return Head{}, 0, err
	case used == 0:
		return Head{}, 0, nil
	case size > MaxExtensions || int(size) > h.Size-attributeBytes-used:
		return Head{}, 0, violation("%d bytes of extensions in a frame of %d", size, h.Size)
	}
	n += attributeBytes + used
	h.Size -= attributeBytes + used + int(size)
	if err := checkPayload(h.Size, maxPayload); err != nil {
		return Head{}, 0, err
	}
	if len(b) < n+int(size) {
		return Head{}, 0, nil
	}
	extensions := body{rest: b[n : n+int(size)]}
	return h, n + int(size), extensions.extensions()
}
