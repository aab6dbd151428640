package compression

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"peerbus/node/session"
)

// packedVector is an entry of tests/vectors/channel/packed.json: payloads that other implementations compressed.
type packedVector struct {
	Name    string
	Codec   session.Codec
	Packed  string
	Text    string
	Refused bool
}

func packedVectors(t testing.TB) (all []packedVector) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "tests", "vectors", "channel", "packed.json"))
	if err == nil {
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.DisallowUnknownFields()
		err = decoder.Decode(&all)
	}
	if err != nil || len(all) == 0 {
		t.Fatalf("%d vectors, %v", len(all), err)
	}
	return all
}

func (v packedVector) bytes(t testing.TB) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(v.Packed, " ", ""))
	if err != nil {
		t.Fatalf("%s: %v", v.Name, err)
	}
	return b
}

func TestPayloadsOfOtherImplementationsAreUnpacked(t *testing.T) {
	for _, v := range packedVectors(t) {
		packed := v.bytes(t)
		payload, buffers, err := unpack(v.Codec, packed, bytes.NewReader(packed), testLimit)
		switch {
		case v.Refused && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrTooLarge):
			t.Errorf("%s: answers %q, %v", v.Name, payload, err)
		case v.Refused && buffers.held != 0:
			t.Errorf("%s: %d bytes stay lent", v.Name, buffers.held)
		case !v.Refused && (err != nil || string(payload) != v.Text):
			t.Errorf("%s: answers %q, %v", v.Name, payload, err)
		}
	}
}
