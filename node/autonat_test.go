package node

import (
	"fmt"
	"strings"
	"testing"

	ma "github.com/multiformats/go-multiaddr"
)

func judging(o *Options) { o.Config.NAT.AutoNAT, o.Config.NAT.AutoNATPrivate = true, true }

func TestPeersOnALANTellWhetherAnAddressIsReachable(t *testing.T) {
	judge := startNode(t, judging)
	open := startNode(t, judging)
	shut := startNode(t, judging, hidden, func(o *Options) { o.Config.AnnounceAddrs = addrsOf(t, "/ip4/127.0.0.1/tcp/1") })
	for n, want := range map[*Node]string{open: ReachPublic, shut: ReachPrivate} {
		if n.Reachability() != ReachUnknown {
			t.Errorf("%s before anybody was asked", n.Reachability())
		}
		if _, err := n.Connect(within(t), judge.Addresses()); err != nil {
			t.Fatal(err)
		}
		eventOf(t, n, EventReachability, map[string]any{"reachability": want})
		if n.Reachability() != want {
			t.Errorf("%s, want %s", n.Reachability(), want)
		}
	}
	reachable, _, unknown := open.autonat.sorted()
	if fmt.Sprint(reachable) != fmt.Sprint(open.host.Addrs()) || len(unknown) != 0 {
		t.Errorf("reachable %v, unknown %v", reachable, unknown)
	}
}

func TestAPublicNodeAnswersWithoutAsking(t *testing.T) {
	public := startNode(t, asRelay, judging)
	n := startNode(t, judging)
	if _, err := n.Connect(within(t), public.Addresses()); err != nil {
		t.Fatal(err)
	}
	eventOf(t, n, EventReachability, map[string]any{"reachability": ReachPublic})
}

func TestVerdictsFollowTheAddresses(t *testing.T) {
	n := startNode(t)
	one, two := addrsOf(t, "/ip4/11.0.0.1/tcp/1"), addrsOf(t, "/ip4/11.0.0.1/tcp/2")
	for i, c := range []struct {
		reachable, unreachable, unknown []ma.Multiaddr
		want                            string
	}{
		{nil, nil, one, ReachUnknown},
		{nil, one, two, ReachUnknown},
		{nil, one, nil, ReachPrivate},
		{nil, nil, one, ReachPrivate},
		{one, two, nil, ReachPublic},
		{nil, one, nil, ReachPrivate},
	} {
		n.judged(c.reachable, c.unreachable, c.unknown)
		if got := n.Reachability(); got != c.want {
			t.Errorf("step %d: %s, want %s", i, got, c.want)
		}
	}
	e := eventOf(t, n, EventAddressesJudged, nil)
	if got := strings.Join(e.Fields["unknown"].([]string), ""); got != "/ip4/11.0.0.1/tcp/1" {
		t.Errorf("event %v", e.Fields)
	}
}

func TestStaticRelaysAreLeftWhileTheNodeIsPublic(t *testing.T) {
	relay := startNode(t, asRelay)
	b := startNode(t, hidden, func(o *Options) { o.Config.Relay.StaticRelays = append(o.Config.Relay.StaticRelays, infoOf(relay)) })
	circuitOf(t, b, relay)
	b.reach.set(ReachPublic)
	eventOf(t, b, EventRelayLost, map[string]any{"relay": relay.id.String()})
	b.reach.set(ReachPrivate)
	eventOf(t, b, EventRelayReserved, map[string]any{"relay": relay.id.String()})
	circuitOf(t, b, relay)
}

func TestWhatPeersSeeIsRememberedAndBounded(t *testing.T) {
	n, other := startNode(t), startNode(t)
	for port := range 2 * maxObservedAddresses {
		n.reach.note(other.id, addrsOf(t, fmt.Sprintf("/ip4/11.0.0.1/tcp/%d", port+1))[0])
	}
	n.reach.note(other.id, nil)
	n.reach.state.Lock()
	defer n.reach.state.Unlock()
	if got := len(n.reach.state.observed); got != maxObservedAddresses {
		t.Errorf("%d addresses are remembered", got)
	}
}
