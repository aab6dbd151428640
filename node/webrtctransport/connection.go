package webrtctransport

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/pion/datachannel"
	pion "github.com/pion/webrtc/v4"
)

const (
	// initLabel names the data channel that only makes the offer have one. It is no stream.
	initLabel = "init"
	// acceptQueue bounds the streams that the peer has opened and nobody has accepted yet. Further ones are reset.
	acceptQueue = 256
	// maxOpening bounds the streams that the peer has not acknowledged yet: pion takes 16 at a time and drops the packets of
	// further ones, which come again only after a second or more.
	maxOpening = 8
)

const (
	// closeTimeout is how long an orderly end waits for the peer to acknowledge what was written.
	closeTimeout = time.Second
	// drainPoll is how often it looks: SCTP tells only when half of a buffer has left.
	drainPoll = 5 * time.Millisecond
)

var (
	// ErrEnded is why a connection ends in order, by either side.
	ErrEnded = errors.New("the WebRTC connection was closed")
	// ErrSilent is why a connection ends whose peer is gone, or that found no path.
	ErrSilent = errors.New("nothing came from the peer for too long, or no path was found")
)

// connection is a WebRTC connection as a libp2p connection. It takes the peer's data channels from the moment it is made, before
// the handshake ends, because they may come at once.
type connection struct {
	transport *Transport
	pc        *pion.PeerConnection
	scope     network.ConnManagementScope
	local     peer.ID
	remote    peer.ID
	remoteKey crypto.PubKey

	connected chan struct{} // closed when ICE and DTLS are done
	accepted  chan *datachannel.DataChannel
	opening   chan struct{} // holds a token for each stream that is being opened
	ctx       context.Context
	cancel    context.CancelCauseFunc

	state struct {
		sync.Mutex
		connected bool
		closed    bool
		streams   map[*stream]struct{}
	}
}

var _ transport.CapableConn = (*connection)(nil)

func newConnection(t *Transport, pc *pion.PeerConnection, scope network.ConnManagementScope, remote peer.ID, key crypto.PubKey) *connection {
	c := &connection{
		transport: t, pc: pc, scope: scope, local: t.host.ID(), remote: remote, remoteKey: key,
		connected: make(chan struct{}), accepted: make(chan *datachannel.DataChannel, acceptQueue),
		opening: make(chan struct{}, maxOpening),
	}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.state.streams = map[*stream]struct{}{}
	pc.OnConnectionStateChange(c.onState)
	pc.OnDataChannel(c.onDataChannel)
	return c
}

func (c *connection) onState(state pion.PeerConnectionState) {
	switch state {
	case pion.PeerConnectionStateConnected:
		c.state.Lock()
		defer c.state.Unlock()
		if !c.state.connected {
			c.state.connected = true
			close(c.connected)
		}
	case pion.PeerConnectionStateFailed:
		c.close(ErrSilent)
	case pion.PeerConnectionStateClosed:
		c.close(ErrEnded)
	}
}

// onDataChannel takes a data channel that the peer opened.
func (c *connection) onDataChannel(channel *pion.DataChannel) {
	if channel.Label() == initLabel {
		channel.OnOpen(func() { _, _ = channel.Detach() }) // the dialler closes it
		return
	}
	channel.OnOpen(func() {
		raw, err := channel.Detach()
		if err != nil {
			return
		}
		select {
		case c.accepted <- raw.(*datachannel.DataChannel):
		default:
			_ = raw.Close()
		}
	})
}

func (c *connection) close(reason error) {
	c.state.Lock()
	if c.state.closed {
		c.state.Unlock()
		return
	}
	c.state.closed = true
	streams := c.state.streams
	c.state.streams = nil
	c.state.Unlock()
	c.cancel(reason)
	_ = c.pc.Close() // not the graceful one: this may be one of pion's own callbacks
	for s := range streams {
		s.cut(reason)
	}
	c.scope.Done()
}

