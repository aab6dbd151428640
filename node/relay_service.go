package node

import (
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// Limits of the relay service (P2P-31); a reservation lasts relay.reservation_ms.
const (
	relayReservations    = 1024
	relayCircuits        = 32
	relayBuffer          = 4096
	relayReservationsIP  = 1024
	relayReservationsASN = 1024
	// relayStreams lets a quarter of the reservations have a circuit to everybody else at once: each circuit is two streams.
	relayStreams = 16384
	relayMemory  = 512 << 20
)

// relayService runs circuit v2 for others while this node is publicly reachable.
//
//	off --verdict public--> on --verdict private--> off
type relayService struct {
	node  *Node
	meter relayMeter
	state struct {
		sync.Mutex
		running *relayv2.Relay // nil: off
	}
}

func newRelayService(n *Node) *relayService {
	s := &relayService{node: n}
	s.meter.state.requests = map[string]uint64{}
	return s
}

// follow switches the service to the verdict on reachability.
func (s *relayService) follow(verdict string) {
	if !s.node.config.Relay.EnableService || verdict == ReachUnknown {
		return
	}
	s.state.Lock()
	defer s.state.Unlock()
	switch {
	case verdict == ReachPublic && s.state.running == nil:
		running, err := relayv2.New(s.node.host, s.options()...)
		if err != nil {
			s.node.log.Error("the relay service did not start", "reason", err)
			return
		}
		s.state.running = running
		if s.node.config.Relay.Token != "" {
			s.node.handle(RelayAccessProtocol, s.node.relays.acceptToken)
		}
	case verdict == ReachPrivate && s.state.running != nil:
		s.stopLocked()
	}
}

func (s *relayService) close() {
	s.state.Lock()
	defer s.state.Unlock()
	if s.state.running != nil {
		s.stopLocked()
	}
}

func (s *relayService) stopLocked() {
	s.node.host.RemoveStreamHandler(RelayAccessProtocol)
	if err := s.state.running.Close(); err != nil {
		s.node.log.Warn("the relay service did not stop cleanly", "reason", err)
	}
	s.state.running = nil
}

func (s *relayService) options() []relayv2.Option {
	c := s.node.config.Relay
	resources := relayv2.DefaultResources()
	resources.MaxReservations = relayReservations
	resources.MaxCircuits = relayCircuits
	resources.BufferSize = relayBuffer
	resources.MaxReservationsPerIP = relayReservationsIP
	resources.MaxReservationsPerASN = relayReservationsASN
	resources.ReservationTTL = c.Reservation
	options := []relayv2.Option{
		relayv2.WithResources(resources),
		relayv2.WithACL(relayDoor{s.node.relays}),
		relayv2.WithMetricsTracer(&s.meter),
		// Its clients may be on the same LAN or machine, so they are told every address, not only public ones.
		relayv2.WithReservationAddressFilter(func(addr ma.Multiaddr) bool { return !isRelayed(addr) && !manet.IsIPUnspecified(addr) }),
	}
	if c.WithBroadLimits {
		options = append(options, relayv2.WithInfiniteLimits())
	}
	return options
}

// relayLimits gives the service the streams and memory that its limits promise; libp2p's own suffice for 128 circuits.
func relayLimits(limits *rcmgr.PartialLimitConfig) {
	streams := rcmgr.ResourceLimits{Streams: relayStreams, StreamsInbound: relayStreams, StreamsOutbound: relayStreams, Memory: relayMemory}
	limits.Service = map[string]rcmgr.ResourceLimits{relayv2.ServiceName: streams}
	limits.Protocol = map[protocol.ID]rcmgr.ResourceLimits{proto.ProtoIDv2Hop: streams, proto.ProtoIDv2Stop: streams}
	limits.System.Streams = relayStreams * 2
	limits.System.StreamsInbound, limits.System.StreamsOutbound = relayStreams, relayStreams
}

// relayMeter counts what the service does.
type relayMeter struct {
	bytes atomic.Uint64 // many per circuit and second, hence without the lock
	state struct {
		sync.Mutex
		reservations int // now
		circuits     int // now
		granted      uint64
		renewed      uint64
		opened       uint64
		requests     map[string]uint64 // "<what>.<status>", refused ones only
	}
}

// RelayStatistics are the counters of the relay service.
type RelayStatistics struct {
	Active              bool              `json:"active"`
	Reservations        int               `json:"reservations"` // now, like circuits
	Circuits            int               `json:"circuits"`
	ReservationsGranted uint64            `json:"reservations_granted"`
	ReservationsRenewed uint64            `json:"reservations_renewed"`
	CircuitsOpened      uint64            `json:"circuits_opened"`
	Bytes               uint64            `json:"bytes"`   // relayed, both directions
	Refused             map[string]uint64 `json:"refused"` // "reserve.<status>" and "connect.<status>" of circuit v2
}

// statistics answers nil for a node that is no relay.
func (s *relayService) statistics() *RelayStatistics {
	if !s.node.config.Relay.EnableService {
		return nil
	}
	s.state.Lock()
	active := s.state.running != nil
	s.state.Unlock()
	m := &s.meter.state
	m.Lock()
	defer m.Unlock()
	return &RelayStatistics{
		Active: active, Reservations: m.reservations, Circuits: m.circuits, ReservationsGranted: m.granted,
		ReservationsRenewed: m.renewed, CircuitsOpened: m.opened, Bytes: s.meter.bytes.Load(), Refused: maps.Clone(m.requests),
	}
}

func (m *relayMeter) RelayStatus(bool) {}

func (m *relayMeter) ConnectionOpened() {
	m.state.Lock()
	defer m.state.Unlock()
	m.state.circuits++
	m.state.opened++
}

func (m *relayMeter) ConnectionClosed(time.Duration) {
	m.state.Lock()
	defer m.state.Unlock()
	m.state.circuits--
}

func (m *relayMeter) ReservationAllowed(renewal bool) {
	m.state.Lock()
	defer m.state.Unlock()
	if renewal {
		m.state.renewed++
	} else {
		m.state.granted++
		m.state.reservations++
	}
}

func (m *relayMeter) ReservationClosed(count int) {
	m.state.Lock()
	defer m.state.Unlock()
	m.state.reservations -= count
}

func (m *relayMeter) ConnectionRequestHandled(status pbv2.Status) { m.request("connect", status) }

func (m *relayMeter) ReservationRequestHandled(status pbv2.Status) { m.request("reserve", status) }

func (m *relayMeter) request(what string, status pbv2.Status) {
	if status == pbv2.Status_OK {
		return
	}
	m.state.Lock()
	defer m.state.Unlock()
	m.state.requests[fmt.Sprintf("%s.%s", what, status)]++
}

func (m *relayMeter) BytesTransferred(count int) { m.bytes.Add(uint64(count)) }
