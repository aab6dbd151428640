package node

import (
	"slices"
	"strings"
	"time"
)

// mappingPeriod is how often the router's mappings are looked at: libp2p tells nobody when they change.
const mappingPeriod = 5 * time.Second

// watchMappings raises an event whenever what the router maps has changed.
func (n *Node) watchMappings() {
	if n.mapping == nil {
		return
	}
	n.spawn("port mapping", func() {
		ticker := time.NewTicker(mappingPeriod)
		defer ticker.Stop()
		known := DiagnosedNAT{Mapping: mappingNoRouter}
		for {
			select {
			case <-ticker.C:
				known = n.noteMappings(known)
			case <-n.ctx.Done():
				return
			}
		}
	})
}

// noteMappings answers what is mapped now.
func (n *Node) noteMappings(before DiagnosedNAT) DiagnosedNAT {
	now := n.diagnoseNAT()
	if now.Mapping != before.Mapping || !slices.Equal(now.Mappings, before.Mappings) {
		n.events.Push(EventPortMapping, map[string]any{"port_mapping": now.Mapping, "mappings": now.Mappings})
	}
	return now
}

// mappings are those of the listeners, in order of their addresses.
func (n *Node) mappings() []PortMapping {
	mapped := []PortMapping{}
	for _, listener := range n.host.Network().ListenAddresses() {
		if external := n.mapping.GetMapping(listener); external != nil {
			mapped = append(mapped, PortMapping{listener.String(), external.String()})
		}
	}
	slices.SortFunc(mapped, func(a, b PortMapping) int { return strings.Compare(a.Listen, b.Listen) })
	return mapped
}
