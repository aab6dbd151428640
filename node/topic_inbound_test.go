package node

import (
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// TestOversizedRPCsAreFoundHoweverTheyAreCut: the frames of a stream come in pieces of any size.
func TestOversizedRPCsAreFoundHoweverTheyAreCut(t *testing.T) {
	var frames []byte
	for _, size := range []int{0, 1, 127, 128, 1000, 0, 300} {
		frames = append(protowire.AppendVarint(frames, uint64(size)), make([]byte, size)...)
	}
	random := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		s := &topicInbound{most: 1000}
		for rest := frames; len(rest) > 0; {
			cut := 1 + random.IntN(len(rest))
			s.follow(rest[:cut])
			rest = rest[cut:]
		}
		if s.broken || s.left != 0 || s.shift != 0 {
			t.Fatalf("after whole frames: %+v", s)
		}
	}
}
