package node

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/zeroconf/v2"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

const (
	mdnsDomain = "local"
	// mdnsPort has to be given, but the addresses lie in the texts.
	mdnsPort = 4001
	// mdnsTextPrefix is put before each address (libp2p specs, discovery/mdns).
	mdnsTextPrefix = "dnsaddr="
	// maxMDNSText is what one text of a DNS record holds, maxMDNSTexts keeps all of them within a packet of 1500 bytes.
	maxMDNSText  = 255
	maxMDNSTexts = 1100
	// mdnsPatience is how long one peer is looked for: the question goes out at once and again after 4 s.
	mdnsPatience = 5 * time.Second
	// serviceHashChars fills a DNS-SD label of 15 characters behind its prefix.
	serviceHashChars = 13
)

// mdnsSource finds peers on the local network. A node announces itself under the service of its network, and under one more
// for each namespace that it advertises, all on the interfaces that it listens on: a node on loopback announces nothing to
// the LAN. It asks only while a search runs.
//
// libp2p's own mDNS service is not used because it always announces and asks together, under the addresses of its start.
// The records are the same, so that other libp2p programs find this node and are found.
type mdnsSource struct {
	node    *Node
	service string

	state struct {
		sync.Mutex
		changed chan struct{} // closed and replaced when own addresses changed
		problem error         // of the last announcement of the node itself
	}
}

// newMDNSSource answers nil when mDNS is off.
func newMDNSSource(n *Node) *mdnsSource {
	if !n.config.MDNS.Enabled {
		return nil
	}
	m := &mdnsSource{node: n, service: n.config.MDNS.Service}
	m.state.changed = make(chan struct{})
	return m
}

// start announces the node until it closes.
func (m *mdnsSource) start() error {
	m.node.spawn("mDNS", func() {
		m.announce(m.node.ctx, m.service, func(err error) {
			m.state.Lock()
			defer m.state.Unlock()
			m.state.problem = err
			if err != nil {
				m.node.log.Warn("mDNS cannot announce this node", "reason", err)
			}
		})
	})
	return nil
}

// addressesChanged makes the announcements anew.
func (m *mdnsSource) addressesChanged() {
	m.state.Lock()
	defer m.state.Unlock()
	close(m.state.changed)
	m.state.changed = make(chan struct{})
}

func (m *mdnsSource) change() <-chan struct{} {
	m.state.Lock()
	defer m.state.Unlock()
	return m.state.changed
}

func (m *mdnsSource) name() string { return SourceMDNS }

func (m *mdnsSource) advertise(ctx context.Context, namespace string, report func(error)) {
	m.announce(ctx, m.serviceOf(namespace), report)
}

// announce keeps a service announced until ctx ends, and reports each attempt.
func (m *mdnsSource) announce(ctx context.Context, service string, report func(error)) {
	for retry := advertiseRetry; ; {
		changed := m.change()
		server, err := m.register(service)
		report(err)
		var again <-chan time.Time
		if err != nil {
			again = time.After(retry)
			retry = min(2*retry, advertisePeriod)
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-again:
		}
		if server != nil {
			server.Shutdown()
		}
		if ctx.Err() != nil {
			return
		}
	}
}

func (m *mdnsSource) register(service string) (*zeroconf.Server, error) {
	addrs := m.ownAddresses()
	interfaces, err := interfacesOf(addrs)
	if err != nil {
		return nil, err
	}
	texts, ips := m.records(addrs)
	instance := strings.ToLower(rand.Text())
	server, err := zeroconf.RegisterProxy(instance, service, mdnsDomain, mdnsPort, instance, ips, texts, interfaces)
	if err != nil {
		return nil, fmt.Errorf("%w: announcing %s by mDNS: %v; does the interface allow multicast?", ErrUnreachable, service, err)
	}
	return server, nil
}

// ownAddresses are those that nodes of the LAN can dial, loopback only if there is nothing else. libp2p's own list is up to
// a minute old.
func (m *mdnsSource) ownAddresses() []ma.Multiaddr {
	listening, err := manet.ResolveUnspecifiedAddresses(m.node.host.Network().ListenAddresses(), nil)
	if err != nil {
		m.node.log.Warn("mDNS does not know the own addresses", "reason", err)
	}
	listening = slices.DeleteFunc(listening, func(addr ma.Multiaddr) bool {
		_, err := manet.ToIP(addr)
		return err != nil || isRelayed(addr) // relays of this node listen too, so to say
	})
	return preferRoutable(listening)
}

// records are the texts and the IP addresses to announce. Browsers do not ask by mDNS, so their transports are left out.
func (m *mdnsSource) records(addrs []ma.Multiaddr) (texts, ips []string) {
	size := 0
	for _, addr := range addrs {
		if ip, err := manet.ToIP(addr); err == nil && !slices.Contains(ips, ip.String()) {
			ips = append(ips, ip.String())
		}
		text := mdnsTextPrefix + addr.String() + "/p2p/" + m.node.id.String()
		if rank := transportRank(addr); rank != rankQUIC && rank != rankTCP || len(text) > maxMDNSText || size+len(text) > maxMDNSTexts {
			continue
		}
		size += len(text)
		texts = append(texts, text)
	}
	return texts, ips
}

