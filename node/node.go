// Package node runs one libp2p host and what belongs to it: direct message channels, topics, the rendezvous list, the table
// of application peers, events and counters.
//
// What it guarantees
//   - A message that Send took leaves through the transport, or is counted in the losses with a messages_lost event. A
//     message that a peer sent is in the receive queue, or is counted the same way.
//   - A peer that stalls holds up only itself: each has its own outboxes, writer and streams (link.go).
//   - Every wait has a deadline or ends with a context; Close ends all of them and returns when every goroutine that this
//     package started has ended.
//   - Memory follows bytes that arrived, never a length that a peer claims.
//
// Life of a node; Close is allowed in every state and idempotent:
//
//	New --fails--> nothing left behind
//	 |
//	running --panic--> failed (calls answer ErrInternal)
//	 |                   |
//	 +------- Close -----+--> draining (takes no more sends) --> closed
//
// Contexts form a tree: node > link (one peer) > stream.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"

	"peerbus/node/session"
	"peerbus/queue"
)

const (
	// closeDrainTimeout is how long Close lets taken messages leave.
	closeDrainTimeout = 2 * time.Second
	// closeTimeout bounds all of Close.
	closeTimeout = 10 * time.Second
)

// Options are what the surroundings give to a node.
type Options struct {
	Config      Config
	Version     string                                      // of the library, for the libp2p user agent
	Log         *slog.Logger                                // nil: discard
	Memory      Memory                                      // nil: the Go heap
	WakeMessage func(readable bool)                         // see queue.Options.Wake; nil: nobody
	WakeEvent   func(readable bool)                         // see NewEvents; nil: nobody
	Panicked    func(where string, value any, stack []byte) // after a recovered panic; nil: nobody

	// CertificateCheck is how often certificates are looked at for renewal. 0: the defaults, 5 s for files, 10 min for
	// automatic ones.
	CertificateCheck time.Duration

	tune func(*Node) // tests: before the start
}

// Node is one running libp2p host.
type Node struct {
	id      peer.ID
	config  Config
	version string
	log     *slog.Logger
	memory  Memory

	host    host.Host
	tcp     *tcpTransport // of host
	gate    *gate
	guard   guardHolder
	queue   *queue.Queue
	events  *Events
	losses  *losses
	peers   *peerTable
	links   *links
	topics  *topics
	reach   *reachability
	relays  *relays
	relay   *relayService
	found   *discovery
	webrtc  *webrtcSessions
	punches *punches
	parts   diagnosisParts
	autonat *autonat             // nil: libp2p judges, or nobody
	mapping basichost.NATManager // nil: no port mapping

	certificates     certificates
	certificateCheck time.Duration // of Options

	outbounds *outbounds
	inbounds  *inbounds
	attention attention
	durables  *durables
	frames    *frameBuffers
	bulk      *bulkTurns

	announced struct {
		sync.Mutex
		started   bool
		addresses []string
	}
	writeTimeout time.Duration // writeTimeout, but in tests

	traffic  traffic
	panicked func(where string, value any, stack []byte)
	failed   atomic.Pointer[string]

	ctx    context.Context
	cancel context.CancelCauseFunc
	tasks  struct {
		sync.Mutex
		running int
		closed  bool
		empty   chan struct{} // closed when closed and running is 0
	}
	closeOnce sync.Once
	closeErr  error
}

// New starts a node. When it fails nothing is left behind. ctx bounds the start and the wait for a reachability verdict.
func New(ctx context.Context, o Options) (*Node, error) {
	n := newNode(o)
	if o.tune != nil {
		o.tune(n)
	}
	if err := n.start(); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	n.reach.wait(ctx, o.Config.Network.ReachabilityTimeout)
	return n, nil
}

func newNode(o Options) *Node {
	n := &Node{config: o.Config, version: o.Version, log: o.Log, memory: o.Memory, panicked: o.Panicked, writeTimeout: writeTimeout}
	if n.log == nil {
		n.log = slog.New(slog.DiscardHandler)
	}
	if n.memory == nil {
		n.memory = heapMemory{}
	}
	n.certificateCheck = o.CertificateCheck
	n.ctx, n.cancel = context.WithCancelCause(context.Background())
	n.tasks.empty = make(chan struct{})
	n.events = NewEvents(o.Config.Limits.Events, o.WakeEvent)
	n.losses = newLosses(n.events, n.run)
	n.queue = n.newQueue(o.WakeMessage)
	n.gate = newGate(n)
	n.peers = newPeerTable(n)
	n.links = newLinks(n)
	n.outbounds = newOutbounds(n)
	n.inbounds = newInbounds(n)
	n.durables = newDurables(n)
	n.frames = newFrameBuffers(n.memory)
	n.bulk = &bulkTurns{limit: n.config.Limits.BulkSends}
	n.topics = newTopics(n)
	n.relays = newRelays(n)
	n.punches = newPunches(n)
	n.relay = newRelayService(n)
	n.reach = newReachability(n)
	n.found = newDiscovery(n)
	n.webrtc = newWebRTCSessions(n)
	return n
}

