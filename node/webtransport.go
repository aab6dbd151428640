package node

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/pnet"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	webtransport "github.com/libp2p/go-libp2p/p2p/transport/webtransport"
	ma "github.com/multiformats/go-multiaddr"
)

// webTransport is libp2p's, whose streams end what reads and writes them when they are reset or closed. In webtransport-go v0.13 a
// Read that has heard of the end of the session waits for the rest of that news, and a stream that was reset by this side gets none: the
// Read would last for ever, and with it the goroutine of a node that closes. Only a deadline ends it.
type webTransport struct{ webTransportParts }

// webTransportParts are what libp2p uses of the transport.
type webTransportParts interface {
	transport.Transport
	transport.Resolver
	io.Closer
	AddCertHashes(ma.Multiaddr) (ma.Multiaddr, bool)
}

// newWebTransport is what libp2p constructs the transport with.
func newWebTransport(key crypto.PrivKey, psk pnet.PSK, conns *quicreuse.ConnManager, gater connmgr.ConnectionGater,
	resources network.ResourceManager) (transport.Transport, error) {
	inner, err := webtransport.New(key, psk, conns, gater, resources)
	if err != nil {
		return nil, err
	}
	parts, ok := inner.(webTransportParts)
	if !ok {
		return nil, fmt.Errorf("%w: libp2p's WebTransport is not what it was", ErrInternal)
	}
	return webTransport{parts}, nil
}

func (t webTransport) Dial(ctx context.Context, addr ma.Multiaddr, id peer.ID) (transport.CapableConn, error) {
	c, err := t.webTransportParts.Dial(ctx, addr, id)
	if err != nil {
		return nil, err
	}
	return webTransportConn{c}, nil
}

func (t webTransport) Listen(addr ma.Multiaddr) (transport.Listener, error) {
	l, err := t.webTransportParts.Listen(addr)
	if err != nil {
		return nil, err
	}
	return webTransportListener{l}, nil
}

type webTransportListener struct{ transport.Listener }

func (l webTransportListener) Accept() (transport.CapableConn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return webTransportConn{c}, nil
}

type webTransportConn struct{ transport.CapableConn }

func (c webTransportConn) OpenStream(ctx context.Context) (network.MuxedStream, error) {
	return wakeable(c.CapableConn.OpenStream(ctx))
}

func (c webTransportConn) AcceptStream() (network.MuxedStream, error) {
	return wakeable(c.CapableConn.AcceptStream())
}

func wakeable(s network.MuxedStream, err error) (network.MuxedStream, error) {
	if err != nil {
		return nil, err
	}
	return wakeableStream{s}, nil
}

// wakeableStream ends reads and writes, after what ends the stream has given the better reason.
type wakeableStream struct{ network.MuxedStream }

// longAgo as a deadline ends what waits.
var longAgo = time.Unix(1, 0)

func (s wakeableStream) Reset() error {
	err := s.MuxedStream.Reset()
	_ = s.SetDeadline(longAgo)
	return err
}

func (s wakeableStream) ResetWithError(code network.StreamErrorCode) error {
	err := s.MuxedStream.ResetWithError(code)
	_ = s.SetDeadline(longAgo)
	return err
}

func (s wakeableStream) CloseRead() error {
	err := s.MuxedStream.CloseRead()
	_ = s.SetReadDeadline(longAgo)
	return err
}

func (s wakeableStream) Close() error {
	err := s.MuxedStream.Close()
	_ = s.SetReadDeadline(longAgo)
	return err
}
