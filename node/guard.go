package node

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"peerbus/queue"
)

// Guard decides for a node who may enter and whose messages are taken. Package pool is one. Guards are compared with ==. Their
// methods do not block, and call no method of the node: PeerConnected and PeerDisconnected run with the lock of the peer table
// held, which keeps them in order and before the first frame of the peer is read.
type Guard interface {
	PeerConnected(PeerInfo)
	PeerDisconnected(id string)
	// Stranger tells whether the peer may not enter.
	Stranger(id string) bool
	// StrangerRefused hears that a stranger was turned away before it was listed.
	StrangerRefused(id string)
	// Check judges a message before it is queued: a loss reason, or what is known of the sender.
	Check(from, channel string, data []byte) (queue.Verdict, string)
	// Settled judges a message again, whose verdict was pending, when it is handed over: a loss reason or "".
	Settled(from string) string
	// Publishes tells whether a peer that does not own the rendezvous topic may publish its list. newest is the update count of
	// the newest accepted list, listed whether that names the peer as a master.
	Publishes(author string, newest int64, listed bool) bool
}

// ErrGuarded: the node has a guard already.
var ErrGuarded = errors.New("node is in a pool set already")

// strangerProbation is how long an inbound stranger may stay unlisted where strangers cannot be told from peers that probe our
// reachability: AutoNAT v2 dials back from an identity that nobody knows. Such a dial takes 15 s at most.
const strangerProbation = 20 * time.Second

// maxProbations bounds the strangers on probation, and so what a flood of them costs.
const maxProbations = 32

// guardHolder is a node's guard, if any.
type guardHolder struct {
	current    atomic.Pointer[Guard]
	probations atomic.Int32
}

func (h *guardHolder) get() Guard {
	if g := h.current.Load(); g != nil {
		return *g
	}
	return nil
}

// SetGuard gives the node a guard. From its return on the guard hears of every change of Peers; what was before it asks for.
func (n *Node) SetGuard(g Guard) error {
	if !n.guard.current.CompareAndSwap(nil, &g) {
		return fmt.Errorf("%w: %s; close that one first", ErrGuarded, n.id)
	}
	// Whoever holds the lock of the table may have looked before.
	n.peers.state.Lock()
	defer n.peers.state.Unlock()
	return nil
}

// RemoveGuard takes this guard away, and leaves another one that the node has alone. When it returns no call of PeerConnected or
// PeerDisconnected is left.
func (n *Node) RemoveGuard(g Guard) {
	current := n.guard.current.Load()
	if current == nil || *current != g || !n.guard.current.CompareAndSwap(current, nil) {
		return
	}
	n.peers.state.Lock()
	defer n.peers.state.Unlock()
}

// admits is the guard's part in the connection gater, after the security handshake.
func (n *Node) admits(direction network.Direction, id peer.ID) bool {
	g := n.guard.get()
	if g == nil || direction == network.DirOutbound || n.Infrastructure(id) || !g.Stranger(id.String()) {
		return true
	}
	if n.probesReachability() && n.beginProbation(id) {
		return true
	}
	g.StrangerRefused(id.String())
	return false
}

func (n *Node) beginProbation(id peer.ID) bool {
	if n.guard.probations.Add(1) <= maxProbations && n.spawn("stranger's probation", func() {
		defer n.guard.probations.Add(-1)
		n.endProbation(id)
	}) {
		return true
	}
	n.guard.probations.Add(-1)
	return false
}

// Infrastructure are the peers of the library's own connections (POOL-44): the relays in use, and those that the configuration
// names. No guard turns them away.
func (n *Node) Infrastructure(id peer.ID) bool {
	is := func(known peer.AddrInfo) bool { return known.ID == id }
	return n.relays.uses(id) || slices.ContainsFunc(n.config.Relay.StaticRelays, is) || slices.ContainsFunc(n.config.DHT.BootstrapPeers, is)
}

func (n *Node) probesReachability() bool {
	return n.config.NAT.AutoNAT && !n.config.Network.ForcePublic
}

// endProbation disconnects a stranger that was let in for a probe. If it spoke meanwhile it was listed, and the guard has
// dealt with it.
func (n *Node) endProbation(id peer.ID) {
	timer := time.NewTimer(strangerProbation)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-n.ctx.Done():
		return
	}
	g := n.guard.get()
	if g == nil || !g.Stranger(id.String()) || len(n.host.Network().ConnsToPeer(id)) == 0 {
		return
	}
	g.StrangerRefused(id.String())
	if err := n.host.Network().ClosePeer(id); err != nil {
		n.log.Warn("a stranger was not disconnected", "peer", id, "reason", err)
	}
}

// judge asks the guard about a message that arrived: the loss reason, "" for one that may be queued.
func (n *Node) judge(from, channel string, data []byte) (queue.Verdict, string) {
	if g := n.guard.get(); g != nil {
		return g.Check(from, channel, data)
	}
	return queue.Verdict{}, ""
}

// Settle asks the guard again about messages that were taken from the queue: those that came before the guard, and those whose
// sender was undecided. It drops, counted, what is refused, and changes the list in place.
func (n *Node) Settle(messages []queue.Message) []queue.Message {
	g := n.guard.get()
	if g == nil {
		return messages
	}
	kept := messages[:0]
	for i := range messages {
		m := &messages[i]
		reason := ""
		switch {
		case !m.Verdict.Judged:
			m.Verdict, reason = g.Check(m.From, m.Channel, m.Data)
		case m.Verdict.Pending:
			reason = g.Settled(m.From)
		}
		if reason != "" {
			n.losses.add(directionIn, reason, m.Channel, m.From, 1)
			freeMessage(n.memory, m)
			n.confirmTaken(m)
			continue
		}
		kept = append(kept, *m)
	}
	clear(messages[len(kept):])
	return kept
}
