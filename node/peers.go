package node

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// returnGrace is how long a lost peer stays listed, in case it returns (NEW-14).
	returnGrace = 10 * time.Second
	// passing is the age below which a connection that ends was no return: a peer that refuses us does so only after this side
	// takes the connection for established.
	passing = time.Second
)

// PeerInfo describes one connected application peer.
type PeerInfo struct {
	ID          string   `json:"id"`
	Addrs       []string `json:"addrs"`
	ConnectedAt string   `json:"connected_at"` // RFC 3339
	Direction   string   `json:"direction"`    // "inbound" or "outbound"
	Misc        int      `json:"misc"`
	Relayed     bool     `json:"relayed"`
}

// peerTable lists the application peers: those that spoke chat or hello, not relays and other infrastructure.
//
//	unknown --connection--> connected --chat or hello--> listed --last connection ends--> lost --returnGrace--> unknown
//	                                                       ^-------- connection ------------/
//
// A peer that we disconnect goes to unknown at once. peer_connected is raised on entering listed from connected,
// peer_disconnected on leaving lost or listed for unknown.
type peerTable struct {
	node  *Node
	grace time.Duration // returnGrace
	state struct {
		sync.Mutex
		byID   map[peer.ID]*peerEntry
		closed bool
	}
}

type peerEntry struct {
	connections map[network.Conn]struct{}
	application bool
	direction   network.Direction
	connectedAt time.Time
	addr        ma.Multiaddr   // of the newest connection
	heldBy      *webrtcSession // counts as a connection (NEW-14)
	lost        *time.Timer    // runs while the peer is lost
	lostSince   time.Time      // when the last connection that was none in passing had ended; zero while there is one
	losses      int            // tells the expiry of an earlier loss from this one's
}

func newPeerTable(n *Node) *peerTable {
	t := &peerTable{node: n, grace: returnGrace}
	t.state.byID = map[peer.ID]*peerEntry{}
	return t
}

func (t *peerTable) notifiee() network.Notifiee {
	return &network.NotifyBundle{
		ConnectedF:    func(_ network.Network, c network.Conn) { t.node.run("connection event", func() { t.connected(c) }) },
		DisconnectedF: func(_ network.Network, c network.Conn) { t.node.run("connection event", func() { t.disconnected(c) }) },
	}
}

func (t *peerTable) connected(c network.Conn) {
	t.state.Lock()
	defer t.state.Unlock()
	id := c.RemotePeer()
	entry := t.state.byID[id]
	if entry == nil {
		entry = &peerEntry{direction: c.Stat().Direction, connectedAt: time.Now(), connections: map[network.Conn]struct{}{}}
		t.state.byID[id] = entry
	}
	entry.returned()
	entry.connections[c] = struct{}{}
	entry.addr = c.RemoteMultiaddr()
	t.node.spawn("channels to a new connection", func() { t.node.outbounds.connected(c) })
}

func (t *peerTable) disconnected(c network.Conn) {
	// Disconnected on purpose and forgotten; yet libp2p remembers the addresses that it knew when it began to handle this end. The
	// program may ask for the peer just now: then those that it gives are for the dial.
	id := c.RemotePeer()
	t.node.gate.whileRefused(id, func() { t.node.host.Peerstore().ClearAddrs(id) })
	if !t.lastEnded(c) {
		return
	}
	if l := t.node.links.find(c.RemotePeer()); l != nil {
		l.peerGone()
	}
}

// rememberDialled keeps the address by which the peer was reached, so that channels find it again. libp2p remembers only what the
// peer announces, which leads nowhere when it stands behind a forwarded port, a proxy or a name.
func (t *peerTable) rememberDialled(c network.Conn) {
	if c.Stat().Direction == network.DirOutbound && !lacksCertificate(c.RemoteMultiaddr()) {
		t.node.host.Peerstore().AddAddr(c.RemotePeer(), c.RemoteMultiaddr(), peerstore.RecentlyConnectedAddrTTL)
	}
}

// lastEnded notes the end of a connection and answers whether it was the peer's last. libp2p reports the end some time after
// ClosePeer has returned: it may be of a connection that forget has dropped, and the peer may be back already.
func (t *peerTable) lastEnded(c network.Conn) bool {
	t.state.Lock()
	defer t.state.Unlock()
	id := c.RemotePeer()
	entry := t.state.byID[id]
	if entry == nil {
		return true
	}
	if _, known := entry.connections[c]; !known {
		return false
	}
	delete(entry.connections, c)
	if time.Since(c.Stat().Opened) >= passing {
		entry.lostSince = time.Time{}
	}
	t.rememberDialled(c)
	if len(entry.connections) > 0 {
		for other := range entry.connections {
			entry.addr = other.RemoteMultiaddr()
		}
		return false
	}
	if entry.heldBy != nil {
		return false
	}
	t.loseLocked(id, entry)
	return true
}

// loseLocked lets the peer go: at once when it is no application peer, else after the grace.
func (t *peerTable) loseLocked(id peer.ID, entry *peerEntry) {
	if !entry.application || t.state.closed {
		delete(t.state.byID, id)
		return
	}
	if entry.lostSince.IsZero() {
		entry.lostSince = time.Now()
	}
	entry.losses++
	loss := entry.losses
	entry.lost = time.AfterFunc(t.grace-time.Since(entry.lostSince), func() {
		t.node.run("peer expiry", func() { t.expire(id, entry, loss) })
	})
}

