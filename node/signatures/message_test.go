package signatures

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"testing"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// signedByPubsub is what pubsub verifies: its verifyMessageSignature, which is not exported.
func signedByPubsub(t testing.TB, m *pb.Message) []byte {
	t.Helper()
	without := proto.CloneOf(m)
	without.Signature, without.Key = nil, nil
	encoded, err := proto.Marshal(without)
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte(pubsub.SignPrefix), encoded...)
}

// keyForPubsub is its messagePubKey.
func keyForPubsub(m *pb.Message) crypto.PubKey {
	id, err := peer.IDFromBytes(m.From)
	if err != nil {
		return nil
	}
	if m.Key == nil {
		key, _ := id.ExtractPublicKey()
		return key
	}
	if key, err := crypto.UnmarshalPublicKey(m.Key); err == nil && id.MatchesPublicKey(key) {
		return key
	}
	return nil
}

func newAuthor(t testing.TB) (crypto.PrivKey, peer.ID) {
	t.Helper()
	private, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, _ := peer.IDFromPrivateKey(private)
	return private, id
}

// signedMessage is signed as pubsub would.
func signedMessage(t testing.TB, private crypto.PrivKey, author peer.ID, change func(*pb.Message)) *pb.Message {
	t.Helper()
	topic := "owner::ps:news"
	m := &pb.Message{From: []byte(author), Data: []byte("data"), Seqno: make([]byte, 8), Topic: &topic}
	change(m)
	m.Signature, _ = private.Sign(signedByPubsub(t, m))
	return m
}

func TestAJudgeKnowsPlainMessagesOnly(t *testing.T) {
	private, author := newAuthor(t)
	ecdsa, _, _ := crypto.GenerateECDSAKeyPair(rand.Reader)
	ecdsaAuthor, _ := peer.IDFromPrivateKey(ecdsa)
	ownKey, _ := crypto.MarshalPublicKey(private.GetPublic())
	ecdsaKey, _ := crypto.MarshalPublicKey(ecdsa.GetPublic())
	unknown := protowire.AppendVarint(protowire.AppendTag(nil, 9, protowire.VarintType), 1)
	for name, c := range map[string]struct {
		message     *pb.Message
		good, known bool
	}{
		"plain":              {signedMessage(t, private, author, func(*pb.Message) {}), true, true},
		"with its key":       {signedMessage(t, private, author, func(m *pb.Message) { m.Key = ownKey }), true, true},
		"without data":       {signedMessage(t, private, author, func(m *pb.Message) { m.Data = nil }), true, true},
		"empty":              {signedMessage(t, private, author, func(m *pb.Message) { m.Data, m.Seqno, m.Topic = []byte{}, nil, nil }), true, true},
		"large":              {signedMessage(t, private, author, func(m *pb.Message) { m.Data = make([]byte, 2*keptBytes) }), true, true},
		"by another key":     {signedMessage(t, ecdsa, author, func(*pb.Message) {}), false, true},
		"another's key":      {signedMessage(t, private, author, func(m *pb.Message) { m.Key = ecdsaKey }), false, false},
		"an empty key":       {signedMessage(t, private, author, func(m *pb.Message) { m.Key = []byte{} }), false, false},
		"without author":     {signedMessage(t, private, "", func(*pb.Message) {}), false, false},
		"another kind":       {signedMessage(t, ecdsa, ecdsaAuthor, func(m *pb.Message) { m.Key = ecdsaKey }), false, false},
		"unknown fields":     {signedMessage(t, private, author, func(m *pb.Message) { m.ProtoReflect().SetUnknown(unknown) }), false, false},
		"author with a tail": {signedMessage(t, private, author+"x", func(*pb.Message) {}), false, false},
	} {
		var judge Judge
		if good, known := judge.Verify(c.message); good != c.good || known != c.known {
			t.Errorf("%s: good %v, known %v", name, good, known)
		}
		if cap(judge.signed) > keptBytes {
			t.Errorf("%s: %d bytes are kept", name, cap(judge.signed))
		}
	}
}

// What a judge finds good pubsub would, and of what it knows also the reverse.
func FuzzJudge(f *testing.F) {
	private, author := newAuthor(f)
	plain := signedMessage(f, private, author, func(*pb.Message) {})
	encoded, _ := proto.Marshal(plain)
	f.Add(encoded, []byte{})
	f.Add(encoded, []byte{0, 0, 1})
	key, _ := crypto.MarshalPublicKey(private.GetPublic())
	plain.Key = key
	encoded, _ = proto.Marshal(plain)
	f.Add(encoded, []byte{})
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, encoded, turned []byte) {
		encoded = bytes.Clone(encoded)
		for i := range min(len(turned), len(encoded)) {
			encoded[i] ^= turned[i]
		}
		var m pb.Message
		if proto.Unmarshal(encoded, &m) != nil {
			return
		}
		var judge Judge
		good, known := judge.Verify(&m)
		if !known {
			return
		}
		want := signedByPubsub(t, &m)
		if got := appendSigned(nil, &m); !bytes.Equal(got, want) {
			t.Fatalf("%x is verified, pubsub verifies %x", got, want)
		}
		byPubsub := keyForPubsub(&m)
		raw, err := byPubsub.Raw()
		if err != nil || !bytes.Equal(raw, plainKeyOf(&m)) {
			t.Fatalf("the key is %x, pubsub's %x, %v", plainKeyOf(&m), raw, err)
		}
		if standard := ed25519.Verify(raw, want, m.Signature); good != standard {
			t.Fatalf("%x: %v, crypto/ed25519 says %v", encoded, good, standard)
		}
	})
}

func TestSignaturesAreThoseOfCryptoEd25519(t *testing.T) {
	private, _ := newAuthor(t)
	raw, _ := private.Raw()
	for size := range 300 {
		data := message(string(bytes.Repeat([]byte{byte(size)}, 7*size)))
		signature, err := Signer(private).Sign(data)
		if want := ed25519.Sign(raw, data); err != nil || !bytes.Equal(signature, want) {
			t.Fatalf("%d bytes: %x, %v, crypto/ed25519 makes %x", len(data), signature, err, want)
		}
	}
}
