package pool

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"peerbus/node"
)

var (
	agentA, agentB, masterA, masterB = somePeer(1), somePeer(2), somePeer(3), somePeer(4)
	worldNode, inspector, unknown    = somePeer(5), somePeer(6), somePeer(7)
)

func newWorld(t testing.TB) nodeConn {
	t.Helper()
	c := newNodeConn(t, nil)
	must(t, c.SetWorld(worldNode))
	must(t, c.SetInspector(inspector))
	must(t, c.SetWorldAgentsList([]Entry{entry(agentA, 1, "a"), entry(agentB, 5)}))
	must(t, c.SetWorldMastersList([]Entry{entry(masterB, 3, "m"), entry(masterA, 7)}))
	return c
}

func TestTheWorldNetworkRoutesByItsLists(t *testing.T) {
	for _, line := range []struct{ id, in, out string }{
		{agentA, InWorldAgents, OutWorldAgents},
		{masterA, InWorldMasters, OutWorldMasters},
		{worldNode, InWorldNode, OutWorldNode},
		{inspector, InWorldMasters, OutWorldMasters},
	} {
		c := newWorld(t)
		c.private.connect(t, line.id, Inbound)
		wantPool(t, c.Set, line.id, line.in)
		c = newWorld(t)
		c.private.connect(t, line.id, Outbound)
		wantPool(t, c.Set, line.id, line.out)
	}
}

func TestAgentsGoBeforeTheWorldNodeAndThatBeforeMasters(t *testing.T) {
	c := newNodeConn(t, nil)
	must(t, c.AddToWorldMastersList(agentA, nil, 3))
	must(t, c.SetWorld(agentA))
	c.private.connect(t, agentA, Inbound)
	wantPool(t, c.Set, agentA, InWorldNode)
	must(t, c.AddToWorldAgentsList(agentA, nil, 1))
	if name, reason, err := c.RouteOf(NetworkWorld, PeerInfo{ID: agentA, Direction: Inbound}); name != InWorldAgents || err != nil {
		t.Fatalf("routed to %q, reason %q, error %v", name, reason, err)
	}
}

func TestAStrangerNeverTakesAPlaceInTheWorld(t *testing.T) {
	c := newWorld(t)
	if !c.Stranger(NetworkWorld, unknown) {
		t.Fatal("the gater admits a stranger")
	}
	c.StrangerRefused(NetworkWorld, unknown)
	for _, id := range []string{agentA, masterB, worldNode, inspector} {
		if c.Stranger(NetworkWorld, id) {
			t.Fatalf("the gater refuses %s", id)
		}
	}
	if c.Stranger(NetworkPublic, unknown) {
		t.Fatal("the public network has no strangers")
	}
	c.private.connect(t, unknown, Inbound)
	wantPool(t, c.Set, unknown, "")
	wantList(t, "disconnected", c.private.disconnects(), unknown)
	refused := c.update(t).Refused
	if len(refused) != 1 || refused[0] != (Refusal{Network: NetworkWorld, Peer: unknown, Reason: RefusedStranger}) {
		t.Fatalf("refused: %+v", refused)
	}
	if c.Counts()[RefusedStranger] != 2 {
		t.Fatalf("counts: %v", c.Counts())
	}
}

func TestAStrangerThatTheNetworkNeedsKeepsItsConnectionAndNoPlace(t *testing.T) {
	c := newNodeConn(t, func(o *NodeConnOptions) { o.Common.Policy = PolicyNone })
	c.private.state.spared = unknown
	c.private.connect(t, unknown, Inbound)
	c.private.connect(t, "another stranger", Inbound)
	wantList(t, "disconnected", c.private.disconnects(), "another stranger")
	wantPool(t, c.Set, unknown, "")
	if v := c.Check(NetworkWorld, unknown, "", wrap(unknown, "misc", "", "", time.Now(), Content{})); v.Reason != ReasonNotMember {
		t.Fatalf("its message: %+v", v)
	}
}

func TestAFloodOfStrangersIsCountedAndRaisesOneEvent(t *testing.T) {
	c := newWorld(t)
	for range 1000 {
		c.StrangerRefused(NetworkWorld, unknown)
	}
	for n := range 2 * maxRefusals {
		c.StrangerRefused(NetworkWorld, "stranger "+strconv.Itoa(n))
	}
	if got, want := c.Counts()[RefusedStranger], uint64(1000+2*maxRefusals); got != want {
		t.Fatalf("%d counted, want %d", got, want)
	}
	if events := len(c.events.of(EventPeerRefused)); events != maxRefusals {
		t.Fatalf("%d events, want one for each peer that the next update names", events)
	}
	if refused := len(c.update(t).Refused); refused != maxRefusals {
		t.Fatalf("%d refusals are kept, want %d", refused, maxRefusals)
	}
}

