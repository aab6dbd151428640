package compression

import (
	"bytes"
	"errors"
	"testing"
	"testing/iotest"

	"peerbus/node/session"
)

// FuzzUnpack: whatever a peer calls compressed, memory stays within what Inspect told, nothing stays lent after an error, and
// the answer does not depend on how the bytes come. Seeds are what we and others write, and testdata/fuzz.
func FuzzUnpack(f *testing.F) {
	for _, c := range codecs {
		for _, payload := range [][]byte{{}, []byte("a"), text(100), text(70_000), noise(500)} {
			buffer := make([]byte, 0, max(Bound(c, len(payload)), 2*len(payload)+100))
			packed, _ := packWhole(c, buffer, payload, cap(buffer))
			f.Add(uint8(c), packed)
		}
	}
	for _, v := range packedVectors(f) {
		f.Add(uint8(v.Codec), v.bytes(f))
	}
	const limit = 1 << 20
	f.Fuzz(func(t *testing.T, codec uint8, packed []byte) {
		c := session.Codec(codec)
		claim, err := Inspect(c, packed[:min(len(packed), HeadBytes)], len(packed), limit)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrTooLarge) {
				t.Errorf("inspecting: %v", err)
			}
			return
		}
		if claim.Memory() > limit+2*maxZstdWindow {
			t.Errorf("%d bytes are asked for", claim.Memory())
		}
		whole, buffers, err := unpack(c, packed, bytes.NewReader(packed), limit)
		if buffers.most > 2*limit || buffers.held != len(whole) || len(whole) > limit {
			t.Errorf("%d bytes were held, %d are, the payload has %d", buffers.most, buffers.held, len(whole))
		}
		if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrTooLarge) {
			t.Errorf("unpacking: %v", err)
		}
		drops, _, dropErr := unpack(c, packed, iotest.OneByteReader(bytes.NewReader(packed)), limit)
		if !bytes.Equal(whole, drops) || (err == nil) != (dropErr == nil) {
			t.Errorf("%d bytes, %v; in drops %d bytes, %v", len(whole), err, len(drops), dropErr)
		}
	})
}
