package signatures

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
)

func newSigner(t *testing.T) *signer {
	t.Helper()
	private, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return Signer(private).(*signer)
}

func isRemembered(key ed25519.PublicKey, data, signature []byte) bool {
	return justSigned.take(key, data, signature)
}

func TestAnOwnMessageIsRememberedOnce(t *testing.T) {
	s := newSigner(t)
	data := message("hello")
	signature, err := s.Sign(data)
	if err != nil || !ed25519.Verify(s.public, data, signature) {
		t.Fatalf("signed: %v, %x", err, signature)
	}
	data[0]++ // it is a copy that is remembered
	if isRemembered(s.public, data, signature) {
		t.Error("another message passes for the signed one")
	}
	data[0]--
	if isRemembered(newSigner(t).public, data, signature) {
		t.Error("another author passes for the one who signed")
	}
	other := bytes.Clone(signature)
	other[63] ^= 1
	if isRemembered(s.public, data, other) {
		t.Error("another signature passes for the one that was made")
	}
	if !isRemembered(s.public, data, signature) {
		t.Error("the message is not remembered")
	}
	if isRemembered(s.public, data, signature) {
		t.Error("the message is remembered twice")
	}
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	s := newSigner(t)
	large := bytes.Repeat([]byte{1}, rememberedBytes+1)
	signature, _ := s.Sign(large)
	if isRemembered(s.public, large, signature) {
		t.Error("a large message is kept")
	}
	first, _ := s.Sign(message("first"))
	for range rememberedMessages {
		_, _ = s.Sign(message("later"))
	}
	if isRemembered(s.public, message("first"), first) {
		t.Error("more messages are kept than said")
	}
	if good, err := (&publicKey{PubKey: s.GetPublic(), raw: s.public}).Verify(message("first"), first); !good || err != nil {
		t.Errorf("a forgotten message: %v, %v", good, err)
	}
}
