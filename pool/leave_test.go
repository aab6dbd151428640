package pool

import (
	"testing"
	"time"
)

// inWorld is a node in a world: the world node, an agent and a master are pooled, a public peer too.
func inWorld(t *testing.T, change func(*NodeConnOptions)) nodeConn {
	t.Helper()
	c := newNodeConn(t, change)
	must(t, c.SetWorld(worldNode))
	must(t, c.AddToWorldAgentsList(agentA, []string{"/ip4/192.0.2.1/tcp/1"}, 5))
	must(t, c.AddToWorldMastersList(masterA, nil, 3))
	c.private.connect(t, worldNode, Outbound)
	c.private.connect(t, agentA, Inbound)
	c.private.connect(t, masterA, Outbound)
	c.public.connect(t, agentB, Inbound)
	must(t, c.ApplyRoster(Snapshot{Owner: worldNode, Author: worldNode, UpdateCount: 4, Peers: []Entry{
		entry(agentA, 5, "/ip4/192.0.2.1/tcp/1"), entry(masterA, 3),
	}}))
	c.update(t)
	return c
}

func wantOutOfWorld(t *testing.T, c nodeConn) {
	t.Helper()
	if c.WorldPeerID() != "" || c.RendezvousTag() != -1 || c.FirstWorldMaster() != "" || len(c.WorldAgentsAndMasters()) != 0 {
		t.Errorf("world %q, tag %d, first master %q, listed %v", c.WorldPeerID(), c.RendezvousTag(), c.FirstWorldMaster(), c.WorldAgentsAndMasters())
	}
	if size, err := c.Size(WorldPools...); size != 0 || err != nil {
		t.Errorf("%d peers are pooled on the world network, error %v", size, err)
	}
	if addrs, known := c.Addresses(agentA); known || c.Role(agentA) != 0 || c.Role(masterA) != 0 {
		t.Errorf("addresses %v, roles %d and %d", addrs, c.Role(agentA), c.Role(masterA))
	}
	wantList(t, "disconnected", c.private.disconnects(), sorted(agentA, masterA, worldNode)...)
	wantPool(t, c.Set, agentB, InPublic)
	checkInvariants(t, c.Set)
}

func TestLeavingAWorldForgetsItAndItsPeers(t *testing.T) {
	c := inWorld(t, nil)
	left, err := c.LeaveWorld()
	must(t, err)
	if left != worldNode {
		t.Errorf("left %q", left)
	}
	wantOutOfWorld(t, c)
	wantList(t, "unsubscribed", c.private.state.unsubscribed, worldNode+"::ps:rv")
	events := c.events.of(EventWorldLeft)
	if len(events) != 1 || events[0].Peer != worldNode || events[0].Reason != LeftAsked || events[0].Peers != 3 {
		t.Errorf("events %+v", events)
	}
	if refused := c.Counts()[RefusedStranger]; refused != 0 {
		t.Errorf("%d of those that were left are counted as strangers", refused)
	}
	changes := c.update(t)
	wantList(t, "removed", changes.Removed[OutWorldNode], worldNode)
	wantList(t, "removed", changes.Removed[InWorldAgents], agentA)
	if again := c.update(t); len(again.Removed) != 0 {
		t.Errorf("told twice: %v", again.Removed)
	}
}

func TestLosingTheWorldNodeLeavesTheWorld(t *testing.T) {
	c := inWorld(t, nil)
	c.private.drop(t, worldNode)
	c.private.disconnects() // waits for the workers
	left := c.events.of(EventWorldLeft)
	if len(left) != 1 || left[0].Reason != LeftLost || left[0].Peer != worldNode {
		t.Fatalf("events %+v", left)
	}
	if lost := c.events.of(EventPeerLost); len(lost) != 1 || lost[0].Peer != worldNode {
		t.Errorf("lost %+v", lost)
	}
	wantList(t, "disconnected", c.private.disconnects(), sorted(agentA, masterA)...)
	wantList(t, "unsubscribed", c.private.state.unsubscribed, worldNode+"::ps:rv")
	wantList(t, "removed", c.update(t).Removed[OutWorldNode], worldNode)
	if c.WorldPeerID() != "" || len(c.WorldAgentsAndMasters()) != 0 || c.IsInWorld(agentA) {
		t.Error("it is still in the world")
	}
}

