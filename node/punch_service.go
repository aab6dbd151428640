package node

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"go.uber.org/fx"
)

// punchPatience is how long a relayed connection waits until both sides can take part in a hole punch.
const punchPatience = time.Minute

// punchService runs libp2p's DCUtR. Started by libp2p's own option it looks for a public address of this node at growing
// intervals, up to 5 s, and punches only for connections that come after it has found one; one that is relayed sooner stays
// relayed for ever. Here it starts with the first public address, and what is relayed by then is taken on, see punch.
//
//	off --a peer saw this node at a public address, or it listens on one--> running --close--> closed
type punchService struct {
	node     *Node
	observed basichost.ObservedAddrsManager // of libp2p, which knows what was seen of the listening ports
	patience time.Duration                  // punchPatience, but in tests

	state struct {
		sync.Mutex
		running *holepunch.Service
		closed  bool
		changed chan struct{} // closed and replaced when this or a peer may have become able to punch
	}
}

func newPunchService(n *Node) *punchService {
	s := &punchService{node: n, patience: punchPatience}
	s.state.changed = make(chan struct{})
	return s
}

func (s *punchService) wanted() bool {
	c := s.node.config
	return c.NAT.HolePunching && c.Relay.EnableClient && !c.Network.ForcePublic
}

// option lets libp2p hand over what it knows of observed addresses.
func (s *punchService) option() libp2p.Option { return libp2p.WithFxOption(fx.Populate(&s.observed)) }

// poke is called when addresses of this node or protocols of it or of a peer changed.
func (s *punchService) poke() {
	s.begin()
	s.state.Lock()
	defer s.state.Unlock()
	close(s.state.changed)
	s.state.changed = make(chan struct{})
}

func (s *punchService) begin() {
	if !s.wanted() || !s.isOff() || len(s.ownAddrs()) == 0 {
		return
	}
	h, ok := s.node.host.(interface {
		host.Host
		IDService() identify.IDService
	})
	if !ok {
		return
	}
	s.state.Lock()
	defer s.state.Unlock()
	if s.state.closed || s.state.running != nil {
		return
	}
	running, err := holepunch.NewService(h, h.IDService(), s.ownAddrs, holepunch.WithTracer(s.node.punches))
	if err != nil {
		s.node.log.Error("hole punching does not begin", "reason", err)
		return
	}
	s.state.running = running
}

func (s *punchService) isOff() bool {
	s.state.Lock()
	defer s.state.Unlock()
	return !s.state.closed && s.state.running == nil
}

func (s *punchService) close() {
	s.state.Lock()
	running := s.state.running
	s.state.closed = true
	s.state.Unlock()
	if running != nil {
		_ = running.Close() // nothing was left open when it fails
	}
}

// ownAddrs are the public addresses that a peer is told to punch at: also those that a single peer saw, since behind a NAT
// with one relay there is no other witness.
func (s *punchService) ownAddrs() []ma.Multiaddr {
	var addrs []ma.Multiaddr
	if h, ok := s.node.host.(interface{ AllAddrs() []ma.Multiaddr }); ok {
		addrs = slices.Clone(s.node.advertised(h.AllAddrs()))
	}
	if s.observed != nil {
		addrs = append(addrs, s.observed.Addrs(1)...)
	}
	return slices.DeleteFunc(ma.Unique(addrs), func(a ma.Multiaddr) bool { return isRelayed(a) || !manet.IsPublicAddr(a) })
}

// unready says why no punch with the peer can begin; "": it can.
func (s *punchService) unready(id peer.ID) string {
	if !slices.Contains(s.node.host.Mux().Protocols(), holepunch.Protocol) {
		return "this node knows no public address of itself"
	}
	if spoken, err := s.node.host.Peerstore().SupportsProtocols(id, holepunch.Protocol); err != nil || len(spoken) == 0 {
		return "the peer knows no public address of itself, or does not punch"
	}
	return ""
}

// punch makes up for what libp2p does not do: when a relayed connection came before both sides could punch, it waits until
// they can, and begins then. It answers why that did not come about; "": DCUtR has it, and reports by itself.
func (s *punchService) punch(c network.Conn) string {
	id := c.RemotePeer()
	if s.unready(id) == "" {
		return "" // libp2p began with the connection
	}
	if reason := s.awaitReady(c); reason != "" || c.IsClosed() || s.node.punches.direct(id) {
		return reason
	}
	s.state.Lock()
	running := s.state.running
	s.state.Unlock()
	if err := running.DirectConnect(id); err != nil && !errors.Is(err, holepunch.ErrHolePunchActive) {
		s.node.log.Info("hole punch", "peer", id, "reason", err)
	}
	return ""
}

// awaitReady waits for both sides, no longer than the patience. It answers what is missing then.
func (s *punchService) awaitReady(c network.Conn) string {
	ctx, cancel := context.WithTimeout(s.node.ctx, s.patience)
	defer cancel()
	for {
		changed := s.change()
		reason := s.unready(c.RemotePeer())
		if reason == "" || c.IsClosed() {
			return ""
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return reason
		}
	}
}

// change is closed at the next poke.
func (s *punchService) change() <-chan struct{} {
	s.state.Lock()
	defer s.state.Unlock()
	return s.state.changed
}
