// Package signatures verifies the signatures of pub/sub messages, which are most of what a gossip topic costs, with less
// processor time and the verdicts of crypto/ed25519.
//
// pubsub takes the key of an author from its peer id by way of crypto.UnmarshalPublicKey and offers no other place for a verifier.
// So this package replaces the Ed25519 entry of crypto.PubKeyUnmarshallers, a map that libp2p exports for this. It is the only place
// that writes to the map, and it does so in init: after libp2p's core/crypto is initialised, which it imports, and before any
// goroutine that could read it. The entry is that of the whole process. All else that a key of libp2p does stays libp2p's, and so does the
// verification of everything that is not a pub/sub message: handshakes and peer records.
package signatures

import (
	"bytes"
	"crypto/ed25519"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/crypto/pb"
	voi "github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519/extra/cache"
)

// expandedKeys bounds the authors whose keys are kept ready, at about 1.7 KiB each. A further one costs 6 us for a message.
const expandedKeys = 512

var (
	verifier = cache.NewVerifier(cache.NewLRUCache(expandedKeys))
	// asStandard demands the verdicts of crypto/ed25519, those about keys and signatures that nobody makes by accident included.
	asStandard = &voi.Options{Verify: voi.VerifyOptionsStdLib}
)

func init() {
	crypto.PubKeyUnmarshallers[pb.KeyType_Ed25519] = unmarshal
}

// publicKey is libp2p's key with a faster Verify for pub/sub messages.
type publicKey struct {
	crypto.PubKey
	raw ed25519.PublicKey
}

func unmarshal(data []byte) (crypto.PubKey, error) {
	key, err := crypto.UnmarshalEd25519PublicKey(data)
	if err != nil {
		return nil, err
	}
	return &publicKey{PubKey: key, raw: data}, nil
}

func (k *publicKey) Verify(data, signature []byte) (bool, error) {
	if !isMessage(data) {
		return k.PubKey.Verify(data, signature)
	}
	return justSigned.take(k.raw, data, signature) || verify(k.raw, data, signature), nil
}

func verify(key ed25519.PublicKey, data, signature []byte) bool {
	return verifier.VerifyWithOptions(voi.PublicKey(key), data, signature, asStandard)
}

// isMessage tells what pubsub signs from what libp2p signs otherwise, which has prefixes of its own.
func isMessage(data []byte) bool {
	return bytes.HasPrefix(data, []byte(pubsub.SignPrefix))
}