func TestADialledPeerMayBeNamedUntilTheNextUpdate(t *testing.T) {
	c := newNodeConn(t, nil)
	c.private.connect(t, worldNode, Outbound)
	wantPool(t, c.Set, worldNode, "")
	must(t, c.SetWorld(worldNode))
	wantPool(t, c.Set, worldNode, OutWorldNode)
	wantList(t, "added", c.update(t).Added[OutWorldNode], worldNode)

	c.private.connect(t, unknown, Outbound)
	c.update(t)
	wantList(t, "disconnected", c.private.disconnects(), unknown)
}

func TestWhoLeavesAListIsAStranger(t *testing.T) {
	c := newWorld(t)
	c.private.connect(t, agentA, Inbound)
	c.private.connect(t, worldNode, Outbound)
	c.update(t)
	must(t, c.SetWorldAgentsList(nil))
	must(t, c.SetWorld(""))
	wantList(t, "disconnected", c.private.disconnects(), slices.Sorted(slices.Values([]string{agentA, worldNode}))...)
	changes := c.update(t)
	wantList(t, "agents removed", changes.Removed[InWorldAgents], agentA)
	wantList(t, "world node removed", changes.Removed[OutWorldNode], worldNode)
	if c.WorldPeerID() != "" || !c.Stranger(NetworkWorld, worldNode) {
		t.Fatal("the former world node is a stranger")
	}
}

func TestAPromotedAgentIsFlaggedAndStaysConnected(t *testing.T) {
	c := newWorld(t)
	c.private.connect(t, agentA, Inbound)
	c.update(t)
	must(t, c.ApplyRoster(Snapshot{Owner: worldNode, Author: worldNode, Peers: []Entry{entry(agentA, 3)}}))
	changes := c.update(t)
	wantList(t, "removed", changes.Removed[InWorldAgents], agentA)
	if len(changes.Refused) != 1 || changes.Refused[0].Reason != RefusedOtherPool {
		t.Fatalf("refused: %+v", changes.Refused)
	}
	wantList(t, "disconnected", c.private.disconnects())
	must(t, c.Move(agentA, InWorldMasters))
	if changes := c.update(t); len(changes.Removed)+len(changes.Refused) != 0 || !c.IsWorldMaster(agentA) {
		t.Fatalf("moved: %+v", changes)
	}
}

func TestListsReplaceFully(t *testing.T) {
	c := newWorld(t)
	wantList(t, "agents", c.WorldAgents(), sorted(agentA, agentB)...)
	wantList(t, "union", c.WorldAgentsAndMasters(), sorted(agentA, agentB, masterA, masterB)...)
	must(t, c.SetWorldAgentsList([]Entry{entry(unknown, 9, "u")}))
	wantList(t, "agents", c.WorldAgents(), unknown)
	wantList(t, "union", c.WorldAgentsAndMasters(), sorted(unknown, masterA, masterB)...)
	if c.Role(agentA) != 0 || c.Role(unknown) != 9 || c.Role(masterA) != 7 {
		t.Fatal("roles of the former list are forgotten, others stay")
	}
	if _, known := c.Addresses(agentA); known {
		t.Fatal("addresses of the former list are forgotten")
	}
	if c.CountByRole(1) != 0 || c.CountByRole(5) != 0 || c.CountByRole(9) != 1 {
		t.Fatal("the role index is current")
	}
}

func sorted(ids ...string) []string { return slices.Sorted(slices.Values(ids)) }

func TestABadListLeavesEverythingAsItWas(t *testing.T) {
	before := newWorld(t)
	for name, list := range map[string][]Entry{
		"duplicate id":        {entry(agentA, 1), entry(agentA, 1)},
		"foreign id":          {entry("somebody", 1)},
		"no id":               {entry("", 1)},
		"role of a master":    {entry(agentA, 3)},
		"public role":         {entry(agentA, 0)},
		"role outside worlds": {entry(agentA, 2)},
		"negative role":       {entry(agentA, -1)},
		"too many addresses":  {entry(agentA, 1, make([]string, node.MaxPeerAddresses+1)...)},
		"endless address":     {entry(agentA, 1, strings.Repeat("x", node.MaxAddressBytes+1))},
		"bad one at the end":  {entry(unknown, 1, "x"), entry(masterA, 0)},
		"too many":            make([]Entry, node.MaxRosterPeers+1),
	} {
		t.Run(name, func(t *testing.T) {
			wantError(t, before.SetWorldAgentsList(list), ErrArgument)
			wantList(t, "agents", before.WorldAgents(), sorted(agentA, agentB)...)
			if before.Role(agentA) != 1 || before.Role(unknown) != 0 {
				t.Fatal("a role has changed")
			}
		})
	}
}

