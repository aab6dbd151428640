package node

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"peerbus/node/signatures"
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
	node     *Node
	router   *pubsub.PubSub
	key      crypto.PrivKey // of the node
	tracer   *topicTracer
	verifier *topicVerifier
	served   rosterServer
	outboxes *topicOutboxes
	moves    *topicMoves
	burst    *topicBurst
	scores   *topicScores
	direct   *directTopics
	authors  *authorNumbers // of gossip

	state struct {
		sync.Mutex
		joined     map[string]*topic
		guarded    map[string]*guardSlot // of topics with rules
		rendezvous *rendezvous           // of the subscribed rendezvous topic
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
		ids     map[peer.ID]struct{}
		changed chan struct{} // closed and replaced when one joins or leaves
	}
	announcing atomic.Bool // a goroutine waits to raise the writable event
	numbers    *authorNumbers
}

// note puts a subscriber in or out.
func (t *topic) note(id peer.ID, subscribed bool) {
	t.peers.Lock()
	defer t.peers.Unlock()
	if subscribed {
		t.peers.ids[id] = struct{}{}
	} else {
		delete(t.peers.ids, id)
	}
	close(t.peers.changed)
	t.peers.changed = make(chan struct{})
}

func (t *topic) hasPeer(id peer.ID) bool {
	t.peers.Lock()
	defer t.peers.Unlock()
	_, has := t.peers.ids[id]
	return has
}

// counted answers the number of connected subscribers, and a channel that is closed when it changes.
func (t *topic) counted() (int, <-chan struct{}) {
	t.peers.Lock()
	defer t.peers.Unlock()
	return len(t.peers.ids), t.peers.changed
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
	t := &topics{node: n, outboxes: newTopicOutboxes(n), moves: newTopicMoves(n), scores: &topicScores{node: n}, direct: newDirectTopics(n), authors: newAuthorNumbers()}
	t.verifier = newTopicVerifier(n)
	t.tracer = newTopicTracer(n, t.outboxes, t.verifier)
	t.burst = &topicBurst{topics: t}
	t.state.joined = map[string]*topic{}
	t.state.guarded = map[string]*guardSlot{}
	return t
}

func (t *topics) start() error {
	limits := t.node.config.Limits
	t.key = signatures.Signer(t.node.host.Peerstore().PrivKey(t.node.host.ID()))
	options := []pubsub.Option{
		pubsub.WithMaxMessageSize(limits.MessageBytes + topicOverhead),
		pubsub.WithPeerOutboundQueueSize(limits.TopicMessages),
		pubsub.WithValidateQueueSize(limits.TopicMessages),
		pubsub.WithValidateThrottle(limits.TopicMessages),
		// Several workers would check the signatures of one publisher's messages side by side and swap their order.
		pubsub.WithValidateWorkers(1),
		pubsub.WithRawTracer(t.tracer),
		pubsub.WithMessageIdFn(t.verifier.messageID),
	}
	options = append(options, t.node.found.topicOptions()...)
	var err error
	if t.node.config.Network.FloodSub {
		t.router, err = pubsub.NewFloodSub(t.node.ctx, topicHost{t.node.host, t.node}, options...)
	} else {
		// Flood publishing sends own messages to every connected subscriber instead of waiting for the mesh to form.
		options = append(options, pubsub.WithFloodPublish(true), pubsub.WithPeerExchange(t.node.config.Network.PeerExchange))
		if t.node.config.Topics.PeerScoring {
			options = append(options, t.scores.options()...)
		}
		t.router, err = pubsub.NewGossipSub(t.node.ctx, topicHost{t.node.host, t.node}, options...)
	}
	if err != nil {
		return fmt.Errorf("%w: starting publish/subscribe: %v", ErrInternal, err)
	}
	return nil
}

// protocols are those that the router will speak.
func (t *topics) protocols() []protocol.ID {
	if t.node.config.Network.FloodSub {
		return []protocol.ID{pubsub.FloodSubID}
	}
	return slices.Clone(pubsub.GossipSubDefaultProtocols)
}

func parseTopic(channel string) (channelName, error) {
	name, err := parseChannel(channel)
	if err == nil && strings.HasPrefix(channel, directAnnouncement) {
		err = fmt.Errorf("%w: names of topics cannot begin with %q", ErrArgument, directAnnouncement)
	}
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
	if err := t.scoreLocked(handle); err != nil {
		_ = handle.Close()
		return nil, t.problem("scoring", name, err)
	}
	watcher, err := handle.EventHandler()
	if err != nil {
		_ = handle.Close()
		return nil, t.problem("watching", name, err)
	}
	ctx, stop := context.WithCancel(t.node.ctx)
	joined := &topic{name: name, handle: handle, watcher: watcher, stop: stop, numbers: newAuthorNumbers()}
	joined.peers.ids = map[peer.ID]struct{}{}
	joined.peers.changed = make(chan struct{})
	for _, id := range handle.ListPeers() { // the watcher has yet to run
		if t.tracer.reaches(id) {
			joined.peers.ids[id] = struct{}{}
		}
	}
	t.node.spawn("topic watcher", func() { t.watch(ctx, joined) })
	t.state.joined[name.text] = joined
	return joined, nil
}

