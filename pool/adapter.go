package pool

import (
	"context"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"peerbus/node"
	"peerbus/queue"
)

// NodeNetwork is a node as a Network; closing it closes the node.
type NodeNetwork struct{ *node.Node }

// NewNodeNetwork wraps a node.
func NewNodeNetwork(n *node.Node) *NodeNetwork { return &NodeNetwork{n} }

// ID is the node's peer id as text.
func (a *NodeNetwork) ID() string { return a.Node.ID().String() }

// Peers lists the connected application peers.
func (a *NodeNetwork) Peers() ([]PeerInfo, error) {
	if err := a.Usable(); err != nil {
		return nil, err
	}
	listed := a.Node.Peers()
	peers := make([]PeerInfo, len(listed))
	for i, info := range listed {
		peers[i] = infoOfNode(info)
	}
	return peers, nil
}

func infoOfNode(i node.PeerInfo) PeerInfo {
	return PeerInfo{ID: i.ID, Addrs: i.Addrs, ConnectedAt: i.ConnectedAt, Direction: i.Direction, Relayed: i.Relayed}
}

// Connect dials through the node.
func (a *NodeNetwork) Connect(ctx context.Context, addresses []string) (id, address string, err error) {
	reached, err := a.Node.Connect(ctx, addresses)
	if err != nil {
		return "", "", err
	}
	if len(reached.Addrs) == 0 { // ended again meanwhile
		return reached.ID, "", nil
	}
	return reached.ID, reached.Addrs[0], nil
}

// Disconnect ends the connections to a peer.
func (a *NodeNetwork) Disconnect(ctx context.Context, id string) error {
	decoded, err := peer.Decode(id)
	if err != nil {
		return fmt.Errorf("%w: %.128q is not a peer id: %v", ErrArgument, id, err)
	}
	return a.DisconnectContext(ctx, decoded)
}

// Reserve makes a reservation on the connected relay.
func (a *NodeNetwork) Reserve(ctx context.Context, id string) (time.Time, error) {
	decoded, err := peer.Decode(id)
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: %.128q is not a peer id: %v", ErrArgument, id, err)
	}
	return a.ReserveOnRelay(ctx, decoded)
}

// Publish publishes on a topic and answers how many connected subscribers there were.
func (a *NodeNetwork) Publish(ctx context.Context, channel string, payload []byte) (int, error) {
	published, err := a.Node.Publish(ctx, channel, payload)
	return published.Peers, err
}

// Spares tells whether a refused peer keeps its connection, which the library itself needs (POOL-44).
func (a *NodeNetwork) Spares(id string) bool {
	decoded, err := peer.Decode(id)
	return err == nil && a.Infrastructure(decoded)
}

// Attach makes every network that is a node call the set, and takes the connections that they have. A node that is in another
// set already fails it; then none is attached.
func (s *Set) Attach() error {
	for i, n := range s.networks {
		a, ok := n.network.(*NodeNetwork)
		if !ok {
			continue
		}
		if err := a.SetGuard(guard{s, n}); err != nil {
			s.detach(s.networks[:i])
			return err
		}
	}
	return s.Resync()
}

// Detach ends what Attach began. A node that is in another set stays there.
func (s *Set) Detach() { s.detach(s.networks) }

func (s *Set) detach(networks []*networkState) {
	for _, n := range networks {
		if a, ok := n.network.(*NodeNetwork); ok {
			a.RemoveGuard(guard{s, n})
		}
	}
}

// guard is one network of a set, as its node calls it.
type guard struct {
	set     *Set
	network *networkState
}

// Connected fails only once the set is closed, and then nobody asks any more.
func (g guard) PeerConnected(info node.PeerInfo) {
	_ = g.set.Connected(g.network.name, infoOfNode(info))
}
func (g guard) PeerDisconnected(id string) { _ = g.set.Disconnected(g.network.name, id) }
func (g guard) Stranger(id string) bool    { return g.set.Stranger(g.network.name, id) }
func (g guard) StrangerRefused(id string)  { g.set.StrangerRefused(g.network.name, id) }

func (g guard) Publishes(author string, newest int64, listed bool) bool {
	return g.set.publishes(author, newest, listed)
}

func (g guard) Check(from, channel string, data []byte) (queue.Verdict, string) {
	v := g.set.check(g.network, from, channel, data)
	return queue.Verdict{NodeID: v.NodeID, Verified: v.Verified, Inspector: v.Inspector, Pending: v.Pending, Judged: true}, v.Reason
}

func (g guard) Settled(from string) string {
	if g.set.Settled(g.network.name, from) {
		return ""
	}
	return ReasonNotMember
}
