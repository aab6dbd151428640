package webrtctransport

import "google.golang.org/protobuf/encoding/protowire"

// flag is what a frame says of the stream's state.
type flag uint64

const (
	noFlag          flag = 1 << 63
	flagFIN         flag = 0 // the sender writes no more
	flagStopSending flag = 1 // the sender reads no more
	flagReset       flag = 2 // the sender has given both up
	flagFINAck      flag = 3 // FIN has arrived, and everything before it
)

const (
	frameFlagField  protowire.Number = 1
	frameDataField  protowire.Number = 2
	frameErrorField protowire.Number = 3
)

const (
	// maxFrame bounds the frames that are written, maxReceivedFrame those that are read.
	maxFrame         = 16 << 10
	maxReceivedFrame = 256 << 10
	// frameOverhead is more than a frame has besides its data.
	frameOverhead = 16
)

// frame is the unit that a data channel carries: a protobuf message after its length.
type frame struct {
	flag      flag
	data      []byte
	errorCode uint32
}

func (f frame) encode() []byte {
	var message []byte
	if f.flag != noFlag {
		message = protowire.AppendTag(message, frameFlagField, protowire.VarintType)
		message = protowire.AppendVarint(message, uint64(f.flag))
	}
	if len(f.data) > 0 {
		message = protowire.AppendTag(message, frameDataField, protowire.BytesType)
		message = protowire.AppendBytes(message, f.data)
	}
	if f.errorCode != 0 {
		message = protowire.AppendTag(message, frameErrorField, protowire.VarintType)
		message = protowire.AppendVarint(message, uint64(f.errorCode))
	}
	return prefixed(message)
}

func decodeFrame(message []byte) (frame, error) {
	f := frame{flag: noFlag}
	err := eachField(message, func(field protowire.Number, number uint64, bytes []byte) {
		switch field {
		case frameFlagField:
			f.flag = flag(number)
		case frameDataField:
			f.data = bytes
		case frameErrorField:
			f.errorCode = uint32(number)
		}
	})
	return f, err
}
