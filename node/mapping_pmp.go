package node

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	natpmp "github.com/jackpal/go-nat-pmp"
	"github.com/libp2p/go-libp2p/core/network"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
	"github.com/libp2p/go-netroute"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// pmpPatience is how long UPnP, which is asked by libp2p, has the first word: a little more than libp2p searches.
	pmpPatience = 11 * time.Second
	// pmpTimeout bounds one request to the gateway.
	pmpTimeout = time.Second
	// pmpLifetime is that of a mapping, pmpRenewal how often it is renewed.
	pmpLifetime = 2 * time.Minute
	pmpRenewal  = pmpLifetime / 3
	// pmpRetry is the first pause when nothing answers, doubled each time up to maxPMPRetry: a router that restarts is back soon.
	pmpRetry    = 10 * time.Second
	maxPMPRetry = 5 * time.Minute
)

// portMapper asks the router for open ports by UPnP, which is libp2p's business, or else by NAT-PMP (RFC 6886). libp2p has a
// client of that, too, but it never asks: it looks for the route to 0.0.0.0, which go-netroute 0.4.0 refuses.
//
//	UPnP is asked --answers--> UPnP for good
//	      '--no answer--> NAT-PMP is asked <--pause-- no answer
//	                              '--answers--> mapped, renewed --silence--> not mapped, asked again
type portMapper struct {
	basichost.NATManager // UPnP
	node                 *Node
	network              network.Network
	gateway              func() (pmpGateway, error) // pmpClient, but in tests
	state                struct {
		sync.Mutex
		external netip.Addr // valid while the gateway answers
		ports    map[mappedPort]int
	}
	closing chan struct{}
	ended   chan struct{}
	once    sync.Once
}

// pmpGateway is a router that is asked by NAT-PMP.
type pmpGateway interface {
	GetExternalAddress() (*natpmp.GetExternalAddressResult, error)
	AddPortMapping(protocol string, internal, external, lifetime int) (*natpmp.AddPortMappingResult, error)
}

// mappedPort is a port of this machine.
type mappedPort struct {
	protocol string // "tcp" or "udp"
	number   int
}

func newPortMapper(n *Node, listening network.Network) *portMapper {
	m := &portMapper{NATManager: basichost.NewNATManager(listening), node: n, network: listening, gateway: pmpClient}
	m.closing, m.ended = make(chan struct{}), make(chan struct{})
	if !n.spawn("NAT-PMP", func() { defer close(m.ended); m.run() }) {
		close(m.ended)
	}
	return m
}

// HasDiscoveredNAT implements basichost.NATManager, as GetMapping and Close do.
func (m *portMapper) HasDiscoveredNAT() bool {
	m.state.Lock()
	defer m.state.Unlock()
	return m.state.external.IsValid() || m.NATManager.HasDiscoveredNAT()
}

func (m *portMapper) GetMapping(listener ma.Multiaddr) ma.Multiaddr {
	if mapped := m.NATManager.GetMapping(listener); mapped != nil {
		return mapped
	}
	port, rest, ok := mappedPortOf(listener)
	m.state.Lock()
	defer m.state.Unlock()
	external := m.state.ports[port]
	if !ok || external == 0 {
		return nil
	}
	mapped, err := ma.NewMultiaddr(fmt.Sprintf("/ip4/%s/%s/%d", m.state.external, port.protocol, external))
	if err != nil {
		return nil
	}
	return mapped.Encapsulate(rest)
}

func (m *portMapper) Close() error {
	m.once.Do(func() { close(m.closing) })
	<-m.ended
	return m.NATManager.Close()
}

func (m *portMapper) run() {
	retry := pmpRetry
	for pause := pmpPatience; m.wait(pause); {
		if m.NATManager.HasDiscoveredNAT() {
			break
		}
		if m.renew() {
			pause, retry = pmpRenewal, pmpRetry
		} else {
			pause, retry = retry, min(2*retry, maxPMPRetry)
		}
	}
	m.withdraw()
}

// wait answers false when the node closes.
func (m *portMapper) wait(pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-m.closing:
	case <-m.node.ctx.Done():
	}
	return false
}

// renew maps the ports that are listened on now, and answers whether there is a gateway that does.
func (m *portMapper) renew() bool {
	gateway, err := m.gateway()
	if err != nil {
		return m.note(netip.Addr{}, nil)
	}
	answer, err := gateway.GetExternalAddress()
	if err != nil {
		return m.note(netip.Addr{}, nil)
	}
	external := netip.AddrFrom4(answer.ExternalIPAddress)
	ports := map[mappedPort]int{}
	for _, listener := range m.network.ListenAddresses() {
		port, _, ok := mappedPortOf(listener)
		if !ok || ports[port] != 0 {
			continue
		}
		if m.node.ctx.Err() != nil {
			break
		}
		mapped, err := gateway.AddPortMapping(port.protocol, port.number, m.wanted(port), int(pmpLifetime.Seconds()))
		if err != nil {
			m.node.log.Info("a port is not mapped", "protocol", port.protocol, "port", port.number, "reason", err)
			continue
		}
		ports[port] = int(mapped.MappedExternalPort)
	}
	return m.note(external, ports)
}

// wanted is the port outside that is asked for: the one before, or the same as inside.
func (m *portMapper) wanted(port mappedPort) int {
	m.state.Lock()
	defer m.state.Unlock()
	if before := m.state.ports[port]; before != 0 {
		return before
	}
	return port.number
}

func (m *portMapper) note(external netip.Addr, ports map[mappedPort]int) bool {
	m.state.Lock()
	defer m.state.Unlock()
	if external.IsUnspecified() {
		external, ports = netip.Addr{}, nil
	}
	m.state.external, m.state.ports = external, ports
	return external.IsValid()
}

// withdraw takes the mappings back, as far as the gateway still answers.
func (m *portMapper) withdraw() {
	m.state.Lock()
	ports := m.state.ports
	m.state.Unlock()
	m.note(netip.Addr{}, nil)
	if len(ports) == 0 {
		return
	}
	gateway, err := m.gateway()
	if err != nil {
		return
	}
	for port := range ports {
		if _, err := gateway.AddPortMapping(port.protocol, port.number, 0, 0); err != nil {
			return // the rest expires
		}
	}
}

// somewhere is an address of the documentation range (RFC 5737): only the route to it is looked up.
var somewhere = net.IPv4(192, 0, 2, 1)

// pmpClient asks the router that this machine's traffic to the internet takes.
func pmpClient() (pmpGateway, error) {
	routes, err := netroute.New()
	if err != nil {
		return nil, err
	}
	_, gateway, _, err := routes.Route(somewhere)
	if err != nil {
		return nil, err
	}
	if gateway.To4() == nil {
		return nil, fmt.Errorf("no IPv4 gateway")
	}
	return natpmp.NewClientWithTimeout(gateway, pmpTimeout), nil
}

// mappedPortOf is the port of a listener that a router can map, and what follows it in the address.
func mappedPortOf(listener ma.Multiaddr) (port mappedPort, rest ma.Multiaddr, ok bool) {
	ip, rest := ma.SplitFirst(listener)
	if ip == nil || ip.Protocol().Code != ma.P_IP4 || net.IP(ip.RawValue()).IsLoopback() {
		return mappedPort{}, nil, false
	}
	transport, rest := ma.SplitFirst(rest)
	if transport == nil || transport.Protocol().Code != ma.P_TCP && transport.Protocol().Code != ma.P_UDP {
		return mappedPort{}, nil, false
	}
	number, err := strconv.Atoi(transport.Value())
	return mappedPort{transport.Protocol().Name, number}, rest, err == nil
}
