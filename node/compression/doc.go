// Package compression makes the compressed payloads of channel messages, and payloads out of them again. Each is one frame of
// the codec's own format: zstd (RFC 8878), LZ4 frame format, gzip (RFC 1952).
//
// # What it guarantees
//
//   - A payload is compressed only when that makes it at least minGain smaller; a large one that looks incompressible is
//     found out by samples, for a few per cent of the time that compressing it would take.
//   - What a peer compressed is unpacked up to a limit that holds while the payload grows, whatever its head claims. Inspect
//     tells beforehand how much memory it may take, so that the caller can account for it.
//   - All formats carry a checksum of what was compressed: the transport proves the bytes, this proves the codec.
//   - No goroutine is started. Encoders and decoders are reused; they belong to whoever uses them, one call long.
package compression

import "errors"

var (
	// ErrCorrupt: the payload is not what the codec writes, or not what its head says.
	ErrCorrupt = errors.New("compressed payload is corrupt")
	// ErrTooLarge: unpacked, the payload exceeds the limit.
	ErrTooLarge = errors.New("compressed payload is too large")
)

const (
	// minGain: a payload of n bytes is sent compressed when that saves at least n / minGain.
	minGain = 8
	// sampleFrom is the size from which a payload is sampled first ...
	sampleFrom = 128 << 10
	// ... at so many places of so many bytes.
	samplePlaces = 4
	samplePiece  = 4 << 10

	// zstdWindow is how far back our encoder looks, and maxZstdWindow the most that we unpack: what RFC 8878 asks every decoder for.
	zstdWindow    = 1 << 20
	maxZstdWindow = 8 << 20

	// gzipLevel is the lowest one that compresses what has few values and no repetitions: numbers.
	gzipLevel = 5
)
