package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// ConnectTimeout bounds ConnectTo (GEN-06).
	ConnectTimeout = 30 * time.Second
	// MaxConnectAddresses bounds the addresses of one ConnectTo.
	MaxConnectAddresses = 256
	// disconnectDrainTimeout is how long Disconnect lets taken messages leave.
	disconnectDrainTimeout = time.Second
)

// Connection is what Connect reached.
type Connection struct {
	ID    string
	Addrs []string // the address actually dialled
}

// Connect dials the peer that the addresses name, until one answers or ctx ends. The first address must end in
// /p2p/<id>; malformed later ones are skipped. With /p2p/<id> alone, known addresses and those that discovery finds are dialled.
func (n *Node) Connect(ctx context.Context, addresses []string) (Connection, error) {
	info, err := parseTarget(addresses)
	if err != nil {
		return Connection{}, err
	}
	if info.ID == n.id {
		return Connection{ID: n.id.String(), Addrs: n.ownAddress(info)}, nil
	}
	ctx, cancel := n.bind(ctx)
	defer cancel()
	if err := n.resolve(ctx, &info); err != nil {
		return Connection{}, err
	}
	n.gate.admit(info.ID)
	n.forgetFailedDials(info)
	ctx = network.WithAllowLimitedConn(ctx, "connect")
	if err := n.dial(ctx, info); err != nil {
		return Connection{}, n.connectError(ctx, info.ID, err)
	}
	greeting := n.greet(ctx, info.ID)
	dialled := n.dialledAddress(info.ID)
	switch {
	case len(dialled) == 0 && greeting == nil:
		return Connection{}, fmt.Errorf("%w: %s closed the connection at once", ErrPeerClosed, info.ID)
	case len(dialled) == 0 || greeting != nil && !survived(greeting):
		return Connection{}, greeting
	case greeting != nil: // an established connection is never reported as an error (P2P-12)
		n.log.Warn("no hello from a connected peer", "peer", info.ID, "reason", greeting)
		n.peers.markApplication(info.ID)
	}
	return Connection{ID: info.ID.String(), Addrs: dialled}, nil
}

// ownAddress answers the one that the caller gave, if any.
func (n *Node) ownAddress(given peer.AddrInfo) []string {
	if len(given.Addrs) > 0 {
		return []string{given.Addrs[0].String()}
	}
	for _, addr := range n.host.Addrs() {
		return []string{addr.String()}
	}
	return []string{}
}

func parseTarget(addresses []string) (peer.AddrInfo, error) {
	switch {
	case len(addresses) == 0:
		return peer.AddrInfo{}, fmt.Errorf("%w: the list of addresses is empty", ErrArgument)
	case len(addresses) > MaxConnectAddresses:
		return peer.AddrInfo{}, fmt.Errorf("%w: %d addresses, at most %d are taken", ErrArgument, len(addresses), MaxConnectAddresses)
	}
	var info peer.AddrInfo
	for i, text := range addresses {
		addr, err := ma.NewMultiaddr(text)
		if err != nil {
			if i == 0 {
				return info, fmt.Errorf("%w: the first address %q is no multiaddr: %v", ErrArgument, text, err)
			}
			continue
		}
		transport, id := peer.SplitAddr(addr)
		switch {
		case i == 0 && id == "":
			return info, fmt.Errorf("%w: the first address %q must end in /p2p/<peer id>", ErrArgument, text)
		case i == 0 && transport == nil:
			info.ID = id
			continue
		case i == 0:
			info.ID = id
		case id != "" && id != info.ID:
			return info, fmt.Errorf("%w: address %q is of another peer than %s", ErrArgument, text, info.ID)
		case transport == nil:
			continue
		}
		info.Addrs = append(info.Addrs, transport)
	}
	return info, nil
}

// bind makes ctx end also when the node closes.
func (n *Node) bind(ctx context.Context) (context.Context, context.CancelFunc) {
	bound, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(n.ctx, func() { cancel(ErrClosed) })
	return bound, func() { stop(); cancel(nil) }
}

