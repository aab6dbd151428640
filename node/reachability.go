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
	ma "github.com/multiformats/go-multiaddr"

	"peerbus/node/webrtc"
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

		observed map[string]map[peer.ID]struct{} // own address -> the peers that see this node there; bounded
		nat      map[string]string               // "tcp" or "udp" -> kind of the NAT
	}
}

const (
	// maxObservedAddresses and maxObservers bound what peers can make this node remember of itself.
	maxObservedAddresses = 64
	maxObservers         = 64

	// Kinds of NATs.
	natEndpointIndependent = "endpoint_independent" // the same mapping for every peer: hole punching works
	natEndpointDependent   = "endpoint_dependent"   // symmetric: hole punching seldom works
)

// note remembers as what a peer sees this node.
func (r *reachability) note(observer peer.ID, addr ma.Multiaddr) {
	if addr == nil || isRelayed(addr) {
		return
	}
	r.state.Lock()
	defer r.state.Unlock()
	observers := r.state.observed[addr.String()]
	if observers == nil {
		if len(r.state.observed) >= maxObservedAddresses {
			return
		}
		observers = map[peer.ID]struct{}{}
		r.state.observed[addr.String()] = observers
	}
	if len(observers) < maxObservers {
		observers[observer] = struct{}{}
	}
}

// noteNAT remembers what libp2p found out about the NAT in front of this node.
func (r *reachability) noteNAT(e event.EvtNATDeviceTypeChanged) {
	kinds := map[network.NATDeviceType]string{
		network.NATDeviceTypeEndpointIndependent: natEndpointIndependent,
		network.NATDeviceTypeEndpointDependent:   natEndpointDependent,
	}
	transports := map[network.NATTransportProtocol]string{network.NATTransportUDP: "udp", network.NATTransportTCP: "tcp"}
	r.state.Lock()
	defer r.state.Unlock()
	if kind, known := kinds[e.NatDeviceType]; known {
		r.state.nat[transports[e.TransportProtocol]] = kind
	} else {
		delete(r.state.nat, transports[e.TransportProtocol])
	}
}

// judged takes the verdicts on the own addresses. One that is reachable makes the node public; it is private when all have
// been judged and none is.
func (n *Node) judged(reachable, unreachable, unknown []ma.Multiaddr) {
	n.events.Push(EventAddressesJudged, map[string]any{
		"reachable": textsOf(reachable), "unreachable": textsOf(unreachable), "unknown": textsOf(unknown),
	})
	switch {
	case len(reachable) > 0:
		n.reach.set(ReachPublic)
	case len(unreachable) > 0 && len(unknown) == 0:
		n.reach.set(ReachPrivate)
	}
	n.relay.follow(n.reach.get())
}

func textsOf(addrs []ma.Multiaddr) []string {
	texts := make([]string, len(addrs))
	for i, addr := range addrs {
		texts[i] = addr.String()
	}
	return texts
}

func newReachability(n *Node) *reachability {
	r := &reachability{node: n}
	r.state.verdict = ReachUnknown
	r.state.first = make(chan struct{})
	r.state.changed = make(chan struct{})
	r.state.observed = map[string]map[peer.ID]struct{}{}
	r.state.nat = map[string]string{}
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
		new(event.EvtHostReachableAddrsChanged),
		new(event.EvtNATDeviceTypeChanged),
		new(event.EvtPeerProtocolsUpdated),
		new(event.EvtLocalProtocolsUpdated),
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
		n.autonat.poke()
		n.punches.service.poke()
		n.webrtc.tryAgain()
	case event.EvtPeerProtocolsUpdated, event.EvtLocalProtocolsUpdated:
		n.punches.service.poke()
	case event.EvtHostReachableAddrsChanged:
		n.judged(e.Reachable, e.Unreachable, e.Unknown)
	case event.EvtNATDeviceTypeChanged:
		n.reach.noteNAT(e)
	case event.EvtPeerIdentificationCompleted:
		n.reach.note(e.Peer, e.ObservedAddr)
		n.autonat.poke()
		n.punches.service.poke()
		n.webrtc.identified(e)
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

// speaksApplication tells whether an identified peer speaks an application protocol, chat or WebRTC signalling (NEW-12). A failed look-up counts as yes: nobody
// is expelled for a failure of ours.
func (n *Node) speaksApplication(id peer.ID) bool {
	spoken, err := n.host.Peerstore().SupportsProtocols(id, ChatProtocol, webrtc.SignalProtocol)
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
