package node

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	ma "github.com/multiformats/go-multiaddr"
)

// listenPorts counts the ports of one address: TCP (shared with WebSocket), QUIC, WebTransport and
// WebRTC-direct (P2P-06).
const listenPorts = 4

// listenShapes are the transports that a node listens on, written without values. The zone of an
// IPv6 address is not part of the shape.
var listenShapes = []string{
	"tcp", "tcp/ws", "tcp/tls/ws", "tcp/tls/sni/ws", "tcp/wss",
	"udp/quic-v1", "udp/quic-v1/webtransport", "udp/webrtc-direct",
}

// ListenMultiaddrs returns what the node listens on: ListenAddrs as they are, or for each IP
// address TCP, WebSocket on the same port, QUIC, WebTransport and, unless switched off,
// WebRTC-direct. With a certificate the WebSocket is a secure one.
func (c Config) ListenMultiaddrs() ([]ma.Multiaddr, error) {
	addrs, err := c.listenMultiaddrs()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return addrs, nil
}

func (c Config) listenMultiaddrs() ([]ma.Multiaddr, error) {
	if len(c.ListenAddrs) > 0 {
		return slices.Clone(c.ListenAddrs), nil
	}
	ports, err := c.ports()
	if err != nil {
		return nil, err
	}
	var addrs []ma.Multiaddr
	for _, ip := range c.ListenIPs {
		for _, transport := range c.transports(ports) {
			addr, err := ma.NewMultiaddr(ipPrefix(ip) + transport)
			if err != nil {
				return nil, fmt.Errorf("listen_ips: %w", err)
			}
			addrs = append(addrs, addr)
		}
	}
	return addrs, nil
}

// transports writes the part of the multiaddrs behind the IP address.
func (c Config) transports(ports [listenPorts]int) []string {
	webSocket := "/ws"
	switch {
	case c.TLS.AutoTLS:
		webSocket = "/tls/sni/*." + c.TLS.ForgeDomain + "/ws"
	case c.TLS.Enabled():
		webSocket = "/tls/ws"
	}
	transports := []string{
		fmt.Sprintf("/tcp/%d", ports[0]),
		fmt.Sprintf("/tcp/%d%s", ports[0], webSocket),
		fmt.Sprintf("/udp/%d/quic-v1", ports[1]),
		fmt.Sprintf("/udp/%d/quic-v1/webtransport", ports[2]),
	}
	if c.WebRTC.Enabled {
		transports = append(transports, fmt.Sprintf("/udp/%d/webrtc-direct", ports[3]))
	}
	return transports
}

// ports returns the port of each transport, 0 where the system chooses.
func (c Config) ports() ([listenPorts]int, error) {
	var ports [listenPorts]int
	used := listenPorts
	if !c.WebRTC.Enabled {
		used--
	}
	for i := range ports[:used] {
		if i < len(c.ListenPorts) {
			ports[i] = c.ListenPorts[i]
		} else if c.PredefinedPort > 0 {
			ports[i] = c.PredefinedPort + i
		}
		if ports[i] > maxPort {
			return ports, fmt.Errorf("predefined_port: %d leaves no room for the %d ports of the node, use at most %d",
				c.PredefinedPort, used, maxPort-used+1)
		}
	}
	// QUIC and WebTransport share a UDP port, WebRTC-direct needs its own.
	if ports[3] != 0 && (ports[3] == ports[1] || ports[3] == ports[2]) {
		return ports, fmt.Errorf("listen_ports: WebRTC-direct cannot share UDP port %d with QUIC and WebTransport, name another fourth port", ports[3])
	}
	return ports, nil
}

// ipPrefix expects a text that listenIPOf accepted.
func ipPrefix(ip string) string {
	if strings.Contains(ip, ":") {
		return "/ip6/" + ip
	}
	return "/ip4/" + ip
}

func portOf(value any) (int, error) {
	port, err := integerOf(value, 0, maxPort)
	return int(port), err
}

// listenIPOf reads an IP address of this machine. It is written back in the one canonical form, so
// that repeated ones are recognized.
func listenIPOf(value any) (string, error) {
	text, err := textOf(value)
	if err != nil {
		return "", err
	}
	ip, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		return "", fmt.Errorf("expected an IPv4 or IPv6 address, not a name, got %q", clipText(text, maxShownValueBytes))
	case ip.Zone() != "":
		return "", fmt.Errorf("an address with a zone goes into listen_addrs as /ip6zone/%s/ip6/%s and a transport",
			clipText(ip.Zone(), maxShownValueBytes), ip.WithZone(""))
	case ip.IsMulticast():
		return "", fmt.Errorf("%s is a multicast address, a node listens on unicast ones", ip)
	}
	return ip.Unmap().String(), nil
}

// listenAddrOf reads a full listen multiaddr of a transport that nodes have.
func listenAddrOf(value any) (ma.Multiaddr, error) {
	text, err := textOf(value)
	if err != nil {
		return nil, err
	}
	shown := clipText(text, maxShownValueBytes)
	addr, err := ma.NewMultiaddr(text)
	if err != nil {
		return nil, fmt.Errorf("expected a multiaddr, got %q", shown)
	}
	shape, err := listenShape(addr)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", shown, err)
	}
	if !slices.Contains(listenShapes, shape) {
		return nil, fmt.Errorf("%q: nodes listen on /ip4 or /ip6 followed by one of %s", shown, strings.Join(listenShapes, ", "))
	}
	return addr, nil
}

// listenShape names the protocols behind the IP address.
func listenShape(addr ma.Multiaddr) (string, error) {
	var names []string
	for _, component := range addr {
		names = append(names, component.Protocol().Name)
	}
	if len(names) > 1 && names[0] == "ip6zone" && names[1] == "ip6" {
		names = names[1:]
	}
	if len(names) == 0 || (names[0] != "ip4" && names[0] != "ip6") {
		return "", errors.New("a listen address starts with /ip4/ or /ip6/")
	}
	return strings.Join(names[1:], "/"), nil
}