// forgetFailedDials lets an attempt that somebody asked for begin at once: libp2p refuses to dial an address for seconds
// after it has failed, those of the relays in between too. A channel that is being resumed makes such attempts in the background.
func (n *Node) forgetFailedDials(info peer.AddrInfo) {
	s, ok := n.host.Network().(*swarm.Swarm)
	if !ok {
		return
	}
	s.Backoff().Clear(info.ID)
	for _, addr := range info.Addrs {
		if !isRelayed(addr) {
			continue
		}
		if text, err := addr.ValueForProtocol(ma.P_P2P); err == nil {
			if relay, err := peer.Decode(text); err == nil {
				s.Backoff().Clear(relay)
			}
		}
	}
}

func (n *Node) connectError(ctx context.Context, id peer.ID, err error) error {
	if ctx.Err() != nil {
		return contextError(ctx, "connecting to "+id.String()+"; last failure: "+err.Error())
	}
	return fmt.Errorf("%w: connecting to %s: %v", dialFailure(err), id, err)
}

// dialFailure classifies what libp2p says of a failed dial or stream. A deadline in there is one of a single address, not
// the caller's.
func dialFailure(err error) error {
	switch {
	case errors.Is(err, swarm.ErrNoAddresses), errors.Is(err, network.ErrNoConn):
		return ErrNotConnected
	case errors.Is(err, network.ErrResourceLimitExceeded), errors.Is(err, swarm.ErrGaterDisallowedConnection):
		return ErrRefused
	case errors.Is(err, swarm.ErrSwarmClosed):
		return ErrClosed
	}
	return ErrUnreachable
}

// dialledAddress is the remote address of the newest connection to the peer, a relayed one cut at /p2p-circuit.
func (n *Node) dialledAddress(id peer.ID) []string {
	connections := openConns(n.host.Network().ConnsToPeer(id))
	if len(connections) == 0 {
		return []string{}
	}
	best := connections[0]
	for _, c := range connections[1:] {
		if isRelayed(best.RemoteMultiaddr()) && !isRelayed(c.RemoteMultiaddr()) {
			best = c
		}
	}
	bare, _ := peer.SplitAddr(best.RemoteMultiaddr())
	return []string{bare.String()}
}

// Disconnect ends every connection to the peer and forgets it. Messages that were taken get disconnectDrainTimeout to
// leave. The peer's own dials are refused for a moment, so that the disconnection lasts.
func (n *Node) Disconnect(id peer.ID) error { return n.DisconnectContext(context.Background(), id) }

// DisconnectContext is Disconnect with a deadline of the caller's. The peer is forgotten all the same; what still closes then goes
// on in the background.
func (n *Node) DisconnectContext(ctx context.Context, id peer.ID) error {
	if id == n.id {
		return nil
	}
	drain := disconnectDrainTimeout
	if deadline, bounded := ctx.Deadline(); bounded {
		drain = max(min(drain, time.Until(deadline)), 0)
	}
	n.gate.refuse(id)
	n.relays.forget(id)
	l := n.links.find(id)
	refusal := fmt.Errorf("%w: this node disconnected from %s", ErrPeerClosed, id)
	var channels sync.WaitGroup
	channels.Go(func() {
		defer n.recoverPanic("ending channels")
		n.outbounds.disconnect(id, refusal, drain)
		n.topics.direct.disconnected(id)
	})
	if l != nil {
		l.close(refusal, lossPeerClosed, drain)
	}
	n.webrtc.drop(id, refusal)
	channels.Wait()
	n.gate.refuse(id) // again: draining may have outlasted the first refusal
	n.peers.forget(id)
	err := n.closePeer(ctx, id)
	if l != nil {
		l.awaitWriter(drain)
	}
	n.host.Peerstore().RemovePeer(id)
	n.host.Peerstore().ClearAddrs(id)
	return err
}

// closePeer closes the peer's connections. A transport may wait for the other side, the caller only until ctx ends.
func (n *Node) closePeer(ctx context.Context, id peer.ID) error {
	closed := make(chan error, 1)
	if !n.spawn("closing connections", func() { closed <- n.host.Network().ClosePeer(id) }) {
		return ErrClosed
	}
	select {
	case err := <-closed:
		if err != nil {
			return fmt.Errorf("%w: closing the connections to %s: %v", ErrInternal, id, err)
		}
		return nil
	case <-ctx.Done():
		return contextError(ctx, "closing the connections to "+id.String())
	}
}
