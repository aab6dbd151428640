package compression

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"peerbus/node/session"
)

const (
	// HeadBytes of a compressed payload are all that Inspect looks at.
	HeadBytes = zstd.HeaderMaxSize

	lz4Magic       = 0x184D2204
	lz4SizeFlag    = 1 << 3
	lz4FixedHead   = 4 + 2 // magic, flags, block size
	lz4MaxBlock    = 4 << 20
	gzipMostRatio  = 1032 // of the DEFLATE format
	gzipDecoder    = 48 << 10
	unknownSize    = -1
	lz4DecoderPart = 64 << 10 // dictionary of dependent blocks
)

// A Claim is what the head of a compressed payload says of the rest.
type Claim struct {
	size   int // unpacked; unknownSize: the format does not tell
	most   int // that it can be
	window int // what the decoder needs besides
}

// Memory is the most bytes that unpacking can take.
func (c Claim) Memory() int { return c.most + c.window }

// Inspect reads the head of a compressed payload of that many bytes, and refuses what claims more than limit.
func Inspect(c session.Codec, head []byte, packed, limit int) (Claim, error) {
	var claim Claim
	var err error
	switch c {
	case session.CodecZstd:
		claim, err = inspectZstd(head)
	case session.CodecLZ4:
		claim, err = inspectLZ4(head)
	case session.CodecGzip:
		claim = Claim{size: unknownSize, most: gzipMost(packed, limit), window: gzipDecoder}
	default:
		err = fmt.Errorf("%w: codec %d is unknown", ErrCorrupt, c)
	}
	switch {
	case err != nil:
		return Claim{}, err
	case claim.size > limit:
		return Claim{}, fmt.Errorf("%w: it claims %d bytes, at most %d are taken", ErrTooLarge, claim.size, limit)
	case claim.size != unknownSize:
		claim.most = claim.size
	case claim.most == 0:
		claim.most = limit
	}
	return claim, nil
}

func inspectZstd(head []byte) (Claim, error) {
	var h zstd.Header
	if err := h.Decode(head); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) || h.Skippable || h.HeaderSize == 0 {
		return Claim{}, fmt.Errorf("%w: it does not begin with a zstd frame", ErrCorrupt)
	}
	claim := Claim{size: unknownSize}
	window := h.WindowSize
	if h.HasFCS {
		claim.size = clamp(h.FrameContentSize)
	}
	if h.SingleSegment {
		window = h.FrameContentSize
	}
	if window > maxZstdWindow {
		return Claim{}, fmt.Errorf("%w: a zstd window of %d bytes, at most %d are taken", ErrTooLarge, window, maxZstdWindow)
	}
	// The decoder keeps up to twice the window, or a block of 1 MiB more.
	claim.window = int(window + min(window, 1<<20))
	return claim, nil
}

func inspectLZ4(head []byte) (Claim, error) {
	if len(head) < lz4FixedHead || binary.LittleEndian.Uint32(head) != lz4Magic {
		return Claim{}, fmt.Errorf("%w: it does not begin with an LZ4 frame", ErrCorrupt)
	}
	block := 1 << (8 + 2*uint(head[5]>>4&7)) // 4: 64 KiB to 7: 4 MiB
	claim := Claim{size: unknownSize, window: 2*min(block, lz4MaxBlock) + lz4DecoderPart}
	if head[4]&lz4SizeFlag == 0 {
		return claim, nil
	}
	if len(head) < lz4FixedHead+8 {
		return Claim{}, fmt.Errorf("%w: an LZ4 frame of %d bytes", ErrCorrupt, len(head))
	}
	claim.size = clamp(binary.LittleEndian.Uint64(head[lz4FixedHead:]))
	return claim, nil
}

// gzipMost is how much a gzip member of that size can hold.
func gzipMost(packed, limit int) int {
	if packed > limit/gzipMostRatio {
		return limit
	}
	return packed * gzipMostRatio
}

// clamp keeps a claimed size an int; the limits are far below.
func clamp(size uint64) int { return int(min(size, 1<<62)) }
