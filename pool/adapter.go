package pool

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"peerbus/node"
)

const (
	topicMark        = "::ps:"
	rendezvousSuffix = ":rv"
)

// NodeNetwork is a node as a Network.
type NodeNetwork struct {
	*node.Node
	roster atomic.Pointer[string] // owner of the rendezvous topic that was subscribed last
}

// NewNodeNetwork wraps a node; closing the network closes it.
func NewNodeNetwork(n *node.Node) *NodeNetwork { return &NodeNetwork{Node: n} }

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

// Disconnect ends the connections to a peer. The node bounds the wait; ctx is asked before only.
func (a *NodeNetwork) Disconnect(ctx context.Context, id string) error {
	decoded, err := peer.Decode(id)
	if err != nil {
		return fmt.Errorf("%w: %.128q is not a peer id: %v", ErrArgument, id, err)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w: disconnecting %s", ErrTimeout, id)
	}
	return a.Node.Disconnect(decoded)
}

// Reserve needs a node that is a relay client.
func (a *NodeNetwork) Reserve(ctx context.Context, id string) (time.Time, error) {
	decoded, err := peer.Decode(id)
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: %.128q is not a peer id: %v", ErrArgument, id, err)
	}
	relay, ok := any(a.Node).(interface {
		ReserveOnRelay(ctx context.Context, relay peer.ID) (time.Time, error)
	})
	if !ok {
		return time.Time{}, fmt.Errorf("%w: this build has no relay client", node.ErrUnsupported)
	}
	return relay.ReserveOnRelay(ctx, decoded)
}

// Subscribe also remembers whose rendezvous it is.
func (a *NodeNetwork) Subscribe(channel string) error {
	if err := a.Node.Subscribe(channel); err != nil {
		return err
	}
	if owner, _, topic := strings.Cut(channel, topicMark); topic && strings.HasSuffix(channel, rendezvousSuffix) {
		a.roster.Store(&owner)
	}
	return nil
}

// Rendezvous is the newest roster. The node takes rosters only from the topic's owner and from masters of the roster before,
// and does not say from which of them: the author is given as the owner.
func (a *NodeNetwork) Rendezvous() (Snapshot, bool) {
	roster, ok := a.Node.Rendezvous()
	owner := a.roster.Load()
	if !ok || owner == nil {
		return Snapshot{}, false
	}
	snapshot := Snapshot{Owner: *owner, Author: *owner, UpdateCount: roster.UpdateCount, Peers: make([]Entry, len(roster.Peers))}
	for i, p := range roster.Peers {
		snapshot.Peers[i] = Entry{
			ID: p.ID, Addrs: p.Addrs, Misc: p.Misc, ConnectedAt: p.ConnectedAt, Direction: p.Direction, Relayed: p.Relayed,
		}
	}
	return snapshot, true
}

// Hooks are what a node calls of the set, each for one network. They do not block.
type Hooks struct {
	set     *Set
	network string
	state   *networkState
}

// Hooks answers the hooks for one network of the set.
func (s *Set) Hooks(network string) (Hooks, error) {
	n, err := s.networkByName(network)
	if err != nil {
		return Hooks{}, err
	}
	return Hooks{s, network, n}, nil
}

// PeerConnected is for the moment at which the node lists an application peer, before it reads its first message.
func (h Hooks) PeerConnected(info node.PeerInfo) error {
	return h.set.Connected(h.network, infoOfNode(info))
}

// PeerDisconnected is for the moment at which the node lists it no more.
func (h Hooks) PeerDisconnected(id string) error { return h.set.Disconnected(h.network, id) }

// Admit is for the connection gater, after the security handshake. Peers that this node dials are admitted.
func (h Hooks) Admit(direction network.Direction, id peer.ID) bool {
	return direction == network.DirOutbound || h.set.Admits(h.network, id.String())
}

// Check is for each message before it is queued.
func (h Hooks) Check(from, channel string, data []byte) Verdict {
	return h.set.check(h.state, from, channel, data)
}

// HandleEvent feeds a peer event of the node to the set, for hosts that read the node's events themselves; others are passed over.
func (h Hooks) HandleEvent(e node.Event) error {
	id, _ := e.Fields["peer"].(string)
	switch e.Type {
	case node.EventPeerConnected:
		direction, _ := e.Fields["direction"].(string)
		address, _ := e.Fields["address"].(string)
		relayed, _ := e.Fields["relayed"].(bool)
		return h.set.Connected(h.network, PeerInfo{
			ID: id, Addrs: []string{address}, ConnectedAt: e.Time.UTC().Format(time.RFC3339), Direction: direction, Relayed: relayed,
		})
	case node.EventPeerDisconnected:
		return h.set.Disconnected(h.network, id)
	}
	return nil
}
