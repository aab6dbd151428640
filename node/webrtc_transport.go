package node

import (
	"context"
	"fmt"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/transport"
	ma "github.com/multiformats/go-multiaddr"

	"peerbus/node/webrtc"
	"peerbus/node/webrtctransport"
)

// browsers tells whether the node serves the libp2p transport /webrtc, which browsers behind a relay use. It needs relayed
// connections to negotiate over.
func (t *webrtcSessions) browsers() bool { return t.engine != nil && t.node.config.Relay.EnableClient }

// addTransport adds the transport to the running host, which has no option for it.
func (t *webrtcSessions) addTransport() error {
	if !t.browsers() {
		return nil
	}
	extensible, ok := t.node.host.Network().(transport.TransportNetwork)
	if !ok {
		return fmt.Errorf("%w: the libp2p network takes no transports", ErrInternal)
	}
	added := webrtctransport.New(webrtctransport.Options{
		Host: t.node.host, Engine: t.engine, ICE: t.iceConfig, Gater: t.node.gate, Log: t.node.log, Spawn: t.node.spawn,
	})
	if err := extensible.AddTransport(added); err != nil {
		return fmt.Errorf("%w: adding the WebRTC transport: %v", ErrInternal, err)
	}
	return nil
}

// listen makes the transport accept. Its address is no socket.
func (t *webrtcSessions) listen() error {
	if !t.browsers() {
		return nil
	}
	if err := t.node.host.Network().Listen(webrtctransport.Address); err != nil {
		return fmt.Errorf("%w: listening on %s: %v", ErrInternal, webrtctransport.Address, err)
	}
	return nil
}

// announced adds the addresses by which a browser dials this node: one for each relay.
func (t *webrtcSessions) announced(addrs []ma.Multiaddr) []ma.Multiaddr {
	if t.browsers() {
		for _, addr := range addrs {
			if isRelayed(addr) && !hasProtocol(addr, ma.P_WEBRTC) {
				addrs = append(addrs, addr.Encapsulate(webrtctransport.Address))
			}
		}
	}
	return addrs
}

// dialBrowser makes a relayed connection a direct one by the transport, with every protocol on it, if the peer serves it.
func (t *webrtcSessions) dialBrowser(ctx context.Context, id peer.ID) error {
	if !t.speaks(id, webrtctransport.SignalProtocol) {
		return fmt.Errorf("%w: %s does not serve the WebRTC transport", ErrUnsupported, id)
	}
	ctx, cancel := context.WithTimeout(ctx, webrtc.HandshakeTimeout)
	defer cancel()
	t.node.host.Peerstore().AddAddr(id, webrtctransport.Address, peerstore.TempAddrTTL)
	_, err := t.node.host.Network().DialPeer(network.WithForceDirectDial(ctx, "webrtc"), id)
	if err != nil {
		return fmt.Errorf("%w: %s by WebRTC: %v", dialFailure(err), id, err)
	}
	return nil
}
