package node

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// The order in which the addresses of a peer are dialled (POOL-10). None is discarded; each group and kind waits for those
// before it only as long as its stagger, and not at all once they have failed:
//
//	near      this machine's loopback, when the peer is on it, then the LANs that both are in
//	general   everything else that is direct
//	loopback  of a peer that shares nothing with us; it costs nothing to try
//	relayed   relayDialDelay after the first direct ones
//
// Within a group: QUIC, other UDP transports, WebSocket, raw TCP, which network.dial_first may put first; of one kind IPv6 before IPv4, low ports first, and the
// first of each kind before the second of any.
const (
	nearStagger    = 30 * time.Millisecond
	generalStagger = 250 * time.Millisecond // about one round trip, as RFC 8305 has it
	relayDialDelay = 500 * time.Millisecond
	// maxDialWaves bounds the stagger of a peer with many addresses of one kind: those behind are dialled together.
	maxDialWaves = 4
	// maxPeerDials is how many addresses of one peer may be in the air: dead ones hold their place until they time out.
	maxPeerDials = MaxConnectAddresses
)

func init() {
	// A variable of libp2p without an option. Its 8 let eight dead addresses hold up the ninth for their whole timeout.
	swarm.DefaultPerPeerRateLimit = maxPeerDials
}

type dialGroup int

const (
	groupNear dialGroup = iota
	groupGeneral
	groupLoopback
	groupRelayed
	dialGroups = iota
)

// rankDials is the swarm's dial ranker.
func (n *Node) rankDials(addrs []ma.Multiaddr) []network.AddrDelay {
	return rankDialsFrom(addrs, interfacePrefixes(), n.config.Network.DialFirst)
}

// interfacePrefixes are the networks that this machine is in, loopback aside.
func interfacePrefixes() []netip.Prefix {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil // nothing counts as near then
	}
	var prefixes []netip.Prefix
	for _, addr := range addrs {
		if prefix, err := netip.ParsePrefix(addr.String()); err == nil && !prefix.Addr().IsLoopback() {
			prefixes = append(prefixes, prefix)
		}
	}
	return prefixes
}

// rankDialsFrom ranks for a machine with these interfaces.
func rankDialsFrom(addrs []ma.Multiaddr, own []netip.Prefix, first string) []network.AddrDelay {
	onThisMachine := sharesMachine(addrs, own)
	var groups [dialGroups][]ma.Multiaddr
	for _, addr := range addrs {
		group := dialGroupOf(addr, own, onThisMachine)
		groups[group] = append(groups[group], addr)
	}
	ranked := rankGroup(groups[groupNear], first, 0, nearStagger)
	start := nextStart(ranked, nearStagger)
	ranked = append(ranked, rankGroup(groups[groupGeneral], first, start, generalStagger)...)
	ranked = append(ranked, rankGroup(groups[groupLoopback], first, nextStart(ranked, generalStagger), nearStagger)...)
	start = 0
	if len(ranked) > 0 {
		start = relayDialDelay
	}
	return append(ranked, rankGroup(groups[groupRelayed], first, start, generalStagger)...)
}

// nextStart is one stagger after the last of those ranked; 0 when there are none.
func nextStart(ranked []network.AddrDelay, stagger time.Duration) time.Duration {
	if len(ranked) == 0 {
		return 0
	}
	return ranked[len(ranked)-1].Delay + stagger
}

// sharesMachine tells whether the peer may be on this machine: it has nothing but loopback addresses, or one of ours.
func sharesMachine(addrs []ma.Multiaddr, own []netip.Prefix) bool {
	others := 0
	for _, addr := range addrs {
		ip, ok := ipOf(addr)
		switch {
		case isRelayed(addr) || ok && ip.IsLoopback():
		case ok && slices.ContainsFunc(own, func(p netip.Prefix) bool { return p.Addr() == ip }):
			return true
		default:
			others++
		}
	}
	return others == 0
}

func dialGroupOf(addr ma.Multiaddr, own []netip.Prefix, onThisMachine bool) dialGroup {
	ip, ok := ipOf(addr)
	switch {
	case isRelayed(addr):
		return groupRelayed
	case !ok:
		return groupGeneral
	case ip.IsLoopback() && onThisMachine:
		return groupNear
	case ip.IsLoopback():
		return groupLoopback
	case slices.ContainsFunc(own, func(p netip.Prefix) bool { return p.Contains(ip) }):
		return groupNear
	}
	return groupGeneral
}

func ipOf(addr ma.Multiaddr) (netip.Addr, bool) {
	raw, err := manet.ToIP(addr)
	if err != nil {
		return netip.Addr{}, false
	}
	ip, ok := netip.AddrFromSlice(raw)
	return ip.Unmap(), ok
}

// What network.dial_first can be.
const (
	dialFirstQUIC = "quic"
	dialFirstTCP  = "tcp"
)

