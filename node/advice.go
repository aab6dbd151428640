package node

import (
	"fmt"
	"slices"
)

// Advice is one thing that stands in the way of being reached.
type Advice struct {
	Code   string `json:"code"`   // stable, see the constants
	Text   string `json:"text"`   // what is the matter
	Change string `json:"change"` // what to change
}

// Codes of Advice.
const (
	AdviceOnlyLoopback      = "only_loopback"
	AdviceNoConnections     = "no_connections"
	AdviceNoVerdict         = "no_verdict"
	AdviceNoWayIn           = "no_way_in"
	AdviceRelayClientOff    = "relay_client_off"
	AdviceRelayFailed       = "relay_failed"
	AdviceRelayServiceOff   = "relay_service_off"
	AdviceRelayLimits       = "relay_limits"
	AdviceNoPortMapping     = "no_port_mapping"
	AdviceSymmetricNAT      = "symmetric_nat"
	AdviceHolePunchingOff   = "hole_punching_off"
	AdviceHolePunchFailed   = "hole_punch_failed"
	AdviceUnreachableListed = "unreachable_addresses"
)

// adviceRules are looked at in order; each says at most one thing.
var adviceRules = []func(n *Node, d *Diagnosis) (Advice, bool){
	func(n *Node, _ *Diagnosis) (Advice, bool) {
		return Advice{AdviceOnlyLoopback,
			"the node listens only on loopback addresses, so nobody on another machine reaches it",
			`listen_ips: ["0.0.0.0"], which is the default, or the address of a network interface`}, n.loopbackOnly()
	},
	func(_ *Node, d *Diagnosis) (Advice, bool) {
		none := d.Connections.Direct+d.Connections.Relayed == 0
		return Advice{AdviceNoConnections,
			"the node is connected to nobody, so nobody can tell it how it is seen, and no relay is in use",
			"connect to a peer or relay that is known to be reachable; if that fails, a firewall here blocks outgoing connections"}, none
	},
	func(n *Node, d *Diagnosis) (Advice, bool) {
		unsure := d.Reachability == ReachUnknown && n.mayBeJudged() && d.Connections.Direct > 0
		return Advice{AdviceNoVerdict,
			"no connected peer has told whether this node is reachable: none answers AutoNATv2, or no public address is known yet",
			"connect to a reachable peer that answers (python -m peerbus relay does); nat.autonat_private: true on networks without " +
				"public addresses; network.force_public: true if the node is known to be public"}, unsure
	},
	func(n *Node, d *Diagnosis) (Advice, bool) {
		return Advice{AdviceRelayClientOff,
			"the node is not public, and it may not use relays",
			"relay.enable_client: true"}, d.Reachability != ReachPublic && !n.config.Relay.EnableClient
	},
	func(n *Node, d *Diagnosis) (Advice, bool) {
		return Advice{AdviceNoWayIn,
				"the node is not known to be public and has no reservation at a relay, so peers on other networks cannot begin a connection",
				"run a relay on a public machine (python -m peerbus relay) and name it in relay.static_relays, or forward the listening ports"},
			d.Reachability != ReachPublic && n.config.Relay.EnableClient && !reserved(d) && !n.loopbackOnly()
	},
	func(_ *Node, d *Diagnosis) (Advice, bool) {
		i := slices.IndexFunc(d.Relays, func(r DiagnosedRelay) bool { return r.Failure != "" && !r.Reserved })
		if i < 0 {
			return Advice{}, false
		}
		return Advice{AdviceRelayFailed,
			fmt.Sprintf("the relay %s gives no reservation: %s", d.Relays[i].Relay, d.Relays[i].Failure),
			"check its address, that it runs, that its firewall lets its ports through, and its relay.allow or relay.token"}, true
	},
	func(_ *Node, d *Diagnosis) (Advice, bool) {
		return Advice{AdviceRelayServiceOff,
			"relay.enable_service is set, but the service waits for the verdict that this node is public",
			"network.force_public: true on a machine with a public address"}, d.RelayService != nil && !d.RelayService.Active
	},
	func(_ *Node, d *Diagnosis) (Advice, bool) {
		return Advice{AdviceRelayLimits,
			fmt.Sprintf("%d peers are connected only through a relay with limits: such a connection ends after little data or time, and "+
				"carries no topics", d.Connections.Limited),
			"relay.with_broad_limits: true at the relay, or let hole punching make the connection direct"}, d.Connections.Limited > 0
	},
	func(_ *Node, d *Diagnosis) (Advice, bool) {
		return Advice{AdviceNoPortMapping,
				"the node is not public, and no router answered UPnP or NAT-PMP",
				"switch UPnP or NAT-PMP on in the router, or forward the listening ports by hand"},
			d.Reachability == ReachPrivate && d.NAT.Mapping == mappingNoRouter
	},
	func(_ *Node, d *Diagnosis) (Advice, bool) {
		return Advice{AdviceSymmetricNAT,
				"the NAT in front of this node uses another port for every peer, so hole punching succeeds only with peers that are open",
				"forward the listening ports, or use a relay with relay.with_broad_limits"},
			d.NAT.UDP == natEndpointDependent || d.NAT.TCP == natEndpointDependent
	},
	func(n *Node, d *Diagnosis) (Advice, bool) {
		return Advice{AdviceHolePunchingOff,
			"some peers are connected through a relay, and nothing tries to connect them directly",
			"nat.hole_punching: true"}, d.Connections.Relayed > 0 && !n.config.NAT.HolePunching
	},
	func(n *Node, d *Diagnosis) (Advice, bool) {
		i := slices.IndexFunc(d.HolePunches, func(r PunchRecord) bool { return !r.Direct && n.onlyRelayed(r.Peer) })
		if i < 0 {
			return Advice{}, false
		}
		return Advice{AdviceHolePunchFailed,
			fmt.Sprintf("no direct connection to %s came about: %s", d.HolePunches[i].Peer, d.HolePunches[i].Reason),
			"forward the listening ports at one of the two sides, or keep the relay and set relay.with_broad_limits there"}, true
	},
	func(_ *Node, d *Diagnosis) (Advice, bool) {
		some := d.Reachability == ReachPublic && len(d.Addresses.Unreachable) > 0
		return Advice{AdviceUnreachableListed,
			fmt.Sprintf("peers do not reach these addresses: %v", d.Addresses.Unreachable),
			"open these ports in the firewall, or stop listening on them (listen_addrs, listen_ips)"}, some
	},
}

func (n *Node) advise(d *Diagnosis) []Advice {
	var answer []Advice
	for _, rule := range adviceRules {
		if advice, holds := rule(n, d); holds {
			answer = append(answer, advice)
		}
	}
	return answer
}

func reserved(d *Diagnosis) bool {
	return slices.ContainsFunc(d.Relays, func(r DiagnosedRelay) bool { return r.Reserved })
}

// onlyRelayed tells whether a peer is connected, but only through a relay.
func (n *Node) onlyRelayed(text string) bool {
	for _, c := range n.host.Network().Conns() {
		if id := c.RemotePeer(); id.String() == text {
			return !n.punches.direct(id)
		}
	}
	return false
}
