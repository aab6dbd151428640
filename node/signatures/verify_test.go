package signatures

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"slices"
	"testing"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/oasisprotocol/curve25519-voi/curve"
	"github.com/oasisprotocol/curve25519-voi/curve/scalar"
)

// verdicts compares the two verifiers and answers what both say.
func verdicts(t *testing.T, key, message, signature []byte) bool {
	t.Helper()
	want, got := ed25519.Verify(key, message, signature), verify(key, message, signature)
	if got != want {
		t.Fatalf("key %x, message %x, signature %x: %v, crypto/ed25519 says %v", key, message, signature, got, want)
	}
	return got
}

func message(text string) []byte { return []byte(pubsub.SignPrefix + text) }

func TestEveryCorruptedBitIsSeen(t *testing.T) {
	key, private, _ := ed25519.GenerateKey(rand.Reader)
	data := message("hello")
	signature := ed25519.Sign(private, data)
	if !verdicts(t, key, data, signature) {
		t.Fatal("a good signature is refused")
	}
	for _, part := range [][]byte{key, data, signature} {
		for bit := range 8 * len(part) {
			part[bit/8] ^= 1 << (bit % 8)
			if verdicts(t, key, data, signature) {
				t.Fatalf("bit %d of a part of %d bytes does not matter", bit, len(part))
			}
			part[bit/8] ^= 1 << (bit % 8)
		}
	}
	for _, short := range [][]byte{nil, signature[:63], append(bytes.Clone(signature), 0)} {
		if verdicts(t, key, data, short) {
			t.Fatalf("a signature of %d bytes is accepted", len(short))
		}
	}
}

// oddPoints are encodings of points of small order, canonical or not, with either sign, and of no point at all.
func oddPoints() [][]byte {
	var odd [][]byte
	for _, point := range curve.EIGHT_TORSION {
		odd = append(odd, encoded(point))
	}
	for _, text := range []string{ // p, p+1, p-1, some above p up to 2^255-1, 1, and 2; with the other sign below
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"f1ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"f2ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"0200000000000000000000000000000000000000000000000000000000000000",
	} {
		point, _ := hex.DecodeString(text)
		odd = append(odd, point)
	}
	for _, point := range slices.Clone(odd) {
		other := bytes.Clone(point)
		other[31] ^= 0x80
		odd = append(odd, other)
	}
	return odd
}

func encoded(point *curve.EdwardsPoint) []byte {
	var compressed curve.CompressedEdwardsY
	return bytes.Clone(compressed.SetEdwardsPoint(point)[:])
}

// order is that of the base point, little-endian.
var order, _ = hex.DecodeString("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")

func TestOddPointsAndScalarsGetTheSameVerdict(t *testing.T) {
	zero, one, below := make([]byte, 32), append([]byte{1}, make([]byte, 31)...), bytes.Clone(order)
	below[0]--
	scalars := [][]byte{zero, one, below, order, bytes.Repeat([]byte{0xff}, 32)}
	accepted := 0
	for _, key := range oddPoints() {
		for _, r := range oddPoints() {
			for _, s := range scalars {
				for i := range 4 {
					if verdicts(t, key, message(fmt.Sprint(i)), slices.Concat(r, s)) {
						accepted++
					}
				}
			}
		}
	}
	if accepted == 0 {
		t.Fatal("none of them is accepted: the test does not reach the equation")
	}
}

// Keys and nonces with a component of small order tell verifiers with a cofactor from those without.
func TestPointsOfMixedOrderGetTheSameVerdict(t *testing.T) {
	accepted, refused := 0, 0
	for i := range 8 {
		secret, nonce := randomScalar(t), randomScalar(t)
		for _, inKey := range curve.EIGHT_TORSION {
			for _, inNonce := range curve.EIGHT_TORSION {
				key, r := shifted(secret, inKey), shifted(nonce, inNonce)
				data := message(fmt.Sprint(i))
				hash := sha512.Sum512(slices.Concat(r, key, data))
				k, _ := scalar.NewFromBytesModOrderWide(hash[:])
				s := scalar.New().Mul(k, secret)
				s.Add(s, nonce)
				raw := make([]byte, 32)
				_ = s.ToBytes(raw)
				if verdicts(t, key, data, slices.Concat(r, raw)) {
					accepted++
				} else {
					refused++
				}
				if verdicts(t, key, data, slices.Concat(r, plusOrder(raw))) {
					t.Fatal("a scalar above the order is accepted")
				}
			}
		}
	}
	if accepted == 0 || refused == 0 {
		t.Fatalf("%d are accepted and %d are not: the test tells nothing apart", accepted, refused)
	}
}

