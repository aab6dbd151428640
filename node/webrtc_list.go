package node

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"peerbus/node/webrtc"
)

// Kinds of WebRTC connections: a data channel for chat, or a libp2p connection for everything.
const (
	webrtcSessionKind = "session"
	webrtcConnection  = "connection"
)

// WebRTCSession describes a WebRTC connection, or the attempt at one.
type WebRTCSession struct {
	Peer    string `json:"peer_id"`
	Kind    string `json:"kind"`  // "session" or "connection", see docs/webrtc.md
	State   string `json:"state"` // "connecting" or "open"
	Offered bool   `json:"offered"`
	Since   string `json:"since"` // RFC 3339
	// Path is what ICE has chosen; nil while connecting.
	Path           *webrtc.Pair `json:"path"`
	Relayed        bool         `json:"relayed"`  // through a TURN server
	Doubtful       bool         `json:"doubtful"` // nothing has come from the peer for some seconds
	Unacknowledged uint64       `json:"unacknowledged"`
}

// WebRTCSessions lists them, in order of the peers' ids.
func (n *Node) WebRTCSessions() []WebRTCSession {
	t := n.webrtc
	t.state.RLock()
	all := slices.Collect(maps.Values(t.state.byPeer))
	t.state.RUnlock()
	list := make([]WebRTCSession, 0, len(all))
	for _, s := range all {
		list = append(list, t.describe(s))
	}
	list = append(list, t.conns.list()...)
	slices.SortStableFunc(list, func(a, b WebRTCSession) int { return strings.Compare(a.Peer, b.Peer) })
	return list
}

// describe asks pion, so it must be called without the table's lock.
func (t *webrtcSessions) describe(s *webrtcSession) WebRTCSession {
	t.state.RLock()
	session := s.session
	t.state.RUnlock()
	d := WebRTCSession{Peer: s.peer.String(), Kind: webrtcSessionKind, State: WebRTCConnecting, Offered: s.offered, Since: s.began.UTC().Format(time.RFC3339)}
	if session == nil {
		return d
	}
	d.State = WebRTCOpen
	if session.Err() != nil {
		d.State = WebRTCClosed
	}
	if pair, ok := session.Pair(); ok {
		d.Path, d.Relayed = &pair, pair.Relayed()
	}
	d.Doubtful = session.Doubtful()
	for _, count := range session.Unacknowledged() {
		d.Unacknowledged += count
	}
	return d
}

// announce raises the event of a new state.
func (t *webrtcSessions) announce(id peer.ID, offered bool, state, reason string, pair *webrtc.Pair) {
	fields := map[string]any{
		"peer": id.String(), "state": state, "offered": offered, "reason": reason,
		"local": webrtc.Candidate{}, "remote": webrtc.Candidate{}, "relayed": false,
	}
	if pair != nil {
		fields["local"], fields["remote"], fields["relayed"] = pair.Local, pair.Remote, pair.Relayed()
	}
	t.node.log.Info("WebRTC", "peer", id, "state", state, "reason", reason, "pair", pair)
	t.node.events.Push(EventWebRTCChanged, fields)
}

// WebRTCStatistics counts WebRTC sessions and the attempts at them.
type WebRTCStatistics struct {
	Open    int    `json:"open"`
	Opened  uint64 `json:"opened"`
	Failed  uint64 `json:"failed"`
	Refused uint64 `json:"refused"` // offers that this node refused
}

func (t *webrtcSessions) statistics() WebRTCStatistics {
	open := t.conns.count()
	t.state.RLock()
	defer t.state.RUnlock()
	for _, s := range t.state.byPeer {
		if s.session != nil {
			open++
		}
	}
	return WebRTCStatistics{open, t.counted.opened.Load(), t.counted.failed.Load(), t.counted.refused.Load()}
}
