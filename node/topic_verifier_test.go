package node

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// author signs messages as pubsub does, and in other ways.
type author struct {
	key    crypto.PrivKey
	id     peer.ID
	topic  string
	number byte
}

func newAuthor(t testing.TB, topic string) *author {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	return authorOf(t, topic, key, err)
}

func authorOf(t testing.TB, topic string, key crypto.PrivKey, err error) *author {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return &author{key: key, id: id, topic: topic}
}

// message is signed as it is after the changes.
func (a *author) message(changes ...func(*pb.Message)) *pb.Message {
	a.number++
	m := &pb.Message{From: []byte(a.id), Data: []byte("data"), Seqno: []byte{0, 0, 0, 0, 0, 0, 1, a.number}, Topic: &a.topic}
	for _, change := range changes {
		change(m)
	}
	key := m.Key
	m.Key = nil
	signed, _ := proto.Marshal(m)
	m.Signature, _ = a.key.Sign(append([]byte(pubsub.SignPrefix), signed...))
	m.Key = key
	return m
}

func (a *author) publicKey(t testing.TB) []byte {
	t.Helper()
	encoded, err := crypto.MarshalPublicKey(a.key.GetPublic())
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

func (a *author) forged(changes ...func(*pb.Message)) *pb.Message {
	m := a.message(changes...)
	m.Data = []byte("forged")
	return m
}

// after changes a message that is signed already.
func after(m *pb.Message, change func(*pb.Message)) *pb.Message {
	change(m)
	return m
}

// sendRPCs writes RPCs with these messages as a peer of pub/sub would.
func sendRPCs(t testing.TB, h host.Host, to peer.ID, rpcs [][]*pb.Message) {
	t.Helper()
	s, err := h.NewStream(within(t), to, pubsub.GossipSubID_v11)
	if err != nil {
		t.Fatal(err)
	}
	for _, messages := range rpcs {
		encoded, err := proto.Marshal(&pb.RPC{Publish: messages})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write(protowire.AppendBytes(nil, encoded)); err != nil {
			t.Fatal(err)
		}
	}
}

// verdicts are what a router decided about each message. As its tracer they call a verifier as topicTracer does.
type verdicts struct {
	verifier *topicVerifier // nil: pubsub verifies
	said     struct {
		sync.Mutex
		list []string
	}
}

func (v *verdicts) add(verdict string) {
	v.said.Lock()
	defer v.said.Unlock()
	v.said.list = append(v.said.list, verdict)
}

// sorted names each verdict once: pubsub refuses a forged copy of a good message or calls it a copy, depending on which is judged first.
func (v *verdicts) sorted() []string {
	v.said.Lock()
	defer v.said.Unlock()
	return slices.Compact(slices.Sorted(slices.Values(v.said.list)))
}

// accept notes a delivery, with all that would be forwarded.
func (v *verdicts) accept(m *pubsub.Message) bool {
	encoded, _ := proto.Marshal(m.Message)
	v.add(fmt.Sprintf("delivered: %x", encoded))
	return false
}

// RejectMessage notes a refusal, with its reason, on which the score depends.
func (v *verdicts) RejectMessage(m *pubsub.Message, reason string) {
	v.add(fmt.Sprintf("%s: %x", reason, pubsub.DefaultMsgIdFn(m.Message)))
}

func (v *verdicts) RecvRPC(*pubsub.RPC) {
	if v.verifier != nil {
		v.verifier.begin()
	}
}

func (v *verdicts) ValidateMessage(m *pubsub.Message)      { putSignatureBack(m.Message) }
func (v *verdicts) DeliverMessage(m *pubsub.Message)       { putSignatureBack(m.Message) }
func (*verdicts) OnNewOutboundStream(peer.ID, protocol.ID) {}
func (*verdicts) OnClosedOutboundStream(peer.ID)           {}
func (*verdicts) Join(string)                              {}
func (*verdicts) Leave(string)                             {}
func (*verdicts) Graft(peer.ID, string)                    {}
func (*verdicts) Prune(peer.ID, string)                    {}
func (*verdicts) DuplicateMessage(*pubsub.Message)         {}
func (*verdicts) ThrottlePeer(peer.ID)                     {}
func (*verdicts) SendRPC(*pubsub.RPC, peer.ID)             {}
func (*verdicts) DropRPC(*pubsub.RPC, peer.ID)             {}
func (*verdicts) UndeliverableMessage(*pubsub.Message)     {}

// startRouter is pubsub with its own verification, or with ours.
func startRouter(t *testing.T, key crypto.PrivKey, topic string, ours bool, validators ...pubsub.ValidatorEx) (host.Host, *verdicts) {
	t.Helper()
	h, seen := startRawHost(t, libp2p.Identity(key)), &verdicts{}
	options := []pubsub.Option{pubsub.WithRawTracer(seen), pubsub.WithValidateWorkers(1), pubsub.WithValidateQueueSize(2 * verifiedAtOnce)}
	if ours {
		seen.verifier = newTopicVerifier(&Node{id: h.ID()})
		options = append(options, pubsub.WithMessageIdFn(seen.verifier.messageID))
	}
	for _, validator := range validators {
		options = append(options, pubsub.WithDefaultValidator(validator, pubsub.WithValidatorInline(true)))
	}
	router, err := pubsub.NewGossipSub(t.Context(), h, options...)
	if err != nil {
		t.Fatal(err)
	}
	handle, err := router.Join(topic)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := handle.Subscribe(pubsub.WithMessageFilter(seen.accept)); err != nil {
		t.Fatal(err)
	}
	return h, seen
}

// judgedBy sends RPCs to a router and answers the verdicts when the last message, a good one, and as many as expected are judged.
func judgedBy(t *testing.T, h host.Host, seen *verdicts, rpcs [][]*pb.Message, count func([]string) bool) []string {
	t.Helper()
	sender := startRawHost(t)
	if err := sender.Connect(within(t), peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()}); err != nil {
		t.Fatal(err)
	}
	sendRPCs(t, sender, h.ID(), rpcs)
	waitUntil(t, "all messages are judged", func() bool { return count(seen.sorted()) })
	return seen.sorted()
}

