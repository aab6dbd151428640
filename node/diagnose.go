package node

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	ma "github.com/multiformats/go-multiaddr"
)

// DiagnoseTimeout bounds Diagnose, which pings the relays.
const DiagnoseTimeout = 2 * time.Second

// Diagnosis says how this node is reached, and what would make that better.
type Diagnosis struct {
	PeerID       string               `json:"peer_id"`
	Version      string               `json:"version"`
	Time         string               `json:"time"` // RFC 3339
	Reachability string               `json:"reachability"`
	Addresses    DiagnosedAddresses   `json:"addresses"`
	NAT          DiagnosedNAT         `json:"nat"`
	Relays       []DiagnosedRelay     `json:"relays"`
	RelayService *RelayStatistics     `json:"relay_service"` // null: relay.enable_service is false
	HolePunches  []PunchRecord        `json:"hole_punches"`  // the last ones, oldest first
	Connections  DiagnosedConnections `json:"connections"`
	WebRTC       any                  `json:"webrtc"`    // see diagnosisParts
	Discovery    any                  `json:"discovery"` // see diagnosisParts
	Advice       []Advice             `json:"advice"`
}

// DiagnosedAddresses are the own addresses, without /p2p/<id>.
type DiagnosedAddresses struct {
	Listen      []string          `json:"listen"`
	Announced   []string          `json:"announced"`
	Observed    []ObservedAddress `json:"observed"`    // as what peers see this node
	Reachable   []string          `json:"reachable"`   // as AutoNATv2 confirmed
	Unreachable []string          `json:"unreachable"` // as it refuted
	Unknown     []string          `json:"unknown"`
}

// ObservedAddress is an address that peers see.
type ObservedAddress struct {
	Address   string `json:"address"`
	Observers int    `json:"observers"`
}

// DiagnosedNAT is what is known of the NAT in front of the node.
type DiagnosedNAT struct {
	TCP      string        `json:"tcp"` // "endpoint_independent", "endpoint_dependent" or "unknown"
	UDP      string        `json:"udp"`
	Mapping  string        `json:"port_mapping"` // "off", "no_router" (none that maps ports) or "on"
	Mappings []PortMapping `json:"mappings"`
}

// States of port mapping.
const (
	mappingOff      = "off"
	mappingNoRouter = "no_router"
	mappingOn       = "on"
)

// PortMapping is a listener and the address that the router gave it.
type PortMapping struct {
	Listen   string `json:"listen"`
	External string `json:"external"`
}

// DiagnosedRelay is a relay that this node uses or tried.
type DiagnosedRelay struct {
	Relay       string   `json:"relay"`
	Connected   bool     `json:"connected"`
	Reserved    bool     `json:"reserved"`
	Expires     string   `json:"expires"` // "" without a reservation
	Addresses   []string `json:"addresses"`
	RoundTripMs float64  `json:"round_trip_ms"` // of a ping now; -1: none
	LimitBytes  uint64   `json:"limit_bytes"`   // of a relayed connection, each direction; 0: no limit
	LimitMs     int64    `json:"limit_ms"`      // 0: no limit
	Lost        int      `json:"lost"`          // reservations, so far
	Failure     string   `json:"failure"`       // of the last attempt; "" when it succeeded
	Failures    int      `json:"failures"`      // in a row
}

// DiagnosedConnections counts the peers by how they are connected.
type DiagnosedConnections struct {
	Direct  int `json:"direct"`
	Relayed int `json:"relayed"` // only so
	Limited int `json:"limited"` // of the relayed ones, those that the relay limits

	Lingering []LingeringConnection `json:"lingering"` // of peers with a direct one, too
}

// LingeringConnection is a relayed connection beside a direct one. It is closed once it has no streams.
type LingeringConnection struct {
	Peer      string   `json:"peer"`
	Address   string   `json:"address"`
	Protocols []string `json:"protocols"` // of its streams, sorted, each once
}

// diagnosisParts are filled by other files of this package: "webrtc" and "discovery". A part answers facts that marshal to
// JSON, and advice.
type diagnosisParts struct {
	sync.Mutex
	byName map[string]func() (facts any, advice []Advice)
}

// diagnosePart lets another part of the node fill its field of Diagnosis.
func (n *Node) diagnosePart(name string, part func() (facts any, advice []Advice)) {
	n.parts.Lock()
	defer n.parts.Unlock()
	if n.parts.byName == nil {
		n.parts.byName = map[string]func() (any, []Advice){}
	}
	n.parts.byName[name] = part
}

func (n *Node) partOf(name string) (any, []Advice) {
	n.parts.Lock()
	part := n.parts.byName[name]
	n.parts.Unlock()
	if part == nil {
		return nil, nil
	}
	return part()
}

// Diagnose answers within DiagnoseTimeout, or when ctx ends.
func (n *Node) Diagnose(ctx context.Context) (Diagnosis, error) {
	if err := n.Usable(); err != nil {
		return Diagnosis{}, err
	}
	ctx, cancel := n.bind(ctx)
	defer cancel()
	ctx, stop := context.WithTimeout(ctx, DiagnoseTimeout)
	defer stop()
	d := Diagnosis{
		PeerID: n.id.String(), Version: n.version, Time: time.Now().UTC().Format(time.RFC3339Nano),
		Reachability: n.Reachability(), Addresses: n.diagnoseAddresses(), NAT: n.diagnoseNAT(), Relays: n.diagnoseRelays(ctx),
		RelayService: n.relay.statistics(), HolePunches: n.punches.list(), Connections: n.diagnoseConnections(),
	}
	var more, evenMore []Advice
	d.WebRTC, more = n.partOf("webrtc")
	d.Discovery, evenMore = n.partOf("discovery")
	d.Advice = slices.Concat([]Advice{}, n.advise(&d), more, evenMore)
	return d, nil
}

