package node

import (
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"

	"peerbus/node/webrtc"
)

const (
	// upgradeDelay is how long a relayed connection may become a direct one, by hole punching, before WebRTC is tried ...
	upgradeDelay = 20 * time.Second
	// ... and browserDelay the same for peers that cannot punch holes: those that announce /webrtc (NEW-15).
	browserDelay = 3 * time.Second
)

// identified plans the automatic start: the dialler of a relayed connection tries WebRTC when nothing direct has come of it.
func (t *webrtcSessions) identified(e event.EvtPeerIdentificationCompleted) {
	if t.engine == nil || !isRelayed(e.Conn.RemoteMultiaddr()) || e.Conn.Stat().Direction != network.DirOutbound ||
		!speaksWebRTC(e.Protocols) || !t.plan(e.Peer) {
		return
	}
	delay := t.upgradeDelay
	if slices.ContainsFunc(e.ListenAddrs, func(a ma.Multiaddr) bool { return hasProtocol(a, ma.P_WEBRTC) }) {
		delay = min(delay, browserDelay)
	}
	spawned := t.node.spawn("webrtc upgrade", func() {
		defer t.unplan(e.Peer)
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
			t.upgrade(e.Peer)
		case <-t.node.ctx.Done():
		}
	})
	if !spawned {
		t.unplan(e.Peer)
	}
}

func speaksWebRTC(protocols []protocol.ID) bool {
	return slices.Contains(protocols, webrtc.SignalProtocol)
}

// upgrade opens a data channel with a peer that is still only relayed.
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

// plan answers false when the peer's upgrade is planned already.
func (t *webrtcSessions) plan(id peer.ID) bool {
	t.state.Lock()
	defer t.state.Unlock()
	if _, planned := t.state.waiting[id]; planned {
		return false
	}
	t.state.waiting[id] = struct{}{}
	return true
}

func (t *webrtcSessions) unplan(id peer.ID) {
	t.state.Lock()
	defer t.state.Unlock()
	delete(t.state.waiting, id)
}
