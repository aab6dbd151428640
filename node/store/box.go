package store

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// keyPurpose separates the store's key from every other use of the identity.
const keyPurpose = "peerbus durable channels v1"

// boxOverhead is how much longer a sealed value is.
const boxOverhead = chacha20poly1305.NonceSizeX + chacha20poly1305.Overhead

// box encrypts values with XChaCha20-Poly1305. The nonces are random: 24 bytes leave no chance of drawing one twice.
type box struct{ cipher.AEAD }

func newBox(secret []byte) (box, error) {
	key, err := hkdf.Key(sha256.New, secret, nil, keyPurpose, chacha20poly1305.KeySize)
	if err != nil {
		return box{}, err
	}
	aead, err := chacha20poly1305.NewX(key)
	return box{aead}, err
}

// seal answers head, in the clear but protected, followed by the encrypted value. place is where it belongs.
func (b box) seal(place, head, value []byte) []byte {
	sealed := make([]byte, len(head)+b.NonceSize(), len(head)+len(value)+boxOverhead)
	copy(sealed, head)
	nonce := sealed[len(head):]
	_, _ = rand.Read(nonce) // never fails, says its documentation
	return b.Seal(sealed, nonce, value, append(place, head...))
}

// open answers the head, of known length, and the value of what seal answered.
func (b box) open(place, sealed []byte, headBytes int) (head, value []byte, err error) {
	if len(sealed) < headBytes+boxOverhead {
		return nil, nil, fmt.Errorf("%w: a value of %d bytes", ErrDamaged, len(sealed))
	}
	head = append(head, sealed[:headBytes]...)
	nonce := sealed[headBytes : headBytes+b.NonceSize()]
	value, err = b.Open(nil, nonce, sealed[headBytes+b.NonceSize():], append(place, head...))
	if err != nil {
		return nil, nil, fmt.Errorf("%w: a value was altered, or written with another identity", ErrDamaged)
	}
	return head, value, nil
}