// interfacesOf are the network interfaces that carry the addresses.
func interfacesOf(addrs []ma.Multiaddr) ([]net.Interface, error) {
	var wanted []netip.Addr
	for _, addr := range addrs {
		if ip, err := manet.ToIP(addr); err == nil {
			if known, ok := netip.AddrFromSlice(ip); ok {
				wanted = append(wanted, known.Unmap())
			}
		}
	}
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("%w: listing the network interfaces: %v", ErrInternal, err)
	}
	var carrying []net.Interface
	for _, candidate := range all {
		if candidate.Flags&net.FlagUp != 0 && carriesOne(candidate, wanted) {
			carrying = append(carrying, candidate)
		}
	}
	if len(carrying) == 0 {
		return nil, fmt.Errorf("%w: no network interface carries an address that this node listens on", ErrUnreachable)
	}
	return carrying, nil
}

func carriesOne(candidate net.Interface, wanted []netip.Addr) bool {
	carried, err := candidate.Addrs()
	if err != nil {
		return false // it went away meanwhile
	}
	return slices.ContainsFunc(carried, func(addr net.Addr) bool {
		prefix, err := netip.ParsePrefix(addr.String())
		return err == nil && slices.Contains(wanted, prefix.Addr().Unmap().WithZone(""))
	})
}

// serviceOf names the DNS-SD service of a namespace. It depends on the network's service, so that networks stay apart.
func (m *mdnsSource) serviceOf(namespace string) string {
	if namespace == "" {
		return m.service
	}
	sum := sha256.Sum256([]byte(m.service + "\x00" + namespace))
	return "_pb" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))[:serviceHashChars-1] + "._udp"
}

// find asks by IPv4 and IPv6, each in its own right: machines without one of them are common.
func (m *mdnsSource) find(ctx context.Context, namespace string, found func(peer.AddrInfo)) error {
	interfaces, err := interfacesOf(m.ownAddresses())
	if err != nil {
		return err
	}
	families := []zeroconf.IPType{zeroconf.IPv4, zeroconf.IPv6}
	outcomes := make(chan error, len(families))
	for _, family := range families {
		ran := m.node.spawn("mDNS search", func() {
			err := ErrInternal // of a panic
			defer func() { outcomes <- err }()
			err = m.browse(ctx, m.serviceOf(namespace), interfaces, family, found)
		})
		if !ran {
			outcomes <- ErrClosed
		}
	}
	var problems []error
	for range families {
		if err := <-outcomes; err != nil {
			problems = append(problems, err)
		}
	}
	if len(problems) < len(families) {
		return nil
	}
	return fmt.Errorf("%w: asking by mDNS: %w", ErrUnreachable, errors.Join(problems...))
}

func (m *mdnsSource) browse(ctx context.Context, service string, interfaces []net.Interface, family zeroconf.IPType, found func(peer.AddrInfo)) error {
	entries, done, read := make(chan *zeroconf.ServiceEntry), make(chan struct{}), make(chan struct{})
	reader := func() {
		defer close(read)
		for {
			select {
			case entry := <-entries:
				if entry == nil { // closed
					return
				}
				for _, info := range peersOf(entry.Text) {
					found(info)
				}
			case <-done: // Browse closes the channel only if it could ask
				return
			}
		}
	}
	if !m.node.spawn("mDNS answers", reader) {
		return ErrClosed
	}
	err := zeroconf.Browse(ctx, service, mdnsDomain, entries, zeroconf.SelectIfaces(interfaces), zeroconf.SelectIPTraffic(family))
	close(done)
	<-read
	return err
}

// peersOf reads the texts of an announcement; what is malformed is passed over.
func peersOf(texts []string) []peer.AddrInfo {
	var addrs []ma.Multiaddr
	for _, text := range texts {
		written, ok := strings.CutPrefix(text, mdnsTextPrefix)
		if !ok {
			continue
		}
		if addr, err := ma.NewMultiaddr(written); err == nil {
			addrs = append(addrs, addr)
		}
	}
	addrs = slices.DeleteFunc(addrs, func(addr ma.Multiaddr) bool {
		transport, id := peer.SplitAddr(addr)
		return id == "" || transport == nil
	})
	infos, err := peer.AddrInfosFromP2pAddrs(addrs...)
	if err != nil {
		return nil
	}
	return infos
}

func (m *mdnsSource) locate(ctx context.Context, id peer.ID) (peer.AddrInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, mdnsPatience)
	defer cancel()
	var located struct {
		sync.Mutex
		info peer.AddrInfo
	}
	err := m.find(ctx, "", func(info peer.AddrInfo) {
		if info.ID != id {
			return
		}
		located.Lock()
		defer located.Unlock()
		located.info = info
		cancel()
	})
	located.Lock()
	defer located.Unlock()
	switch {
	case len(located.info.Addrs) > 0:
		return located.info, nil
	case err != nil:
		return peer.AddrInfo{}, err
	}
	return peer.AddrInfo{}, fmt.Errorf("%w: nobody on the LAN announces %s under %s", ErrNotFound, id, m.service)
}

// MDNSStatus describes mDNS for a diagnosis.
type MDNSStatus struct {
	State   string `json:"state"` // "off", "announced" or "failing"
	Service string `json:"service"`
	Reason  string `json:"reason"` // of failing
}

func (m *mdnsSource) status(c MDNSConfig) MDNSStatus {
	s := MDNSStatus{State: "off", Service: c.Service}
	if m == nil {
		return s
	}
	m.state.Lock()
	defer m.state.Unlock()
	s.State = "announced"
	if m.state.problem != nil {
		s.State, s.Reason = "failing", m.state.problem.Error()
	}
	return s
}