func (n *Node) newQueue(wake func(bool)) *queue.Queue {
	limits := n.config.Limits
	return queue.New(queue.Options{
		Limits: queue.Limits{
			Channels:        limits.Channels,
			PeerChannels:    limits.PeerChannels,
			ChannelMessages: limits.ChannelMessages,
			ChannelBytes:    limits.ChannelBytes,
			PeerBytes:       limits.PeerQueueBytes,
			Bytes:           limits.QueueBytes,
		},
		Policy: n.defaultPolicy,
		Lost: func(loss queue.Loss) {
			n.losses.add(directionIn, string(loss.Reason), loss.Channel, loss.From, loss.Count)
		},
		Free: func(payload []byte) { freePayload(n.memory, payload) },
		Wake: wake,
	})
}

func (n *Node) start() error {
	key, err := LoadIdentity(n.config.IdentityDir)
	if err != nil {
		return err
	}
	if n.id, err = peer.IDFromPrivateKey(key); err != nil {
		return fmt.Errorf("%w: %v", ErrIdentity, err)
	}
	if err := n.durables.start(key); err != nil {
		return err
	}
	if n.certificates, err = newCertificates(n); err != nil {
		return err
	}
	if n.host, err = n.newHost(key); err != nil {
		return err
	}
	n.host.Network().Notify(n.peers.notifiee())
	// The handlers stand before the first listener: isolated nodes of the existing network expel a peer at identify that
	// does not speak chat.
	n.handle(ChatProtocol, n.acceptChat)
	if n.config.Channel.Acknowledged {
		n.handle(session.Protocol, n.acceptChannel)
	}
	n.handle(HelloProtocol, n.acceptHello)
	n.handle(RendezvousProtocol, n.acceptFetch)
	n.handle(TopicMoveProtocol, n.topics.moves.accept)
	if err := n.topics.start(); err != nil {
		return err
	}
	if err := n.relays.start(); err != nil {
		return err
	}
	n.registerParts()
	if err := n.webrtc.start(); err != nil {
		return err
	}
	n.punches.start()
	if err := n.startAutoNAT(); err != nil {
		return err
	}
	if err := n.watchBus(); err != nil {
		return err
	}
	if err := n.listen(); err != nil {
		return err
	}
	n.relay.follow(n.reach.get())
	n.startAnnouncing()
	n.watchMappings()
	n.certificates.start()
	n.relays.useConfigured()
	n.durables.resume()
	return n.found.start()
}

// handle serves a protocol; the handler's panics fail this node only.
func (n *Node) handle(id protocol.ID, serve func(network.Stream)) {
	n.host.SetStreamHandler(id, func(s network.Stream) {
		if !n.run("handler of "+string(id), func() { serve(s) }) {
			_ = s.Reset()
		}
	})
}

// spawn runs f in a goroutine of this node. It answers false, and runs nothing, once the node has closed.
func (n *Node) spawn(name string, f func()) bool {
	if !n.begin() {
		return false
	}
	go func() {
		defer n.end()
		defer n.recoverPanic(name)
		f()
	}()
	return true
}

// Spawn runs f in a goroutine that Close waits for. It answers false, and runs nothing, once the node has closed.
func (n *Node) Spawn(name string, f func()) bool { return n.spawn(name, f) }

// run is spawn on the caller's goroutine.
func (n *Node) run(name string, f func()) bool {
	if !n.begin() {
		return false
	}
	defer n.end()
	defer n.recoverPanic(name)
	f()
	return true
}

func (n *Node) begin() bool {
	n.tasks.Lock()
	defer n.tasks.Unlock()
	if n.tasks.closed {
		return false
	}
	n.tasks.running++
	return true
}

func (n *Node) end() {
	n.tasks.Lock()
	defer n.tasks.Unlock()
	n.tasks.running--
	if n.tasks.closed && n.tasks.running == 0 {
		close(n.tasks.empty)
	}
}

