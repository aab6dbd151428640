package node

import (
	"context"
	"fmt"
	"slices"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/transport"
	ma "github.com/multiformats/go-multiaddr"

	"peerbus/node/webrtc"
	"peerbus/node/webrtctransport"
)

// served tells whether the node serves the libp2p transport /webrtc. It needs relayed connections to negotiate over.
func (w *webrtcConns) served() bool { return w.of.engine != nil && w.node.config.Relay.EnableClient }

// start adds the transport to the running host, which has no option for it.
func (w *webrtcConns) start() error {
	if !w.served() {
		return nil
	}
	extensible, ok := w.node.host.Network().(transport.TransportNetwork)
	if !ok {
		return fmt.Errorf("%w: the libp2p network takes no transports", ErrInternal)
	}
	added := webrtctransport.New(webrtctransport.Options{
		Host: w.node.host, Engine: w.of.engine, ICE: w.of.iceConfig, Gater: w.node.gate, Spawn: w.node.spawn,
		Dialling: w.node.gate.unrestrict, Failed: func(id peer.ID, err error) { w.failed(id, false, err) },
	})
	if err := extensible.AddTransport(added); err != nil {
		return fmt.Errorf("%w: adding the WebRTC transport: %v", ErrInternal, err)
	}
	w.node.host.Network().Notify(&network.NotifyBundle{
		ConnectedF:    func(_ network.Network, c network.Conn) { w.node.run("connection event", func() { w.connected(c) }) },
		DisconnectedF: func(_ network.Network, c network.Conn) { w.node.run("connection event", func() { w.disconnected(c) }) },
	})
	return nil
}

// listen makes the transport accept. Its address is no socket; listen_addrs may name it all the same.
func (w *webrtcConns) listen() error {
	if !w.served() || slices.ContainsFunc(w.node.host.Network().ListenAddresses(), webrtctransport.Address.Equal) {
		return nil
	}
	if err := w.node.host.Network().Listen(webrtctransport.Address); err != nil {
		return fmt.Errorf("%w: listening on %s: %v", ErrInternal, webrtctransport.Address, err)
	}
	return nil
}

// announced adds the addresses by which a browser dials this node: one for each relay.
func (w *webrtcConns) announced(addrs []ma.Multiaddr) []ma.Multiaddr {
	if w.served() {
		for _, addr := range addrs {
			if isRelayed(addr) && !hasProtocol(addr, ma.P_WEBRTC) {
				addrs = append(addrs, addr.Encapsulate(webrtctransport.Address))
			}
		}
	}
	return addrs
}

func (w *webrtcConns) speaks(id peer.ID, wanted protocol.ID) bool {
	spoken, err := w.node.host.Peerstore().SupportsProtocols(id, wanted)
	return err == nil && len(spoken) > 0
}

// preferred tells whether a connection by the transport is what a WebRTC connection with the peer shall be: both serve it, and
// there is no direct connection, beside which it would carry nothing.
func (w *webrtcConns) preferred(ctx context.Context, id peer.ID) bool {
	if !w.served() || !w.of.onlyRelayed(id) {
		return false
	}
	w.node.awaitIdentify(ctx, id)
	return w.speaks(id, webrtctransport.SignalProtocol)
}

// attempt dials the bare address of the transport, and no other that the peer may have.
func (w *webrtcConns) attempt(ctx context.Context, id peer.ID) error {
	p := w.node.punches
	if err := p.awaitClaim(ctx, id); err != nil {
		return err
	}
	defer p.unclaim(id)
	w.node.forgetFailedDials(peer.AddrInfo{ID: id})
	// In the peerstore the address would be tried by every later dial.
	defer w.node.host.Peerstore().SetAddr(id, webrtctransport.Address, 0)
	err := p.force(ctx, id, []ma.Multiaddr{webrtctransport.Address}, webrtc.HandshakeTimeout)
	switch {
	case ctx.Err() != nil:
		return contextError(ctx, "opening a WebRTC connection to "+id.String())
	case err != nil:
		return fmt.Errorf("opening a WebRTC connection to %s: %w", id, err)
	case len(w.with(id)) == 0:
		return fmt.Errorf("%w: another direct connection with %s came about, and everything takes that one", ErrRefused, id)
	}
	return nil
}