func randomScalar(t *testing.T) *scalar.Scalar {
	s, err := scalar.New().SetRandom(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func shifted(s *scalar.Scalar, by *curve.EdwardsPoint) []byte {
	var point curve.EdwardsPoint
	point.MulBasepoint(curve.ED25519_BASEPOINT_TABLE, s)
	return encoded(point.Add(&point, by))
}

// plusOrder is the same scalar, written as nobody may.
func plusOrder(s []byte) []byte {
	sum, carry := make([]byte, 32), 0
	for i := range sum {
		carry += int(s[i]) + int(order[i])
		sum[i] = byte(carry)
		carry >>= 8
	}
	return sum
}

func FuzzVerdict(f *testing.F) {
	f.Add(make([]byte, 32), []byte("seed"), make([]byte, 96), []byte{})
	for _, point := range oddPoints() {
		f.Add(make([]byte, 32), []byte{}, []byte{}, slices.Concat(point, point, make([]byte, 32)))
	}
	// Either a good signature with some bits of key and signature turned, or anything.
	f.Fuzz(func(t *testing.T, seed, data, turned, anything []byte) {
		if len(seed) != ed25519.SeedSize {
			return
		}
		private := ed25519.NewKeyFromSeed(seed)
		input := slices.Concat(private.Public().(ed25519.PublicKey), ed25519.Sign(private, data))
		for i := range min(len(turned), len(input)) {
			input[i] ^= turned[i]
		}
		verdicts(t, input[:32], data, input[32:])
		if len(anything) >= 32 {
			verdicts(t, anything[:32], data, anything[32:])
		}
	})
}

func TestKeysStayThoseOfLibp2p(t *testing.T) {
	private, public, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, _ := peer.IDFromPublicKey(public)
	ours, err := id.ExtractPublicKey()
	if err != nil {
		t.Fatal(err)
	}
	if _, fast := ours.(*publicKey); !fast {
		t.Fatalf("the key of an author is a %T", ours)
	}
	if !ours.Equals(public) || !public.Equals(ours) || !crypto.KeyEqual(ours, public) {
		t.Error("it is another key")
	}
	if !id.MatchesPublicKey(ours) || !id.MatchesPrivateKey(Signer(private)) {
		t.Error("the peer id is another")
	}
	want, _ := crypto.MarshalPublicKey(public)
	if got, _ := crypto.MarshalPublicKey(ours); !bytes.Equal(got, want) {
		t.Errorf("marshalled: %x, libp2p's %x", got, want)
	}
	if _, err := unmarshal(make([]byte, 31)); err == nil {
		t.Error("a key of 31 bytes is accepted")
	}
	for _, data := range [][]byte{message("topic"), []byte("a peer record")} {
		signature, _ := private.Sign(data)
		if good, err := ours.Verify(data, signature); !good || err != nil {
			t.Errorf("%q: %v, %v", data, good, err)
		}
		signature[0] ^= 1
		if good, err := ours.Verify(data, signature); good || err != nil {
			t.Errorf("%q, corrupted: %v, %v", data, good, err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	key, private, _ := ed25519.GenerateKey(rand.Reader)
	data := message(string(make([]byte, 1<<10)))
	signature := ed25519.Sign(private, data)
	for name, verify := range map[string]func(ed25519.PublicKey, []byte, []byte) bool{"standard": ed25519.Verify, "ours": verify} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if !verify(key, data, signature) {
					b.Fatal("refused")
				}
			}
		})
	}
}
