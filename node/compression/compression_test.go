package compression

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"peerbus/node/session"
)

var codecs = map[string]session.Codec{"zstd": session.CodecZstd, "lz4": session.CodecLZ4, "gzip": session.CodecGzip}

// countedBuffers notes how much is lent, and the most that ever was.
type countedBuffers struct{ held, most int }

func (b *countedBuffers) Get(size int) []byte {
	b.held += size
	b.most = max(b.most, b.held)
	return make([]byte, size)
}

func (b *countedBuffers) Put(buffer []byte) { b.held -= len(buffer) }

func text(size int) []byte {
	line := []byte(`{"sensor": 17, "temperature": 21.5, "unit": "C", "state": "ok"}` + "\n")
	return bytes.Repeat(line, size/len(line)+1)[:size]
}

func noise(size int) []byte {
	b := make([]byte, size)
	rng := rand.New(rand.NewPCG(1, uint64(size)))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func pack(t testing.TB, c session.Codec, payload []byte) ([]byte, bool) {
	t.Helper()
	size := Bound(c, len(payload))
	buffer := make([]byte, 0, size)
	packed, pays := Pack(c, buffer, payload)
	if pays && (cap(packed) != cap(buffer) || size > 0 && &packed[0] != &buffer[:1][0]) {
		t.Errorf("packed into %d bytes, not into the buffer of %d that was lent", cap(packed), cap(buffer))
	}
	return packed, pays
}

const testLimit = 8 << 20

func unpack(c session.Codec, packed []byte, source io.Reader, limit int) ([]byte, *countedBuffers, error) {
	buffers := &countedBuffers{}
	claim, err := Inspect(c, packed[:min(len(packed), HeadBytes)], len(packed), limit)
	if err != nil {
		return nil, buffers, err
	}
	payload, err := Unpack(c, source, claim, 64, limit, buffers)
	return payload, buffers, err
}

func TestWhatIsPackedIsUnpacked(t *testing.T) {
	for name, c := range codecs {
		for _, size := range []int{300, 1000, 16 << 10, 64 << 10, 64<<10 + 1, 256<<10 + 7, 3 << 20} {
			t.Run(fmt.Sprint(name, size), func(t *testing.T) {
				payload := text(size)
				packed, pays := pack(t, c, payload)
				if !pays || len(packed) > size/2 {
					t.Fatalf("%d bytes of text become %d", size, len(packed))
				}
				for kind, source := range map[string]io.Reader{
					"whole": bytes.NewReader(packed), "in drops": iotest.OneByteReader(bytes.NewReader(packed)),
					"the end with the last byte": iotest.DataErrReader(bytes.NewReader(packed)),
				} {
					got, buffers, err := unpack(c, packed, source, testLimit)
					if err != nil || !bytes.Equal(got, payload) {
						t.Fatalf("%s: %d bytes, %v", kind, len(got), err)
					}
					if buffers.held != len(got) {
						t.Errorf("%s: %d bytes are lent for a payload of %d", kind, buffers.held, len(got))
					}
				}
			})
		}
	}
}

func TestWhatDoesNotGetSmallerTravelsAsItIs(t *testing.T) {
	mixed := append(noise(1<<20), text(1<<16)...)
	for name, c := range codecs {
		for kind, payload := range map[string][]byte{
			"nothing": nil, "small noise": noise(2000), "large noise": noise(2 << 20), "little text behind noise": mixed,
		} {
			if _, pays := pack(t, c, payload); pays {
				t.Errorf("%s: %s was compressed", name, kind)
			}
		}
	}
}

func TestALargePayloadThatIsTextInPartsIsCompressed(t *testing.T) {
	payload := append(append(text(1<<20), noise(1<<20)...), text(1<<20)...)
	for name, c := range codecs {
		if packed, pays := pack(t, c, payload); !pays {
			t.Errorf("%s: %d of %d bytes do not pay", name, len(packed), len(payload))
		}
	}
}

// TestNumbersInFewBitsAreCompressed: what has no repetition but few values, where LZ4 finds nothing.
func TestNumbersInFewBitsAreCompressed(t *testing.T) {
	payload := noise(1 << 20)
	for i := range payload {
		payload[i] &= 15
	}
	for _, name := range []string{"zstd", "gzip"} {
		if _, pays := pack(t, codecs[name], payload); !pays {
			t.Errorf("%s finds nothing in 4 bits of 8", name)
		}
	}
}

func TestUnpackingStopsAtTheLimit(t *testing.T) {
	const limit = 1 << 20
	for name, c := range codecs {
		for _, size := range []int{limit, limit + 1, 64 * limit} {
			packed, pays := pack(t, c, text(size))
			if !pays {
				t.Fatal("text does not pay")
			}
			got, buffers, err := unpack(c, packed, bytes.NewReader(packed), limit)
			if size <= limit && (err != nil || len(got) != size) || size > limit && !errors.Is(err, ErrTooLarge) {
				t.Errorf("%s: %d bytes under a limit of %d: %d bytes, %v", name, size, limit, len(got), err)
			}
			if buffers.most > 2*limit || err != nil && buffers.held != 0 {
				t.Errorf("%s: %d bytes were held, %d still are", name, buffers.most, buffers.held)
			}
		}
	}
}

// sizelessLZ4 and sizelessZstd write frames whose heads tell no size, as others may.
func sizelessLZ4(t *testing.T, payload []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := lz4.NewWriter(&out)
	if _, err := w.Write(payload); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func sizelessZstd(t *testing.T, payload []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out, zstd.WithWindowSize(zstdWindow), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	for part := range slices.Chunk(payload, 10_000) { // written in parts, so that the encoder cannot know the size
		if _, err := w.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestABombWithoutAClaimStopsAtTheLimit(t *testing.T) {
	const limit = 256 << 10
	for name, packed := range map[string][]byte{"lz4": sizelessLZ4(t, make([]byte, 64<<20)), "zstd": sizelessZstd(t, make([]byte, 64<<20))} {
		_, buffers, err := unpack(codecs[name], packed, bytes.NewReader(packed), limit)
		if !errors.Is(err, ErrTooLarge) || buffers.most > 2*limit || buffers.held != 0 {
			t.Errorf("%s: %v, %d bytes were held", name, err, buffers.most)
		}
	}
}

func TestSmallFramesWithoutASizeAreUnpacked(t *testing.T) {
	payload := text(100_000)
	for name, packed := range map[string][]byte{"lz4": sizelessLZ4(t, payload), "zstd": sizelessZstd(t, payload)} {
		if got, _, err := unpack(codecs[name], packed, bytes.NewReader(packed), testLimit); err != nil || !bytes.Equal(got, payload) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

func TestDamageIsNoticed(t *testing.T) {
	payload := text(20_000)
	for name, c := range codecs {
		packed, _ := pack(t, c, payload)
		damaged := map[string][]byte{
			"empty": {}, "a head": packed[:4], "cut": packed[:len(packed)-5], "one byte short": packed[:len(packed)-1],
			"with more behind it": append(bytes.Clone(packed), 0), "text": payload[:100],
		}
		if c != session.CodecGzip { // of which RFC 1952 allows several
			damaged["two frames"] = append(bytes.Clone(packed), packed...)
		}
		for i := range packed {
			flipped := bytes.Clone(packed)
			flipped[i] ^= 1 << (i % 8)
			damaged[fmt.Sprintf("byte %d", i)] = flipped
		}
		for kind, b := range damaged {
			got, buffers, err := unpack(c, b, bytes.NewReader(b), testLimit)
			harmless := err == nil && bytes.Equal(got, payload) // gzip: a time, a name; zstd: a reserved bit
			if !harmless && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrTooLarge) {
				t.Errorf("%s, %s: %d bytes, %v", name, kind, len(got), err)
			}
			if err != nil && buffers.held != 0 {
				t.Errorf("%s, %s: %d bytes are still lent", name, kind, buffers.held)
			}
		}
	}
}

func TestAClaimThatIsTooHighTakesNothing(t *testing.T) {
	huge := map[string][]byte{
		"lz4":  append([]byte{0x04, 0x22, 0x4D, 0x18, 0x68, 0x40}, binary.LittleEndian.AppendUint64(nil, math.MaxUint64)...),
		"zstd": append([]byte{0x28, 0xB5, 0x2F, 0xFD, 0xE0}, binary.LittleEndian.AppendUint64(nil, math.MaxUint64)...),
	}
	for name, head := range huge {
		if _, err := Inspect(codecs[name], head, len(head), testLimit); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
	window := []byte{0x28, 0xB5, 0x2F, 0xFD, 0x00, 0xFF} // the largest window of the format
	if _, err := Inspect(session.CodecZstd, window, len(window), testLimit); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a huge window: %v", err)
	}
}

func TestAnErrorOfTheSourceIsNotHidden(t *testing.T) {
	broken := errors.New("the stream was reset")
	for name, c := range codecs {
		packed, _ := pack(t, c, text(300_000))
		source := io.MultiReader(bytes.NewReader(packed[:len(packed)/2]), iotest.ErrReader(broken))
		if _, _, err := unpack(c, packed, source, testLimit); !errors.Is(err, broken) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUnknownCodecsAreRefused(t *testing.T) {
	if Known(session.CodecNone) || Known(63) {
		t.Error("codec 0 or 63 is known")
	}
	if _, err := Inspect(63, nil, 0, testLimit); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
	if _, pays := Pack(63, make([]byte, 0, 1000), text(1000)); pays {
		t.Error("an unknown codec packs")
	}
	if _, err := Unpack(63, strings.NewReader(""), Claim{}, 1, 1, &countedBuffers{}); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
}
