package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"

	"peerbus/node/webrtc"
	"peerbus/node/webrtctransport"
)

const (
	// maxSignalling bounds the peers whose offers are being read or answered.
	maxSignalling = 64
	// webrtcDrainTimeout is how long an orderly end of a session waits for the peer to acknowledge what it was sent.
	webrtcDrainTimeout = time.Second
)

// WebRTCProtocol is what received messages came by that arrived on a WebRTC data channel.
const WebRTCProtocol = "/webrtc/unaiverse-data"

// States of a session in events and lists.
const (
	WebRTCConnecting = "connecting"
	WebRTCOpen       = "open"
	WebRTCFailed     = "failed"
	WebRTCClosed     = "closed"
)

// webrtcSession is a WebRTC connection with one peer, or the attempt at one. At most one exists for each peer.
//
//	none --this node offers--> connecting --channel opens--> open --either closes, silence--> closing --> none
//	     --the peer offers-->       |      --failure, 60 s--> none
//	                                +--both offered: the smaller peer id's offer stays, the other side answers it
type webrtcSession struct {
	node    *Node
	peer    peer.ID
	offered bool // by this node
	began   time.Time

	// The table's lock guards these.
	session   *webrtc.Session // nil while connecting
	err       error           // why there will be none
	closing   bool            // takes no more messages
	successor *webrtcSession  // the peer's offer that replaced this one

	usableFrom time.Time     // set before settled is closed
	settled    chan struct{} // closed when it is open or has failed
	gone       chan struct{} // closed when nothing is left of it
	writing    chan struct{} // holds a token while somebody writes, or drains
	ctx        context.Context
	cancel     context.CancelCauseFunc
}

// webrtcSessions is the table of them, and the ICE configuration that later ones use.
type webrtcSessions struct {
	node    *Node
	engine  *webrtc.Engine // nil: switched off
	conns   *webrtcConns
	counted struct{ opened, failed, refused atomic.Uint64 }

	upgradeDelay, browserDelay, upgradeRetry time.Duration // the constants, but in tests

	state struct {
		sync.RWMutex
		byPeer     map[peer.ID]*webrtcSession
		signalling map[peer.ID]struct{}     // whose offers are being read or answered
		waiting    map[peer.ID]*upgradePlan // to be offered to automatically
		ice        webrtc.ICEConfig
		closed     bool
	}
}

func newWebRTCSessions(n *Node) *webrtcSessions {
	t := &webrtcSessions{node: n, upgradeDelay: upgradeDelay, browserDelay: browserDelay, upgradeRetry: upgradeRetry}
	t.state.byPeer = map[peer.ID]*webrtcSession{}
	t.state.signalling = map[peer.ID]struct{}{}
	t.state.waiting = map[peer.ID]*upgradePlan{}
	t.conns = newWebRTCConns(t)
	t.state.ice = iceOf(n.config.WebRTC)
	// A configuration that names no addresses fails when the node begins to listen.
	if listening, err := n.config.ListenMultiaddrs(); err == nil && n.config.WebRTC.Enabled {
		t.engine = webrtc.NewEngine(webrtc.Options{Log: n.log, Addresses: ipsOf(listening)})
	}
	return t
}

// protocols are those of signalling.
func (t *webrtcSessions) protocols() []protocol.ID {
	if t.engine == nil {
		return nil
	}
	if !t.conns.served() {
		return []protocol.ID{webrtc.SignalProtocol}
	}
	return []protocol.ID{webrtc.SignalProtocol, webrtctransport.SignalProtocol}
}

func (t *webrtcSessions) start() error {
	if t.engine == nil {
		return nil
	}
	t.node.handle(webrtc.SignalProtocol, t.accept)
	return t.conns.start()
}

func ipsOf(addrs []ma.Multiaddr) []netip.Addr {
	var ips []netip.Addr
	for _, addr := range addrs {
		for _, code := range []int{ma.P_IP4, ma.P_IP6} {
			text, _ := addr.ValueForProtocol(code)
			if ip, err := netip.ParseAddr(text); err == nil && !slices.Contains(ips, ip) {
				ips = append(ips, ip)
			}
		}
	}
	return ips
}

func (t *webrtcSessions) newSessionLocked(id peer.ID, offered bool) *webrtcSession {
	s := &webrtcSession{
		node: t.node, peer: id, offered: offered, began: time.Now(),
		settled: make(chan struct{}), gone: make(chan struct{}), writing: make(chan struct{}, 1),
	}
	s.ctx, s.cancel = context.WithCancelCause(t.node.ctx)
	t.state.byPeer[id] = s
	return s
}

