package node

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

const (
	// nearDialTimeout bounds the direct dial of a relayed peer on a shared LAN or machine.
	nearDialTimeout = 5 * time.Second
	// diallerPatience is how long the side that dialled through the relay leaves the way back to the other one, which DCUtR
	// wants to begin, before it tries itself.
	diallerPatience = 3 * time.Second
	// maxPunchAttempts is how often DCUtR tries before it gives up.
	maxPunchAttempts = 3
	// maxPunchRecords bounds the remembered outcomes.
	maxPunchRecords = 32
	// maxNearDials bounds the addresses of a relayed peer that are dialled unasked.
	maxNearDials = 8
	// relayedLinger is how often a relayed connection beside a direct one is looked at; without streams it is closed.
	relayedLinger = 10 * time.Second
)

// Ways to a direct connection.
const (
	wayNear  = "near"  // a dial on a shared LAN or machine
	wayDial  = "dial"  // a dial back to a reachable address
	wayPunch = "punch" // both sides at once, through their NATs
)

// PunchRecord is one attempt to turn a relayed connection into a direct one.
type PunchRecord struct {
	Peer     string `json:"peer"`
	Time     string `json:"time"` // RFC 3339
	Way      string `json:"way"`  // "near", "dial" or "punch"
	Direct   bool   `json:"direct"`
	Attempts int    `json:"attempts"`
	TookMs   int64  `json:"took_ms"`
	Reason   string `json:"reason"` // why not; "" when direct
}

// punches turns relayed connections into direct ones. libp2p runs DCUtR, but only between nodes that know a public address of
// their own, and it dials no private ones; this adds the dial on a shared LAN or machine, and tells how everything ended.
//
//	relayed --DCUtR, or a near dial--> direct --everything moves, relayed connection unused--> relayed one closed
//	   ^'--neither works--> stays relayed                                                            |
//	   '------------- the direct one ended: whoever had dialled through the relay does so again (way_back.go)
//
// Chat moves as link_move.go says, acknowledged channels as outbound_stream.go, topics as topic_move.go. Limited relayed connections
// carry no topics; pub/sub begins on the direct one.
type punches struct {
	node     *Node
	service  *punchService
	back     *waysBack
	patience time.Duration // diallerPatience, but in tests
	linger   time.Duration // relayedLinger, but in tests

	state struct {
		sync.Mutex
		attempts map[peer.ID]int           // of a punch in progress
		records  []PunchRecord             // newest last
		busy     map[peer.ID]chan struct{} // peers that are being dialled although a relayed connection exists; closed after that
		dials    int                       // forced ones, in the air
		closed   bool                      // begin no more of them
		idle     chan struct{}             // closed when closed and dials is 0
	}
}

func newPunches(n *Node) *punches {
	p := &punches{node: n, service: newPunchService(n), back: newWaysBack(n), patience: diallerPatience, linger: relayedLinger}
	p.state.attempts = map[peer.ID]int{}
	p.state.busy = map[peer.ID]chan struct{}{}
	p.state.idle = make(chan struct{})
	return p
}

func (p *punches) start() {
	p.service.begin()
	p.node.host.Network().Notify(&network.NotifyBundle{
		ConnectedF: func(_ network.Network, c network.Conn) {
			p.node.run("connection event", func() { p.connected(c) })
		},
		DisconnectedF: func(_ network.Network, c network.Conn) {
			p.node.run("connection event", func() { p.back.disconnected(c) })
		},
	})
}

// close waits until no forced dial is in the air: libp2p crashes when it meets one after its transports are closed. The
// node's context has ended by now, so none lasts.
func (p *punches) close() {
	p.service.close()
	p.state.Lock()
	if !p.state.closed {
		p.state.closed = true
		if p.state.dials == 0 {
			close(p.state.idle)
		}
	}
	p.state.Unlock()
	<-p.state.idle
}

func (p *punches) connected(c network.Conn) {
	if isRelayed(c.RemoteMultiaddr()) {
		p.node.spawn("direct connection", func() { p.improve(c) })
		return
	}
	id := c.RemotePeer()
	relayed := p.relayedConns(id)
	if relayed == nil {
		return
	}
	p.back.note(id, relayed)
	if isWebRTC(c) {
		p.overtaken(id)
	}
	p.node.events.Push(EventConnectionDirect, map[string]any{"peer": id.String(), "address": c.RemoteMultiaddr().String()})
	if l := p.node.links.find(id); l != nil {
		l.poke()
	}
	p.node.spawn("relayed connection", func() { p.retireRelayed(id) })
}

func (p *punches) relayedConns(id peer.ID) []network.Conn {
	var relayed []network.Conn
	for _, c := range p.node.host.Network().ConnsToPeer(id) {
		if isRelayed(c.RemoteMultiaddr()) {
			relayed = append(relayed, c)
		}
	}
	return relayed
}

