package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"slices"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/encoding/protowire"
)

const (
	// publishChunkMessages and publishChunkBytes bound what one hand-over to the router carries: above, the first
	// messages of a batch would wait for the signatures of the last.
	publishChunkMessages = 64
	publishChunkBytes    = 256 << 10
	// coalescedRPCBytes and coalescedRPCMessages bound RPCs that carry several messages: a subscriber verifies them in one go.
	coalescedRPCBytes    = 64 << 10
	coalescedRPCMessages = 256
)

// Publication says what became of a published message.
type Publication struct {
	// ID is the publisher's number of the message: it grows with every message that this node publishes, on any topic,
	// and receivers see it.
	ID uint64
	// Peers is how many connected subscribers there were at that moment; on a direct topic, for how many the message was taken.
	Peers int
	// Missed are the known subscribers of a direct topic that it was not taken for. Messages may share the list.
	Missed []MissedSubscriber
}

// receipt carries the number that pubsub gives a message back to its publisher.
type receipt struct {
	id       uint64
	expected bool // in the outboxes of peers
}

// sign answers the option of a publication that signs it and notes its number.
func (t *topics) sign(note *receipt) pubsub.PubOpt {
	return pubsub.WithSecretKeyAndPeerId(notingKey{t.key, t, note}, t.node.id)
}

// notingKey signs one publication. What it signs is the first place where its number shows.
type notingKey struct {
	crypto.PrivKey
	topics *topics
	note   *receipt
}

func (k notingKey) Sign(message []byte) ([]byte, error) {
	k.note.id = signedNumber(message)
	if k.note.expected {
		k.topics.outboxes.expect(k.note.id)
	}
	return k.PrivKey.Sign(message)
}

// signedNumber reads the number in what pubsub signs of a message: its prefix, and the encoded message.
func signedNumber(signed []byte) (number uint64) {
	eachBytesField(bytes.TrimPrefix(signed, []byte(pubsub.SignPrefix)), func(field protowire.Number, value []byte) {
		if field == fieldSeqno {
			number = decodeNumber(value)
		}
	})
	return number
}

// messageNumber reads the publisher's number of a message; 0 when it has none of our width.
func messageNumber(message *pb.Message) uint64 { return decodeNumber(message.GetSeqno()) }

func decodeNumber(number []byte) uint64 {
	if len(number) == 8 {
		return binary.BigEndian.Uint64(number)
	}
	return 0
}

// Publish sends one message on a topic. It waits until ctx ends for subscribers that are slower than the publisher
// (ErrWouldBlock: nothing was published).
func (n *Node) Publish(ctx context.Context, channel string, payload []byte) (Publication, error) {
	if d := n.topics.direct.find(channel); d != nil {
		return d.publishOne(ctx, payload)
	}
	joined, err := n.publishable(channel, payload)
	if err != nil {
		return Publication{}, err
	}
	published, err := n.publishChunk(ctx, joined, [][]byte{payload})
	if err != nil {
		return Publication{}, err
	}
	return published[0], nil
}

// PublishBatch publishes the messages in order. It answers those that were published; the error tells why the others were
// not.
func (n *Node) PublishBatch(ctx context.Context, channel string, payloads [][]byte) ([]Publication, error) {
	if d := n.topics.direct.find(channel); d != nil {
		return d.publishAll(ctx, payloads)
	}
	for k, payload := range payloads {
		if _, err := n.publishable(channel, payload); err != nil {
			return nil, fmt.Errorf("message %d: %w", k, err)
		}
	}
	published := make([]Publication, 0, len(payloads))
	for len(payloads) > 0 {
		joined, err := n.publishable(channel, nil)
		if err != nil {
			return published, err
		}
		count := chunkLength(payloads)
		chunk, err := n.publishChunk(ctx, joined, payloads[:count])
		published = append(published, chunk...)
		if err != nil {
			return published, err
		}
		payloads = payloads[count:]
	}
	return published, nil
}

func chunkLength(payloads [][]byte) int {
	bytes := 0
	for i, payload := range payloads {
		bytes += len(payload)
		if i > 0 && (i >= publishChunkMessages || bytes > publishChunkBytes) {
			return i
		}
	}
	return len(payloads)
}

