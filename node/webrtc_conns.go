package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	pion "github.com/pion/webrtc/v4"

	"peerbus/node/webrtc"
	"peerbus/node/webrtctransport"
)

// webrtcConns are the libp2p connections by the transport /webrtc, and this node's attempts at them. Everything takes such a
// connection, as any direct one.
//
//	relayed --InitiateWebRTC, or by itself--> connecting --> open --either side closes, silence--> relayed
//	        --the peer dials-------------------------------> '
//
// The relayed connection is closed once it is unused; so when the open one ends, the side that had dialled through the relay
// does so again, once.
type webrtcConns struct {
	of   *webrtcSessions
	node *Node

	state struct {
		sync.Mutex
		open     map[network.Conn]*webrtcConn
		dials    map[peer.ID]*webrtcDial
		declined map[peer.ID]struct{} // whose next relayed connection shall stay relayed: one side closed the WebRTC one
		failure  *WebRTCFailure       // the last one
	}
}

// webrtcConn is what is remembered of a connection. The lock guards reason.
type webrtcConn struct {
	pair   *webrtc.Pair
	back   ma.Multiaddr // how this node had reached the peer through a relay; nil: the peer had dialled
	reason error        // why this node closes it
}

// webrtcDial is an attempt of this node.
type webrtcDial struct {
	began  time.Time
	ctx    context.Context
	cancel context.CancelCauseFunc
	done   chan struct{}
	err    error // set before done is closed
}

// WebRTCFailure is a WebRTC connection that did not come about.
type WebRTCFailure struct {
	Peer   string `json:"peer"`
	Time   string `json:"time"` // RFC 3339
	Reason string `json:"reason"`
}

func newWebRTCConns(t *webrtcSessions) *webrtcConns {
	w := &webrtcConns{of: t, node: t.node}
	w.state.open = map[network.Conn]*webrtcConn{}
	w.state.dials = map[peer.ID]*webrtcDial{}
	w.state.declined = map[peer.ID]struct{}{}
	return w
}

func isWebRTC(c network.Conn) bool { return c.RemoteMultiaddr().Equal(webrtctransport.Address) }

// with answers the open connections with a peer: two when both sides dialled at once.
func (w *webrtcConns) with(id peer.ID) []network.Conn {
	var conns []network.Conn
	for _, c := range w.node.host.Network().ConnsToPeer(id) {
		if isWebRTC(c) && !c.IsClosed() {
			conns = append(conns, c)
		}
	}
	return conns
}

// dial opens a connection with a peer that is connected through relays only, or joins the attempt that runs.
func (w *webrtcConns) dial(ctx context.Context, id peer.ID) error {
	d, fresh := w.begin(id)
	if fresh && !w.node.spawn("webrtc dial", func() { w.run(id, d) }) {
		w.settle(id, d, ErrClosed)
	}
	select {
	case <-d.done:
		return d.err
	case <-ctx.Done():
		err := contextError(ctx, "opening a WebRTC connection to "+id.String())
		if fresh {
			d.cancel(err)
		}
		return err
	}
}

func (w *webrtcConns) begin(id peer.ID) (d *webrtcDial, fresh bool) {
	w.state.Lock()
	defer w.state.Unlock()
	delete(w.state.declined, id)
	if d := w.state.dials[id]; d != nil {
		return d, false
	}
	d = &webrtcDial{began: time.Now(), done: make(chan struct{})}
	d.ctx, d.cancel = context.WithCancelCause(w.node.ctx)
	w.state.dials[id] = d
	return d, true
}

func (w *webrtcConns) run(id peer.ID, d *webrtcDial) {
	w.of.announce(id, true, WebRTCConnecting, "", nil)
	ctx, cancel := context.WithTimeout(d.ctx, webrtc.HandshakeTimeout)
	defer cancel()
	w.settle(id, d, w.attempt(ctx, id))
}

func (w *webrtcConns) settle(id peer.ID, d *webrtcDial, err error) {
	w.state.Lock()
	delete(w.state.dials, id)
	w.state.Unlock()
	if err != nil {
		w.failed(id, true, err)
	}
	d.err = err
	close(d.done)
	d.cancel(err)
}

// failed counts and reports an attempt of either side.
func (w *webrtcConns) failed(id peer.ID, offered bool, err error) {
	w.of.counted.failed.Add(1)
	w.noteFailure(id, err)
	w.of.announce(id, offered, WebRTCFailed, err.Error(), nil)
}

func (w *webrtcConns) noteFailure(id peer.ID, err error) {
	w.state.Lock()
	defer w.state.Unlock()
	w.state.failure = &WebRTCFailure{id.String(), time.Now().UTC().Format(time.RFC3339), err.Error()}
}

func (w *webrtcConns) lastFailure() *WebRTCFailure {
	w.state.Lock()
	defer w.state.Unlock()
	return w.state.failure
}

