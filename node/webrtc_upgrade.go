package node

import (
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
		delay = min(delay, browserDelay)
	}
	spawned := t.node.spawn("webrtc upgrade", func() {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
			t.unplan(e.Peer)
		case <-planned.punched:
		case <-planned.needless:
			return
		case <-t.node.ctx.Done():
			return
		}
		t.upgrade(e.Peer)
	})
	if !spawned {
		t.unplan(e.Peer)
	}
}

func speaksWebRTC(protocols []protocol.ID) bool {
	return slices.Contains(protocols, webrtc.SignalProtocol) || slices.Contains(protocols, webrtctransport.SignalProtocol)
}

// upgrade opens a WebRTC connection with a peer that is still only relayed.
func (t *webrtcSessions) upgrade(id peer.ID) {
	if !t.onlyRelayed(id) || t.find(id) != nil {
		return
	}
	if _, err := t.node.InitiateWebRTC(t.node.ctx, id); err != nil {
		t.node.log.Info("no WebRTC connection to a relayed peer", "peer", id, "reason", err)
	}
}

// onlyRelayed tells whether the peer is connected, and through relays alone.
func (t *webrtcSessions) onlyRelayed(id peer.ID) bool {
	connections := t.node.host.Network().ConnsToPeer(id)
	return len(connections) > 0 && !slices.ContainsFunc(connections, func(c network.Conn) bool {
		return !isRelayed(c.RemoteMultiaddr())
	})
}

// upgradePlan is an automatic start to come.
type upgradePlan struct {
	punched  chan struct{} // closed when a hole punch has failed: there is nothing to wait for
	needless chan struct{} // closed when a WebRTC connection is there
}

// plan answers nil when the peer's upgrade is planned already.
func (t *webrtcSessions) plan(id peer.ID) *upgradePlan {
	t.state.Lock()
	defer t.state.Unlock()
	if t.state.waiting[id] != nil {
		return nil
	}
	planned := &upgradePlan{make(chan struct{}), make(chan struct{})}
	t.state.waiting[id] = planned
	return planned
}

// punchFailed lets WebRTC begin at once.
func (t *webrtcSessions) punchFailed(text string) {
	id, err := peer.Decode(text)
	if err != nil {
		return
	}
	if planned := t.unplan(id); planned != nil {
		close(planned.punched)
	}
}

// opened makes a plan needless.
func (t *webrtcSessions) opened(id peer.ID) {
	if planned := t.unplan(id); planned != nil {
		close(planned.needless)
	}
}

// unplan forgets a plan. Who forgets it may close one of its channels.
func (t *webrtcSessions) unplan(id peer.ID) *upgradePlan {
	t.state.Lock()
	defer t.state.Unlock()
	planned := t.state.waiting[id]
	delete(t.state.waiting, id)
	return planned
}