// publishChunk hands messages to the router at once. It answers those that were published.
func (n *Node) publishChunk(ctx context.Context, joined *topic, payloads [][]byte) ([]Publication, error) {
	t := n.topics
	if err := t.outboxes.await(ctx, joined); err != nil {
		return nil, err
	}
	peers := joined.countPeers()
	if peers == 0 {
		if err := n.refuseBehindRelays(joined.name.text, len(payloads)); err != nil {
			return nil, err
		}
	}
	publish := t.publishBatched
	switch {
	case n.config.Network.FloodSub: // whose router knows no batches
		publish = t.publishEach
	case len(payloads) == 1:
		publish = t.burst.publish
	default:
		t.burst.flush()
	}
	notes, err := publish(joined, payloads, peers)
	published := make([]Publication, len(notes))
	for i, note := range notes {
		published[i] = Publication{ID: note.id, Peers: peers}
		n.traffic.publishedMessages.Add(1)
		n.traffic.publishedBytes.Add(uint64(len(payloads[i])))
	}
	if peers == 0 {
		n.losses.add(directionOut, lossNoPeers, joined.name.text, "", uint64(len(notes)))
	}
	return published, err
}

// refuseBehindRelays answers, and counts, that peers are connected which pub/sub cannot reach.
func (n *Node) refuseBehindRelays(channel string, count int) error {
	behind := n.limitedPeers()
	if behind == 0 {
		return nil
	}
	n.losses.add(directionOut, lossNoPeers, channel, "", uint64(count))
	return fmt.Errorf("%w: nobody that is reached subscribes to %q, and %d peers are connected only through a relay with limits, "+
		"which carries no topics; wait for connection_direct, or use a relay with relay.with_broad_limits", ErrRefused, channel, behind)
}

func (t *topics) publishBatched(joined *topic, payloads [][]byte, _ int) ([]receipt, error) {
	var batch pubsub.MessageBatch
	add := t.addAll
	if len(payloads) > 1 {
		add = t.addElsewhere
	}
	notes, problem := add(&batch, joined, payloads)
	if len(notes) == 0 {
		return nil, problem
	}
	if err := t.handOver(&batch, notes); err != nil {
		return nil, t.problem("publishing on", joined.name, err)
	}
	return notes, problem
}

// addElsewhere is addAll on another goroutine. The one of a call from C is bound to its thread, and pubsub passes each message to its
// event loop: every wait for that would be a change of threads.
func (t *topics) addElsewhere(batch *pubsub.MessageBatch, joined *topic, payloads [][]byte) (notes []receipt, problem error) {
	added := make(chan struct{})
	problem = fmt.Errorf("%w: publishing on topic %q failed", ErrInternal, joined.name.text) // by a panic
	if !t.node.spawn("publication of a list", func() {
		defer close(added)
		notes, problem = t.addAll(batch, joined, payloads)
	}) {
		return nil, ErrClosed
	}
	<-added
	return notes, problem
}

// addAll answers the notes of those that are in the batch.
func (t *topics) addAll(batch *pubsub.MessageBatch, joined *topic, payloads [][]byte) ([]receipt, error) {
	notes := make([]receipt, 0, len(payloads)) // with room for all: their signers keep pointers into it
	for _, payload := range payloads {
		notes = append(notes, receipt{expected: true})
		if err := t.addTo(batch, joined, payload, &notes[len(notes)-1]); err != nil {
			return notes[:len(notes)-1], err
		}
	}
	return notes, nil
}

// addTo signs a message, checks it by the own rules and puts it into the batch.
func (t *topics) addTo(batch *pubsub.MessageBatch, joined *topic, payload []byte, note *receipt) error {
	// The router keeps the payload; the caller may reuse its own.
	if err := joined.handle.AddToBatch(t.node.ctx, batch, slices.Clone(payload), t.sign(note)); err != nil {
		t.outboxes.settle([]receipt{*note})
		return t.publishError(joined.name, payload, err)
	}
	return nil
}

