package compression

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// weights are float32 numbers around 0, as models have them.
func weights(size int) []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, 0, size)
	for len(b) < size {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(rng.NormFloat64()*0.02)))
	}
	return b
}

func BenchmarkPack(b *testing.B) {
	for name, c := range codecs {
		for kind, payload := range map[string][]byte{
			"text 4 KiB": text(4 << 10), "text 1 MiB": text(1 << 20), "weights 1 MiB": weights(1 << 20),
			"noise 4 KiB": noise(4 << 10), "noise 1 MiB": noise(1 << 20),
		} {
			b.Run(fmt.Sprint(name, "/", kind), func(b *testing.B) {
				buffer := make([]byte, 0, Bound(c, len(payload)))
				b.SetBytes(int64(len(payload)))
				b.ReportAllocs()
				var packed []byte
				for b.Loop() {
					packed, _ = Pack(c, buffer, payload)
				}
				b.ReportMetric(float64(len(packed))/float64(len(payload)), "size")
			})
		}
	}
}

func BenchmarkUnpack(b *testing.B) {
	for name, c := range codecs {
		for kind, payload := range map[string][]byte{"text 4 KiB": text(4 << 10), "text 1 MiB": text(1 << 20), "weights 1 MiB": weights(1 << 20)} {
			packed, pays := pack(b, c, payload)
			if !pays {
				continue
			}
			b.Run(fmt.Sprint(name, "/", kind), func(b *testing.B) {
				b.SetBytes(int64(len(payload)))
				b.ReportAllocs()
				for b.Loop() {
					if _, _, err := unpack(c, packed, bytes.NewReader(packed), testLimit); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
