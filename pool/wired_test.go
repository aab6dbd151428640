package pool

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"peerbus/queue"
)

// realWorld is a world node with agents that are pooled on both sides.
func realWorld(t *testing.T, a authority, agents int) (world realMember, members []realMember) {
	t.Helper()
	world = startRealMember(t, a, true)
	worldID := world.node.ID().String()
	for range agents {
		m := startRealMember(t, a, false)
		must(t, world.AddToWorldAgentsList(m.node.ID().String(), m.node.Addresses(), 1))
		_, _, err := m.Connect(t.Context(), NetworkWorld, world.node.Addresses())
		must(t, err)
		must(t, m.SetWorld(worldID))
		world.waitUntil(t, "an agent is pooled", func() bool { return world.IsConnected(m.node.ID().String(), InWorldAgents) })
		m.waitUntil(t, "the world is pooled", func() bool { return m.IsWorldNode(worldID) })
		members = append(members, m)
	}
	return world, members
}

// kindOfMessage makes a message of an agent, and names the reasons of which one refuses it; none: it is taken.
type kindOfMessage struct {
	make    func(agent realMember, channel string) []byte
	reasons []string
}

func kindsOfMessages(a authority, t *testing.T) []kindOfMessage {
	good := func(m realMember) string { return *m.token.Load() + "0" }
	foreign := a.issue(t, Request{NodeID: "n", Peers: []string{"somebody else"}}) + "0"
	badToken := []string{ReasonBadToken, ReasonTokenPeerMismatch, ReasonRateLimited}
	content := JSONContent("1")
	now := time.Now()
	return []kindOfMessage{
		{func(m realMember, channel string) []byte {
			return wrap(m.node.ID().String(), "misc", channel, good(m), now, content)
		}, nil},
		{func(m realMember, _ string) []byte {
			return wrap(m.node.ID().String(), "misc", "", good(m), now, content)
		}, nil},
		{func(realMember, string) []byte { return []byte{0xFF, 0xFF} }, []string{ReasonDecodeError}},
		{func(m realMember, channel string) []byte {
			return wrap("somebody else", "misc", channel, good(m), now, content)
		}, []string{ReasonSenderMismatch}},
		{func(m realMember, _ string) []byte {
			return wrap(m.node.ID().String(), "misc", "x::ps:y", good(m), now, content)
		}, []string{ReasonChannelSpoofed}},
		{func(m realMember, channel string) []byte {
			return wrap(m.node.ID().String(), "misc", channel, "", now, content)
		}, []string{ReasonNoToken}},
		{func(m realMember, channel string) []byte {
			return wrap(m.node.ID().String(), "misc", channel, foreign, now, content)
		}, badToken},
		{func(m realMember, channel string) []byte {
			return wrap(m.node.ID().String(), "misc", channel, fmt.Sprintf("x.y.%d0", rand.Int()), now, content)
		}, badToken},
	}
}

// TestEveryMessageIsTakenOrCountedByItsReason: agents send at random what is sound and what is not, while the lists of the world
// change around them. Whatever was sent is received or counted, once.
func TestEveryMessageIsTakenOrCountedByItsReason(t *testing.T) {
	const agents, each = 3, 400
	a := newAuthority(t, AlgorithmEdDSA)
	a.Issuer.now = time.Now
	world, members := realWorld(t, a, agents)
	kinds := kindsOfMessages(a, t)

	var sent struct {
		sync.Mutex
		sound, badTokens int
		byReason         map[string]uint64
	}
	sent.byReason = map[string]uint64{}
	var group sync.WaitGroup
	for _, m := range members {
		group.Go(func() {
			channel := DirectChannel(m.node.ID().String(), world.node.ID().String(), "misc", "")
			for range each {
				kind := kinds[rand.IntN(len(kinds))]
				if err := m.node.Send(t.Context(), channel, kind.make(m, channel)); err != nil {
					t.Error(err)
					return
				}
				sent.Lock()
				switch len(kind.reasons) {
				case 0:
					sent.sound++
				case 1:
					sent.byReason[kind.reasons[0]]++
				default:
					sent.badTokens++
				}
				sent.Unlock()
			}
		})
	}
	stop := make(chan struct{})
	var churn sync.WaitGroup
	churn.Go(func() { churnLists(world, members, stop) })
	received := 0
	drain := func() {
		for _, m := range world.node.Settle(world.node.Queue().Take(nil, "", 0, 0)) {
			if !m.Verdict.Verified || m.Verdict.NodeID != "node-"+m.From {
				t.Errorf("received %+v", m.Verdict)
			}
			received++
		}
	}
	waitFor(t, "everything has been received or counted", func() bool {
		drain()
		return received+int(sumOf(world.Counts())) >= agents*each
	})
	close(stop)
	churn.Wait()
	group.Wait()
	counts := world.Counts()
	if received != sent.sound {
		t.Errorf("%d received, %d were sound", received, sent.sound)
	}
	for reason, count := range sent.byReason {
		if counts[reason] != count {
			t.Errorf("%d counted as %s, %d were sent", counts[reason], reason, count)
		}
	}
	bad := counts[ReasonBadToken] + counts[ReasonTokenPeerMismatch] + counts[ReasonRateLimited]
	if bad != uint64(sent.badTokens) {
		t.Errorf("%d counted for their token, %d were sent", bad, sent.badTokens)
	}
	checkInvariants(t, world.Set)
}

