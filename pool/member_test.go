package pool

import (
	"slices"
	"strings"
	"testing"

	"peerbus/node"
)

func TestAddPlacesAPeerThatNeedNotBeConnected(t *testing.T) {
	c := newNodeConn(t, nil)
	must(t, c.SetRole("a", 5))
	must(t, c.Add(PeerInfo{ID: "a", Misc: 99}, InPublic))
	wantPool(t, c.Set, "a", InPublic)
	infos, err := c.PeerInfos(InPublic)
	must(t, err)
	if infos[0].Misc != 5 {
		t.Fatalf("misc is %d, want the stored role 5", infos[0].Misc)
	}
	wantList(t, "flagged as removed", c.update(t).Removed[InPublic], "a")
}

func TestAFullPoolRefusesNewPeersAndRefreshesItsOwn(t *testing.T) {
	c := newNodeConn(t, func(o *NodeConnOptions) { o.MaxConnections = 8 })
	must(t, c.Add(PeerInfo{ID: "a"}, InPublic))
	wantError(t, c.Add(PeerInfo{ID: "b"}, InPublic), ErrFull)
	wantPool(t, c.Set, "b", "")
	must(t, c.Add(PeerInfo{ID: "a", Addrs: []string{"new"}}, InPublic))
	infos, err := c.PeerInfos(InPublic)
	must(t, err)
	wantList(t, "addresses", infos[0].Addrs, "new")
}

func TestAPeerIsInOnePoolAtMost(t *testing.T) {
	c := newNodeConn(t, nil)
	must(t, c.Add(PeerInfo{ID: "a"}, InPublic))
	wantError(t, c.Add(PeerInfo{ID: "a"}, OutWorldNode), ErrOtherPool)
	wantPool(t, c.Set, "a", InPublic)
	if n, err := c.Size(); n != 1 || err != nil {
		t.Fatalf("size %d, error %v", n, err)
	}
}

func TestAddWithoutPoolOrIDIsNotFound(t *testing.T) {
	c := newNodeConn(t, nil)
	wantError(t, c.Add(PeerInfo{ID: "a"}, "nowhere"), ErrNotFound)
	wantError(t, c.Add(PeerInfo{}, InPublic), ErrNotFound)
	wantError(t, c.Add(PeerInfo{ID: strings.Repeat("x", maxPeerIDBytes+1)}, InPublic), ErrArgument)
}

func TestMoveChangesThePoolOrNothing(t *testing.T) {
	c := newNodeConn(t, func(o *NodeConnOptions) { o.MaxConnections = 8 })
	c.public.connect(t, "a", Inbound)
	wantError(t, c.Move("stranger", OutPublic), ErrNotPooled)
	wantError(t, c.Move("a", "nowhere"), ErrNotFound)
	must(t, c.Add(PeerInfo{ID: "b"}, OutPublic))
	wantError(t, c.Move("a", OutPublic), ErrFull)
	wantPool(t, c.Set, "a", InPublic)
	_, err := c.Remove(t.Context(), "b")
	must(t, err)
	must(t, c.Move("a", OutPublic))
	wantPool(t, c.Set, "a", OutPublic)
	if changes := c.update(t); len(changes.Removed) > 0 || len(changes.Refused) > 0 {
		t.Fatalf("a moved peer is left alone, got %+v", changes)
	}
}

func TestRemoveDisconnectsAndKeepsTheRole(t *testing.T) {
	c := newNodeConn(t, nil)
	must(t, c.SetRole("a", 1))
	must(t, c.SetAddresses("a", []string{"x"}))
	c.public.connect(t, "a", Outbound)
	removed, err := c.Remove(t.Context(), "a")
	if !removed || err != nil {
		t.Fatalf("removed %v, error %v", removed, err)
	}
	wantPool(t, c.Set, "a", "")
	wantList(t, "disconnected", c.public.disconnects(), "a")
	if c.Role("a") != 1 {
		t.Fatal("the role is gone")
	}
	if _, known := c.Addresses("a"); known {
		t.Fatal("the addresses are still cached")
	}
	if changes := c.update(t); len(changes.Removed) > 0 {
		t.Fatalf("a removed peer is not flagged, got %v", changes.Removed)
	}
}

func TestRemoveOfAnUntrackedPeerDoesNothing(t *testing.T) {
	c := newNodeConn(t, nil)
	must(t, c.SetAddresses("a", []string{"x"}))
	removed, err := c.Remove(t.Context(), "a")
	if removed || err != nil {
		t.Fatalf("removed %v, error %v", removed, err)
	}
	wantList(t, "disconnected", c.public.disconnects())
	if _, known := c.Addresses("a"); !known {
		t.Fatal("the addresses are gone")
	}
}

func TestRemoveClearsThePlaceAlsoWhenTheDisconnectionFails(t *testing.T) {
	c := newNodeConn(t, nil)
	must(t, c.Add(PeerInfo{ID: "a"}, InPublic))
	c.public.setBroken(true)
	removed, err := c.Remove(t.Context(), "a")
	if removed {
		t.Fatal("a failed disconnection is no success")
	}
	wantError(t, err, errBroken)
	wantPool(t, c.Set, "a", "")
}

func TestAnUnlimitedPoolEndsAtTheLimitOfTheNetwork(t *testing.T) {
	c := newNodeConn(t, func(o *NodeConnOptions) { o.IsWorldNode, o.WorldLimit = true, 2 })
	must(t, c.Add(PeerInfo{ID: "a"}, InWorldNode))
	must(t, c.Add(PeerInfo{ID: "b"}, InWorldNode))
	wantError(t, c.Add(PeerInfo{ID: "c"}, InWorldNode), ErrFull)
}

