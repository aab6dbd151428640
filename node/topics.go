package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"peerbus/queue"
)

const (
	// topicOverhead is what a topic message carries besides its payload: signature, key, author, number and topic name.
	topicOverhead = 1024
	// maxTopics bounds the joined topics of a node.
	maxTopics = 4096
)

// topics runs publish/subscribe. A topic is joined by the first publish or subscribe; it stays joined after unsubscribing,
// so that publishing goes on, until room is needed for another.
type topics struct {
	node   *Node
	router *pubsub.PubSub
	tracer *topicTracer
	served rosterServer

	state struct {
		sync.Mutex
		joined     map[string]*topic
		rendezvous *rendezvous // of the subscribed rendezvous topic
	}
}

// topic is one joined topic; the lock of topics guards it.
type topic struct {
	name         channelName
	handle       *pubsub.Topic
	watcher      *pubsub.TopicEventHandler
	subscription *pubsub.Subscription // nil: not subscribed
	stop         context.CancelFunc   // ends the watcher

	// peers are the connected subscribers, as the watcher saw them: asking the router costs two thread switches.
	peers struct {
		sync.Mutex
		ids map[peer.ID]struct{}
	}
}

func (t *topic) note(e pubsub.PeerEvent) {
	t.peers.Lock()
	defer t.peers.Unlock()
	if e.Type == pubsub.PeerLeave {
		delete(t.peers.ids, e.Peer)
	} else {
		t.peers.ids[e.Peer] = struct{}{}
	}
}

func (t *topic) listPeers() []peer.ID {
	t.peers.Lock()
	defer t.peers.Unlock()
	return slices.Collect(maps.Keys(t.peers.ids))
}

func (t *topic) countPeers() int {
	t.peers.Lock()
	defer t.peers.Unlock()
	return len(t.peers.ids)
}

func newTopics(n *Node) *topics {
	t := &topics{node: n, tracer: newTopicTracer(n)}
	t.state.joined = map[string]*topic{}
	return t
}

// noDialHost keeps pubsub from dialling: a stream to a peer that was just disconnected must not bring it back, and peers that
// others name are dialled only with network.peer_exchange.
type noDialHost struct {
	host.Host
	node *Node
}

var errNoPeerExchange = errors.New("network.peer_exchange is off")

func (h noDialHost) Connect(ctx context.Context, info peer.AddrInfo) error {
	if !h.node.config.Network.PeerExchange || h.node.gate.refused(info.ID) {
		return errNoPeerExchange
	}
	return h.Host.Connect(ctx, info)
}

func (h noDialHost) NewStream(ctx context.Context, p peer.ID, ids ...protocol.ID) (network.Stream, error) {
	return h.Host.NewStream(network.WithNoDial(ctx, "pubsub"), p, ids...)
}

func (t *topics) start() error {
	limits := t.node.config.Limits
	options := []pubsub.Option{
		pubsub.WithMaxMessageSize(limits.MessageBytes + topicOverhead),
		pubsub.WithPeerOutboundQueueSize(limits.TopicMessages),
		pubsub.WithValidateQueueSize(limits.TopicMessages),
		pubsub.WithValidateThrottle(limits.TopicMessages),
		// Several workers would check the signatures of one publisher's messages side by side and swap their order.
		pubsub.WithValidateWorkers(1),
		pubsub.WithRawTracer(t.tracer),
	}
	options = append(options, t.node.found.topicOptions()...)
	var err error
	if t.node.config.Network.FloodSub {
		t.router, err = pubsub.NewFloodSub(t.node.ctx, noDialHost{t.node.host, t.node}, options...)
	} else {
		// Flood publishing sends own messages to every connected subscriber instead of waiting for the mesh to form.
		options = append(options, pubsub.WithFloodPublish(true), pubsub.WithPeerExchange(t.node.config.Network.PeerExchange))
		t.router, err = pubsub.NewGossipSub(t.node.ctx, noDialHost{t.node.host, t.node}, options...)
	}
	if err != nil {
		return fmt.Errorf("%w: starting publish/subscribe: %v", ErrInternal, err)
	}
	return nil
}

