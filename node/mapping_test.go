package node

import (
	"fmt"
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
