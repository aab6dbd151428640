// Package corktls is libp2p's TLS security transport, the same on the wire, that gives the records of one Write to the kernel
// together. Go's TLS makes one system call per record of 16 KiB, which costs a bulk sender half of its time.
//
// What it guarantees
//   - The bytes on the wire are those of libp2p's /tls/1.0.0; either side may be stock. Handshake, identity and ciphers are
//     libp2p's and Go's own.
//   - When Write returns, everything is with the kernel: there is no timer and no later flush. What fits one record is not
//     held up by a buffer at all.
//   - Alerts and key updates, which TLS sends by itself, keep their place among the records.
//   - After Lend nobody waits inside Read, which holds the locks of TLS, but in Await, which holds none.
//   - A write that failed leaves an unknown part of its bytes with the kernel, so it answers 0 bytes, and the connection
//     takes no more: every later write answers the same error.
package corktls

import (
	"context"
	"net"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
)

// ID is the protocol ID of libp2p's TLS.
const ID = libp2ptls.ID

// Transport is a security transport to be registered under ID.
type Transport struct{ inner *libp2ptls.Transport }

var _ sec.SecureTransport = &Transport{}

// New has the signature that libp2p.Security asks for.
func New(id protocol.ID, key crypto.PrivKey, muxers []upgrader.StreamMuxer) (*Transport, error) {
	inner, err := libp2ptls.New(id, key, muxers)
	if err != nil {
		return nil, err
	}
	return &Transport{inner}, nil
}

// ID answers what New was given.
func (t *Transport) ID() protocol.ID { return t.inner.ID() }

// SecureInbound runs the handshake as the server.
func (t *Transport) SecureInbound(ctx context.Context, insecure net.Conn, id peer.ID) (sec.SecureConn, error) {
	c := newCork(insecure)
	secured, err := t.inner.SecureInbound(ctx, c, id)
	return wrap(secured, c, err)
}

// SecureOutbound runs the handshake as the client.
func (t *Transport) SecureOutbound(ctx context.Context, insecure net.Conn, id peer.ID) (sec.SecureConn, error) {
	c := newCork(insecure)
	secured, err := t.inner.SecureOutbound(ctx, c, id)
	return wrap(secured, c, err)
}

func wrap(secured sec.SecureConn, c *cork, err error) (sec.SecureConn, error) {
	if err != nil {
		return nil, err
	}
	return &Conn{SecureConn: secured, cork: c, prober: newProber(c.Conn)}, nil
}