func parseTopic(channel string) (channelName, error) {
	name, err := parseChannel(channel)
	if err == nil && !name.topic {
		err = fmt.Errorf("%w: %q is a direct channel, a topic is <owner>%s<name>", ErrArgument, channel, topicMark)
	}
	return name, err
}

// joinLocked answers the topic, joining it when needed.
func (t *topics) joinLocked(name channelName) (*topic, error) {
	if known := t.state.joined[name.text]; known != nil {
		return known, nil
	}
	if len(t.state.joined) >= maxTopics && !t.leaveUnusedLocked() {
		return nil, fmt.Errorf("%w: %d topics are subscribed, at most %d are kept; unsubscribe some", ErrRefused, len(t.state.joined), maxTopics)
	}
	handle, err := t.router.Join(name.text)
	if err != nil {
		return nil, t.problem("joining", name, err)
	}
	watcher, err := handle.EventHandler()
	if err != nil {
		_ = handle.Close()
		return nil, t.problem("watching", name, err)
	}
	ctx, stop := context.WithCancel(t.node.ctx)
	joined := &topic{name: name, handle: handle, watcher: watcher, stop: stop}
	joined.peers.ids = map[peer.ID]struct{}{}
	for _, id := range handle.ListPeers() {
		joined.peers.ids[id] = struct{}{} // the watcher has yet to run
	}
	t.node.spawn("topic watcher", func() { t.watch(ctx, joined) })
	t.state.joined[name.text] = joined
	return joined, nil
}

// leaveUnusedLocked leaves one topic that nobody subscribes to.
func (t *topics) leaveUnusedLocked() bool {
	for text, joined := range t.state.joined {
		if joined.subscription == nil {
			joined.stop()
			joined.watcher.Cancel()
			_ = joined.handle.Close() // fails only with a subscription
			delete(t.state.joined, text)
			return true
		}
	}
	return false
}

func (t *topics) problem(doing string, name channelName, err error) error {
	if t.node.ctx.Err() != nil {
		return ErrClosed
	}
	return fmt.Errorf("%w: %s topic %q: %v", ErrInternal, doing, name.text, err)
}

// watch reports who joins and leaves the topic.
func (t *topics) watch(ctx context.Context, joined *topic) {
	for {
		e, err := joined.watcher.NextPeerEvent(ctx)
		if err != nil {
			return
		}
		joined.note(e)
		kind := EventTopicPeerJoined
		if e.Type == pubsub.PeerLeave {
			kind = EventTopicPeerLeft
		}
		t.node.events.Push(kind, map[string]any{"channel": joined.name.text, "peer": e.Peer.String()})
	}
}

// Subscribe starts receiving a topic. Idempotent.
func (n *Node) Subscribe(channel string) error {
	name, err := parseTopic(channel)
	if err != nil {
		return err
	}
	t := n.topics
	if owner, err := peer.Decode(name.owner); err == nil && name.rendezvous() {
		defer n.fetchFrom(owner) // after the lock is given back
	}
	t.state.Lock()
	defer t.state.Unlock()
	if known := t.state.joined[name.text]; known != nil && known.subscription != nil {
		return nil
	}
	if name.rendezvous() {
		if err := t.enterRendezvousLocked(name); err != nil {
			return err
		}
	}
	joined, err := t.joinLocked(name)
	if err != nil {
		return err
	}
	subscription, err := joined.handle.Subscribe(pubsub.WithBufferSize(n.config.Limits.TopicMessages))
	if err != nil {
		return t.problem("subscribing to", name, err)
	}
	joined.subscription = subscription
	n.spawn("topic reader", func() { t.read(joined, subscription) })
	return nil
}

// Unsubscribe stops receiving a topic. Idempotent; publishing on it goes on.
func (n *Node) Unsubscribe(channel string) error {
	name, err := parseTopic(channel)
	if err != nil {
		return err
	}
	n.topics.state.Lock()
	defer n.topics.state.Unlock()
	n.topics.unsubscribeLocked(name)
	return nil
}

