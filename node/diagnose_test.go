package node

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
)

func diagnose(t *testing.T, n *Node) Diagnosis {
	t.Helper()
	d, err := n.Diagnose(within(t))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func advises(t *testing.T, n *Node, code string) bool {
	t.Helper()
	for _, a := range diagnose(t, n).Advice {
		if a.Code != code {
			continue
		}
		if a.Text == "" || a.Change == "" {
			t.Errorf("advice %+v", a)
		}
		return true
	}
	return false
}

// everywhere listens on all interfaces, as a node does by default, but asks nobody for anything.
func everywhere(o *Options) {
	o.Config.ListenAddrs = []ma.Multiaddr{ma.StringCast("/ip4/0.0.0.0/tcp/0")}
}

func connected(t *testing.T, n *Node) *Node {
	t.Helper()
	connect(t, n, startNode(t))
	return n
}

// limitedPair is two nodes that only a relay with limits connects; the second one reserved.
func limitedPair(t *testing.T, change ...func(*Options)) (a, b *Node) {
	t.Helper()
	a, b, _ = relayedPairAt(t, startNode(t, asRelay), change...)
	return a, b
}

type deafRouter struct{}

func (deafRouter) GetMapping(ma.Multiaddr) ma.Multiaddr { return nil }
func (deafRouter) HasDiscoveredNAT() bool               { return false }
func (deafRouter) Close() error                         { return nil }

// TestEveryAdviceIsGivenInItsSituationAndNotAfterTheCure brings each situation about, and then what the advice proposes, or what
// comes down to it: cure answers the node to look at.
func TestEveryAdviceIsGivenInItsSituationAndNotAfterTheCure(t *testing.T) {
	reach := func(n *Node) *Node { n.judged(n.host.Addrs(), nil, nil); return n }
	for code, c := range map[string]struct {
		bring func(*testing.T) *Node
		cure  func(*testing.T, *Node) *Node
	}{
		AdviceOnlyLoopback: {
			func(t *testing.T) *Node { return startNode(t) },
			func(t *testing.T, _ *Node) *Node { return startNode(t, everywhere) },
		},
		AdviceNoConnections: {
			func(t *testing.T) *Node { return startNode(t) },
			func(t *testing.T, n *Node) *Node { return connected(t, n) },
		},
		AdviceNoVerdict: {
			func(t *testing.T) *Node {
				return connected(t, startNode(t, everywhere, func(o *Options) { o.Config.NAT.AutoNAT = true }))
			},
			func(_ *testing.T, n *Node) *Node { return reach(n) },
		},
		AdviceRelayClientOff: {
			func(t *testing.T) *Node {
				return startNode(t, func(o *Options) { o.Config.Relay.EnableClient = false })
			},
			func(t *testing.T, _ *Node) *Node { return startNode(t) },
		},
		AdviceNoWayIn: {
			func(t *testing.T) *Node { return startNode(t, everywhere) },
			func(t *testing.T, n *Node) *Node { reserve(t, n, startNode(t, asRelay)); return n },
		},
		AdviceRelayFailed: {
			func(t *testing.T) *Node {
				n := startNode(t)
				shut := startNode(t, asRelay, func(o *Options) { o.Config.Relay.Token = "other" })
				if _, err := n.StartStaticRelay(within(t), infoOf(shut)); !errors.Is(err, ErrRefused) {
					t.Fatal(err)
				}
				return n
			},
			func(t *testing.T, _ *Node) *Node {
				n := startNode(t, func(o *Options) { o.Config.Relay.Token = "other" })
				relay := startNode(t, asRelay, func(o *Options) { o.Config.Relay.Token = "other" })
				if _, err := n.StartStaticRelay(within(t), infoOf(relay)); err != nil {
					t.Fatal(err)
				}
				return n
			},
		},
		AdviceRelayServiceOff: {
			func(t *testing.T) *Node {
				return startNode(t, func(o *Options) { o.Config.Relay.EnableService = true })
			},
			func(t *testing.T, _ *Node) *Node { return startNode(t, asRelay) },
		},
		AdviceRelayLimits: {
			func(t *testing.T) *Node { a, _ := limitedPair(t); return a },
			func(t *testing.T, _ *Node) *Node { a, _, _ := relayedPair(t); return a },
		},
		AdviceNoPortMapping: {
			func(t *testing.T) *Node {
				n := startNode(t, func(o *Options) { o.tune = func(n *Node) { n.mapping = deafRouter{} } })
				n.judged(nil, n.host.Addrs(), nil)
				return n
			},
			func(_ *testing.T, n *Node) *Node { return reach(n) },
		},
		AdviceSymmetricNAT: {
			func(t *testing.T) *Node {
				n := startNode(t)
				tellNAT(t, n, network.NATDeviceTypeEndpointDependent)
				return n
			},
			func(t *testing.T, n *Node) *Node { tellNAT(t, n, network.NATDeviceTypeEndpointIndependent); return n },
		},
		AdviceHolePunchingOff: {
			func(t *testing.T) *Node { a, _ := limitedPair(t); return a },
			func(t *testing.T, _ *Node) *Node {
				a, b := limitedPair(t, punching)
				eventOf(t, a, EventConnectionDirect, map[string]any{"peer": b.id.String()})
				return a
			},
		},
		AdviceHolePunchFailed: {
			func(t *testing.T) *Node {
				a, b, _ := relayedPairAt(t, startNode(t, asRelay), punching, hidden, givingUpSoon)
				eventOf(t, b, EventHolePunch, map[string]any{"peer": a.id.String(), "direct": false})
				return b
			},
			func(t *testing.T, _ *Node) *Node {
				a, b := limitedPair(t, punching)
				eventOf(t, b, EventConnectionDirect, map[string]any{"peer": a.id.String()})
				return b
			},
		},
		AdviceUnreachableListed: {
			func(t *testing.T) *Node {
				n := startNode(t, judging, func(o *Options) { o.Config.AnnounceAddrs = addrsOf(t, "/ip4/127.0.0.1/tcp/1") })
				for range 2 { // each judges one address
					if _, err := n.Connect(within(t), startNode(t, judging).Addresses()); err != nil {
						t.Fatal(err)
					}
				}
				waitUntil(t, "both addresses are judged", func() bool {
					reachable, unreachable, _ := n.autonat.sorted()
					return len(reachable) == 1 && len(unreachable) == 1
				})
				return n
			},
			func(t *testing.T, _ *Node) *Node {
				n := startNode(t, judging)
				if _, err := n.Connect(within(t), startNode(t, judging).Addresses()); err != nil {
					t.Fatal(err)
				}
				eventOf(t, n, EventReachability, map[string]any{"reachability": ReachPublic})
				return n
			},
		},
	} {
		t.Run(code, func(t *testing.T) {
			n := c.bring(t)
			if !advises(t, n, code) {
				t.Errorf("not advised in its situation: %+v", diagnose(t, n))
			}
			if n = c.cure(t, n); advises(t, n, code) {
				t.Errorf("still advised after the cure: %+v", diagnose(t, n))
			}
		})
	}
}

func tellNAT(t *testing.T, n *Node, kind network.NATDeviceType) {
	t.Helper()
	emitter, err := n.host.EventBus().Emitter(new(event.EvtNATDeviceTypeChanged))
	if err != nil {
		t.Fatal(err)
	}
	defer emitter.Close()
	if err := emitter.Emit(event.EvtNATDeviceTypeChanged{TransportProtocol: network.NATTransportUDP, NatDeviceType: kind}); err != nil {
		t.Fatal(err)
	}
	want := map[network.NATDeviceType]string{
		network.NATDeviceTypeEndpointDependent: natEndpointDependent, network.NATDeviceTypeEndpointIndependent: natEndpointIndependent}[kind]
	waitUntil(t, "the NAT is known as "+want, func() bool { return n.diagnoseNAT().UDP == want })
}

func TestADiagnosisTellsOfRelaysAddressesAndPunches(t *testing.T) {
	a, b, relay := relayedPairAt(t, startNode(t, asRelay), punching)
	eventOf(t, b, EventHolePunch, map[string]any{"direct": true})
	d := diagnose(t, b)
	if len(d.Relays) != 1 || d.Relays[0].Relay != relay.id.String() {
		t.Fatalf("relays %+v", d.Relays)
	}
	r := d.Relays[0]
	if !r.Connected || !r.Reserved || r.Expires == "" || len(r.Addresses) != 1 || r.RoundTripMs < 0 || r.LimitBytes != 1<<17 || r.LimitMs != 120_000 {
		t.Errorf("relay %+v", r)
	}
	if len(d.Addresses.Listen) != 1 || len(d.Addresses.Announced) != 3 || len(d.Addresses.Observed) == 0 {
		t.Errorf("addresses %+v", d.Addresses)
	}
	if len(d.HolePunches) != 1 || !d.HolePunches[0].Direct || d.HolePunches[0].Peer != a.id.String() {
		t.Errorf("punches %+v", d.HolePunches)
	}
	if d.RelayService != nil || diagnose(t, relay).RelayService.Reservations != 1 {
		t.Errorf("relay service %+v", d.RelayService)
	}
}

func TestOtherPartsFillTheirFieldsAndAdvise(t *testing.T) {
	n := startNode(t)
	n.diagnosePart("discovery", func() (any, []Advice) { return map[string]int{"peers": 3}, []Advice{{"c", "t", "x"}} })
	d := diagnose(t, n)
	text, err := json.Marshal(d)
	if err != nil || !strings.Contains(string(text), `"discovery":{"peers":3}`) || !slices.Contains(d.Advice, Advice{"c", "t", "x"}) {
		t.Errorf("%s, %v", text, err)
	}
}

func TestADiagnosisHasNoNullLists(t *testing.T) {
	text, err := json.Marshal(diagnose(t, startNode(t, asRelay, everywhere)))
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Fatal(err)
	}
	for name, value := range fields {
		if value == nil {
			t.Errorf("%s is null", name)
		}
	}
	for name, value := range fields["addresses"].(map[string]any) {
		if value == nil {
			t.Errorf("addresses.%s is null", name)
		}
	}
}

func TestAClosedNodeHasNoDiagnosis(t *testing.T) {
	n := startNode(t)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Diagnose(within(t)); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func TestADeafRelayDoesNotHoldUpTheDiagnosis(t *testing.T) {
	relay, n := startNode(t, asRelay), startNode(t)
	relay.host.SetStreamHandler("/ipfs/ping/1.0.0", func(s network.Stream) { <-relay.ctx.Done(); _ = s.Reset() })
	reserve(t, n, relay)
	if d := diagnose(t, n); d.Relays[0].RoundTripMs != -1 {
		t.Errorf("relay %+v", d.Relays[0])
	}
}
