package node

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"peerbus/node/webrtctransport"
)

func isRelayed(addr ma.Multiaddr) bool { return hasProtocol(addr, ma.P_CIRCUIT) }

// lacksCertificate tells whether nobody can dial an address because it does not name the listener's certificate. libp2p gives such
// ones as the remote end of WebRTC-direct connections.
func lacksCertificate(addr ma.Multiaddr) bool {
	byCertificate := hasProtocol(addr, ma.P_WEBRTC_DIRECT) || hasProtocol(addr, ma.P_WEBTRANSPORT)
	return byCertificate && !hasProtocol(addr, ma.P_CERTHASH) && !isRelayed(addr)
}

func hasProtocol(addr ma.Multiaddr, code int) bool {
	if addr == nil {
		return false
	}
	_, err := addr.ValueForProtocol(code)
	return err == nil
}

// preferRoutable drops unspecified addresses, the bare one of the WebRTC transport, which leads nowhere by itself, and loopback
// ones when there are others; those through relays apart: a relay on this machine is of use beside an address on the LAN.
func preferRoutable(addrs []ma.Multiaddr) []ma.Multiaddr {
	direct, circuits := make([]ma.Multiaddr, 0, len(addrs)), []ma.Multiaddr(nil)
	for _, addr := range addrs {
		if isRelayed(addr) {
			circuits = append(circuits, addr)
		} else {
			direct = append(direct, addr)
		}
	}
	return append(preferRoutableOf(direct), preferRoutableOf(circuits)...)
}

func preferRoutableOf(addrs []ma.Multiaddr) []ma.Multiaddr {
	usable := make([]ma.Multiaddr, 0, len(addrs))
	for _, addr := range addrs {
		if !manet.IsIPUnspecified(addr) && !addr.Equal(webrtctransport.Address) {
			usable = append(usable, addr)
		}
	}
	// A name says nothing about where it leads, so it is kept beside either.
	routable := slices.DeleteFunc(slices.Clone(usable), manet.IsIPLoopback)
	if !slices.ContainsFunc(routable, hasIP) {
		return usable
	}
	return routable
}

func hasIP(addr ma.Multiaddr) bool {
	_, err := manet.ToIP(addr)
	return err == nil
}

// Transport order of own addresses (P2P-23).
const (
	rankQUIC = iota
	rankWebTransport
	rankWebRTC
	rankTCP
	rankWebSocket
	rankOther
	rankRelayed
)

func transportRank(addr ma.Multiaddr) int {
	switch {
	case isRelayed(addr):
		return rankRelayed
	case hasProtocol(addr, ma.P_WEBRTC_DIRECT), hasProtocol(addr, ma.P_WEBRTC):
		return rankWebRTC
	case hasProtocol(addr, ma.P_WEBTRANSPORT):
		return rankWebTransport
	case hasProtocol(addr, ma.P_QUIC_V1):
		return rankQUIC
	case hasProtocol(addr, ma.P_WS), hasProtocol(addr, ma.P_WSS):
		return rankWebSocket
	case hasProtocol(addr, ma.P_TCP):
		return rankTCP
	}
	return rankOther
}

// learnedAddresses orders what is known of a peer and strips /p2p/<id>.
func learnedAddresses(addrs []ma.Multiaddr) []ma.Multiaddr {
	bare := make([]ma.Multiaddr, 0, len(addrs))
	for _, addr := range preferRoutable(addrs) {
		if without, _ := peer.SplitAddr(addr); without != nil {
			bare = append(bare, without)
		}
	}
	slices.SortStableFunc(bare, func(a, b ma.Multiaddr) int { return cmp.Compare(transportRank(a), transportRank(b)) })
	return bare
}

func withPeerID(addrs []ma.Multiaddr, id peer.ID) []string {
	texts := make([]string, 0, len(addrs))
	for _, addr := range addrs {
		if text := addr.String() + "/p2p/" + id.String(); !slices.Contains(texts, text) {
			texts = append(texts, text)
		}
	}
	return texts
}

// Addresses are the node's own, each with /p2p/<id>, in the order QUIC, WebRTC, TCP, WebSocket.
func (n *Node) Addresses() []string { return withPeerID(learnedAddresses(n.host.Addrs()), n.id) }

// AddressesOf are those known of a peer, each with /p2p/<id>.
func (n *Node) AddressesOf(id peer.ID) ([]string, error) {
	if id == n.id {
		return n.Addresses(), nil
	}
	known := n.host.Peerstore().Addrs(id)
	for _, c := range n.host.Network().ConnsToPeer(id) {
		known = append(known, c.RemoteMultiaddr())
	}
	texts := withPeerID(learnedAddresses(known), id)
	if len(texts) == 0 {
		return nil, fmt.Errorf("%w: no address of %s is known; connect to it first", ErrNotFound, id)
	}
	return texts, nil
}
