package node

import (
	"fmt"
	"slices"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	connmgr "github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	libp2pwebrtc "github.com/libp2p/go-libp2p/p2p/transport/webrtc"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multiaddr/net"
	"go.uber.org/fx"

	"peerbus/node/session"
)

// newHost builds the libp2p host. It does not listen yet.
func (n *Node) newHost(key crypto.PrivKey) (host.Host, error) {
	resources, err := n.newResourceManager()
	if err != nil {
		return nil, err
	}
	// The table of P2P-32 refuses above its limit; the connection manager would close connections that are in use.
	connections, err := connmgr.NewConnManager(n.config.Limits.Connections, n.config.Limits.Connections)
	if err != nil {
		return nil, fmt.Errorf("%w: connection manager: %v", ErrInternal, err)
	}
	options := []libp2p.Option{
		libp2p.Identity(key),
		libp2p.UserAgent("peerbus/" + n.version),
		libp2p.NoListenAddrs,
		libp2p.ResourceManager(resources),
		libp2p.ConnectionManager(connections),
		libp2p.ConnectionGater(n.gate),
		libp2p.DisableMetrics(),
		libp2p.AddrsFactory(n.advertised),
		libp2p.WithFxOption(fx.Invoke(n.announceProtocols)),
		libp2p.SwarmOpts(swarm.WithDialRanker(n.rankDials)),
		// These would discard addresses after a series of failures; a stagger is all that a dead address may cost.
		libp2p.UDPBlackHoleSuccessCounter(nil),
		libp2p.IPv6BlackHoleSuccessCounter(nil),
	}
	options = append(options, n.transportOptions()...)
	options = append(options, upgradeOptions()...)
	options = append(options, n.reachOptions()...)
	made, err := libp2p.New(options...)
	if err != nil {
		return nil, fmt.Errorf("%w: creating the libp2p host: %v", ErrInternal, err)
	}
	return made, nil
}

// announceProtocols puts the protocols of a node into the first picture that identify draws of the host, which it does before
// New returns. Protocols that come later reach a peer as an update, which may overtake the first answer and be undone by it:
// that peer would believe for good that this node does not speak them. The handlers proper follow before the node listens.
func (n *Node) announceProtocols(h host.Host) {
	for _, id := range n.protocols() {
		h.SetStreamHandler(id, func(s network.Stream) { _ = s.Reset() })
	}
}

// protocols are those that every peer shall know of from the start.
func (n *Node) protocols() []protocol.ID {
	own := []protocol.ID{ChatProtocol, HelloProtocol, RendezvousProtocol, TopicMoveProtocol}
	if n.config.Channel.Acknowledged {
		own = append(own, session.Protocol)
	}
	return slices.Concat(own, n.topics.protocols(), n.webrtc.protocols())
}

func (n *Node) transportOptions() []libp2p.Option {
	options := []libp2p.Option{
		libp2p.ShareTCPListener(),
		libp2p.Transport(n.newTCP),
		libp2p.Transport(quic.NewTransport),
		libp2p.Transport(websocket.New, n.certificates.options()...),
		libp2p.Transport(newWebTransport),
	}
	if n.config.WebRTC.Enabled {
		options = append(options, libp2p.Transport(libp2pwebrtc.New))
	}
	return options
}

// reachOptions are those of relays, NAT mapping, hole punching and reachability.
func (n *Node) reachOptions() []libp2p.Option {
	c := n.config
	var options []libp2p.Option
	if c.Relay.EnableClient {
		options = append(options, libp2p.EnableRelay())
	} else {
		options = append(options, libp2p.DisableRelay())
	}
	if n.punches.service.wanted() {
		options = append(options, n.punches.service.option())
	}
	// A node that only listens on loopback has no NAT in front of it, and asking the router would be the only packet that
	// leaves the machine.
	if c.NAT.PortMapping && !c.Network.ForcePublic && !n.loopbackOnly() {
		options = append(options, libp2p.NATManager(func(network network.Network) basichost.NATManager {
			n.mapping = newPortMapper(n, network)
			return n.mapping
		}))
	}
	if c.Network.ForcePublic {
		// AutoNATv2's tracker ignores the forced verdict, so it stays off then.
		options = append(options, libp2p.ForceReachabilityPublic())
	} else if c.NAT.AutoNAT && !c.NAT.AutoNATPrivate {
		options = append(options, libp2p.EnableAutoNATv2())
	}
	return options
}

func (n *Node) loopbackOnly() bool {
	addrs, err := n.config.ListenMultiaddrs()
	if err != nil {
		return false
	}
	for _, addr := range addrs {
		if !manet.IsIPLoopback(addr) {
			return false
		}
	}
	return true
}

// listen opens every listener, or fails: a node that listens on less than was asked would be found by nobody.
func (n *Node) listen() error {
	addrs, err := n.config.ListenMultiaddrs()
	if err != nil {
		return err
	}
	for _, addr := range addrs {
		if err := n.host.Network().Listen(addr); err != nil {
			return fmt.Errorf("%w: listening on %s: %v; is the port taken or the address not of this machine?", ErrRefused, addr, err)
		}
	}
	return n.webrtc.conns.listen()
}

// newResourceManager applies P2P-32: connections in all and per peer are the configured ones, streams and memory keep
// libp2p's scaled defaults, and one address may hold limits.ip_connections.
func (n *Node) newResourceManager() (network.ResourceManager, error) {
	limits := n.config.Limits
	defaults := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&defaults)
	connections := rcmgr.ResourceLimits{
		Conns:         rcmgr.LimitVal(limits.Connections),
		ConnsInbound:  rcmgr.LimitVal(limits.Connections),
		ConnsOutbound: rcmgr.LimitVal(limits.Connections),
		FD:            rcmgr.LimitVal(limits.Connections),
	}
	perPeer := rcmgr.ResourceLimits{
		Conns:         rcmgr.LimitVal(limits.PeerConnections),
		ConnsInbound:  rcmgr.LimitVal(limits.PeerConnections),
		ConnsOutbound: rcmgr.LimitVal(limits.PeerConnections),
	}
	automatic := defaults.AutoScale()
	own := rcmgr.PartialLimitConfig{System: connections, Transient: connections, PeerDefault: perPeer}
	channelLimits(&own, automatic, limits.ChannelStreams)
	if n.config.Relay.EnableService {
		relayLimits(&own)
	}
	scaled := own.Build(automatic)
	perIP := rcmgr.WithLimitPerSubnet(
		[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: limits.IPConnections}},
		[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 128, ConnCount: limits.IPConnections}},
	)
	manager, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(scaled), perIP, rcmgr.WithMetricsDisabled())
	if err != nil {
		return nil, fmt.Errorf("%w: resource manager: %v", ErrInternal, err)
	}
	return manager, nil
}

// advertised is what the host tells others: its own addresses, loopback only when there is nothing else, those that the
// configuration adds, and those through relays.
func (n *Node) advertised(addrs []ma.Multiaddr) []ma.Multiaddr {
	own := n.certificates.announced(preferRoutable(append(addrs, n.config.AnnounceAddrs...)))
	return n.webrtc.conns.announced(slices.Concat(own, n.relays.circuitAddresses()))
}