func (n *Node) recoverPanic(where string) {
	if value := recover(); value != nil {
		n.Fail(where, value, debug.Stack())
	}
}

// Fail marks the node failed after a panic: its calls answer ErrInternal from then on.
func (n *Node) Fail(where string, value any, stack []byte) {
	if n.failed.CompareAndSwap(nil, &where) {
		n.events.PushMust(EventNodeFailed, map[string]any{"function": where})
	}
	n.log.Error("panic", "where", where, "value", value, "stack", string(stack))
	if n.panicked != nil {
		n.panicked(where, value, stack)
	}
}

// Usable answers why the node takes no calls, if so.
func (n *Node) Usable() error {
	if where := n.failed.Load(); where != nil {
		return fmt.Errorf("%w: the node failed in %s; close it and create it anew", ErrInternal, *where)
	}
	if n.ctx.Err() != nil {
		return ErrClosed
	}
	return nil
}

// Close drains and ends everything. It returns within closeTimeout; an error says what did not end in time.
func (n *Node) Close() error {
	n.closeOnce.Do(func() { n.closeErr = n.close() })
	return n.closeErr
}

func (n *Node) close() error {
	deadline := time.NewTimer(closeTimeout)
	defer deadline.Stop()
	n.topics.direct.leave()
	var channels sync.WaitGroup
	channels.Go(func() {
		defer n.recoverPanic("closing channels")
		n.outbounds.close(closeDrainTimeout)
	})
	channels.Go(func() {
		defer n.recoverPanic("closing topics")
		n.topics.burst.flush()
		n.topics.outboxes.close(closeDrainTimeout)
	})
	n.links.close(closeDrainTimeout)
	channels.Wait()
	n.webrtc.close()
	n.cancel(ErrClosed)
	n.inbounds.close(goodbyeTimeout)
	n.tasks.Lock()
	n.tasks.closed = true
	if n.tasks.running == 0 {
		close(n.tasks.empty)
	}
	n.tasks.Unlock()
	n.queue.Close()
	n.durables.close()

	problem := n.awaitEnd(deadline.C)
	n.topics.burst.flush()
	n.topics.outboxes.endAll()
	n.peers.close()
	n.losses.close()
	n.events.Close()
	return problem
}

// awaitEnd closes the host and waits for the node's goroutines.
func (n *Node) awaitEnd(deadline <-chan time.Time) error {
	hostClosed := make(chan error, 1)
	go func() {
		defer n.recoverPanic("closing the host")
		hostClosed <- n.closeHost()
	}()
	var problem error
	select {
	case problem = <-hostClosed:
	case <-deadline:
		return fmt.Errorf("%w: the host did not close within %s", ErrTimeout, closeTimeout)
	}
	select {
	case <-n.tasks.empty:
		return problem
	case <-deadline:
		return fmt.Errorf("%w: tasks of the node did not end within %s", ErrTimeout, closeTimeout)
	}
}

func (n *Node) closeHost() error {
	n.topics.close()
	n.found.close()
	n.certificates.close()
	if n.host == nil {
		return nil
	}
	n.autonat.close()
	n.punches.close()
	n.relay.close()
	n.relays.close()
	return n.host.Close()
}

// ID is the node's peer id.
func (n *Node) ID() peer.ID { return n.id }

// Config is the configuration the node runs with.
func (n *Node) Config() Config { return n.config }

// Events is the node's event queue.
func (n *Node) Events() *Events { return n.events }

// Queue is the node's receive queue.
func (n *Node) Queue() *queue.Queue { return n.queue }

// Context ends, with cause ErrClosed, when the node closes.
func (n *Node) Context() context.Context { return n.ctx }

// SetPolicy chooses what happens when the channel's receive queue is full.
func (n *Node) SetPolicy(channel string, policy queue.Policy) error {
	if err := CheckChannel(channel); err != nil {
		return err
	}
	n.queue.SetPolicy(channel, policy)
	return nil
}

// FreeTaken gives back the payloads of messages that were taken from the queue and copied.
func (n *Node) FreeTaken(messages []queue.Message) {
	for i := range messages {
		freeMessage(n.memory, &messages[i])
	}
}

// LoseTaken counts messages that were taken from the queue and could not be handed over.
func (n *Node) LoseTaken(messages []queue.Message) {
	for _, m := range messages {
		n.losses.add(directionIn, lossNoMemory, m.Channel, m.From, 1)
	}
	n.FreeTaken(messages)
}