func (e *peerEntry) returned() {
	if e.lost != nil {
		e.lost.Stop()
		e.lost = nil
	}
}

// hold makes an open WebRTC session count as a connection of a peer that is listed, or connected. It answers false when the
// peer is gone.
func (t *peerTable) hold(s *webrtcSession) bool {
	t.state.Lock()
	defer t.state.Unlock()
	entry := t.state.byID[s.peer]
	if entry == nil {
		return false
	}
	entry.returned()
	entry.heldBy = s
	return true
}

// release ends what hold began.
func (t *peerTable) release(s *webrtcSession) {
	t.state.Lock()
	defer t.state.Unlock()
	entry := t.state.byID[s.peer]
	if entry == nil || entry.heldBy != s {
		return
	}
	entry.heldBy, entry.lostSince = nil, time.Time{}
	if len(entry.connections) == 0 {
		t.loseLocked(s.peer, entry)
	}
}

func (t *peerTable) expire(id peer.ID, entry *peerEntry, loss int) {
	t.state.Lock()
	defer t.state.Unlock()
	if t.state.byID[id] == entry && entry.lost != nil && entry.losses == loss {
		t.forgetLocked(id)
	}
}

func (t *peerTable) forgetLocked(id peer.ID) {
	entry := t.state.byID[id]
	if entry == nil {
		return
	}
	if entry.lost != nil {
		entry.lost.Stop()
	}
	delete(t.state.byID, id)
	if !entry.application {
		return
	}
	if g := t.node.guard.get(); g != nil {
		g.PeerDisconnected(id.String())
	}
	t.node.events.Push(EventPeerDisconnected, map[string]any{"peer": id.String()})
}

// forget drops the peer without waiting for its return, because this node disconnects it.
func (t *peerTable) forget(id peer.ID) {
	t.state.Lock()
	defer t.state.Unlock()
	t.forgetLocked(id)
}

// markApplication lists a connected peer: it spoke chat or hello.
func (t *peerTable) markApplication(id peer.ID) {
	if t.enlist(id) {
		t.node.fetchFrom(id)
	}
}

func (t *peerTable) enlist(id peer.ID) bool {
	t.state.Lock()
	defer t.state.Unlock()
	entry := t.state.byID[id]
	if entry == nil || entry.application {
		return false
	}
	entry.application = true
	if g := t.node.guard.get(); g != nil { // before the event: who hears of the peer finds it decided about
		g.PeerConnected(entry.info(id))
	}
	t.node.events.Push(EventPeerConnected, map[string]any{
		"peer":      id.String(),
		"direction": directionName(entry.direction),
		"address":   entry.addr.String(),
		"relayed":   isRelayed(entry.addr),
		"limited":   entry.limited(),
	})
	return true
}

// limited tells whether every connection is one that a relay limits. Such a peer takes no part in topics.
func (e *peerEntry) limited() bool {
	for c := range e.connections {
		if !c.Stat().Limited {
			return false
		}
	}
	return len(e.connections) > 0
}

func directionName(d network.Direction) string {
	if d == network.DirOutbound {
		return "outbound"
	}
	return "inbound"
}

func (e *peerEntry) info(id peer.ID) PeerInfo {
	return PeerInfo{
		ID:          id.String(),
		Addrs:       []string{e.addr.String()},
		ConnectedAt: e.connectedAt.UTC().Format(time.RFC3339),
		Direction:   directionName(e.direction),
		Relayed:     isRelayed(e.addr),
	}
}

// list answers the application peers, in order of their ids.
func (t *peerTable) list() []PeerInfo {
	t.state.Lock()
	answer := make([]PeerInfo, 0, len(t.state.byID))
	for id, entry := range t.state.byID {
		if !entry.application {
			continue
		}
		answer = append(answer, entry.info(id))
	}
	t.state.Unlock()
	slices.SortFunc(answer, func(a, b PeerInfo) int { return strings.Compare(a.ID, b.ID) })
	return answer
}

// close stops the timers of lost peers.
func (t *peerTable) close() {
	t.state.Lock()
	defer t.state.Unlock()
	t.state.closed = true
	for _, entry := range t.state.byID {
		if entry.lost != nil {
			entry.lost.Stop()
		}
	}
}

// Peers lists the connected application peers.
func (n *Node) Peers() []PeerInfo {
	list := n.peers.list()
	for i := range list {
		list[i].Addrs = n.addressesOf(list[i])
	}
	return list
}

// addressesOf joins the address in use with those learned of the peer, without /p2p/.
func (n *Node) addressesOf(info PeerInfo) []string {
	id, err := peer.Decode(info.ID)
	if err != nil {
		return info.Addrs
	}
	addrs := info.Addrs
	for _, learned := range learnedAddresses(n.host.Peerstore().Addrs(id)) {
		if text := learned.String(); !slices.Contains(addrs, text) {
			addrs = append(addrs, text)
		}
	}
	return addrs
}
