package node

import (
	"fmt"
	"maps"
	"slices"
)

// Codes of the advice of these parts.
const (
	AdviceWebRTCOff      = "webrtc_off"
	AdviceWebRTCFailed   = "webrtc_failed"
	AdviceDHTUnreachable = "dht_unreachable"
	AdviceMDNSFailing    = "mdns_failing"
)

// DiagnosedWebRTC is the part "webrtc" of a diagnosis.
type DiagnosedWebRTC struct {
	Enabled     bool             `json:"enabled"`
	STUNServers []string         `json:"stun_servers"`
	TURNServers []string         `json:"turn_servers"` // without their accounts
	Connections []WebRTCSession  `json:"connections"`  // with the chosen pair of candidates
	Counts      WebRTCStatistics `json:"counts"`
	LastFailure *WebRTCFailure   `json:"last_failure"` // null: none
}

func (n *Node) registerParts() {
	n.diagnosePart("webrtc", n.diagnoseWebRTC)
	n.diagnosePart("discovery", n.diagnoseDiscovery)
}

func (n *Node) diagnoseWebRTC() (any, []Advice) {
	ice := n.webrtc.iceConfig()
	d := DiagnosedWebRTC{
		Enabled: n.webrtc.engine != nil, STUNServers: append([]string{}, ice.STUNServers...), TURNServers: []string{},
		Connections: n.WebRTCSessions(), Counts: n.webrtc.statistics(), LastFailure: n.webrtc.conns.lastFailure(),
	}
	for _, server := range ice.TURNServers {
		d.TURNServers = append(d.TURNServers, server.URLs...)
	}
	return d, n.adviseWebRTC(&d)
}

func (n *Node) adviseWebRTC(d *DiagnosedWebRTC) []Advice {
	switch {
	case !d.Enabled && n.diagnoseConnections().Relayed > 0:
		return []Advice{{AdviceWebRTCOff,
			"some peers are connected only through a relay, and WebRTC, which finds ways that hole punching does not, is off",
			"webrtc.enabled: true"}}
	case d.LastFailure != nil && n.onlyRelayed(d.LastFailure.Peer):
		return []Advice{{AdviceWebRTCFailed,
			fmt.Sprintf("no WebRTC connection to %s came about: %s", d.LastFailure.Peer, d.LastFailure.Reason), d.servers()}}
	}
	return nil
}

// servers says which servers would help.
func (d *DiagnosedWebRTC) servers() string {
	switch {
	case len(d.TURNServers) > 0:
		return "check the addresses, accounts and firewalls of the servers in webrtc.ice_config.turn_servers"
	case len(d.STUNServers) > 0:
		return "name a TURN server in webrtc.ice_config.turn_servers: it carries what no direct way does"
	}
	return "name a STUN server in webrtc.ice_config.stun_servers, which finds the own address behind a NAT, or a TURN server in " +
		"webrtc.ice_config.turn_servers, which carries what no direct way does"
}

func (n *Node) diagnoseDiscovery() (any, []Advice) {
	d := n.DiscoveryStatus()
	var advice []Advice
	if d.DHT.State == "joining" && len(d.DHT.Failed) > 0 {
		id := slices.Sorted(maps.Keys(d.DHT.Failed))[0]
		advice = append(advice, Advice{AdviceDHTUnreachable,
			fmt.Sprintf("no bootstrap peer of the DHT answers; %s: %s", id, d.DHT.Failed[id]),
			"check the addresses in dht.bootstrap_peers, that these peers run with dht.server, and that dht.prefix is theirs"})
	}
	if d.MDNS.State == "failing" {
		advice = append(advice, Advice{AdviceMDNSFailing,
			fmt.Sprintf("this node is not announced on the LAN: %s", d.MDNS.Reason),
			"use a network interface that allows multicast, or mdns.enabled: false"})
	}
	return d, advice
}