func TestAddToAListNeedsARoleThatFits(t *testing.T) {
	c := newNodeConn(t, nil)
	wantError(t, c.AddToWorldAgentsList(agentA, nil, 3), ErrArgument)
	wantError(t, c.AddToWorldAgentsList(agentA, nil, -1), ErrArgument)
	wantError(t, c.AddToWorldMastersList(agentA, nil, 1), ErrArgument)
	wantList(t, "union", c.WorldAgentsAndMasters())
	must(t, c.AddToWorldAgentsList(agentA, []string{"x"}, 5))
	addrs, known := c.Addresses(agentA)
	if !known || c.Role(agentA) != 5 {
		t.Fatal("role and addresses are stored")
	}
	wantList(t, "addresses", addrs, "x")
}

func TestTheFirstMaster(t *testing.T) {
	c := newNodeConn(t, nil)
	if c.FirstWorldMaster() != "" {
		t.Fatal("there is none yet")
	}
	must(t, c.AddToWorldMastersList(masterB, nil, 3))
	must(t, c.AddToWorldMastersList(masterA, nil, 3))
	if c.FirstWorldMaster() != masterB {
		t.Fatal("the first added")
	}
	must(t, c.SetWorldMastersList([]Entry{entry(masterA, 3), entry(masterB, 3)}))
	if c.FirstWorldMaster() != masterA {
		t.Fatal("the first of the last list")
	}
	must(t, c.SetWorldMastersList(nil))
	if c.FirstWorldMaster() != "" {
		t.Fatal("none after an empty list")
	}
}

func TestRolesAreFoundExactlyAndByMask(t *testing.T) {
	c := newNodeConn(t, nil)
	for id, role := range map[string]int64{"a": 1, "b": 5, "c": 3, ownPrivate: 5} {
		must(t, c.SetRole(id, role))
		must(t, c.SetAddresses(id, []string{"addr-" + id}))
	}
	must(t, c.SetRole("d", 5)) // no addresses known
	ids := func(found []PeerAddresses) []string {
		answer := []string{}
		for _, p := range found {
			answer = append(answer, p.ID)
		}
		return answer
	}
	wantList(t, "role 5", ids(c.FindByRole(5, false)), "b", ownPrivate)
	wantList(t, "role 5 but me", ids(c.FindByRole(5, true)), "b")
	wantList(t, "role 4", ids(c.FindByRole(4, false)))
	wantList(t, "agents", ids(c.FindByRoleMask(3, 1, true)), "a", "b")
	wantList(t, "in a world", ids(c.FindByRoleMask(1, 1, true)), "a", "b", "c")
	if c.CountByRole(5) != 3 || c.CountByRoleMask(3, 1) != 4 || c.CountByRole(9) != 0 {
		t.Fatal("counts include peers without addresses")
	}
	must(t, c.SetRole("a", 0))
	if c.CountByRole(1) != 0 || c.CountByRole(0) != 1 {
		t.Fatal("the index follows")
	}
}

func TestARoleThatIsNoneIsRefused(t *testing.T) {
	c := newNodeConn(t, nil)
	for _, role := range []int64{-1, 2, 4, 6} {
		wantError(t, c.SetRole("a", role), ErrArgument)
	}
	wantError(t, c.SetRole("", 1), ErrNotFound)
	if c.Role("a") != 0 || c.CountByRole(0) != 0 {
		t.Fatal("nothing is stored")
	}
}

func TestSetRoleUpdatesThePooledInfo(t *testing.T) {
	c := newNodeConn(t, nil)
	c.public.connect(t, "a", Inbound)
	must(t, c.SetRole("a", 5))
	infos, err := c.PeerInfos()
	must(t, err)
	if infos[0].Misc != 5 {
		t.Fatalf("misc %d", infos[0].Misc)
	}
	if events := c.events.of(EventRoleChanged); len(events) != 1 || events[0].Role != 5 || events[0].Previous != 0 {
		t.Fatalf("events: %+v", events)
	}
}

