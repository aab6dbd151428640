package pool

import (
	"errors"
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

func TestARosterReplacesBothLists(t *testing.T) {
	c := newWorld(t)
	roster := Snapshot{Owner: worldNode, Author: worldNode, UpdateCount: 4, Peers: []Entry{
		entry(unknown, 1, "/ip4/127.0.0.1/tcp/1"), entry(masterA, 3), {ID: agentA, Misc: 1}, entry(agentB, 0), entry("bad", 1), entry(masterA, 7),
	}}
	must(t, c.ApplyRoster(roster))
	wantList(t, "agents", c.WorldAgents(), unknown)
	wantList(t, "masters", c.WorldMasters(), masterA)
	if c.RendezvousTag() != 4 || c.FirstWorldMaster() != masterA || c.Role(masterA) != 3 {
		t.Fatal("tag, first master and roles follow")
	}
	if got := c.Counts()[ReasonRendezvousEntry]; got != 3 {
		t.Fatalf("%d entries counted as left out, want the public one, the bad one and the repeated one", got)
	}
	if events := c.events.of(EventRendezvousApplied); len(events) != 1 || events[0].Peers != 2 || events[0].Skipped != 3 {
		t.Fatalf("events: %+v", events)
	}
}

func TestRostersAreTakenFromOwnerAndMastersInOrder(t *testing.T) {
	c := newWorld(t)
	from := func(author string, count int64) error {
		return c.ApplyRoster(Snapshot{Owner: worldNode, Author: author, UpdateCount: count, Peers: []Entry{entry(masterA, 3)}})
	}
	wantError(t, from(agentA, 1), ErrRefused)
	wantError(t, from("", 1), ErrRefused)
	must(t, from(masterB, 1))
	wantError(t, from(masterB, 2), ErrRefused) // listed no more
	must(t, from(masterA, 1000))
	wantError(t, from(worldNode, 1000), ErrStale)
	wantError(t, from(worldNode, 5), ErrStale)
	if c.RendezvousTag() != 1000 {
		t.Fatalf("tag %d", c.RendezvousTag())
	}
	counts := c.Counts()
	if counts[ReasonRendezvousRefused] != 3 || counts[ReasonRendezvousStale] != 2 {
		t.Fatalf("counts: %v", counts)
	}
	c.ResetRendezvousTag()
	if c.RendezvousTag() != -1 {
		t.Fatal("the tag is reset")
	}
	wantError(t, from(agentA, 7), ErrRefused)
	must(t, from(worldNode, 2))
	wantError(t, from(worldNode, 1), ErrStale)
}

func TestMastersOfTheHostMayPublishUnlessANewerRosterSaysOtherwise(t *testing.T) {
	c := newWorld(t)
	must(t, c.SetWorldMastersList([]Entry{entry(masterB, 3)}))
	may := func(want bool, author string, newest int64, listed bool) {
		t.Helper()
		if c.publishes(author, newest, listed) != want {
			t.Fatalf("%s after roster %d, listed there %v: not %v", author, newest, listed, want)
		}
	}
	may(true, masterB, -1, false)
	may(false, masterA, -1, false)
	may(false, masterB, 3, false) // roster 3 waits to be applied, and does not name it
	may(true, masterA, 3, true)
	roster := Snapshot{Owner: worldNode, Author: masterA, UpdateCount: 4, Listed: true, After: 3}
	must(t, c.ApplyRoster(roster))
	roster.UpdateCount = 5
	wantError(t, c.ApplyRoster(roster), ErrRefused) // 4 is newer than what named it, and names nobody
	may(false, masterA, 4, true)
	must(t, c.AddToWorldMastersList(masterA, nil, 3))
	may(true, masterA, 4, false)
	must(t, c.SetWorldMastersList(nil))
	may(false, masterA, 4, true) // an expelled master cannot freeze the lists
}

func TestTheNewestRosterOfTheNetworkIsAppliedOnce(t *testing.T) {
	c := newWorld(t)
	apply := func(want bool) {
		t.Helper()
		if applied, err := c.ApplyNewestRoster(); applied != want || err != nil {
			t.Fatalf("applied %v, error %v", applied, err)
		}
	}
	apply(false)
	c.private.state.roster = &Snapshot{Owner: worldNode, Author: worldNode, UpdateCount: 0}
	apply(true)
	apply(false)
	c.ResetRendezvousTag()
	apply(true)
	c.private.state.roster = &Snapshot{Owner: worldNode, Author: worldNode, UpdateCount: -5}
	_, err := c.ApplyNewestRoster()
	wantError(t, err, ErrStale)
}

func TestRostersInJSON(t *testing.T) {
	at := "2026-01-02T03:04:05Z"
	text, err := EncodeRoster([]Entry{
		{ID: agentA, Misc: 1, Addrs: []string{"/ip4/127.0.0.1/tcp/1"}, ConnectedAt: &at, Direction: Inbound, Relayed: true},
		{ID: masterA, Misc: 3},
	}, 9)
	must(t, err)
	want := `{"peers":[{"id":"` + agentA + `","addrs":["/ip4/127.0.0.1/tcp/1"],"connected_at":"` + at +
		`","direction":"inbound","misc":1,"relayed":true},{"id":"` + masterA +
		`","addrs":null,"connected_at":null,"direction":"","misc":3,"relayed":false}],"update_count":9}`
	if string(text) != want {
		t.Fatalf("got  %s\nwant %s", text, want)
	}
	roster, err := node.ParseRoster(text)
	must(t, err)
	if roster.UpdateCount != 9 || len(roster.Peers) != 2 || roster.Skipped != 0 || roster.Peers[1].Addrs != nil {
		t.Fatalf("%+v", roster)
	}
	for name, e := range map[string]Entry{
		"foreign id": entry("x", 1), "address that is none": entry(agentA, 1, "here"), "bad role": entry(agentA, 2),
		"bad time": {ID: agentA, ConnectedAt: new(string)},
	} {
		if _, err := EncodeRoster([]Entry{e}, 1); !errors.Is(err, ErrArgument) {
			t.Errorf("%s: got error %v", name, err)
		}
	}
	_, err = EncodeRoster(nil, -1)
	wantError(t, err, ErrArgument)
}

func TestMalformedRostersAreRefused(t *testing.T) {
	for _, text := range []string{
		"", "null", "[]", "{}", `{"peers":[]}`, `{"update_count":1}`, `{"peers":[],"update_count":-1}`,
		`{"peers":{},"update_count":1}`, `{"peers":[],"update_count":1.5}`, `{"peers":[],"update_count":1e40}`,
		`{"peers":[` + strings.Repeat("0,", node.MaxRosterPeers) + `0],"update_count":1}`,
	} {
		if _, err := node.ParseRoster([]byte(text)); !errors.Is(err, ErrArgument) {
			t.Errorf("%.60s: got error %v", text, err)
		}
	}
	roster, err := node.ParseRoster([]byte(`{"peers":[1,{"id":"x"},{"id":"` + agentA + `","misc":"1"},{"id":"` + agentA + `","misc":1}],"update_count":1}`))
	must(t, err)
	if roster.Skipped != 3 || len(roster.Peers) != 1 {
		t.Fatalf("%+v", roster)
	}
}

func TestListsInJSON(t *testing.T) {
	list, err := ParseList([]byte(`[{"id":"` + agentA + `","addrs":["x"],"misc":1,"more":true}]`))
	if err != nil || len(list) != 1 || list[0].Misc != 1 {
		t.Fatalf("%+v, error %v", list, err)
	}
	if list, err := ParseList([]byte("null")); len(list) != 0 || err != nil {
		t.Fatalf("%+v, error %v", list, err)
	}
	for _, text := range []string{"", "{}", `[1]`, `[{"id":"x","misc":1}]`, `[{"id":"` + agentA + `","misc":1.5}]`} {
		if _, err := ParseList([]byte(text)); !errors.Is(err, ErrArgument) {
			t.Errorf("%s: got error %v", text, err)
		}
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

func TestOnlyTheRosterOfTheOwnWorldCounts(t *testing.T) {
	c := newWorld(t)
	wantError(t, c.ApplyRoster(Snapshot{Owner: unknown, Author: unknown, UpdateCount: 1}), ErrRefused)
	wantList(t, "agents", c.WorldAgents(), sorted(agentA, agentB)...)
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
