package signatures

import (
	"bytes"
	"crypto/ed25519"
	"sync"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/crypto/pb"
	voi "github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
)

const (
	// rememberedMessages is how many goroutines may be between signing and verifying their own message; one more verifies in full.
	rememberedMessages = 16
	// rememberedBytes bounds what is remembered of a message: a larger one is verified in full.
	rememberedBytes = 64 << 10
)

// Signer answers a key that makes the signatures of the given one and remembers what it has just signed: pubsub verifies each message
// that it has signed, before it sends it.
func Signer(key crypto.PrivKey) crypto.PrivKey {
	raw, err := key.Raw()
	if err != nil || key.Type() != pb.KeyType_Ed25519 || len(raw) != voi.PrivateKeySize {
		return key
	}
	return &signer{key, voi.PrivateKey(raw), ed25519.PublicKey(raw[ed25519.SeedSize:])}
}

type signer struct {
	crypto.PrivKey
	private voi.PrivateKey
	public  ed25519.PublicKey
}

func (s *signer) Sign(data []byte) ([]byte, error) {
	signature := voi.Sign(s.private, data)
	if len(data) <= rememberedBytes {
		justSigned.put(signed{s.public, bytes.Clone(data), signature})
	}
	return signature, nil
}

// signed is a message and the signature that this process made of it.
type signed struct {
	key             ed25519.PublicKey
	data, signature []byte
}

var justSigned remembered

// remembered are the last messages that this process signed and has not verified yet. The newest replaces the oldest.
type remembered struct {
	sync.Mutex
	ring [rememberedMessages]signed
	next int
}

func (r *remembered) put(one signed) {
	r.Lock()
	defer r.Unlock()
	r.ring[r.next] = one
	r.next = (r.next + 1) % len(r.ring)
}

// take answers whether this process made this signature of this message by this key, and forgets it.
func (r *remembered) take(key ed25519.PublicKey, data, signature []byte) bool {
	r.Lock()
	defer r.Unlock()
	for i, one := range r.ring {
		if one.data != nil && bytes.Equal(one.signature, signature) && bytes.Equal(one.key, key) && bytes.Equal(one.data, data) {
			r.ring[i] = signed{}
			return true
		}
	}
	return false
}