func (w *webrtcConns) connected(c network.Conn) {
	if !isWebRTC(c) {
		return
	}
	r := &webrtcConn{pair: pairOf(c)}
	for _, relayed := range w.node.punches.relayedConns(c.RemotePeer()) {
		if relayed.Stat().Direction == network.DirOutbound {
			r.back = relayed.RemoteMultiaddr()
		}
	}
	w.state.Lock()
	w.state.open[c] = r
	w.state.Unlock()
	w.of.counted.opened.Add(1)
	w.of.dropPlan(c.RemotePeer())
	w.of.announce(c.RemotePeer(), c.Stat().Direction == network.DirOutbound, WebRTCOpen, "", r.pair)
}

// disconnected goes back to the relay when a WebRTC connection has ended, unless one side disconnected for good or another connection is left.
func (w *webrtcConns) disconnected(c network.Conn) {
	w.state.Lock()
	r := w.state.open[c]
	delete(w.state.open, c)
	w.state.Unlock()
	if !w.node.isConnected(c.RemotePeer()) {
		w.of.dropPlan(c.RemotePeer())
	}
	if r == nil {
		return
	}
	id, reason := c.RemotePeer(), r.reason
	if reason == nil {
		reason = webrtctransport.Cause(c)
	}
	w.of.announce(id, c.Stat().Direction == network.DirOutbound, WebRTCClosed, fmt.Sprint(reason), r.pair)
	if r.back == nil || w.node.gate.refused(id) || len(openConns(w.node.host.Network().ConnsToPeer(id))) > 0 {
		return
	}
	w.node.spawn("back to the relay", func() { w.goBack(id, r.back, errors.Is(webrtctransport.Cause(c), webrtctransport.ErrEnded)) })
}

// goBack dials through the relay again. When one side has closed the WebRTC connection, no other one is begun by itself.
func (w *webrtcConns) goBack(id peer.ID, back ma.Multiaddr, closed bool) {
	if closed {
		w.state.Lock()
		w.state.declined[id] = struct{}{}
		w.state.Unlock()
	}
	info := peer.AddrInfo{ID: id, Addrs: []ma.Multiaddr{back}}
	w.node.forgetFailedDials(info)
	ctx, cancel := context.WithTimeout(network.WithAllowLimitedConn(w.node.ctx, "back to the relay"), ConnectTimeout)
	defer cancel()
	if err := w.node.host.Connect(ctx, info); err != nil {
		w.accepts(id)
		w.node.log.Info("no way back to the relay after a WebRTC connection", "peer", id, "reason", err)
	}
}

// accepts tells whether a WebRTC connection may begin by itself; a refusal holds once.
func (w *webrtcConns) accepts(id peer.ID) bool {
	w.state.Lock()
	defer w.state.Unlock()
	_, declined := w.state.declined[id]
	delete(w.state.declined, id)
	return !declined
}

// close ends the connections with a peer, and the attempt at one, and answers whether there was any.
func (w *webrtcConns) close(id peer.ID, reason error) bool {
	conns := w.with(id)
	w.state.Lock()
	d := w.state.dials[id]
	for _, c := range conns {
		if r := w.state.open[c]; r != nil {
			r.reason = reason
		}
	}
	w.state.Unlock()
	if d != nil {
		d.cancel(reason)
	}
	for _, c := range conns {
		_ = c.Close() // fails only when it is closed already
	}
	return d != nil || len(conns) > 0
}

// list describes the connections and attempts.
func (w *webrtcConns) list() []WebRTCSession {
	var list []WebRTCSession
	w.state.Lock()
	for id, d := range w.state.dials {
		list = append(list, WebRTCSession{
			Peer: id.String(), Kind: webrtcConnection, State: WebRTCConnecting, Offered: true, Since: d.began.UTC().Format(time.RFC3339),
		})
	}
	w.state.Unlock()
	for _, c := range w.node.host.Network().Conns() {
		if isWebRTC(c) && !c.IsClosed() {
			list = append(list, describeConn(c))
		}
	}
	return list
}

func (w *webrtcConns) count() int {
	w.state.Lock()
	defer w.state.Unlock()
	return len(w.state.open)
}

func describeConn(c network.Conn) WebRTCSession {
	d := WebRTCSession{
		Peer: c.RemotePeer().String(), Kind: webrtcConnection, State: WebRTCOpen, Offered: c.Stat().Direction == network.DirOutbound,
		Since: c.Stat().Opened.UTC().Format(time.RFC3339), Path: pairOf(c),
	}
	d.Relayed = d.Path != nil && d.Path.Relayed()
	var pc *pion.PeerConnection
	d.Doubtful = c.As(&pc) && pc.ConnectionState() == pion.PeerConnectionStateDisconnected
	return d
}

func pairOf(c network.Conn) *webrtc.Pair {
	var pc *pion.PeerConnection
	if !c.As(&pc) {
		return nil
	}
	if pair, ok := webrtc.PairOf(pc); ok {
		return &pair
	}
	return nil
}
