package node

import (
	"context"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	ma "github.com/multiformats/go-multiaddr"

	"peerbus/node/webrtc"
	"peerbus/node/webrtctransport"
)

const (
	// upgradeDelay is how long a relayed connection may become a direct one, by hole punching, before WebRTC is tried; a punch
	// that fails sooner ends the wait ...
	upgradeDelay = 20 * time.Second
	// ... and browserDelay the same for peers that announce /webrtc and with which no hole is punched (NEW-15).
	browserDelay = 3 * time.Second
	// upgradeRetry is the pause after a failed attempt, doubled after each one up to maxUpgradeRetry.
	upgradeRetry    = 20 * time.Second
	maxUpgradeRetry = 10 * time.Minute
)

// identified plans the automatic start: the dialler of a relayed connection tries WebRTC when nothing direct has come of it.
func (t *webrtcSessions) identified(e event.EvtPeerIdentificationCompleted) {
	if t.engine == nil || !isRelayed(e.Conn.RemoteMultiaddr()) || e.Conn.Stat().Direction != network.DirOutbound ||
		!speaksWebRTC(e.Protocols) || !t.conns.accepts(e.Peer) {
		return
	}
	planned := t.plan(e.Peer)
	if planned == nil {
		return
	}
	delay := t.upgradeDelay
	punches := t.node.punches.service.wanted() && slices.Contains(e.Protocols, holepunch.Protocol)
	if !punches && slices.ContainsFunc(e.ListenAddrs, func(a ma.Multiaddr) bool { return hasProtocol(a, ma.P_WEBRTC) }) {
		delay = min(delay, t.browserDelay)
	}
	if !t.node.spawn("webrtc upgrade", func() { t.follow(e.Peer, planned, delay) }) {
		t.unplan(e.Peer, planned)
	}
}

// follow tries, now and then, until the peer is not only relayed any more.
func (t *webrtcSessions) follow(id peer.ID, planned *upgradePlan, delay time.Duration) {
	defer t.unplan(id, planned)
	for pause := t.upgradeRetry; planned.wait(t.node.ctx, delay); pause = min(2*pause, maxUpgradeRetry) {
		t.state.Lock()
		planned.tried = true
		t.state.Unlock()
		if t.upgrade(id) {
			return
		}
		delay = pause
	}
}

func speaksWebRTC(protocols []protocol.ID) bool {
	return slices.Contains(protocols, webrtc.SignalProtocol) || slices.Contains(protocols, webrtctransport.SignalProtocol)
}

// upgrade opens a WebRTC connection with a peer that is still only relayed. It answers whether nothing is left to do.
func (t *webrtcSessions) upgrade(id peer.ID) bool {
	if !t.onlyRelayed(id) || t.writable(id) != nil {
		return true
	}
	_, err := t.node.InitiateWebRTC(t.node.ctx, id)
	if err != nil {
		t.node.log.Info("no WebRTC connection to a relayed peer", "peer", id, "reason", err)
	}
	return err == nil
}

// onlyRelayed tells whether the peer is connected, and through relays alone.
func (t *webrtcSessions) onlyRelayed(id peer.ID) bool {
	connections := t.node.host.Network().ConnsToPeer(id)
	return len(connections) > 0 && !slices.ContainsFunc(connections, func(c network.Conn) bool {
		return !isRelayed(c.RemoteMultiaddr())
	})
}

// upgradePlan is automatic starts to come: a first one, and others while it fails.
//
//	planned --delay, a punch failed--> trying --success, or the peer is not only relayed--> done
//	                                   ^    '--failure--> waiting --peer gone, or dropped--> done
//	                                   '--pause, or something has changed--'
type upgradePlan struct {
	now      chan struct{} // holds a token when the next attempt shall begin at once
	needless chan struct{} // closed when there shall be no other; who takes the plan out of the table may do it
	tried    bool          // the table's lock guards it
}

// wait answers whether the next attempt shall begin.
func (p *upgradePlan) wait(ctx context.Context, delay time.Duration) bool {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.now:
	case <-p.needless:
		return false
	case <-ctx.Done():
		return false
	}
	return true
}

func (p *upgradePlan) begin() {
	select {
	case p.now <- struct{}{}:
	default:
	}
}

// plan answers nil when the peer's first attempt is still to come. With a new relayed connection a plan whose attempts have
// failed begins anew.
func (t *webrtcSessions) plan(id peer.ID) *upgradePlan {
	t.state.Lock()
	defer t.state.Unlock()
	if before := t.state.waiting[id]; before != nil {
		if !before.tried {
			return nil
		}
		close(before.needless)
	}
	planned := &upgradePlan{now: make(chan struct{}, 1), needless: make(chan struct{})}
	t.state.waiting[id] = planned
	return planned
}

// unplan forgets a plan that has come to its end.
func (t *webrtcSessions) unplan(id peer.ID, planned *upgradePlan) {
	t.state.Lock()
	defer t.state.Unlock()
	if t.state.waiting[id] == planned {
		delete(t.state.waiting, id)
	}
}

// dropPlan lets no other attempt begin: a connection is there, or the program wants none, or the peer is gone.
func (t *webrtcSessions) dropPlan(id peer.ID) {
	t.state.Lock()
	defer t.state.Unlock()
	if planned := t.state.waiting[id]; planned != nil {
		delete(t.state.waiting, id)
		close(planned.needless)
	}
}

// punchFailed lets the first attempt begin at once. While other attempts to punch follow it does so only if a STUN or TURN
// server is named: without one WebRTC hardly finds what a punch does not.
func (t *webrtcSessions) punchFailed(id peer.ID, last bool) {
	t.state.RLock()
	defer t.state.RUnlock()
	servers := len(t.state.ice.STUNServers)+len(t.state.ice.TURNServers) > 0
	if planned := t.state.waiting[id]; planned != nil && !planned.tried && (last || servers) {
		planned.begin()
	}
}

// tryAgain begins the next attempt with every peer with which one has failed: something has changed.
func (t *webrtcSessions) tryAgain() {
	t.state.RLock()
	defer t.state.RUnlock()
	for _, planned := range t.state.waiting {
		if planned.tried {
			planned.begin()
		}
	}
}