func (t *topics) scoreLocked(handle *pubsub.Topic) error {
	if t.node.config.Network.FloodSub || !t.node.config.Topics.PeerScoring {
		return nil
	}
	return handle.SetScoreParams(topicScoring())
}

// leaveUnusedLocked leaves one topic that nobody subscribes to.
func (t *topics) leaveUnusedLocked() bool {
	for text, joined := range t.state.joined {
		if joined.subscription == nil {
			t.leaveLocked(text)
			return true
		}
	}
	return false
}

// leaveLocked leaves a topic that nobody subscribes to, if it is joined.
func (t *topics) leaveLocked(text string) {
	joined := t.state.joined[text]
	if joined == nil {
		return
	}
	joined.stop()
	joined.watcher.Cancel()
	_ = joined.handle.Close() // fails only with a subscription
	delete(t.state.joined, text)
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
		switch {
		case e.Type == pubsub.PeerJoin && !t.tracer.early(e.Peer, joined):
			t.joinedBy(joined, e.Peer)
		case e.Type == pubsub.PeerLeave && !t.tracer.forgetEarly(e.Peer, joined):
			joined.note(e.Peer, false)
			t.node.events.Push(EventTopicPeerLeft, map[string]any{"channel": joined.name.text, "peer": e.Peer.String()})
		}
	}
}

// joinedBy reports a subscriber that published messages reach from now on.
func (t *topics) joinedBy(joined *topic, id peer.ID) {
	joined.note(id, true)
	t.node.events.Push(EventTopicPeerJoined, map[string]any{"channel": joined.name.text, "peer": id.String()})
}

// Subscribe starts receiving a topic. Idempotent.
func (n *Node) Subscribe(channel string) error {
	name, err := parseTopic(channel)
	if err != nil {
		return err
	}
	t := n.topics
	if d := t.direct.find(name.text); d != nil {
		return d.subscribe()
	}
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
	inbox := &topicInbox{topics: t, joined: joined}
	subscription, err := joined.handle.Subscribe(pubsub.WithMessageFilter(inbox.accept))
	if err != nil {
		return t.problem("subscribing to", name, err)
	}
	joined.subscription = subscription
	return nil
}

// Unsubscribe stops receiving a topic. Idempotent; publishing on it goes on.
func (n *Node) Unsubscribe(channel string) error {
	name, err := parseTopic(channel)
	if err != nil {
		return err
	}
	if d := n.topics.direct.find(name.text); d != nil {
		d.unsubscribe()
		return nil
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

// ownPayload moves a payload that lies on the Go heap to where payloads of its size belong.
func (n *Node) ownPayload(payload []byte) []byte {
	if len(payload) < LargePayload {
		return payload
	}
	owned := n.memory.Get(len(payload))
	copy(owned, payload)
	return owned
}

// limitedPeers counts the application peers whose only connections are relayed ones with limits: pub/sub leaves those out.
func (n *Node) limitedPeers() int {
	count := 0
	for _, p := range n.peers.list() {
		if id, err := peer.Decode(p.ID); err == nil && n.host.Network().Connectedness(id) == network.Limited {
			count++
		}
	}
	return count
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

// WaitForTopicPeers waits until at least count connected peers subscribe to the topic, joining it when needed. It answers
// how many do.
func (n *Node) WaitForTopicPeers(ctx context.Context, channel string, count int) (int, error) {
	name, err := parseTopic(channel)
	if err != nil {
		return 0, err
	}
	counted, err := n.topics.subscriberCount(name)
	if err != nil {
		return 0, err
	}
	ctx, cancel := n.bind(ctx)
	defer cancel()
	for {
		peers, changed := counted()
		if peers >= count {
			return peers, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return peers, contextError(ctx, fmt.Sprintf("waiting for %d subscribers of %q, %d are connected", count, name.text, peers))
		}
	}
}

// subscriberCount answers what counts the connected subscribers of a topic and tells when that changes.
func (t *topics) subscriberCount(name channelName) (func() (int, <-chan struct{}), error) {
	if d := t.direct.find(name.text); d != nil {
		return d.counted, nil
	}
	joined, err := t.forPublishing(name)
	if err != nil {
		return nil, err
	}
	return joined.counted, nil
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
	for _, d := range t.direct.all() {
		for _, s := range d.present() {
			ids = append(ids, s.id.String())
		}
	}
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