// serve makes a data channel a stream and moves what arrives on it.
func (c *connection) serve(raw *datachannel.DataChannel, ended func()) (*stream, error) {
	c.state.Lock()
	defer c.state.Unlock()
	if c.state.closed {
		_ = raw.Close()
		return nil, context.Cause(c.ctx)
	}
	var s *stream
	s = newStream(raw, func() {
		ended()
		c.forget(s)
	})
	if !c.transport.spawn("webrtc stream", s.pump) {
		_ = raw.Close()
		return nil, ErrEnded
	}
	c.state.streams[s] = struct{}{}
	return s, nil
}

func (c *connection) forget(s *stream) {
	c.state.Lock()
	defer c.state.Unlock()
	delete(c.state.streams, s)
}

// OpenStream implements network.MuxedConn.
func (c *connection) OpenStream(ctx context.Context) (network.MuxedStream, error) {
	if c.IsClosed() {
		return nil, context.Cause(c.ctx)
	}
	select {
	case c.opening <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-c.ctx.Done():
		return nil, context.Cause(c.ctx)
	}
	acknowledged := sync.OnceFunc(func() { <-c.opening })
	channel, err := c.pc.CreateDataChannel("", nil)
	if err != nil {
		acknowledged()
		return nil, err
	}
	opened := make(chan *datachannel.DataChannel, 1)
	channel.OnOpen(func() {
		if raw, err := channel.Detach(); err == nil {
			opened <- raw.(*datachannel.DataChannel)
		}
	})
	select {
	case raw := <-opened:
		raw.OnOpen(acknowledged)
		return c.serve(raw, acknowledged)
	case <-ctx.Done():
		acknowledged()
		_ = channel.Close()
		return nil, context.Cause(ctx)
	case <-c.ctx.Done():
		return nil, context.Cause(c.ctx)
	}
}

// AcceptStream implements network.MuxedConn.
func (c *connection) AcceptStream() (network.MuxedStream, error) {
	select {
	case raw := <-c.accepted:
		return c.serve(raw, func() {})
	case <-c.ctx.Done():
		return nil, context.Cause(c.ctx)
	}
}

// Close implements network.MuxedConn. What was written has closeTimeout to arrive: closing SCTP forgets it.
func (c *connection) Close() error {
	deadline := time.NewTimer(closeTimeout)
	defer deadline.Stop()
	poll := time.NewTicker(drainPoll)
	defer poll.Stop()
	for c.unacknowledged() {
		select {
		case <-poll.C:
		case <-deadline.C:
			c.close(ErrEnded)
		case <-c.ctx.Done():
		}
	}
	c.close(ErrEnded)
	return nil
}

// unacknowledged tells whether the peer has not got all that was written; never once the connection has ended.
func (c *connection) unacknowledged() bool {
	c.state.Lock()
	defer c.state.Unlock()
	for s := range c.state.streams {
		if s.channel.BufferedAmount() > 0 {
			return true
		}
	}
	return false
}

// CloseWithError implements network.MuxedConn. WebRTC cannot tell the code to the peer.
func (c *connection) CloseWithError(network.ConnErrorCode) error { return c.Close() }

// As gives the pion connection, or this one, to whom asks for it.
func (c *connection) As(target any) bool {
	switch target := target.(type) {
	case **pion.PeerConnection:
		*target = c.pc
	case **connection:
		*target = c
	default:
		return false
	}
	return true
}

// Cause answers why a connection of this transport has ended, nil before.
func Cause(c network.Conn) error {
	var of *connection
	if !c.As(&of) || of.ctx.Err() == nil {
		return nil
	}
	return context.Cause(of.ctx)
}

func (c *connection) IsClosed() bool                 { return c.ctx.Err() != nil }
func (c *connection) LocalPeer() peer.ID             { return c.local }
func (c *connection) RemotePeer() peer.ID            { return c.remote }
func (c *connection) RemotePublicKey() crypto.PubKey { return c.remoteKey }
func (c *connection) LocalMultiaddr() ma.Multiaddr   { return Address }
func (c *connection) RemoteMultiaddr() ma.Multiaddr  { return Address }
func (c *connection) Scope() network.ConnScope       { return c.scope }
func (c *connection) Transport() transport.Transport { return c.transport }
func (c *connection) ConnState() network.ConnectionState {
	return network.ConnectionState{Transport: "webrtc"}
}
