package node

import (
	"hash/maphash"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/encoding/protowire"

	"peerbus/node/signatures"
)

const (
	// verifiedAtOnce is how many messages of one RPC are verified on pubsub's event loop, which is busy with that many for some 25 ms. Those
	// of the next RPC may overtake the rest. A publisher of ours puts no more than coalescedRPCMessages into one.
	verifiedAtOnce = 1024
	// rememberedIDs is how many of the last message ids are known, so that a copy of a message is not verified.
	rememberedIDs = 1 << 13
	// setAside is the number of a field that no version of pub/sub's messages has, the highest there is.
	setAside protowire.Number = 1<<29 - 1
)

// topicVerifier verifies messages where pubsub first looks at them, on its event loop. pubsub itself would copy each message,
// and hand it to another goroutine and back for that.
//
// pubsub's policy stays StrictSign: it refuses a message without a signature before it asks for its id, and verifies each that has one
// when it takes it. Asked for the id, the verifier sets the signatures aside that are good, so pubsub takes these messages as they are;
// when it is done with judging, before it delivers and forwards them, the verifier puts the signatures back. Every other message is
// pubsub's own to judge, in its own way: all bad ones, those of other kinds of keys, copies of what has come, and in an RPC what follows a bad one or
// the first verifiedAtOnce.
//
//	RPC -> policy -> id: good, set aside -> seen? -> deliver: put back -> receive queue, other peers
//	                 id: not good                 -> pubsub's queue, its verification -> refused; or validators -> deliver
//	                 id: good, topic with rules   -> pubsub's queue: put back -> validators -> deliver
type topicVerifier struct {
	node *Node
	// The rest belongs to the event loop.
	judge  signatures.Judge
	left   int // messages of this RPC that may be verified
	seed   maphash.Seed
	recent []uint64 // hashes of ids; each has one place
}

func newTopicVerifier(n *Node) *topicVerifier {
	return &topicVerifier{node: n, seed: maphash.MakeSeed()}
}

// begin is for each RPC.
func (v *topicVerifier) begin() { v.left = verifiedAtOnce }

// messageID answers pubsub's id of a message. Publishers ask for those of their own; for all others that have an author, the event loop
// asks once. (A pubsub.EventTracer, of which this package has none, would ask before the policy does: good messages would be refused.)
func (v *topicVerifier) messageID(m *pb.Message) string {
	id := pubsub.DefaultMsgIdFn(m)
	if id == "" || peer.ID(m.GetFrom()) == v.node.id || m.Signature == nil || v.left == 0 || v.isRecent(id) {
		return id
	}
	switch good, known := v.judge.Verify(m); {
	case good:
		v.left--
		v.remember(id)
		setSignatureAside(m)
	case known:
		v.left = 0
	}
	return id
}

func (v *topicVerifier) place(id string) (hash uint64, place int) {
	hash = maphash.String(v.seed, id)
	return hash, int(hash % rememberedIDs)
}

func (v *topicVerifier) isRecent(id string) bool {
	if v.recent == nil {
		return false
	}
	hash, place := v.place(id)
	return v.recent[place] == hash
}

func (v *topicVerifier) remember(id string) {
	if v.recent == nil {
		v.recent = make([]uint64, rememberedIDs)
	}
	hash, place := v.place(id)
	v.recent[place] = hash
}

func setSignatureAside(m *pb.Message) {
	hidden := protowire.AppendTag(make([]byte, 0, len(m.Signature)+8), setAside, protowire.BytesType)
	m.ProtoReflect().SetUnknown(protowire.AppendBytes(hidden, m.Signature))
	m.Signature = nil
}

// putSignatureBack ends setSignatureAside. A message that still has its signature stays as it is.
func putSignatureBack(m *pb.Message) {
	if m.Signature != nil {
		return
	}
	eachBytesField(m.ProtoReflect().GetUnknown(), func(number protowire.Number, value []byte) {
		if number == setAside {
			m.Signature = value
		}
	})
	m.ProtoReflect().SetUnknown(nil)
}