func TestQueriesAnswerCopies(t *testing.T) {
	c := newNodeConn(t, nil)
	c.public.connect(t, "a", Inbound)
	c.Status()[InPublic][0] = "changed"
	c.PeerIDs()[0] = "changed"
	infos, err := c.PeerInfos()
	must(t, err)
	infos[0].Addrs[0] = "changed"
	again, err := c.PeerInfos(InPublic, InPublic, OutPublic)
	must(t, err)
	if len(again) != 1 || again[0].Addrs[0] == "changed" || c.Status()[InPublic][0] != "a" {
		t.Fatalf("the set has changed: %+v", again)
	}
	_, err = c.PeerInfos("nowhere")
	wantError(t, err, ErrNotFound)
	_, err = c.Size("nowhere")
	wantError(t, err, ErrNotFound)
}

func TestIsConnectedAsksForAnyOneOrSomePools(t *testing.T) {
	c := newNodeConn(t, nil)
	c.public.connect(t, "a", Inbound)
	for _, q := range []struct {
		pools []string
		want  bool
	}{{nil, true}, {[]string{InPublic}, true}, {[]string{OutPublic}, false}, {PublicPools, true}, {WorldPools, false}, {[]string{"nowhere"}, false}} {
		if got := c.IsConnected("a", q.pools...); got != q.want {
			t.Errorf("%v: got %v", q.pools, got)
		}
	}
	if !c.IsPublic("a") || c.IsInWorld("a") || c.IsWorldNode("a") || c.IsWorldMaster("a") || c.IsPublic("b") {
		t.Error("a is public and nothing else, b is nothing")
	}
	if size, err := c.Size(PublicPools...); size != 1 || err != nil {
		t.Errorf("size %d, error %v", size, err)
	}
}

func TestStringListsPoolsAndPeers(t *testing.T) {
	c := newNodeConn(t, nil)
	c.public.connect(t, "b", Inbound)
	c.public.connect(t, "a", Inbound)
	if text := c.String(); !strings.Contains(text, "pool="+InPublic+", max_con=12, current_con=2, peer_ids=(a, b)") {
		t.Fatal(text)
	}
}

func TestAggregatesCoverThePools(t *testing.T) {
	declared := []string{}
	for _, p := range PresetPools(false) {
		declared = append(declared, p.Name)
	}
	for name, union := range map[string][]string{
		"all": AllPools, "in and out": append(slices.Clone(IncomingPools), OutgoingPools...),
		"public and world": append(slices.Clone(PublicPools), WorldPools...),
	} {
		slices.Sort(union)
		want := slices.Sorted(slices.Values(declared))
		wantList(t, name, union, want...)
	}
}

func TestSetAddressesInPeerInfoChangesPooledInfosOnly(t *testing.T) {
	c := newNodeConn(t, nil)
	c.public.connect(t, "a", Inbound)
	must(t, c.SetAddressesInPeerInfo("a", []string{"x", "y"}))
	must(t, c.SetAddressesInPeerInfo("b", []string{"x"}))
	infos, err := c.PeerInfos()
	must(t, err)
	wantList(t, "addresses", infos[0].Addrs, "x", "y")
	wantError(t, c.SetAddressesInPeerInfo("a", make([]string, node.MaxPeerAddresses+1)), ErrArgument)
	wantError(t, c.SetAddressesInPeerInfo("a", []string{strings.Repeat("x", node.MaxAddressBytes+1)}), ErrArgument)
}

func TestAnUnknownNetworkOrPolicyOrRuleIsRefused(t *testing.T) {
	one := []NetworkOptions{{Name: "n", Network: newFakeNetwork("own")}}
	p := []PoolOptions{{"p", "n", Ratio(1)}}
	for name, o := range map[string]Options{
		"pool on an unknown network":     {MaxConnections: 5, Networks: one, Pools: []PoolOptions{{"p", "other", Ratio(1)}}},
		"two pools of one name":          {MaxConnections: 5, Networks: one, Pools: []PoolOptions{{"p", "n", Slots(1)}, {"p", "n", Slots(1)}}},
		"two networks of one name":       {MaxConnections: 5, Networks: append(one, one...), Pools: p},
		"network without a node":         {MaxConnections: 5, Networks: []NetworkOptions{{Name: "n"}}, Pools: p},
		"negative limit":                 {MaxConnections: 5, Networks: []NetworkOptions{{Name: "n", Network: newFakeNetwork("own"), Limit: -1}}, Pools: p},
		"token policy without a key":     {MaxConnections: 5, Networks: one, Pools: p, Policy: PolicyToken},
		"unknown policy":                 {MaxConnections: 5, Networks: one, Pools: p, Policy: "maybe"},
		"rule to an unknown pool":        {MaxConnections: 5, Networks: one, Pools: p, Rules: []Rule{{Pool: "q"}}},
		"rule with an unknown direction": {MaxConnections: 5, Networks: one, Pools: p, Rules: []Rule{{Pool: "p", Direction: "up"}}},
		"rule that never fits":           {MaxConnections: 5, Networks: one, Pools: p, Rules: []Rule{{Pool: "p", RoleMask: 1, RoleValue: 2}}},
		"rules and custom routing":       {MaxConnections: 5, Networks: one, Pools: p, Rules: []Rule{{Pool: "p"}}, CustomRouting: true},
		"own token of 1 MiB":             {MaxConnections: 5, Networks: one, Pools: p, Token: strings.Repeat("x", 1<<20)},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(o)
			wantError(t, err, ErrArgument)
		})
	}
	_, err := New(Options{MaxConnections: 5, Networks: one, Pools: p, PublicKey: "no key"})
	wantError(t, err, ErrKey)
	_, err = NewNodeConn(NodeConnOptions{MaxConnections: 100})
	wantError(t, err, ErrArgument)
}