func (t *webrtcSessions) find(id peer.ID) *webrtcSession {
	t.state.RLock()
	defer t.state.RUnlock()
	return t.state.byPeer[id]
}

// writable answers the peer's session if it is open.
func (t *webrtcSessions) writable(id peer.ID) *webrtcSession {
	t.state.RLock()
	defer t.state.RUnlock()
	s := t.state.byPeer[id]
	if s == nil || s.session == nil || s.closing || s.session.Err() != nil {
		return nil
	}
	return s
}

// errOffered tells an attempt that the peer's offer has replaced its own.
var errOffered = errors.New("the peer offered at the same time, and its offer stays")

// InitiateWebRTC opens a WebRTC connection with a connected peer, or joins the attempt that runs. It fails when one is open. With
// a peer that is reached through a relay only and serves the libp2p transport it is a libp2p connection, which everything takes,
// else a session for chat.
func (n *Node) InitiateWebRTC(ctx context.Context, id peer.ID) (WebRTCSession, error) {
	t := n.webrtc
	if err := t.checkOffer(id); err != nil {
		return WebRTCSession{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, webrtc.HandshakeTimeout)
	defer cancel()
	ctx, unbind := n.bind(ctx)
	defer unbind()
	if t.conns.preferred(ctx, id) {
		return t.initiateConn(ctx, id)
	}
	s, fresh, err := t.begin(ctx, id)
	if err != nil {
		return WebRTCSession{}, err
	}
	if fresh && !n.spawn("webrtc offer", func() { t.offer(s) }) {
		t.settle(s, nil, ErrClosed)
	}
	if s, err = t.await(ctx, s, fresh); err != nil {
		return WebRTCSession{}, err
	}
	return t.describe(s), nil
}

func (t *webrtcSessions) initiateConn(ctx context.Context, id peer.ID) (WebRTCSession, error) {
	if err := t.conns.dial(ctx, id); err != nil {
		return WebRTCSession{}, err
	}
	for _, c := range t.conns.with(id) {
		return describeConn(c), nil
	}
	return WebRTCSession{}, fmt.Errorf("%w: the WebRTC connection with %s ended at once", ErrPeerClosed, id)
}

func (t *webrtcSessions) checkOffer(id peer.ID) error {
	switch {
	case t.engine == nil:
		return fmt.Errorf("%w: webrtc.enabled is false", ErrUnsupported)
	case id == t.node.id:
		return fmt.Errorf("%w: %s is this node", ErrArgument, id)
	case len(t.node.host.Network().ConnsToPeer(id)) == 0:
		return fmt.Errorf("%w: WebRTC is negotiated over a connection to %s, and there is none; connect first", ErrNotConnected, id)
	case len(t.conns.with(id)) > 0:
		return fmt.Errorf("%w: there is an open WebRTC connection with %s already", ErrRefused, id)
	}
	return nil
}

// begin answers the session to wait for, and whether the caller has to make the offer. An open one whose peer has fallen
// silent makes way.
func (t *webrtcSessions) begin(ctx context.Context, id peer.ID) (s *webrtcSession, fresh bool, err error) {
	for {
		t.state.Lock()
		s = t.state.byPeer[id]
		switch {
		case t.state.closed:
			err = ErrClosed
		case s == nil:
			s, fresh = t.newSessionLocked(id, true), true
		case s.session == nil || s.closing || s.session.Err() != nil:
		case s.session.Doubtful():
			s.session.End(errSuperseded)
		default:
			err = fmt.Errorf("%w: there is an open WebRTC connection with %s already", ErrRefused, id)
		}
		ended := s != nil && !fresh && s.session != nil
		t.state.Unlock()
		if err != nil || !ended {
			return s, fresh, err
		}
		select {
		case <-s.gone:
		case <-ctx.Done():
			return nil, false, contextError(ctx, "waiting for the end of the WebRTC connection before")
		}
	}
}

var errSuperseded = errors.New("replaced by a new one, since nothing came from the peer any more")

// await answers the session, or the one that replaced it, once it is open. The end of ctx ends an own attempt.
func (t *webrtcSessions) await(ctx context.Context, s *webrtcSession, own bool) (*webrtcSession, error) {
	for {
		select {
		case <-s.settled:
		case <-ctx.Done():
			err := contextError(ctx, "opening a WebRTC connection to "+s.peer.String())
			if own {
				s.cancel(err)
			}
			return nil, err
		}
		t.state.RLock()
		next, err := s.successor, s.err
		t.state.RUnlock()
		if next == nil {
			return s, err
		}
		s = next
	}
}

// settle notes how the attempt ended. A session that came too late is closed.
func (t *webrtcSessions) settle(s *webrtcSession, session *webrtc.Session, err error) {
	t.state.Lock()
	if err == nil && (t.state.byPeer[s.peer] != s || t.state.closed) {
		err = ErrClosed
	}
	if err == nil {
		s.session = session
	} else {
		s.err = err
		if t.state.byPeer[s.peer] == s {
			delete(t.state.byPeer, s.peer)
		}
	}
	replaced := s.successor != nil
	t.state.Unlock()
	if err != nil {
		t.giveUp(s, session, err, replaced)
		return
	}
	s.usableFrom = time.Now().Add(t.settlingTime(s.peer))
	t.counted.opened.Add(1)
	s.serve()
}

func (t *webrtcSessions) giveUp(s *webrtcSession, session *webrtc.Session, err error, replaced bool) {
	if session != nil {
		session.Close()
	}
	if !replaced {
		t.counted.failed.Add(1)
		t.conns.noteFailure(s.peer, err)
		t.announce(s.peer, s.offered, WebRTCFailed, err.Error(), nil)
	}
	s.cancel(err)
	close(s.settled)
	close(s.gone)
}

// foreignSettling is how long after the opening the first message waits: peers of the existing network drop what comes before
// their receiver stands.
const foreignSettling = 250 * time.Millisecond

func (t *webrtcSessions) settlingTime(id peer.ID) time.Duration {
	agent, err := t.node.host.Peerstore().Get(id, "AgentVersion")
	if name, ok := agent.(string); err == nil && ok && strings.HasPrefix(name, "peerbus/") {
		return 0
	}
	return foreignSettling
}

// remove forgets an ended session.
func (t *webrtcSessions) remove(s *webrtcSession) {
	t.state.Lock()
	defer t.state.Unlock()
	if t.state.byPeer[s.peer] == s {
		delete(t.state.byPeer, s.peer)
	}
}

// drop ends the peer's session, or the attempt at one, in order: what was sent may still arrive. It answers whether there
// was one.
func (t *webrtcSessions) drop(id peer.ID, reason error) bool {
	s := t.find(id)
	if s == nil {
		return false
	}
	t.end(s, reason)
	timer := time.NewTimer(closeDrainTimeout)
	defer timer.Stop()
	select {
	case <-s.gone:
	case <-timer.C:
	}
	return true
}

// end makes a session end in order, or the attempt fail.
func (t *webrtcSessions) end(s *webrtcSession, reason error) {
	t.state.Lock()
	session := s.session
	s.closing = true
	t.state.Unlock()
	s.cancel(reason)
	if session == nil {
		return
	}
	patience := time.NewTimer(webrtcDrainTimeout)
	defer patience.Stop()
	select {
	case s.writing <- struct{}{}: // kept, so that nothing is written any more
		session.Drain(webrtcDrainTimeout)
	case <-patience.C:
	}
	session.End(reason)
}

// close ends all sessions at the same time, and takes no more.
func (t *webrtcSessions) close() {
	t.state.Lock()
	t.state.closed = true
	all := make([]*webrtcSession, 0, len(t.state.byPeer))
	for _, s := range t.state.byPeer {
		all = append(all, s)
	}
	t.state.Unlock()
	var group sync.WaitGroup
	for _, s := range all {
		group.Go(func() {
			defer t.node.recoverPanic("closing a WebRTC session")
			t.end(s, ErrClosed)
		})
	}
	group.Wait()
}

// CloseWebRTC ends the WebRTC connection with a peer, or the attempt at one, and answers whether there was one. Messages on
// their way get a second to arrive. No other one begins by itself until the peer is relayed anew.
func (n *Node) CloseWebRTC(id peer.ID) bool {
	n.webrtc.dropPlan(id)
	reason := fmt.Errorf("%w: this node closed the WebRTC connection with %s", ErrPeerClosed, id)
	session, conn := n.webrtc.drop(id, reason), n.webrtc.conns.close(id, reason)
	return session || conn
}
