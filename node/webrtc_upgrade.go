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
	punched, planned := t.plan(e.Peer)
	if !planned {
		return
	}
	delay := t.upgradeDelay
	punches := t.node.punches.service.wanted() && slices.Contains(e.Protocols, holepunch.Protocol)
	if !punches && slices.ContainsFunc(e.ListenAddrs, func(a ma.Multiaddr) bool { return hasProtocol(a, ma.P_WEBRTC) }) {
		delay = min(delay, browserDelay)
	}
	spawned := t.node.spawn("webrtc upgrade", func() {
		defer t.unplan(e.Peer)
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-punched:
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

// plan answers false when the peer's upgrade is planned already, else what is closed when a hole punch has failed.
func (t *webrtcSessions) plan(id peer.ID) (punched <-chan struct{}, planned bool) {
	t.state.Lock()
	defer t.state.Unlock()
	if _, planned := t.state.waiting[id]; planned {
		return nil, false
	}
	failed := make(chan struct{})
	t.state.waiting[id] = failed
	return failed, true
}

// punchFailed lets WebRTC begin at once.
func (t *webrtcSessions) punchFailed(text string) {
	id, err := peer.Decode(text)
	if err != nil {
		return
	}
	t.state.Lock()
	defer t.state.Unlock()
	if failed := t.state.waiting[id]; failed != nil {
		close(failed)
		t.state.waiting[id] = nil // planned still
	}
}

func (t *webrtcSessions) unplan(id peer.ID) {
	t.state.Lock()
	defer t.state.Unlock()
	delete(t.state.waiting, id)
}
