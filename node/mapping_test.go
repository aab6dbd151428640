package node

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	ma "github.com/multiformats/go-multiaddr"
)

// router is one whose mappings a test makes.
type router struct {
	present  bool
	external ma.Multiaddr
}

func (r *router) GetMapping(listener ma.Multiaddr) ma.Multiaddr {
	if !hasProtocol(listener, ma.P_TCP) {
		return nil
	}
	return r.external
}
func (r *router) HasDiscoveredNAT() bool { return r.present }
func (r *router) Close() error           { return nil }

func TestAChangeOfThePortMappingIsAnEvent(t *testing.T) {
	n := startNode(t)
	r := &router{}
	n.mapping = r // the node itself has none, so nothing else looks
	known := n.noteMappings(DiagnosedNAT{Mapping: mappingNoRouter})
	r.present = true
	known = n.noteMappings(known)
	r.external = ma.StringCast("/ip4/11.0.0.1/tcp/4001")
	known = n.noteMappings(known)
	known = n.noteMappings(known)
	r.present = false
	n.noteMappings(known)

	mapped := PortMapping{listenerOf(n, ma.P_TCP), "/ip4/11.0.0.1/tcp/4001"}
	want := []string{
		fmt.Sprint(mappingOn, []PortMapping{}), fmt.Sprint(mappingOn, []PortMapping{mapped}), fmt.Sprint(mappingNoRouter, []PortMapping{}),
	}
	events, err := n.events.Pop(within(t), 4096)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range events {
		if e.Type == EventPortMapping {
			got = append(got, fmt.Sprint(e.Fields["port_mapping"], e.Fields["mappings"]))
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("told %v, want %v", got, want)
	}
}

func listenerOf(n *Node, code int) string {
	listeners := n.host.Network().ListenAddresses()
	return listeners[slices.IndexFunc(listeners, func(addr ma.Multiaddr) bool { return hasProtocol(addr, code) })].String()
}

func TestAMappedPortKeepsWhatFollowsItInTheAddress(t *testing.T) {
	n := startNode(t)
	m := &portMapper{NATManager: &router{}, node: n, network: n.host.Network()}
	m.note(netip.MustParseAddr("11.0.0.1"), map[mappedPort]int{{"tcp", 4001}: 5001, {"udp", 4002}: 5002})
	for listener, want := range map[string]string{
		"/ip4/0.0.0.0/tcp/4001":                      "/ip4/11.0.0.1/tcp/5001",
		"/ip4/192.168.1.2/tcp/4001/ws":               "/ip4/11.0.0.1/tcp/5001/ws",
		"/ip4/0.0.0.0/udp/4002/quic-v1/webtransport": "/ip4/11.0.0.1/udp/5002/quic-v1/webtransport",
		"/ip4/0.0.0.0/udp/4001/quic-v1":              "",
		"/ip4/127.0.0.1/tcp/4001":                    "",
		"/ip6/::/tcp/4001":                           "",
		"/webrtc":                                    "",
	} {
		got := ""
		if mapped := m.GetMapping(ma.StringCast(listener)); mapped != nil {
			got = mapped.String()
		}
		if got != want {
			t.Errorf("%s is mapped to %q, want %q", listener, got, want)
		}
	}
	if !m.HasDiscoveredNAT() {
		t.Error("no router although one answered")
	}
	if m.note(netip.MustParseAddr("0.0.0.0"), nil) || m.HasDiscoveredNAT() {
		t.Error("a router without an address outside counts")
	}
}
