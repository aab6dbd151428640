package webrtctransport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	ma "github.com/multiformats/go-multiaddr"

	"peerbus/node/webrtc"
)

const (
	// handshakeTimeout bounds a negotiation.
	handshakeTimeout = 60 * time.Second
	// openTimeout bounds opening the signalling stream.
	openTimeout = 20 * time.Second
	// maxHandshakes bounds the negotiations that peers have begun, and the connections that wait to be accepted.
	maxHandshakes = 64
)

// Address is what this transport listens on and dials.
var Address = ma.StringCast("/webrtc")

// Options are what the transport needs of the node around it.
type Options struct {
	Host   host.Host
	Engine *webrtc.Engine
	ICE    func() webrtc.ICEConfig // asked for each connection
	Gater  connmgr.ConnectionGater
	// Dialling is told when a dial begins, Failed when a peer's attempt has failed.
	Dialling func(peer.ID)
	Failed   func(peer.ID, error)
	Spawn    func(name string, f func()) bool // runs f in a goroutine of the node; false once that closes
}

// Transport implements libp2p's transport.Transport.
type Transport struct {
	Options
	host  host.Host
	spawn func(name string, f func()) bool

	state struct {
		sync.Mutex
		listener    *listener
		negotiating map[peer.ID]struct{} // peers that have begun
	}
}

var _ transport.Transport = (*Transport)(nil)

// New makes a transport for a host that runs.
func New(o Options) *Transport {
	t := &Transport{Options: o, host: o.Host, spawn: o.Spawn}
	t.state.negotiating = map[peer.ID]struct{}{}
	return t
}

// CanDial implements transport.Transport.
func (t *Transport) CanDial(addr ma.Multiaddr) bool { return addr.Equal(Address) }

// Protocols implements transport.Transport.
func (t *Transport) Protocols() []int { return []int{ma.P_WEBRTC} }

// Proxy implements transport.Transport.
func (t *Transport) Proxy() bool { return false }

// Dial negotiates over the relayed connection with the peer that there must be.
func (t *Transport) Dial(ctx context.Context, addr ma.Multiaddr, id peer.ID) (transport.CapableConn, error) {
	t.Dialling(id)
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	opening, cancelOpening := context.WithTimeout(network.WithNoDial(network.WithAllowLimitedConn(ctx, "webrtc"), "webrtc"), openTimeout)
	defer cancelOpening()
	stream, err := t.host.NewStream(opening, id, SignalProtocol)
	if err != nil {
		return nil, fmt.Errorf("opening the signalling stream: %w", err)
	}
	return t.negotiate(ctx, stream, network.DirOutbound, (*negotiation).offer)
}

// negotiate runs one side over a signalling stream, and ends the stream.
func (t *Transport) negotiate(
	ctx context.Context, stream network.Stream, direction network.Direction, side func(*negotiation, context.Context) error,
) (*connection, error) {
	stop := context.AfterFunc(ctx, func() { _ = stream.Reset() })
	defer stop()
	c, err := t.prepare(stream.Conn(), direction)
	if err != nil {
		_ = stream.Reset()
		return nil, err
	}
	n := newNegotiation(c, stream)
	err = webrtc.Guarded(func() error { return side(n, ctx) })
	if err == nil && !t.Gater.InterceptSecured(direction, c.remote, c) {
		err = errors.New("the connection gater refuses the peer")
	}
	if err != nil {
		_ = stream.Reset()
		c.close(err)
		return nil, err
	}
	_ = stream.Close()
	return c, nil
}

// prepare makes the connection that will be negotiated with the peer behind a relayed one.
func (t *Transport) prepare(relayed network.Conn, direction network.Direction) (*connection, error) {
	scope, err := t.host.Network().ResourceManager().OpenConnection(direction, false, Address)
	if err != nil {
		return nil, err
	}
	if err := scope.SetPeer(relayed.RemotePeer()); err != nil {
		scope.Done()
		return nil, err
	}
	pc, err := t.Engine.NewConnection(t.ICE())
	if err != nil {
		scope.Done()
		return nil, err
	}
	return newConnection(t, pc, scope, relayed.RemotePeer(), relayed.RemotePublicKey()), nil
}

// Listen implements transport.Transport. There is one listener.
func (t *Transport) Listen(addr ma.Multiaddr) (transport.Listener, error) {
	if !t.CanDial(addr) {
		return nil, fmt.Errorf("cannot listen on %s, only on %s", addr, Address)
	}
	t.state.Lock()
	defer t.state.Unlock()
	if t.state.listener != nil {
		return nil, errors.New("there is a listener already")
	}
	l := &listener{transport: t, accepted: make(chan *connection, maxHandshakes)}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	t.state.listener = l
	t.host.SetStreamHandler(SignalProtocol, func(s network.Stream) {
		if !t.spawn("webrtc answer", func() { l.answer(s) }) {
			_ = s.Reset()
		}
	})
	return l, nil
}

func (t *Transport) admit(id peer.ID) bool {
	t.state.Lock()
	defer t.state.Unlock()
	if _, busy := t.state.negotiating[id]; busy || len(t.state.negotiating) >= maxHandshakes {
		return false
	}
	t.state.negotiating[id] = struct{}{}
	return true
}

func (t *Transport) dismiss(id peer.ID) {
	t.state.Lock()
	defer t.state.Unlock()
	delete(t.state.negotiating, id)
}

// listener accepts what peers negotiate.
type listener struct {
	transport *Transport
	accepted  chan *connection
	ctx       context.Context
	cancel    context.CancelFunc
}

// answer serves a signalling stream that a peer opened.
func (l *listener) answer(stream network.Stream) {
	id := stream.Conn().RemotePeer()
	if !l.transport.admit(id) {
		_ = stream.Reset()
		return
	}
	defer l.transport.dismiss(id)
	ctx, cancel := context.WithTimeout(l.ctx, handshakeTimeout)
	defer cancel()
	c, err := l.transport.negotiate(ctx, stream, network.DirInbound, (*negotiation).answer)
	if err != nil {
		l.transport.Failed(id, err)
		return
	}
	select {
	case l.accepted <- c:
	case <-ctx.Done():
		c.close(ErrEnded)
	}
}

// Accept implements transport.Listener.
func (l *listener) Accept() (transport.CapableConn, error) {
	select {
	case c := <-l.accepted:
		return c, nil
	case <-l.ctx.Done():
		return nil, transport.ErrListenerClosed
	}
}

// Close implements transport.Listener.
func (l *listener) Close() error {
	l.cancel()
	l.transport.host.RemoveStreamHandler(SignalProtocol)
	for {
		select {
		case c := <-l.accepted:
			c.close(ErrEnded)
		default:
			return nil
		}
	}
}

// Addr implements transport.Listener. There is no socket behind it.
func (l *listener) Addr() net.Addr { return address{} }

// Multiaddr implements transport.Listener.
func (l *listener) Multiaddr() ma.Multiaddr { return Address }

type address struct{}

func (address) Network() string { return "webrtc" }
func (address) String() string  { return Address.String() }