const lastData = "the last one"

// trickyRPCs hold every kind of message that verification has to tell apart. The last message is good.
func trickyRPCs(t *testing.T, topic string, self peer.ID) [][]*pb.Message {
	t.Helper()
	a, b := newAuthor(t, topic), newAuthor(t, topic)
	ecdsaKey, _, err := crypto.GenerateECDSAKeyPair(rand.Reader)
	ecdsa := authorOf(t, topic, ecdsaKey, err)
	unknown := protowire.AppendVarint(protowire.AppendTag(nil, 9, protowire.VarintType), 1)
	aside := func(m *pb.Message) {
		m.ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, setAside, protowire.BytesType), m.Signature))
	}
	replayed, genuine := a.message(), b.message()
	shadow := proto.CloneOf(genuine)
	shadow.Data = []byte("forged before the genuine one came")
	late := proto.CloneOf(genuine)
	late.Data = []byte("forged after the genuine one came")
	foreign := newAuthor(t, "another::ps:topic")
	rpcs := [][]*pb.Message{
		{a.message()},
		{a.message(func(m *pb.Message) { m.Key = a.publicKey(t) })},
		{a.message(func(m *pb.Message) { m.Key = b.publicKey(t) })},
		{a.message(func(m *pb.Message) { m.Key = []byte{} })},
		{a.forged()},
		{a.forged(func(m *pb.Message) { m.Key = a.publicKey(t) })},
		{a.message(), a.forged(), a.message(), b.message()},
		{after(a.message(), func(m *pb.Message) { m.From = []byte(b.id) })},
		{a.message(func(m *pb.Message) { m.From = []byte(b.id) })},
		{ecdsa.message(func(m *pb.Message) { m.Key = ecdsa.publicKey(t) }), a.message()},
		{ecdsa.message(), a.message()},
		{ecdsa.forged(func(m *pb.Message) { m.Key = ecdsa.publicKey(t) })},
		{newAuthor(t, topic).message(func(m *pb.Message) { m.Seqno = nil })},
		{newAuthor(t, topic).message(func(m *pb.Message) { m.Seqno = []byte("of another width") })},
		{a.message(func(m *pb.Message) { m.From = nil })},
		{a.message(func(m *pb.Message) { m.From, m.Seqno = nil, nil })},
		{a.message(func(m *pb.Message) { m.From = []byte("no peer") })},
		{after(a.message(), func(m *pb.Message) { m.From, m.Seqno, m.Signature = nil, nil, nil })},
		{after(a.message(), func(m *pb.Message) { m.Signature = nil }), a.message()},
		{after(a.message(), func(m *pb.Message) { m.Signature = []byte{} })},
		{after(a.message(), func(m *pb.Message) { m.Signature = m.Signature[:63] })},
		{after(a.message(), func(m *pb.Message) { m.Seqno = []byte{9, 9, 9, 9, 9, 9, 9, 9} })},
		{after(a.message(), func(m *pb.Message) { m.ProtoReflect().SetUnknown(unknown) })},
		{a.message(func(m *pb.Message) { m.ProtoReflect().SetUnknown(unknown) })},
		{after(a.message(), aside)},
		{after(a.message(), func(m *pb.Message) { aside(m); m.Signature = nil })},
		{after(a.message(), func(m *pb.Message) { aside(m); m.Signature = make([]byte, 64) })},
		{after(a.message(), func(m *pb.Message) { m.From = []byte(self) })},
		{a.message(func(m *pb.Message) { m.Data = nil }), a.message(func(m *pb.Message) { m.Data = []byte{} })},
		{replayed}, {replayed}, {shadow}, {genuine}, {late}, {replayed, genuine},
		{foreign.message(), foreign.forged()},
	}
	many := make([]*pb.Message, 0, verifiedAtOnce+9) // the rest of which pubsub verifies
	for range cap(many) {
		number := uint16(len(many))
		many = append(many, b.message(func(m *pb.Message) { m.Seqno = []byte{0, 0, 0, 0, 0, 2, byte(number >> 8), byte(number)} }))
	}
	last := newAuthor(t, topic).message(func(m *pb.Message) { m.Seqno, m.Data = nil, []byte(lastData) })
	return append(rpcs, many, []*pb.Message{last})
}