// handOver gives a batch to the router. When it fails, nothing was published.
func (t *topics) handOver(batch *pubsub.MessageBatch, notes []receipt) error {
	withCoalescing := func(options *pubsub.BatchPublishOptions) error {
		options.Strategy = &coalescingScheduler{outboxes: t.outboxes, notes: notes, byPeer: map[peer.ID][]*pubsub.RPC{}}
		return nil
	}
	err := t.node.ctx.Err() // the router would wait for ever
	if err == nil {
		err = t.router.PublishBatch(batch, withCoalescing)
	}
	if err != nil {
		t.outboxes.settle(notes)
	}
	return err
}

func (t *topics) publishEach(joined *topic, payloads [][]byte, peers int) ([]receipt, error) {
	notes := make([]receipt, len(payloads))
	for i, payload := range payloads {
		notes[i].expected = peers > 0
		if err := joined.handle.Publish(t.node.ctx, slices.Clone(payload), t.sign(&notes[i])); err != nil {
			t.outboxes.settle(notes[i : i+1])
			return notes[:i], t.publishError(joined.name, payload, err)
		}
	}
	return notes, nil
}

// publishable checks a message and answers its topic, joining it when needed.
func (n *Node) publishable(channel string, payload []byte) (*topic, error) {
	name, err := parseTopic(channel)
	if err != nil {
		return nil, err
	}
	if most := n.config.Limits.MessageBytes; len(payload) > most {
		return nil, fmt.Errorf("%w: %d bytes, limits.message_bytes is %d", ErrTooLarge, len(payload), most)
	}
	return n.topics.forPublishing(name)
}

func (t *topics) publishError(name channelName, payload []byte, err error) error {
	if _, invalid := err.(pubsub.ValidationError); invalid && t.node.ctx.Err() == nil {
		return fmt.Errorf("%w: topic %q refuses this message by its own rules: %s", ErrArgument, name.text, t.whyRefused(name, payload, err))
	}
	return t.problem("publishing on", name, err)
}

// whyRefused finds the reason that pubsub does not tell.
func (t *topics) whyRefused(name channelName, payload []byte, err error) string {
	t.state.Lock()
	guard := t.guardLocked(name)
	t.state.Unlock()
	if guard != nil {
		if reason := guard.refuses(t.node.id, payload); reason != "" {
			return reason
		}
	}
	return err.Error()
}

// coalescingScheduler keeps the order of a batch, which pubsub's own does not, and joins small messages for one peer into
// one RPC: one write instead of many.
type coalescingScheduler struct {
	outboxes *topicOutboxes
	notes    []receipt // of the batch
	peers    []peer.ID
	byPeer   map[peer.ID][]*pubsub.RPC
	room     map[peer.ID]int // bytes that still fit into the peer's last RPC
}

func (s *coalescingScheduler) AddRPC(p peer.ID, _ string, rpc *pubsub.RPC) {
	size := 0
	for _, m := range rpc.GetPublish() {
		size += len(m.GetData())
	}
	waiting, known := s.byPeer[p]
	if !known {
		s.peers = append(s.peers, p)
	}
	if s.room == nil {
		s.room = map[peer.ID]int{}
	}
	if last := len(waiting) - 1; last >= 0 && size <= s.room[p] && len(waiting[last].Publish) < coalescedRPCMessages {
		waiting[last].Publish = append(waiting[last].Publish, rpc.GetPublish()...)
		s.room[p] -= size
		return
	}
	// The router hands the same RPC to every peer of a message, so each peer's gets a list of its own.
	own := &pubsub.RPC{RPC: pb.RPC{Publish: slices.Clone(rpc.GetPublish())}}
	s.byPeer[p] = append(waiting, own)
	s.room[p] = coalescedRPCBytes - size
}

func (s *coalescingScheduler) All() iter.Seq2[peer.ID, *pubsub.RPC] {
	return func(yield func(peer.ID, *pubsub.RPC) bool) {
		defer s.outboxes.settle(s.notes)
		for _, p := range s.peers {
			for _, rpc := range s.byPeer[p] {
				if !yield(p, rpc) {
					return
				}
			}
		}
	}
}