func (t *topics) unsubscribeLocked(name channelName) {
	if known := t.state.joined[name.text]; known != nil && known.subscription != nil {
		known.subscription.Cancel()
		known.subscription = nil
	}
	if name.rendezvous() {
		t.leaveRendezvousLocked(name)
	}
}

// read moves a subscription into the receive queue. The rendezvous topic's validator has stored its messages already.
func (t *topics) read(joined *topic, subscription *pubsub.Subscription) {
	for {
		message, err := subscription.Next(t.node.ctx)
		if err != nil {
			return
		}
		if joined.name.rendezvous() || message.GetFrom() == t.node.id {
			continue
		}
		from := message.GetFrom().String()
		known, reason := t.node.judge(from, joined.name.text, message.Data)
		if reason != "" {
			t.node.losses.add(directionIn, reason, joined.name.text, from, 1)
			continue
		}
		// A topic's policy never blocks; the queue counts and reports what it drops.
		_ = t.node.queue.Put(t.node.ctx, queue.Message{
			From:     from,
			Channel:  joined.name.text,
			Protocol: t.tracer.protocolOf(message.ReceivedFrom),
			Data:     t.node.ownPayload(message.Data),
			Verdict:  known,
		}, 0)
	}
}

// ownPayload moves a payload that lies on the Go heap to where payloads of its size belong.
func (n *Node) ownPayload(payload []byte) []byte {
	if len(payload) < LargePayload {
		return payload
	}
	owned := n.memory.Get(len(payload))
	copy(owned, payload)
	return owned
}

// Publish sends one message on a topic and answers the number of connected subscribers at that moment.
func (n *Node) Publish(ctx context.Context, channel string, payload []byte) (int, error) {
	name, err := parseTopic(channel)
	if err != nil {
		return 0, err
	}
	if len(payload) > n.config.Limits.MessageBytes {
		return 0, fmt.Errorf("%w: %d bytes, limits.message_bytes is %d", ErrTooLarge, len(payload), n.config.Limits.MessageBytes)
	}
	joined, err := n.topics.forPublishing(name)
	if err != nil {
		return 0, err
	}
	reached := joined.countPeers()
	ctx, cancel := n.bind(ctx)
	defer cancel()
	// The router keeps the payload; the caller may reuse its own.
	if err := joined.handle.Publish(ctx, slices.Clone(payload)); err != nil {
		return 0, n.publishError(ctx, name, err)
	}
	n.traffic.publishedMessages.Add(1)
	n.traffic.publishedBytes.Add(uint64(len(payload)))
	if reached == 0 {
		n.losses.add(directionOut, lossNoPeers, name.text, "", 1)
	}
	return reached, nil
}

func (t *topics) forPublishing(name channelName) (*topic, error) {
	t.state.Lock()
	defer t.state.Unlock()
	if name.rendezvous() {
		if err := t.guardRendezvousLocked(name); err != nil {
			return nil, err
		}
	}
	return t.joinLocked(name)
}

func (n *Node) publishError(ctx context.Context, name channelName, err error) error {
	if ctx.Err() != nil {
		return contextError(ctx, "publishing on "+name.text)
	}
	if _, invalid := err.(pubsub.ValidationError); invalid {
		return fmt.Errorf("%w: topic %q takes only valid rendezvous lists from its owner or a master: %v", ErrArgument, name.text, err)
	}
	return n.topics.problem("publishing on", name, err)
}

// TopicPeers lists the connected peers that subscribe to any joined topic, each once.
func (n *Node) TopicPeers() []string {
	t := n.topics
	t.state.Lock()
	ids := []string{}
	for _, joined := range t.state.joined {
		for _, id := range joined.listPeers() {
			ids = append(ids, id.String())
		}
	}
	t.state.Unlock()
	slices.Sort(ids)
	return slices.Compact(ids)
}

// close ends the subscriptions; their readers and the watchers end with the node's context.
func (t *topics) close() {
	t.state.Lock()
	defer t.state.Unlock()
	for _, joined := range t.state.joined {
		if joined.subscription != nil {
			joined.subscription.Cancel()
		}
		joined.stop()
	}
}