func TestEveryMessageGetsTheVerdictOfPubsub(t *testing.T) {
	const topic = "owner::ps:news"
	refuseThirds := pubsub.ValidatorEx(func(_ context.Context, _ peer.ID, m *pubsub.Message) pubsub.ValidationResult {
		if number := m.GetSeqno(); len(number) == 8 && number[7]%3 == 1 {
			return pubsub.ValidationReject
		}
		return pubsub.ValidationAccept
	})
	for name, validators := range map[string][]pubsub.ValidatorEx{"without validators": nil, "with validators": {refuseThirds}} {
		t.Run(name, func(t *testing.T) {
			router := newAuthor(t, topic)
			rpcs := trickyRPCs(t, topic, router.id)
			theirs, theirVerdicts := startRouter(t, router.key, topic, false, validators...)
			want := judgedBy(t, theirs, theirVerdicts, rpcs, func(list []string) bool {
				return strings.Contains(strings.Join(list, " "), fmt.Sprintf("%x", lastData))
			})
			ours, ourVerdicts := startRouter(t, router.key, topic, true, validators...)
			got := judgedBy(t, ours, ourVerdicts, rpcs, func(list []string) bool { return len(list) >= len(want) })
			for _, verdict := range got {
				if !slices.Contains(want, verdict) {
					t.Errorf("only ours: %s", verdict)
				}
			}
			for _, verdict := range want {
				if !slices.Contains(got, verdict) {
					t.Errorf("only pubsub's: %s", verdict)
				}
			}
			if len(got) != len(want) || len(want) < verifiedAtOnce {
				t.Errorf("%d verdicts, pubsub's are %d", len(got), len(want))
			}
		})
	}
}

func TestForgedMessagesAreCountedAndTheirSenderIsBlamed(t *testing.T) {
	n := startNode(t)
	topic := topicName(n.id, "x")
	subscribeTo(t, n, topic)
	h, a := startRawHost(t), newAuthor(t, topic)
	greeted := make(chan struct{})
	h.SetStreamHandler(pubsub.GossipSubID_v11, func(network.Stream) { close(greeted) })
	dialRaw(t, h, n)
	<-greeted // pub/sub scores those whom it can answer
	good := a.message()
	sendRPCs(t, h, n.id, [][]*pb.Message{
		{a.forged(), a.forged()},
		{after(a.message(), func(m *pb.Message) { m.Signature = nil })},
		{good, a.forged()},
		{good},
	})
	waitUntil(t, "the sender is blamed", func() bool { return n.Statistics().TopicScores[h.ID().String()] < 0 })
	if got := receive(t, n, 1)[0]; got.From != a.id.String() || string(got.Data) != "data" || got.ID != messageNumber(good) {
		t.Errorf("came: %+v", got)
	}
	waitUntil(t, "all are counted", func() bool { return n.losses.totals()[directionIn][lossSenderMismatch] == 4 })
	expectLosses(t, n, directionIn, map[string]uint64{lossSenderMismatch: 4})
	if waiting := n.queue.Len(); waiting != 0 {
		t.Errorf("%d messages more came through", waiting)
	}
}

func TestForwardedMessagesKeepTheirSignature(t *testing.T) {
	for name, rules := range map[string]*TopicRules{"without rules": nil, "with rules": {MaxBytes: 100}} {
		t.Run(name, func(t *testing.T) {
			a, between := startPair(t)
			far := startNode(t)
			connect(t, between, far)
			topic := topicName(a.id, "x")
			subscribe(t, between, far, topic)
			subscribe(t, a, between, topic)
			if err := between.SetTopicRules(topic, rules); err != nil {
				t.Fatal(err)
			}
			published := mustPublish(t, a, topic, []byte("far"))
			for _, n := range []*Node{between, far} {
				if got := receive(t, n, 1)[0]; got.From != a.id.String() || got.ID != published.ID {
					t.Errorf("came: %+v", got)
				}
				expectLosses(t, n, directionIn, map[string]uint64{})
			}
		})
	}
}

func TestAVerifierRemembersOnlyTheLatestMessages(t *testing.T) {
	v, a := newTopicVerifier(&Node{}), newAuthor(t, "owner::ps:x")
	v.begin()
	m := a.message()
	signature := m.Signature
	v.messageID(m)
	if m.Signature != nil || v.left != verifiedAtOnce-1 {
		t.Fatal("a good message is not verified")
	}
	putSignatureBack(m)
	if string(m.Signature) != string(signature) || len(m.ProtoReflect().GetUnknown()) > 0 {
		t.Fatal("its signature did not come back")
	}
	if v.messageID(m); m.Signature == nil {
		t.Error("a copy is verified again")
	}
	if len(v.recent) != rememberedIDs {
		t.Errorf("%d ids are remembered", len(v.recent))
	}
	own := a.message()
	v.node.id = a.id
	if v.messageID(own); own.Signature == nil {
		t.Error("an own message is verified")
	}
}
