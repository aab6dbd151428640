package webrtc

// A frame of the chat protocol travels in chunks, each one message of the data channel: a flag byte and a piece of the frame.
//
//	0xC0 whole frame   0x80 its start   0x00 its middle   0x40 its end
//
// Outside of a reassembly 0x00 is the first byte of a whole frame without flag, as older peers send them: the top byte of
// its length.
const (
	flagStart  byte = 0x80
	flagEnd    byte = 0x40
	flagWhole       = flagStart | flagEnd
	flagMiddle byte = 0x00

	// ChunkBytes is the largest chunk with its flag: browsers' SCTP takes 64 KiB at most.
	ChunkBytes = 60 << 10
	chunkPiece = ChunkBytes - 1
)

// eachChunk cuts a frame into chunks, made one after the other in scratch, which holds ChunkBytes.
func eachChunk(frame, scratch []byte, emit func(chunk []byte) error) error {
	flags := flagStart
	for {
		piece := frame[:min(len(frame), chunkPiece)]
		frame = frame[len(piece):]
		if len(frame) == 0 {
			flags |= flagEnd
		}
		if err := emit(append(append(scratch[:0], flags), piece...)); err != nil {
			return err
		}
		if len(frame) == 0 {
			return nil
		}
		flags = flagMiddle
	}
}
