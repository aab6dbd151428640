package node

import (
	"slices"
	"strings"
	"sync"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// topicTracer counts what pubsub drops without an error: full peer queues and full validation queues.
// pubsub calls it from its event loop, so it never blocks.
type topicTracer struct {
	node     *Node
	outboxes *topicOutboxes
	verifier *topicVerifier
	peers    struct {
		sync.RWMutex
		protocol map[peer.ID]string   // of peers that pubsub has a stream to
		early    map[peer.ID][]*topic // what peers that it has none to yet subscribe to
	}
}

func newTopicTracer(n *Node, outboxes *topicOutboxes, verifier *topicVerifier) *topicTracer {
	t := &topicTracer{node: n, outboxes: outboxes, verifier: verifier}
	t.peers.protocol = map[peer.ID]string{}
	t.peers.early = map[peer.ID][]*topic{}
	return t
}

// protocolOf is the pubsub protocol spoken with the peer that forwarded a message.
func (t *topicTracer) protocolOf(id peer.ID) string {
	t.peers.RLock()
	defer t.peers.RUnlock()
	if known := t.peers.protocol[id]; known != "" {
		return known
	}
	return string(pubsub.GossipSubID_v11)
}

func (t *topicTracer) OnNewOutboundStream(p peer.ID, proto protocol.ID) {
	t.peers.Lock()
	t.peers.protocol[p] = string(proto)
	early := t.peers.early[p]
	delete(t.peers.early, p)
	t.peers.Unlock()
	for _, subscribed := range early {
		t.node.topics.joinedBy(subscribed, p)
	}
}

func (t *topicTracer) OnClosedOutboundStream(p peer.ID) {
	t.outboxes.ended(p)
	t.node.topics.moves.forgotten(p)
	t.peers.Lock()
	defer t.peers.Unlock()
	delete(t.peers.protocol, p)
}

// reaches tells whether pubsub has a stream to the peer.
func (t *topicTracer) reaches(p peer.ID) bool {
	t.peers.RLock()
	defer t.peers.RUnlock()
	return t.peers.protocol[p] != ""
}

// early answers whether the peer subscribed before pubsub has a stream to it, until when it would drop what is published.
// If so, the stream's opening reports the subscription.
func (t *topicTracer) early(p peer.ID, subscribed *topic) bool {
	t.peers.Lock()
	defer t.peers.Unlock()
	if t.peers.protocol[p] != "" {
		return false
	}
	t.peers.early[p] = append(t.peers.early[p], subscribed)
	return true
}

// forgetEarly is for a subscription that ended before the stream opened. It answers whether that was so.
func (t *topicTracer) forgetEarly(p peer.ID, left *topic) bool {
	t.peers.Lock()
	defer t.peers.Unlock()
	before := len(t.peers.early[p])
	rest := slices.DeleteFunc(t.peers.early[p], func(other *topic) bool { return other == left })
	if t.peers.early[p] = rest; len(rest) == 0 {
		delete(t.peers.early, p)
	}
	return len(rest) < before
}

// RecvRPC tells direct topics which subscribers took their announcements back: the end of a stream does not mean that.
func (t *topicTracer) RecvRPC(rpc *pubsub.RPC) {
	t.verifier.begin()
	for _, s := range rpc.GetSubscriptions() {
		if name, found := strings.CutPrefix(s.GetTopicid(), directAnnouncement); found {
			if d := t.node.topics.direct.find(name); d != nil {
				d.heard(rpc.From(), s.GetSubscribe())
			}
		}
	}
}

// DropRPC counts the messages in an RPC that found the peer's queue full; control messages are no loss.
func (t *topicTracer) DropRPC(rpc *pubsub.RPC, p peer.ID) {
	t.outboxes.handled(rpc)
	for _, message := range rpc.GetPublish() {
		t.node.losses.add(directionOut, lossSendQueueFull, message.GetTopic(), p.String(), 1)
	}
}

// rejections maps pubsub's reasons to those of GEN-02. What a validator ignored or rejected it has counted itself.
var rejections = map[string]string{
	pubsub.RejectValidationQueueFull: lossQueueFull,
	pubsub.RejectValidationThrottled: lossQueueFull,
	pubsub.RejectMissingSignature:    lossSenderMismatch,
	pubsub.RejectInvalidSignature:    lossSenderMismatch,
	pubsub.RejectUnexpectedSignature: lossSenderMismatch,
	pubsub.RejectUnexpectedAuthInfo:  lossSenderMismatch,
	pubsub.RejectBlacklstedPeer:      lossBanned,
	pubsub.RejectBlacklistedSource:   lossBanned,
}

func (t *topicTracer) RejectMessage(message *pubsub.Message, reason string) {
	if mapped, isLoss := rejections[reason]; isLoss && message.GetFrom() != t.node.id {
		t.node.losses.add(directionIn, mapped, message.GetTopic(), message.ReceivedFrom.String(), 1)
	}
}

// ValidateMessage: pubsub's validators are next. Without any it does not say so.
func (t *topicTracer) ValidateMessage(message *pubsub.Message) { putSignatureBack(message.Message) }

// DeliverMessage: subscriptions and other peers are next.
func (t *topicTracer) DeliverMessage(message *pubsub.Message) { putSignatureBack(message.Message) }

// SendRPC: pubsub has put an RPC into the peer's queue.
func (t *topicTracer) SendRPC(rpc *pubsub.RPC, p peer.ID) { t.outboxes.queued(p, rpc) }

func (t *topicTracer) Join(string)                      {}
func (t *topicTracer) Leave(string)                     {}
func (t *topicTracer) Graft(peer.ID, string)            {}
func (t *topicTracer) Prune(peer.ID, string)            {}
func (t *topicTracer) DuplicateMessage(*pubsub.Message) {}
func (t *topicTracer) ThrottlePeer(peer.ID)             {}

// UndeliverableMessage: no message enters the channel of a subscription, whose filter takes them all.
func (t *topicTracer) UndeliverableMessage(*pubsub.Message) {}