func (n *Node) diagnoseAddresses() DiagnosedAddresses {
	listening, err := n.host.Network().InterfaceListenAddresses()
	if err != nil {
		listening = n.host.Network().ListenAddresses()
	}
	reachable, unreachable, unknown := n.confirmedAddresses()
	a := DiagnosedAddresses{
		Listen: textsOf(listening), Announced: textsOf(n.host.Addrs()), Observed: n.reach.observedAddresses(),
		Reachable: textsOf(reachable), Unreachable: textsOf(unreachable), Unknown: textsOf(unknown),
	}
	a.Listen = slices.DeleteFunc(a.Listen, func(addr string) bool { return strings.HasSuffix(addr, "/p2p-circuit") || addr == "/webrtc" })
	return a
}

func (n *Node) confirmedAddresses() (reachable, unreachable, unknown []ma.Multiaddr) {
	if n.autonat != nil {
		return n.autonat.sorted()
	}
	if h, ok := n.host.(interface {
		ConfirmedAddrs() (reachable, unreachable, unknown []ma.Multiaddr)
	}); ok {
		return h.ConfirmedAddrs()
	}
	return nil, nil, nil
}

func (r *reachability) observedAddresses() []ObservedAddress {
	r.state.Lock()
	defer r.state.Unlock()
	answer := make([]ObservedAddress, 0, len(r.state.observed))
	for addr, observers := range r.state.observed {
		answer = append(answer, ObservedAddress{addr, len(observers)})
	}
	slices.SortFunc(answer, func(a, b ObservedAddress) int {
		return cmp.Or(cmp.Compare(b.Observers, a.Observers), strings.Compare(a.Address, b.Address))
	})
	return answer
}

func (n *Node) diagnoseNAT() DiagnosedNAT {
	n.reach.state.Lock()
	tcp, udp := n.reach.state.nat["tcp"], n.reach.state.nat["udp"]
	n.reach.state.Unlock()
	answer := DiagnosedNAT{TCP: cmp.Or(tcp, "unknown"), UDP: cmp.Or(udp, "unknown"), Mapping: mappingOff, Mappings: []PortMapping{}}
	switch {
	case n.mapping == nil:
	case !n.mapping.HasDiscoveredNAT():
		answer.Mapping = mappingNoRouter
	default:
		answer.Mapping, answer.Mappings = mappingOn, n.mappings()
	}
	return answer
}

// diagnoseRelays lists every relay that was tried, and pings those that are connected, all at the same time.
func (n *Node) diagnoseRelays(ctx context.Context) []DiagnosedRelay {
	list := n.relays.list()
	var group sync.WaitGroup
	for i := range list {
		id, err := peer.Decode(list[i].Relay)
		if err != nil || n.host.Network().Connectedness(id) != network.Connected {
			continue
		}
		list[i].Connected = true
		group.Add(1)
		if !n.spawn("ping", func() {
			defer group.Done()
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			select {
			case answer := <-ping.Ping(network.WithNoDial(ctx, "ping"), n.host, id):
				if answer.Error == nil {
					list[i].RoundTripMs = float64(answer.RTT.Microseconds()) / 1000
				}
			case <-ctx.Done():
			}
		}) {
			group.Done()
		}
	}
	group.Wait()
	return list
}

// list answers the relays in the order of their ids, without the state of the connections.
func (r *relays) list() []DiagnosedRelay {
	r.state.Lock()
	defer r.state.Unlock()
	byID := map[peer.ID]*DiagnosedRelay{}
	of := func(id peer.ID) *DiagnosedRelay {
		if byID[id] == nil {
			byID[id] = &DiagnosedRelay{Relay: id.String(), Addresses: []string{}, RoundTripMs: -1}
		}
		return byID[id]
	}
	for id, record := range r.state.records {
		relay := of(id)
		relay.Lost, relay.Failure, relay.Failures = record.lost, record.failure, record.failures
	}
	for _, keeper := range r.keepersLocked() {
		for _, candidate := range keeper.state.candidates {
			of(candidate.ID)
		}
		if held := keeper.state.held; held != nil {
			relay := of(held.relay)
			relay.Reserved, relay.Expires, relay.Addresses = true, FormatExpiry(held.expires), textsOf(held.circuits)
			relay.LimitBytes, relay.LimitMs = held.limitData, held.limitDuration.Milliseconds()
		}
	}
	answer := make([]DiagnosedRelay, 0, len(byID))
	for _, relay := range byID {
		answer = append(answer, *relay)
	}
	slices.SortFunc(answer, func(a, b DiagnosedRelay) int { return strings.Compare(a.Relay, b.Relay) })
	return answer
}

func (n *Node) diagnoseConnections() DiagnosedConnections {
	answer := DiagnosedConnections{Lingering: []LingeringConnection{}}
	for _, id := range n.host.Network().Peers() {
		switch {
		case n.punches.direct(id):
			answer.Direct++
			for _, c := range n.punches.relayedConns(id) {
				answer.Lingering = append(answer.Lingering, lingering(c))
			}
		case n.host.Network().Connectedness(id) == network.Limited:
			answer.Limited++
			answer.Relayed++
		default:
			answer.Relayed++
		}
	}
	return answer
}

func lingering(c network.Conn) LingeringConnection {
	protocols := []string{}
	for _, s := range c.GetStreams() {
		protocols = append(protocols, string(s.Protocol()))
	}
	slices.Sort(protocols)
	return LingeringConnection{c.RemotePeer().String(), c.RemoteMultiaddr().String(), slices.Compact(protocols)}
}