// direct tells whether a direct connection to the peer lives.
func (p *punches) direct(id peer.ID) bool { return p.directConn(id) != nil }

// directConn answers the newest direct connection to the peer; nil: there is none.
func (p *punches) directConn(id peer.ID) network.Conn {
	var newest network.Conn
	for _, c := range p.node.host.Network().ConnsToPeer(id) {
		if !isRelayed(c.RemoteMultiaddr()) && !c.IsClosed() && (newest == nil || c.Stat().Opened.After(newest.Stat().Opened)) {
			newest = c
		}
	}
	return newest
}

// improve looks for a direct way to a peer that came through a relay.
func (p *punches) improve(c network.Conn) {
	n := p.node
	if !n.config.NAT.HolePunching {
		return
	}
	n.awaitIdentify(n.ctx, c.RemotePeer())
	if c.Stat().Direction == network.DirOutbound && !p.pause(c) {
		return
	}
	id := c.RemotePeer()
	near := nearAddresses(n.host.Peerstore().Addrs(id), c.RemoteMultiaddr())
	switch {
	case p.direct(id) || c.IsClosed():
	case len(near) > 0:
		p.dialNear(id, near)
	case c.Stat().Direction == network.DirInbound:
		if reason := p.service.punch(c); reason != "" && !p.direct(id) && n.ctx.Err() == nil {
			p.record(PunchRecord{Peer: id.String(), Way: wayPunch, Reason: reason + ", and the peer is on no network that this node shares"})
			p.node.webrtc.punchFailed(id, true)
		}
	}
}

// pause leaves the other side its time. It answers false when nothing is left to do.
func (p *punches) pause(c network.Conn) bool {
	timer := time.NewTimer(p.patience)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.node.ctx.Done():
	}
	return p.node.ctx.Err() == nil && !c.IsClosed() && !p.direct(c.RemotePeer())
}

// nearAddresses are those of a peer's addresses that a node may dial unasked: on a network that this machine is in, or on its
// loopback when the relay is there, too. What a stranger claims must not make this node knock anywhere else.
func nearAddresses(addrs []ma.Multiaddr, relay ma.Multiaddr) []ma.Multiaddr {
	own := interfacePrefixes()
	near := slices.DeleteFunc(slices.Clone(addrs), func(addr ma.Multiaddr) bool {
		if isRelayed(addr) || manet.IsPublicAddr(addr) {
			return true
		}
		if manet.IsIPLoopback(addr) {
			return !manet.IsIPLoopback(relay)
		}
		return dialGroupOf(addr, own, false) != groupNear
	})
	return near[:min(len(near), maxNearDials)]
}

func (p *punches) dialNear(id peer.ID, near []ma.Multiaddr) {
	if !p.claim(id) {
		return
	}
	defer p.unclaim(id)
	began := time.Now()
	err := p.forceDial(id, near)
	reason := ""
	if err != nil {
		reason = err.Error()
	}
	p.record(PunchRecord{Peer: id.String(), Way: wayNear, Direct: err == nil, Attempts: 1, TookMs: time.Since(began).Milliseconds(), Reason: reason})
}

// forceDial dials these addresses although a relayed connection exists. libp2p would dial everything that the peer claims,
// hence the gate.
func (p *punches) forceDial(id peer.ID, addrs []ma.Multiaddr) error {
	return p.force(p.node.ctx, id, addrs, nearDialTimeout)
}

func (p *punches) force(ctx context.Context, id peer.ID, addrs []ma.Multiaddr, timeout time.Duration) error {
	p.state.Lock()
	if p.state.closed {
		p.state.Unlock()
		return ErrClosed
	}
	p.state.dials++
	p.state.Unlock()
	defer func() {
		p.state.Lock()
		defer p.state.Unlock()
		p.state.dials--
		if p.state.closed && p.state.dials == 0 {
			close(p.state.idle)
		}
	}()
	p.node.gate.restrict(id, addrs)
	defer p.node.gate.unrestrict(id)
	ctx, cancel := context.WithTimeout(network.WithForceDirectDial(ctx, "direct"), timeout)
	defer cancel()
	if err := p.node.host.Connect(ctx, peer.AddrInfo{ID: id, Addrs: addrs}); err != nil {
		return fmt.Errorf("%w: %v", dialFailure(err), err)
	}
	return nil
}

// claim takes the right to force a dial of the peer, unless somebody has it.
func (p *punches) claim(id peer.ID) bool {
	_, claimed := p.tryClaim(id)
	return claimed
}

// tryClaim answers what is closed when the one who has it is done.
func (p *punches) tryClaim(id peer.ID) (done <-chan struct{}, claimed bool) {
	p.state.Lock()
	defer p.state.Unlock()
	if done, busy := p.state.busy[id]; busy {
		return done, false
	}
	p.state.busy[id] = make(chan struct{})
	return nil, true
}