func TestAddressesExpire(t *testing.T) {
	c := newNodeConn(t, nil)
	must(t, c.SetAddresses("a", []string{"x"}))
	c.clock.pass(addressLifetime - time.Second)
	if _, known := c.Addresses("a"); !known {
		t.Fatal("too early")
	}
	c.clock.pass(time.Second)
	if _, known := c.Addresses("a"); known {
		t.Fatal("too late")
	}
	for n := range addressSweep {
		must(t, c.SetAddresses("p"+string(rune(0x4e00+n)), nil))
	}
	if held := len(c.state.addresses.byPeer); held != addressSweep {
		t.Fatalf("%d entries are held, the expired one is to be swept", held)
	}
}

func TestRemoveAllWorldAgentsEmptiesTheWorld(t *testing.T) {
	c := newWorld(t)
	for _, id := range []string{agentA, masterA, worldNode} {
		c.private.connect(t, id, Inbound)
	}
	c.public.connect(t, "p", Inbound)
	if count, err := c.RemoveAllWorldAgents(t.Context()); count == 0 || err != nil {
		t.Fatalf("%d removed, error %v", count, err)
	}
	wantList(t, "pooled", c.PeerIDs(), "p")
	wantList(t, "disconnected", c.private.disconnects(), sorted(agentA, masterA, worldNode)...)
	if c.Role(agentA) != 0 || c.Role(masterA) != 0 || c.Role(agentB) != 5 {
		t.Fatal("roles of the removed are forgotten, others stay")
	}
}

func TestRelayedPeersCanBeRefused(t *testing.T) {
	c := newNodeConn(t, func(o *NodeConnOptions) { o.RefuseRelayed = true })
	must(t, c.SetWorld(worldNode))
	must(t, c.Connected(NetworkWorld, PeerInfo{ID: worldNode, Direction: Inbound, Relayed: true}))
	wantPool(t, c.Set, worldNode, "")
	if refused := c.update(t).Refused; len(refused) != 1 || refused[0].Reason != RefusedRelayed {
		t.Fatalf("refused: %+v", refused)
	}
}

func TestALongListRaisesOneEventBesidesThoseOfItsPooledAndPromotedPeers(t *testing.T) {
	c := newWorld(t)
	c.private.connect(t, agentA, Inbound)
	entries := []Entry{entry(agentA, 9), entry(agentB, 7)}
	for n := range 100 {
		entries = append(entries, entry(somePeer(100+n), 1))
	}
	before := len(c.events.of(EventRoleChanged))
	must(t, c.ApplyRoster(Snapshot{Owner: worldNode, Author: worldNode, Peers: entries}))
	changed := c.events.of(EventRoleChanged)[before:]
	if len(changed) != 2 || c.Role(agentA) != 9 || c.Role(agentB) != 7 {
		t.Fatalf("got %+v", changed)
	}
	lists := c.events.of(EventWorldListChanged)
	if got := lists[len(lists)-2].Peers + lists[len(lists)-1].Peers; got != len(entries) {
		t.Fatalf("the lists have %d peers", got)
	}
}

func TestWhoIsNamedBeforeItsDisconnectionStays(t *testing.T) {
	c := newNodeConn(t, nil)
	hold := make(chan struct{})
	c.private.state.hold = hold
	for n := range disconnectWorkers { // each keeps a worker busy
		c.private.connect(t, "stranger "+string(rune('a'+n)), Inbound)
	}
	c.private.connect(t, agentA, Inbound)
	must(t, c.SetWorldAgentsList([]Entry{entry(agentA, 1)}))
	wantPool(t, c.Set, agentA, InWorldAgents)
	close(hold)
	if slices.Contains(c.private.disconnects(), agentA) {
		t.Fatal("a member was disconnected")
	}
	wantList(t, "removed", c.update(t).Removed[InWorldAgents])
}

func TestInspectorAndWorldNodeAreReadable(t *testing.T) {
	c := newWorld(t)
	if c.Inspector() != inspector || c.WorldPeerID() != worldNode {
		t.Fatal("both are set")
	}
	must(t, c.SetInspector(""))
	if c.Inspector() != "" || !c.Stranger(NetworkWorld, inspector) {
		t.Fatal("the former inspector is a stranger")
	}
	wantError(t, c.SetWorld(strings.Repeat("x", maxPeerIDBytes+1)), ErrArgument)
	if c.WorldPeerID() != worldNode {
		t.Fatal("a refused name changes nothing")
	}
}