func TestWhoStaysInALostWorldKeepsEverybodyElse(t *testing.T) {
	c := inWorld(t, func(o *NodeConnOptions) { o.StayInLostWorld = true })
	c.private.drop(t, worldNode)
	wantPool(t, c.Set, agentA, InWorldAgents)
	wantPool(t, c.Set, worldNode, OutWorldNode)
	wantList(t, "removed", c.update(t).Removed[OutWorldNode], worldNode)
	if len(c.events.of(EventWorldLeft)) != 0 || c.WorldPeerID() != worldNode {
		t.Error("it left")
	}
}

func TestLosingAnybodyElseLeavesNothing(t *testing.T) {
	c := inWorld(t, nil)
	c.private.drop(t, masterA)
	removed, err := c.Remove(t.Context(), worldNode) // on purpose, as remove_all_world_agents does
	if !removed || err != nil {
		t.Fatalf("removed %v, error %v", removed, err)
	}
	if len(c.events.of(EventWorldLeft)) != 0 || c.WorldPeerID() != worldNode || !c.IsInWorld(agentA) {
		t.Error("it left")
	}
}

func TestALeftPeerThatCannotBeDisconnectedIsNotHeardAndTriedAgain(t *testing.T) {
	c := inWorld(t, func(o *NodeConnOptions) { o.Common.Policy = PolicyNone })
	c.private.setBroken(true)
	_, err := c.LeaveWorld()
	wantError(t, err, errBroken) // the topic
	c.private.disconnects()
	if failed := c.events.of(EventDisconnectFailed); len(failed) != 3 {
		t.Errorf("failed disconnections %+v", failed)
	}
	if v := c.Check(NetworkWorld, agentA, someChannel, message(agentA, "0")); v.Reason != ReasonNotMember {
		t.Errorf("verdict %+v", v)
	}
	c.private.setBroken(false)
	c.update(t)
	wantOutOfWorld(t, c)
}

func TestAWorldNodeThatIsARelayIsLeftLikeAnyOther(t *testing.T) {
	c := inWorld(t, nil)
	c.private.state.spared = worldNode
	_, err := c.LeaveWorld()
	must(t, err)
	wantOutOfWorld(t, c)
}

func TestTheWorldThatIsJoinedAgainAtOnceKeepsItsTopic(t *testing.T) {
	c := inWorld(t, nil)
	c.state.Lock()
	d := c.leaveWorldLocked(LeftLost)
	c.state.Unlock()
	must(t, c.SetWorld(worldNode))
	must(t, c.finish(d))
	if len(c.private.state.unsubscribed) != 0 {
		t.Error("the new subscription was ended")
	}
}

func TestLeavingInNoWorldOrAClosedSetIsHarmless(t *testing.T) {
	c := newNodeConn(t, nil)
	left, err := c.LeaveWorld()
	must(t, err)
	if left != "" || len(c.events.of(EventWorldLeft)) != 0 {
		t.Errorf("left %q, events %+v", left, c.events.of(EventWorldLeft))
	}
	c.Close()
	_, err = c.LeaveWorld()
	wantError(t, err, ErrClosed)
}

// TestAnAgentWhoseWorldNodeEndsIsInNoWorld is the same over real nodes.
func TestAnAgentWhoseWorldNodeEndsIsInNoWorld(t *testing.T) {
	a := newAuthority(t, AlgorithmEdDSA)
	a.Issuer.now = time.Now
	world, members := realWorld(t, a, 2)
	first, second := members[0], members[1]
	must(t, first.AddToWorldAgentsList(second.node.ID().String(), nil, 1))
	must(t, second.AddToWorldAgentsList(first.node.ID().String(), nil, 1))
	_, _, err := first.Connect(t.Context(), NetworkWorld, second.node.Addresses())
	must(t, err)
	first.waitUntil(t, "the agents are pooled", func() bool { return first.IsInWorld(second.node.ID().String()) })
	must(t, first.NodeConn.Subscribe(world.node.ID().String(), rendezvousTopic(world.node.ID().String()), ""))

	must(t, world.node.Close())
	first.waitUntil(t, "it has left the world", func() bool { return first.WorldPeerID() == "" })
	first.waitUntil(t, "everybody is disconnected", func() bool { return len(first.node.Peers()) == 0 })
	if size, _ := first.Size(); size != 0 || len(first.WorldAgents()) != 0 {
		t.Errorf("%d are pooled, %v are listed", size, first.WorldAgents())
	}
	checkInvariants(t, first.Set)
}
