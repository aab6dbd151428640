package node

import (
	"sync"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// topicTracer counts what pubsub drops without an error: full peer queues, full validation queues, full subscriptions.
// pubsub calls it from its event loop, so it never blocks.
type topicTracer struct {
	node     *Node
	outboxes *topicOutboxes
	peers    struct {
		sync.RWMutex
		protocol map[peer.ID]string
	}
}

func newTopicTracer(n *Node, outboxes *topicOutboxes) *topicTracer {
	t := &topicTracer{node: n, outboxes: outboxes}
	t.peers.protocol = map[peer.ID]string{}
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
	defer t.peers.Unlock()
	t.peers.protocol[p] = string(proto)
}

func (t *topicTracer) OnClosedOutboundStream(p peer.ID) {
	t.outboxes.ended(p)
	t.peers.Lock()
	defer t.peers.Unlock()
	delete(t.peers.protocol, p)
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

// UndeliverableMessage: the subscription's buffer was full. Own messages would not have been delivered anyway.
func (t *topicTracer) UndeliverableMessage(message *pubsub.Message) {
	if message.GetFrom() == t.node.id {
		return
	}
	t.node.losses.add(directionIn, lossQueueFull, message.GetTopic(), message.GetFrom().String(), 1)
}

// SendRPC: pubsub has put an RPC into the peer's queue.
func (t *topicTracer) SendRPC(rpc *pubsub.RPC, p peer.ID) { t.outboxes.queued(p, rpc) }

func (t *topicTracer) Join(string)                      {}
func (t *topicTracer) Leave(string)                     {}
func (t *topicTracer) Graft(peer.ID, string)            {}
func (t *topicTracer) Prune(peer.ID, string)            {}
func (t *topicTracer) ValidateMessage(*pubsub.Message)  {}
func (t *topicTracer) DeliverMessage(*pubsub.Message)   {}
func (t *topicTracer) DuplicateMessage(*pubsub.Message) {}
func (t *topicTracer) ThrottlePeer(peer.ID)             {}
func (t *topicTracer) RecvRPC(*pubsub.RPC)              {}
