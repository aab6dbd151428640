package compression

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"peerbus/node/session"
)

// errNoGain ends an encoder that has written more than is worth sending.
var errNoGain = errors.New("compression does not pay")

// Known tells whether this package has the codec.
func Known(c session.Codec) bool {
	return c == session.CodecZstd || c == session.CodecLZ4 || c == session.CodecGzip
}

// Accepted is the set of all codecs, bit n for codec n.
const Accepted = 1<<session.CodecNone | 1<<session.CodecZstd | 1<<session.CodecLZ4 | 1<<session.CodecGzip

// Bound is the capacity that Pack needs for a payload of that size.
func Bound(c session.Codec, size int) int {
	if c == session.CodecZstd {
		return zstdEncoder().MaxEncodedSize(size)
	}
	return size
}

// Pack compresses a payload into buffer, which has the capacity of Bound. pays is false when the payload should travel as it is;
// otherwise packed is the front of the buffer with all of its capacity, by which its owner knows where to give it back.
func Pack(c session.Codec, buffer, payload []byte) (packed []byte, pays bool) {
	if len(payload) >= sampleFrom && !samplePays(c, buffer, payload) {
		return nil, false
	}
	return packWhole(c, buffer, payload, worth(len(payload)))
}

// worth is the largest compressed size that is worth sending.
func worth(size int) int { return size - (size+minGain-1)/minGain }

// samplePays gathers pieces from all over the payload at the front of the buffer and compresses them behind that.
func samplePays(c session.Codec, buffer, payload []byte) bool {
	const size = samplePlaces * samplePiece
	sample := buffer[:0:size]
	for i := range samplePlaces {
		at := i * (len(payload) - samplePiece) / (samplePlaces - 1)
		sample = append(sample, payload[at:at+samplePiece]...)
	}
	_, pays := packWhole(c, buffer[size:size:cap(buffer)], sample, worth(size))
	return pays
}

func packWhole(c session.Codec, buffer, payload []byte, most int) ([]byte, bool) {
	if c == session.CodecZstd {
		packed := zstdEncoder().EncodeAll(payload, buffer[:0])
		return packed, len(packed) <= most && cap(packed) == cap(buffer)
	}
	out := boundedBuffer{buffer[:0:min(most, cap(buffer))]}
	var err error
	switch c {
	case session.CodecLZ4:
		err = packLZ4(&out, payload)
	case session.CodecGzip:
		err = packGzip(&out, payload)
	default:
		err = fmt.Errorf("codec %d is unknown", c)
	}
	return buffer[:len(out.bytes)], err == nil
}

// zstdEncoder is shared: EncodeAll takes one of its states for the time of the call, and there are as many as processors.
var zstdEncoder = sync.OnceValue(func() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(zstdWindow),
		zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)), zstd.WithLowerEncoderMem(true),
		zstd.WithAllLitEntropyCompression(true)) // numbers have few values and no repetitions
	if err != nil {
		panic(err) // the options are constants
	}
	return e
})

var lz4Writers = sync.Pool{New: func() any { return lz4.NewWriter(nil) }}

func packLZ4(out io.Writer, payload []byte) error {
	block := lz4.Block64Kb
	if len(payload) > 64<<10 {
		block = lz4.Block256Kb
	}
	w := lz4Writers.Get().(*lz4.Writer)
	defer lz4Writers.Put(w)
	defer w.Reset(nil)
	w.Reset(out)
	if err := w.Apply(lz4.SizeOption(uint64(len(payload))), lz4.BlockSizeOption(block), lz4.ConcurrencyOption(1)); err != nil {
		return err
	}
	if _, err := w.Write(payload); err != nil {
		return err
	}
	return w.Close()
}

var gzipWriters = sync.Pool{New: func() any {
	w, err := gzip.NewWriterLevel(nil, gzipLevel)
	if err != nil {
		panic(err) // the level is a constant
	}
	return w
}}

func packGzip(out io.Writer, payload []byte) error {
	w := gzipWriters.Get().(*gzip.Writer)
	defer gzipWriters.Put(w)
	defer w.Reset(nil)
	w.Reset(out)
	if _, err := w.Write(payload); err != nil {
		return err
	}
	return w.Close()
}

// boundedBuffer fills a slice up to its capacity.
type boundedBuffer struct{ bytes []byte }

func (b *boundedBuffer) Write(p []byte) (int, error) {
	if len(b.bytes)+len(p) > cap(b.bytes) {
		return 0, errNoGain
	}
	b.bytes = append(b.bytes, p...)
	return len(p), nil
}