// churnLists lists and unlists strangers around the members, until it is told to stop.
func churnLists(world realMember, members []realMember, stop chan struct{}) {
	for k := 0; ; k++ {
		select {
		case <-stop:
			return
		default:
		}
		list := []Entry{}
		for _, m := range members {
			list = append(list, Entry{ID: m.node.ID().String(), Addrs: []string{}, Misc: 1})
		}
		if k%2 == 0 {
			list = append(list, entry(agentA, 1), entry(agentB, 5))
		}
		_ = world.SetWorldAgentsList(list)
		runtime.Gosched()
	}
}

func sumOf(counts map[string]uint64) (total uint64) {
	for _, count := range counts {
		total += count
	}
	return total
}

// waitFor is for conditions that no event announces.
func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// TestAFloodOfStrangersDelaysNobody: strangers that dial again and again take no place and no memory that stays, and the members
// go on talking.
func TestAFloodOfStrangersDelaysNobody(t *testing.T) {
	const strangers, dials, messages = 4, 10, 200
	a := newAuthority(t, AlgorithmEdDSA)
	a.Issuer.now = time.Now
	world, members := realWorld(t, a, 1)
	var group sync.WaitGroup
	for range strangers {
		s := startRealMember(t, a, false)
		group.Go(func() {
			for range dials {
				_, _, _ = s.Connect(t.Context(), NetworkWorld, world.node.Addresses())
				_ = s.Disconnect(t.Context(), NetworkWorld, world.node.ID().String())
			}
		})
	}
	for range messages {
		must(t, members[0].Send(t.Context(), Outgoing{Peer: world.node.ID().String(), ContentType: "misc", Content: JSONContent("1")}))
	}
	var taken []queue.Message
	for len(taken) < messages {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		var err error
		taken, err = world.node.Queue().ReceiveAppend(ctx, taken, "", 0, 0)
		cancel()
		must(t, err)
	}
	group.Wait()
	if world.Counts()[RefusedStranger] == 0 {
		t.Error("no stranger was refused")
	}
	if ids := world.PeerIDs(); len(ids) != 1 || ids[0] != members[0].node.ID().String() {
		t.Errorf("pooled are %v", ids)
	}
	waitFor(t, "the strangers are gone", func() bool { return len(world.node.Peers()) == 1 })
	checkInvariants(t, world.Set)
}

// TestAnUnlistedMemberIsExpelledAndComesBack: lists decide about connections that exist.
func TestAnUnlistedMemberIsExpelledAndComesBack(t *testing.T) {
	a := newAuthority(t, AlgorithmEdDSA)
	a.Issuer.now = time.Now
	world, members := realWorld(t, a, 1)
	id := members[0].node.ID().String()
	must(t, world.SetWorldAgentsList(nil))
	waitFor(t, "it is disconnected", func() bool { return len(world.node.Peers()) == 0 })
	changes, err := world.Update()
	must(t, err)
	wantList(t, "removed", changes.Removed[InWorldAgents], id)
	removed, err := world.Remove(t.Context(), id)
	if !removed || err != nil {
		t.Fatalf("removed %v, error %v", removed, err)
	}
	must(t, world.AddToWorldAgentsList(id, nil, 1))
	waitFor(t, "it is pooled again", func() bool { // its own dials are refused for a moment
		_, _, _ = members[0].Connect(t.Context(), NetworkWorld, world.node.Addresses())
		return world.IsConnected(id, InWorldAgents)
	})
	checkInvariants(t, world.Set)
}

// TestRostersOfAnybodyElseChangeNothing: a member floods the topic of its world.
func TestRostersOfAnybodyElseChangeNothing(t *testing.T) {
	a := newAuthority(t, AlgorithmEdDSA)
	a.Issuer.now = time.Now
	world, members := realWorld(t, a, 2)
	liar, victim := members[0], members[1]
	topic := world.node.ID().String() + "::ps:rv"
	for _, m := range []realMember{world, liar, victim} {
		must(t, m.NodeConn.Subscribe(world.node.ID().String(), topic, ""))
	}
	world.publishUntil(t, victim, topic, []Entry{entry(agentA, 1, "/ip4/127.0.0.1/tcp/1")})
	tag := victim.RendezvousTag()
	// The victim must hear the liar directly, or the world, which ignores the roster, would keep it from it.
	must(t, victim.AddToWorldAgentsList(liar.node.ID().String(), nil, 1))
	_, _, err := liar.Connect(t.Context(), NetworkWorld, victim.node.Addresses())
	must(t, err)
	roster, err := EncodeRoster([]Entry{entry(masterA, 3)}, 1<<62)
	must(t, err)
	refused := func() uint64 { return victim.node.Statistics().Lost["in"]["rendezvous_refused"] }
	waitFor(t, "the victim refuses a roster of the liar", func() bool {
		_, err := liar.Publish(t.Context(), liar.node.ID().String(), topic, "world_agents_list", JSONContent(string(roster)))
		must(t, err)
		return refused() > 0
	})
	applied, err := victim.ApplyNewestRoster()
	must(t, err)
	if applied && victim.RendezvousTag() == 1<<62 || len(victim.WorldMasters()) != 0 || victim.RendezvousTag() < tag {
		t.Fatalf("applied %v, tag %d, masters %v", applied, victim.RendezvousTag(), victim.WorldMasters())
	}
}
