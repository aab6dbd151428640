package compression

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"peerbus/node/session"
)

// Buffers lends the memory of unpacked payloads. Get answers a buffer of exactly that length.
type Buffers interface {
	Get(size int) []byte
	Put(buffer []byte)
}

// Unpack reads a compressed payload to its end, which is that of source. first is how much it may take before anything is
// unpacked; from there on the memory doubles with what comes, up to limit. The answer is a buffer of its exact length.
func Unpack(c session.Codec, source io.Reader, claim Claim, first, limit int, buffers Buffers) ([]byte, error) {
	pool := decoders[c]
	if pool == nil {
		return nil, fmt.Errorf("%w: codec %d is unknown", ErrCorrupt, c)
	}
	d := pool.Get().(decoder)
	defer func() {
		_ = d.Reset(nothing{})
		pool.Put(d)
	}()
	if err := d.Reset(source); err != nil {
		return nil, corrupt(err)
	}
	payload, err := readAll(d, claim, min(claim.most, limit), first, buffers)
	if err != nil {
		return nil, err
	}
	if err := expectEnd(source); err != nil {
		buffers.Put(payload)
		return nil, err
	}
	return payload, nil
}

// decoder is what the codecs have in common.
type decoder interface {
	io.Reader
	Reset(io.Reader) error
}

var decoders = map[session.Codec]*sync.Pool{
	session.CodecZstd: {New: func() any { return newZstdDecoder() }},
	session.CodecLZ4:  {New: func() any { return newLZ4Decoder() }},
	session.CodecGzip: {New: func() any { return new(gzip.Reader) }},
}

func newZstdDecoder() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxZstdWindow))
	if err != nil {
		panic(err) // the options are constants
	}
	return d
}

type lz4Decoder struct{ lz4.Reader }

func newLZ4Decoder() *lz4Decoder {
	d := &lz4Decoder{*lz4.NewReader(nil)}
	if err := d.Apply(lz4.ConcurrencyOption(1)); err != nil {
		panic(err) // the option is a constant
	}
	return d
}

func (d *lz4Decoder) Reset(r io.Reader) error {
	d.Reader.Reset(r)
	return nil
}

// nothing is what idle decoders read.
type nothing struct{}

func (nothing) Read([]byte) (int, error) { return 0, io.EOF }

// readAll reads what the decoder makes, at most that many bytes, to its end: only there the checksum is looked at.
func readAll(d io.Reader, claim Claim, most, first int, buffers Buffers) ([]byte, error) {
	buffer, filled := buffers.Get(min(most, first)), 0
	fail := func(err error) ([]byte, error) {
		buffers.Put(buffer)
		return nil, err
	}
	for {
		if filled == len(buffer) && filled < most {
			larger := buffers.Get(min(most, 2*max(len(buffer), 1)))
			copy(larger, buffer)
			buffers.Put(buffer)
			buffer = larger
		}
		into := buffer[filled:]
		if filled == most {
			into = make([]byte, 1) // there must be no more
		}
		n, err := d.Read(into)
		switch filled += n; {
		case filled > most:
			return fail(fmt.Errorf("%w: it goes on behind %d bytes", ErrTooLarge, most))
		case err == io.EOF && claim.size != unknownSize && filled != claim.size:
			return fail(fmt.Errorf("%w: it claims %d bytes and has %d", ErrCorrupt, claim.size, filled))
		case err == io.EOF:
			return fit(buffer, filled, buffers), nil
		case err != nil:
			return fail(corrupt(err))
		}
	}
}

// fit answers the filled part of a buffer as a buffer of its own.
func fit(buffer []byte, filled int, buffers Buffers) []byte {
	if filled == len(buffer) {
		return buffer
	}
	exact := buffers.Get(filled)
	copy(exact, buffer)
	buffers.Put(buffer)
	return exact
}

// expectEnd refuses bytes behind the compressed payload.
func expectEnd(source io.Reader) error {
	if n, err := source.Read(make([]byte, 1)); n > 0 || err != io.EOF {
		return fmt.Errorf("%w: bytes follow it", ErrCorrupt)
	}
	return nil
}

func corrupt(err error) error {
	if errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded) {
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	return fmt.Errorf("%w: %w", ErrCorrupt, err)
}
