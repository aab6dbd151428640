package node

import (
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// redialRefusal is how long a peer that we disconnected may not come back by itself (P2P-13): peers of the existing network
// redial within 0.1 s.
const redialRefusal = time.Second

// gate is the connection gater.
type gate struct {
	node  *Node
	state struct {
		sync.Mutex
		refusedUntil map[peer.ID]time.Time
		only         map[peer.ID][]ma.Multiaddr // the addresses that may be dialled, of peers not listed all
	}
}

func newGate(n *Node) *gate {
	g := &gate{node: n}
	g.state.refusedUntil = map[peer.ID]time.Time{}
	g.state.only = map[peer.ID][]ma.Multiaddr{}
	return g
}

// refuse keeps the peer's own dials out for redialRefusal from now.
func (g *gate) refuse(id peer.ID) {
	g.state.Lock()
	defer g.state.Unlock()
	now := time.Now()
	for other, until := range g.state.refusedUntil {
		if now.After(until) {
			delete(g.state.refusedUntil, other)
		}
	}
	g.state.refusedUntil[id] = now.Add(redialRefusal)
}

// admit ends a refusal: the program asks for the peer again.
func (g *gate) admit(id peer.ID) {
	g.state.Lock()
	defer g.state.Unlock()
	delete(g.state.refusedUntil, id)
	delete(g.state.only, id)
}

// restrict lets only these addresses of a peer be dialled, until unrestrict or admit.
func (g *gate) restrict(id peer.ID, addrs []ma.Multiaddr) {
	g.state.Lock()
	defer g.state.Unlock()
	g.state.only[id] = addrs
}

func (g *gate) unrestrict(id peer.ID) {
	g.state.Lock()
	defer g.state.Unlock()
	delete(g.state.only, id)
}

func (g *gate) refused(id peer.ID) bool {
	g.state.Lock()
	defer g.state.Unlock()
	return g.refusedLocked(id)
}

func (g *gate) refusedLocked(id peer.ID) bool {
	until, known := g.state.refusedUntil[id]
	return known && time.Now().Before(until)
}

// whileRefused runs f, which takes no time, if the peer is refused; admit waits for it.
func (g *gate) whileRefused(id peer.ID, f func()) {
	g.state.Lock()
	defer g.state.Unlock()
	if g.refusedLocked(id) {
		f()
	}
}

func (g *gate) InterceptPeerDial(peer.ID) bool              { return true }
func (g *gate) InterceptAccept(network.ConnMultiaddrs) bool { return true }

func (g *gate) InterceptAddrDial(id peer.ID, addr ma.Multiaddr) bool {
	g.state.Lock()
	defer g.state.Unlock()
	only, restricted := g.state.only[id]
	return !restricted || ma.Contains(only, addr)
}

func (g *gate) InterceptSecured(direction network.Direction, id peer.ID, _ network.ConnMultiaddrs) bool {
	return direction == network.DirOutbound || !g.refused(id) && g.node.admits(direction, id)
}

func (g *gate) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }
