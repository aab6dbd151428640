package pool

import (
	"testing"

	"peerbus/node"
)

func TestConnectionsArePlacedWhenTheyHappen(t *testing.T) {
	c := newNodeConn(t, nil)
	c.public.connect(t, "in", Inbound)
	c.public.connect(t, "out", "outgoing")
	wantPool(t, c.Set, "in", InPublic)
	wantPool(t, c.Set, "out", OutPublic)
	changes := c.update(t)
	wantList(t, "added in", changes.Added[InPublic], "in")
	wantList(t, "added out", changes.Added[OutPublic], "out")
	if len(changes.Added) != 2 || len(changes.Removed) != 0 {
		t.Fatalf("only changed pools are named: %+v", changes)
	}
	if again := c.update(t); len(again.Added) != 0 {
		t.Fatalf("nothing has changed since: %+v", again)
	}
}

func TestLostPeersKeepTheirPlaceUntilTheyReturn(t *testing.T) {
	c := newNodeConn(t, nil)
	c.public.connect(t, "a", Inbound)
	c.update(t)
	c.public.drop(t, "a")
	for range 2 { // every update names them
		wantList(t, "removed", c.update(t).Removed[InPublic], "a")
		wantPool(t, c.Set, "a", InPublic)
	}
	c.public.connect(t, "a", Inbound)
	if changes := c.update(t); len(changes.Removed)+len(changes.Added) != 0 {
		t.Fatalf("the peer is back: %+v", changes)
	}
	if len(c.events.of(EventPeerLost)) != 1 || len(c.events.of(EventPeerReturned)) != 1 {
		t.Fatal("lost and returned are one event each")
	}
}

func TestRefusalsDoNotStopTheOthers(t *testing.T) {
	c := newNodeConn(t, func(o *NodeConnOptions) { o.MaxConnections = 8 })
	c.public.connect(t, "a", Inbound)
	c.public.connect(t, "b", Inbound)
	c.public.connect(t, "c", Outbound)
	wantPool(t, c.Set, "c", OutPublic)
	wantList(t, "disconnected", c.public.disconnects(), "b")
	changes := c.update(t)
	if len(changes.Refused) != 1 || changes.Refused[0] != (Refusal{NetworkPublic, "b", RefusedFull, InPublic}) {
		t.Fatalf("refused: %+v", changes.Refused)
	}
	if c.Counts()[RefusedFull] != 1 || len(c.events.of(EventPeerRefused)) != 1 {
		t.Fatal("a refusal is counted and raised once")
	}
	if len(c.update(t).Refused) != 0 {
		t.Fatal("a refused peer that has gone is not named again")
	}
}

func TestAKeptPeerIsPlacedOnceThereIsRoom(t *testing.T) {
	c := newNodeConn(t, func(o *NodeConnOptions) { o.MaxConnections, o.Common.KeepRefused = 8, true })
	c.public.connect(t, "a", Inbound)
	c.public.connect(t, "b", Inbound)
	wantList(t, "disconnected", c.public.disconnects())
	c.update(t)
	if len(c.update(t).Refused) != 1 {
		t.Fatal("a kept peer without a place is named by every update")
	}
	_, err := c.Remove(t.Context(), "a")
	must(t, err)
	wantList(t, "added", c.update(t).Added[InPublic], "b")
}

func TestAPeerOfAnotherNetworkIsRefused(t *testing.T) {
	c := newNodeConn(t, nil)
	must(t, c.SetWorld("w"))
	c.public.connect(t, "w", Inbound)
	c.private.connect(t, "w", Inbound)
	wantPool(t, c.Set, "w", InPublic)
	wantList(t, "disconnected on the world network", c.private.disconnects(), "w")
	wantList(t, "disconnected on the public network", c.public.disconnects())
	refused := c.update(t).Refused
	if len(refused) != 1 || refused[0] != (Refusal{NetworkWorld, "w", RefusedOtherPool, InPublic}) {
		t.Fatalf("refused: %+v", refused)
	}
}

func TestAFailedQueryLeavesThePoolsAsTheyAre(t *testing.T) {
	c := newNodeConn(t, nil)
	c.public.connect(t, "a", Inbound)
	c.update(t)
	c.public.setBroken(true)
	wantError(t, c.Resync(), errBroken)
	changes, err := c.Update()
	wantError(t, err, errBroken)
	if len(changes.Removed) != 0 {
		t.Fatalf("a failure is not \"all peers lost\": %+v", changes)
	}
	wantPool(t, c.Set, "a", InPublic)
	c.public.setBroken(false)
	if changes := c.update(t); len(changes.Removed) != 0 {
		t.Fatalf("nobody was lost: %+v", changes)
	}
}

func TestResyncFindsWhatTheEventsMissed(t *testing.T) {
	c := newNodeConn(t, nil)
	c.public.connect(t, "gone", Inbound)
	c.public.state.Lock()
	delete(c.public.state.live, "gone")
	c.public.state.live["new"] = PeerInfo{ID: "new", Direction: Outbound}
	c.public.state.Unlock()
	must(t, c.Resync())
	changes := c.update(t)
	wantList(t, "removed", changes.Removed[InPublic], "gone")
	wantList(t, "added", changes.Added[OutPublic], "new")
}

func TestEventsDuringAQueryAreNewerThanItsAnswer(t *testing.T) {
	c := newNodeConn(t, nil)
	c.public.connect(t, "leaves", Inbound)
	c.public.state.asked = func() {
		c.public.drop(t, "leaves")
		c.public.connect(t, "comes", Inbound)
	}
	must(t, c.Resync())
	changes := c.update(t)
	wantList(t, "removed", changes.Removed[InPublic], "leaves")
	wantPool(t, c.Set, "comes", InPublic)
}

func TestASetTakesTheConnectionsThatItsNetworksHave(t *testing.T) {
	n := newFakeNetwork("own")
	n.state.live["a"] = PeerInfo{ID: "a", Direction: Inbound}
	s, err := New(Options{
		MaxConnections: 5, Networks: []NetworkOptions{{Name: "n", Network: n}},
		Pools: []PoolOptions{{"p", "n", Ratio(1)}}, Rules: []Rule{{Pool: "p"}},
	})
	must(t, err)
	defer s.Close()
	wantPool(t, s, "a", "p")
}

func TestAnUndefinedDirectionIsAnError(t *testing.T) {
	c := newNodeConn(t, nil)
	wantError(t, c.Connected(NetworkPublic, PeerInfo{ID: "a", Direction: "sideways"}), ErrArgument)
	_, _, err := c.RouteOf(NetworkPublic, PeerInfo{ID: "a"})
	wantError(t, err, ErrArgument)
	wantError(t, c.Connected("nowhere", PeerInfo{ID: "a", Direction: Inbound}), ErrNotFound)
	wantError(t, c.Connected(NetworkPublic, PeerInfo{Direction: Inbound}), ErrNotFound)
}

func newCustom(t *testing.T) (*Set, *fakeNetwork) {
	n := newFakeNetwork("own")
	other := newFakeNetwork("own-other")
	s, err := New(Options{
		MaxConnections: 10, CustomRouting: true, Policy: PolicyNone,
		Networks: []NetworkOptions{{Name: "n", Network: n}, {Name: "m", Network: other}},
		Pools:    []PoolOptions{{"p", "n", Slots(1)}, {"q", "n", Slots(1)}, {"r", "m", Slots(1)}},
	})
	must(t, err)
	t.Cleanup(s.Close)
	n.attach(s, "n")
	other.attach(s, "m")
	return s, n
}

func TestAHostRoutesNewPeersItself(t *testing.T) {
	s, n := newCustom(t)
	n.connect(t, "a", Inbound)
	n.connect(t, "b", Inbound)
	changes, err := s.Update()
	must(t, err)
	if len(changes.Added)+len(changes.Refused) != 0 {
		t.Fatalf("nobody is judged before the host has routed: %+v", changes)
	}
	unrouted, err := s.Unrouted("n")
	must(t, err)
	if len(unrouted) != 2 || unrouted[0].ID != "a" {
		t.Fatalf("unrouted: %+v", unrouted)
	}
	must(t, s.Route("n", map[string]string{"a": "p", "b": "", "gone": "q"}))
	wantPool(t, s, "a", "p")
	wantList(t, "disconnected", n.disconnects(), "b")
	changes, err = s.Update()
	must(t, err)
	if len(changes.Refused) != 1 || changes.Refused[0].Reason != RefusedUnroutable {
		t.Fatalf("refused: %+v", changes.Refused)
	}
}

func TestABadRouteChangesNothing(t *testing.T) {
	s, n := newCustom(t)
	n.connect(t, "a", Inbound)
	wantError(t, s.Route("n", map[string]string{"a": "p", "b": "nowhere"}), ErrNotFound)
	wantError(t, s.Route("n", map[string]string{"a": "r"}), ErrArgument)
	wantPool(t, s, "a", "")
	if unrouted, err := s.Unrouted("n"); len(unrouted) != 1 || err != nil {
		t.Fatalf("unrouted: %+v, error %v", unrouted, err)
	}
}

func TestRoutingElsewhereIsRefusedAndFlagged(t *testing.T) {
	s, n := newCustom(t)
	n.connect(t, "a", Inbound)
	must(t, s.Route("n", map[string]string{"a": "p"}))
	must(t, s.Route("n", map[string]string{"a": "q"}))
	wantPool(t, s, "a", "p")
	changes, err := s.Update()
	must(t, err)
	wantList(t, "removed", changes.Removed["p"], "a")
	if len(changes.Refused) != 1 || changes.Refused[0].Reason != RefusedOtherPool {
		t.Fatalf("refused: %+v", changes.Refused)
	}
	wantList(t, "disconnected", n.disconnects())
	must(t, s.Move("a", "q"))
	changes, err = s.Update()
	must(t, err)
	if len(changes.Removed) != 0 {
		t.Fatalf("moved to where it belongs: %+v", changes)
	}
}

func TestRolesRouteWhereRulesLookAtThem(t *testing.T) {
	n := newFakeNetwork("own")
	s, err := New(Options{
		MaxConnections: 10, Networks: []NetworkOptions{{Name: "n", Network: n}},
		Pools: []PoolOptions{{"masters", "n", Slots(5)}, {"others", "n", Slots(5)}},
		Rules: []Rule{{Pool: "masters", RoleMask: 3, RoleValue: 3}, {Pool: "others"}},
	})
	must(t, err)
	t.Cleanup(s.Close)
	n.attach(s, "n")
	must(t, s.SetRole("m", 7))
	n.connect(t, "m", Inbound)
	n.connect(t, "a", Inbound)
	wantPool(t, s, "m", "masters")
	wantPool(t, s, "a", "others")
	must(t, s.SetRole("a", 3))
	changes, err := s.Update()
	must(t, err)
	wantList(t, "removed", changes.Removed["others"], "a")
	must(t, s.SetRole("a", 1))
	changes, err = s.Update()
	must(t, err)
	if len(changes.Removed) != 0 {
		t.Fatalf("it belongs there again: %+v", changes)
	}
}

func TestARefusalThatHangsHoldsUpNobody(t *testing.T) {
	c := newNodeConn(t, func(o *NodeConnOptions) { o.MaxConnections = 8 })
	hold := make(chan struct{})
	c.public.state.hold = hold
	c.public.connect(t, "a", Inbound)
	c.public.connect(t, "hangs", Inbound)
	c.public.connect(t, "b", Outbound)
	wantPool(t, c.Set, "b", OutPublic)
	wantList(t, "added", c.update(t).Added[OutPublic], "b")
	close(hold)
	wantList(t, "disconnected", c.public.disconnects(), "hangs")
}

func TestCloseEndsDisconnectionsInProgress(t *testing.T) {
	c := newNodeConn(t, func(o *NodeConnOptions) { o.MaxConnections = 8 })
	c.public.state.hold = make(chan struct{}) // for ever
	c.public.connect(t, "a", Inbound)
	c.public.connect(t, "b", Inbound)
	c.Close()
	c.Close()
	wantError(t, c.Connected(NetworkPublic, PeerInfo{ID: "x", Direction: Inbound}), ErrClosed)
	wantError(t, c.Add(PeerInfo{ID: "x"}, OutPublic), ErrClosed)
	_, err := c.Update()
	wantError(t, err, ErrClosed)
}

func TestAFailedDisconnectionIsReportedAndTriedAgain(t *testing.T) {
	c := newNodeConn(t, func(o *NodeConnOptions) { o.MaxConnections = 8 })
	c.public.setBroken(true)
	c.public.connect(t, "a", Inbound)
	c.public.connect(t, "b", Inbound)
	c.public.disconnects()
	if len(c.events.of(EventDisconnectFailed)) != 1 {
		t.Fatal("the failure is an event")
	}
	c.public.setBroken(false)
	c.update(t)
	wantList(t, "disconnected", c.public.disconnects(), "b")
}

func TestAllowSetsOfTheHostRoute(t *testing.T) {
	n := newFakeNetwork("own")
	s, err := New(Options{
		MaxConnections: 10, Networks: []NetworkOptions{{Name: "n", Network: n, MembersOnly: true}},
		Pools: []PoolOptions{{"p", "n", Ratio(1)}}, Rules: []Rule{{Pool: "p", Allow: []string{"friends"}}},
	})
	must(t, err)
	t.Cleanup(s.Close)
	n.attach(s, "n")
	must(t, s.SetAllowed("friends", []string{"a"}))
	n.connect(t, "a", Inbound)
	n.connect(t, "b", Inbound)
	wantPool(t, s, "a", "p")
	wantList(t, "disconnected", n.disconnects(), "b")
	if name, ok := s.NetworkOf("a"); name != "n" || !ok {
		t.Fatalf("network %q", name)
	}
	if _, ok := s.NetworkOf("b"); ok {
		t.Fatal("b has none")
	}
	wantError(t, s.SetAllowed("foes", nil), ErrNotFound)
	wantError(t, s.SetAllowed("friends", []string{""}), ErrNotFound)
	wantError(t, s.SetAllowed("friends", manyIDs(node.MaxRosterPeers+1)), ErrArgument)
	must(t, s.SetAllowed("friends", nil))
	wantList(t, "disconnected", n.disconnects(), "a", "b")
}

func manyIDs(count int) []string {
	ids := make([]string, count)
	for i := range ids {
		ids[i] = crowdID(i)
	}
	return ids
}

func TestRefusedPeersGoOnceTheHostKeepsThemNoMore(t *testing.T) {
	c := newNodeConn(t, func(o *NodeConnOptions) { o.MaxConnections, o.Common.KeepRefused = 8, true })
	c.public.connect(t, "a", Inbound)
	c.public.connect(t, "b", Inbound)
	c.SetKeepRefused(false)
	c.update(t)
	wantList(t, "disconnected", c.public.disconnects(), "b")
}

func TestAPlacedPeerIsNotDisconnectedForAFormerRefusal(t *testing.T) {
	c := newNodeConn(t, func(o *NodeConnOptions) { o.MaxConnections, o.Common.KeepRefused = 8, true })
	c.public.connect(t, "a", Inbound)
	c.public.connect(t, "b", Inbound)
	must(t, c.Add(PeerInfo{ID: "b"}, OutPublic))
	c.SetKeepRefused(false)
	if changes := c.update(t); len(changes.Removed) != 0 {
		t.Fatalf("the host placed it: %+v", changes)
	}
	wantList(t, "disconnected", c.public.disconnects())
}

func TestDisconnectAndReserveGoToTheNetwork(t *testing.T) {
	c := newNodeConn(t, nil)
	c.public.connect(t, "a", Inbound)
	must(t, c.Disconnect(t.Context(), NetworkPublic, "a"))
	wantPool(t, c.Set, "a", InPublic)
	wantList(t, "removed", c.update(t).Removed[InPublic], "a")
	wantError(t, c.Disconnect(t.Context(), "nowhere", "a"), ErrNotFound)
	_, err := c.Reserve(t.Context(), NetworkPublic, "a")
	must(t, err)
	_, err = c.Reserve(t.Context(), "nowhere", "a")
	wantError(t, err, ErrNotFound)
}
