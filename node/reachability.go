package node

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
)

// busBuffer is how many events of the libp2p bus wait for this package.
const busBuffer = 256

// Reachability texts.
const (
	ReachUnknown = "unknown"
	ReachPublic  = "public"
	ReachPrivate = "private"
)

// reachability keeps the last verdict. An unknown verdict keeps the one before (P2P-10).
type reachability struct {
	node  *Node
	state struct {
		sync.Mutex
		verdict string
		first   chan struct{} // closed at the first verdict
		changed chan struct{} // closed and replaced at each change
	}
}

func newReachability(n *Node) *reachability {
	r := &reachability{node: n}
	r.state.verdict = ReachUnknown
	r.state.first = make(chan struct{})
	r.state.changed = make(chan struct{})
	if n.config.Network.ForcePublic {
		r.set(ReachPublic)
	}
	return r
}

// decided is closed at the first verdict.
func (r *reachability) decided() <-chan struct{} { return r.state.first }

func (r *reachability) get() string {
	r.state.Lock()
	defer r.state.Unlock()
	return r.state.verdict
}

// watch answers the last verdict and a channel that is closed when another one comes.
func (r *reachability) watch() (verdict string, changed <-chan struct{}) {
	r.state.Lock()
	defer r.state.Unlock()
	return r.state.verdict, r.state.changed
}

func (r *reachability) set(verdict string) {
	r.state.Lock()
	defer r.state.Unlock()
	if verdict == r.state.verdict || verdict == ReachUnknown {
		return
	}
	if r.state.verdict == ReachUnknown {
		close(r.state.first)
	}
	r.state.verdict = verdict
	close(r.state.changed)
	r.state.changed = make(chan struct{})
	r.node.events.Push(EventReachability, map[string]any{"reachability": verdict})
}

// wait blocks until the first verdict, the timeout or the end of ctx.
func (r *reachability) wait(ctx context.Context, timeout time.Duration) {
	if timeout <= 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	select {
	case <-r.state.first:
	case <-ctx.Done():
	}
}

func verdictName(r network.Reachability) string {
	switch r {
	case network.ReachabilityPublic:
		return ReachPublic
	case network.ReachabilityPrivate:
		return ReachPrivate
	}
	return ReachUnknown
}

// watchBus turns what libp2p reports into our events, and expels foreign peers from an isolated node.
func (n *Node) watchBus() error {
	kinds := []any{
		new(event.EvtLocalReachabilityChanged),
		new(event.EvtLocalAddressesUpdated),
		new(event.EvtPeerIdentificationCompleted),
	}
	subscription, err := n.host.EventBus().Subscribe(kinds, eventbus.BufSize(busBuffer), eventbus.Name("peerbus"))
	if err != nil {
		return err
	}
	n.spawn("event bus", func() {
		defer subscription.Close()
		for {
			select {
			case <-n.ctx.Done():
				return
			case e, open := <-subscription.Out():
				if !open {
					return
				}
				n.onBusEvent(e)
			}
		}
	})
	return nil
}

func (n *Node) onBusEvent(e any) {
	switch e := e.(type) {
	case event.EvtLocalReachabilityChanged:
		n.reach.set(verdictName(e.Reachability))
		n.relay.follow(n.reach.get())
	case event.EvtLocalAddressesUpdated:
		n.announceAddresses()
	case event.EvtPeerIdentificationCompleted:
		if n.config.Network.Isolated {
			n.expelForeigner(e.Peer)
		}
	}
}

// announceAddresses raises an event when the own addresses differ from those announced before. CreateNode answers the first
// ones, so nothing is announced while the listeners open.
func (n *Node) announceAddresses() {
	addresses := n.Addresses()
	n.announced.Lock()
	defer n.announced.Unlock()
	if !n.announced.started || slices.Equal(addresses, n.announced.addresses) {
		return
	}
	n.announced.addresses = addresses
	n.found.addressesChanged()
	n.events.Push(EventAddressesChanged, map[string]any{"addresses": addresses})
}

func (n *Node) startAnnouncing() {
	addresses := n.Addresses()
	n.announced.Lock()
	defer n.announced.Unlock()
	n.announced.started = true
	n.announced.addresses = addresses
}

// signallingProtocol is spoken by application peers that have no chat (NEW-12).
const signallingProtocol = "/unaiverse/webrtc-signal/1.0.0"

// speaksApplication tells whether an identified peer speaks an application protocol. A failed look-up counts as yes: nobody
// is expelled for a failure of ours.
func (n *Node) speaksApplication(id peer.ID) bool {
	spoken, err := n.host.Peerstore().SupportsProtocols(id, ChatProtocol, signallingProtocol)
	return err != nil || len(spoken) > 0
}

// namedByHost tells whether the peer is a bootstrap peer or a relay that the configuration or the program named.
func (n *Node) namedByHost(id peer.ID) bool {
	bootstrap := func(info peer.AddrInfo) bool { return info.ID == id }
	return n.relays.uses(id) || slices.ContainsFunc(n.config.DHT.BootstrapPeers, bootstrap)
}

// expelForeigner disconnects a peer that speaks no application protocol and that the host did not name.
func (n *Node) expelForeigner(id peer.ID) {
	if n.namedByHost(id) || n.speaksApplication(id) {
		return
	}
	n.log.Info("expelling a peer without application protocols", "peer", id)
	n.found.avoid(id)
	n.spawn("expel", func() {
		if err := n.Disconnect(id); err != nil {
			n.log.Warn("expelling failed", "peer", id, "reason", err)
		}
	})
}

// mayBeJudged tells whether somebody can be asked for a verdict.
func (n *Node) mayBeJudged() bool {
	return n.config.NAT.AutoNAT && !n.config.Network.ForcePublic && !n.loopbackOnly()
}

// Reachability is the last verdict: "unknown", "public" or "private".
func (n *Node) Reachability() string { return n.reach.get() }