// Kinds of transports in the order of POOL-10, behind the one that network.dial_first puts before them.
const (
	dialBefore = iota
	dialQUIC
	dialOtherUDP
	dialWebSocket
	dialTCP
	dialOther
)

func dialKind(addr ma.Multiaddr, first string) int {
	switch transportRank(transportPart(addr)) {
	case rankQUIC:
		return dialQUIC
	case rankWebTransport, rankWebRTC:
		return dialOtherUDP
	case rankWebSocket:
		return dialWebSocket
	case rankTCP:
		if first == dialFirstTCP {
			return dialBefore
		}
		return dialTCP
	}
	return dialOther
}

// transportPart is what is dialled: of a relayed address the way to the relay.
func transportPart(addr ma.Multiaddr) ma.Multiaddr {
	way, _ := ma.SplitFunc(addr, func(c ma.Component) bool { return c.Protocol().Code == ma.P_CIRCUIT })
	return way
}

// rankGroup gives the addresses of one group their delays, in order.
func rankGroup(addrs []ma.Multiaddr, first string, start, stagger time.Duration) []network.AddrDelay {
	type entry struct {
		addr       ma.Multiaddr
		kind, wave int
	}
	entries := make([]entry, 0, len(addrs))
	for _, addr := range addrs {
		entries = append(entries, entry{addr: addr, kind: dialKind(addr, first)})
	}
	slices.SortStableFunc(entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), dialPreference(a.addr, b.addr))
	})
	seen := map[int]int{}
	for i := range entries {
		entries[i].wave = min(seen[entries[i].kind], maxDialWaves-1)
		seen[entries[i].kind]++
	}
	slices.SortStableFunc(entries, func(a, b entry) int { return cmp.Compare(a.wave, b.wave) })
	ranked := make([]network.AddrDelay, 0, len(entries))
	for i, e := range entries {
		if i > 0 && (e.wave != entries[i-1].wave || e.kind != entries[i-1].kind) {
			start += stagger
		}
		ranked = append(ranked, network.AddrDelay{Addr: e.addr, Delay: start})
	}
	return ranked
}

// dialPreference: this machine before the LAN, IPv6 before IPv4, low ports first, since those are listeners rather than
// what a NAT made of them.
func dialPreference(a, b ma.Multiaddr) int {
	return cmp.Or(
		cmp.Compare(flag(!manet.IsIPLoopback(a)), flag(!manet.IsIPLoopback(b))),
		cmp.Compare(flag(hasProtocol(a, ma.P_IP4)), flag(hasProtocol(b, ma.P_IP4))),
		cmp.Compare(portNumber(a), portNumber(b)),
	)
}

func flag(set bool) int {
	if set {
		return 1
	}
	return 0
}

func portNumber(addr ma.Multiaddr) uint16 {
	for _, component := range transportPart(addr) {
		if code := component.Protocol().Code; code == ma.P_TCP || code == ma.P_UDP {
			port, err := netip.ParseAddrPort("0.0.0.0:" + component.Value())
			if err == nil {
				return port.Port()
			}
		}
	}
	return 0
}

// askedTTL is how long addresses that the program gave are known at least. It is none of libp2p's own times: whatever has one of
// those may be dropped when the end of an earlier connection is noticed, which would leave the dial without an address.
var askedTTL = peerstore.TempAddrTTL + time.Second

// dial connects to the peer. libp2p leaves addresses out that it takes for doubles of others, WebSocket on the port of raw TCP
// and WebTransport on that of QUIC: they are tried when all others have failed, since a firewall may let only them pass.
func (n *Node) dial(ctx context.Context, info peer.AddrInfo) error {
	n.host.Peerstore().AddAddrs(info.ID, info.Addrs, askedTTL)
	err := n.host.Connect(ctx, info)
	var failed *swarm.DialError
	if err == nil || ctx.Err() != nil || !errors.As(err, &failed) || failed.Skipped > 0 {
		return err
	}
	rest := slices.DeleteFunc(slices.Clone(info.Addrs), func(addr ma.Multiaddr) bool {
		return slices.ContainsFunc(failed.DialErrors, func(e swarm.TransportError) bool { return e.Address.Equal(addr) })
	})
	if len(rest) == 0 || len(rest) == len(info.Addrs) {
		return err
	}
	known := n.host.Peerstore().Addrs(info.ID)
	n.host.Peerstore().ClearAddrs(info.ID)
	defer func() { n.host.Peerstore().AddAddrs(info.ID, known, peerstore.TempAddrTTL) }()
	if n.host.Connect(ctx, peer.AddrInfo{ID: info.ID, Addrs: rest}) == nil {
		return nil
	}
	return err
}

// openConns leaves out connections that have ended and are still listed.
func openConns(conns []network.Conn) []network.Conn {
	return slices.DeleteFunc(conns, network.Conn.IsClosed)
}