// awaitClaim waits for it.
func (p *punches) awaitClaim(ctx context.Context, id peer.ID) error {
	for {
		done, claimed := p.tryClaim(id)
		if claimed {
			return nil
		}
		select {
		case <-done:
		case <-ctx.Done():
			return contextError(ctx, "waiting for another dial of "+id.String())
		}
	}
}

func (p *punches) unclaim(id peer.ID) {
	p.state.Lock()
	defer p.state.Unlock()
	close(p.state.busy[id])
	delete(p.state.busy, id)
}

// retireRelayed moves topics to the direct connection (channels do that by themselves), and closes the relayed ones of the peer
// once they carry nothing: relays have few circuits. It waits for linger first, since a fresh direct connection may not last,
// and before that for the peer's answer on it. A peer answers once all of it has been told of the connection; one that lost the relayed one
// before that would have no connection for a moment, would tell of no connection_direct and know no way back.
func (p *punches) retireRelayed(id peer.ID) {
	p.node.awaitIdentify(p.node.ctx, id)
	ticker := time.NewTicker(p.linger)
	defer ticker.Stop()
	for {
		p.node.topics.moves.leaveRelay(id)
		select {
		case <-ticker.C:
		case <-p.node.ctx.Done():
			return
		}
		relayed := p.relayedConns(id)
		if len(relayed) == 0 || !p.direct(id) {
			return
		}
		for _, c := range relayed {
			if len(c.GetStreams()) == 0 {
				_ = c.Close() // fails only when it is closed already
			}
		}
	}
}

// record keeps and reports how an attempt ended.
func (p *punches) record(r PunchRecord) {
	r.Time = time.Now().UTC().Format(time.RFC3339Nano)
	p.state.Lock()
	p.state.records = append(p.state.records, r)
	if len(p.state.records) > maxPunchRecords {
		p.state.records = slices.Delete(p.state.records, 0, 1)
	}
	p.state.Unlock()
	p.node.log.Info("direct connection", "peer", r.Peer, "way", r.Way, "direct", r.Direct, "reason", r.Reason)
	p.node.events.Push(EventHolePunch, map[string]any{
		"peer": r.Peer, "way": r.Way, "direct": r.Direct, "attempts": r.Attempts, "took_ms": r.TookMs, "reason": r.Reason,
	})
}

// list answers the remembered outcomes, oldest first.
func (p *punches) list() []PunchRecord {
	p.state.Lock()
	defer p.state.Unlock()
	return append([]PunchRecord{}, p.state.records...)
}

// Trace hears libp2p's DCUtR. Both sides of a punch hear of each attempt; only the side behind the relayed address also hears
// of a dial back and of a failed exchange. DCUtR takes a WebRTC connection that comes first for its own success.
func (p *punches) Trace(e *holepunch.Event) {
	p.node.run("hole punch", func() {
		id := e.Remote
		if len(p.node.webrtc.conns.with(id)) > 0 {
			return
		}
		switch happened := e.Evt.(type) {
		case *holepunch.DirectDialEvt:
			if happened.Success {
				p.ended(id, wayDial, happened.EllapsedTime, "")
			}
		case *holepunch.ProtocolErrorEvt:
			p.ended(id, wayPunch, 0, happened.Error)
		case *holepunch.HolePunchAttemptEvt:
			p.state.Lock()
			p.state.attempts[id]++
			p.state.Unlock()
		case *holepunch.EndHolePunchEvt:
			if happened.Success || p.lastAttempt(id) {
				p.ended(id, wayPunch, happened.EllapsedTime, happened.Error)
			} else {
				p.node.webrtc.punchFailed(id, false)
			}
		}
	})
}

func (p *punches) lastAttempt(id peer.ID) bool {
	p.state.Lock()
	defer p.state.Unlock()
	return p.state.attempts[id] >= maxPunchAttempts
}

// overtaken records the end of a punch in progress when a WebRTC connection comes first.
func (p *punches) overtaken(id peer.ID) {
	p.state.Lock()
	punching := p.state.attempts[id] > 0
	p.state.Unlock()
	if punching {
		p.ended(id, wayPunch, 0, "a WebRTC connection came first")
	}
}

// ended records the end of what DCUtR does for a peer; reason "": a direct connection.
func (p *punches) ended(id peer.ID, way string, took time.Duration, reason string) {
	p.state.Lock()
	attempts := max(1, p.state.attempts[id])
	delete(p.state.attempts, id)
	p.state.Unlock()
	p.record(PunchRecord{Peer: id.String(), Way: way, Direct: reason == "", Attempts: attempts, TookMs: took.Milliseconds(), Reason: reason})
	if reason != "" {
		p.node.webrtc.punchFailed(id, true)
	}
}
