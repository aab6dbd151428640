package signatures

import (
	"bytes"
	"crypto/ed25519"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"google.golang.org/protobuf/encoding/protowire"
)

// Fields of pubsub's Message, without signature and key: what is signed.
const (
	fieldFrom  = 1
	fieldData  = 2
	fieldSeqno = 3
	fieldTopic = 4
)

// keptBytes bounds the memory that a Judge keeps between two messages.
const keptBytes = 64 << 10

var (
	// plainAuthor begins the peer id of an Ed25519 key: the multihash of the key itself, with 36 bytes to follow.
	plainAuthor = []byte{0, 36}
	// plainKey begins an Ed25519 key, as libp2p encodes it.
	plainKey = []byte{8, 1, 18, ed25519.PublicKeySize}
)

// Judge verifies messages without the copies that pubsub makes of each. It is not safe for concurrent use.
type Judge struct {
	signed []byte
}

// Verify answers whether the signature of a message is good, as pubsub would find it. It knows only messages as libp2p writes them: by a plain
// Ed25519 key, and without unknown fields, which pubsub would take as signed, too.
func (j *Judge) Verify(m *pb.Message) (good, known bool) {
	key := plainKeyOf(m)
	if key == nil || len(m.ProtoReflect().GetUnknown()) > 0 {
		return false, false
	}
	j.signed = appendSigned(j.signed[:0], m)
	good = verify(key, j.signed, m.GetSignature())
	if cap(j.signed) > keptBytes {
		j.signed = nil
	}
	return good, true
}

// plainKeyOf answers the key of an author whose peer id holds it; nil: another kind of author, or another key in the message.
func plainKeyOf(m *pb.Message) ed25519.PublicKey {
	encoded, plain := bytes.CutPrefix(m.GetFrom(), plainAuthor)
	if !plain || m.Key != nil && !bytes.Equal(m.Key, encoded) {
		return nil
	}
	key, plain := bytes.CutPrefix(encoded, plainKey)
	if !plain || len(key) != ed25519.PublicKeySize {
		return nil
	}
	return key
}

// appendSigned appends what pubsub signs of a message: its prefix and the encoded message without signature and key.
func appendSigned(buffer []byte, m *pb.Message) []byte {
	buffer = append(buffer, pubsub.SignPrefix...)
	for _, field := range []struct {
		number protowire.Number
		value  []byte
	}{{fieldFrom, m.From}, {fieldData, m.Data}, {fieldSeqno, m.Seqno}} {
		if field.value != nil {
			buffer = protowire.AppendTag(buffer, field.number, protowire.BytesType)
			buffer = protowire.AppendBytes(buffer, field.value)
		}
	}
	if m.Topic != nil {
		buffer = protowire.AppendTag(buffer, fieldTopic, protowire.BytesType)
		buffer = protowire.AppendString(buffer, *m.Topic)
	}
	return buffer
}
