package node

import (
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"

	"peerbus/queue"
)

// fakeGuard admits the peers of its list, and takes messages that begin with "ok".
type fakeGuard struct {
	state struct {
		sync.Mutex
		members map[string]bool
		told    []string // "+id", "-id", "?id" for a refused stranger
		settled string
		master  string
		pending bool
	}
}

func newFakeGuard(members ...peer.ID) *fakeGuard {
	g := &fakeGuard{}
	g.state.members = map[string]bool{}
	for _, id := range members {
		g.state.members[id.String()] = true
	}
	return g
}

func (g *fakeGuard) note(what string) {
	g.state.Lock()
	defer g.state.Unlock()
	g.state.told = append(g.state.told, what)
}

func (g *fakeGuard) told() []string {
	g.state.Lock()
	defer g.state.Unlock()
	return slices.Clone(g.state.told)
}

func (g *fakeGuard) PeerConnected(info PeerInfo) { g.note("+" + info.ID) }
func (g *fakeGuard) PeerDisconnected(id string)  { g.note("-" + id) }
func (g *fakeGuard) StrangerRefused(id string)   { g.note("?" + id) }
func (g *fakeGuard) Settled(string) string       { return g.state.settled }
func (g *fakeGuard) Publishes(author string, _ int64, listed bool) bool {
	return listed || author == g.state.master
}
func (g *fakeGuard) Stranger(id string) bool { return !g.state.members[id] }
func (g *fakeGuard) hasTold(what ...string) func() bool {
	return func() bool { return slices.Equal(g.told(), what) }
}

func (g *fakeGuard) Check(from, _ string, data []byte) (queue.Verdict, string) {
	if len(data) < 2 || string(data[:2]) != "ok" {
		return queue.Verdict{Judged: true}, "bad_token"
	}
	return queue.Verdict{Judged: true, Pending: g.state.pending, Verified: true, NodeID: "node of " + from}, ""
}

func guarded(t *testing.T, n *Node, g Guard) {
	t.Helper()
	if err := n.SetGuard(g); err != nil {
		t.Fatal(err)
	}
}

func TestAGuardHearsOfAPeerBeforeItsEventAndItsMessages(t *testing.T) {
	a, b := startNode(t), startNode(t)
	g := newFakeGuard(a.id)
	guarded(t, b, g)
	connect(t, a, b)
	eventOf(t, b, EventPeerConnected, map[string]any{"peer": a.id.String()})
	if told := g.told(); !slices.Equal(told, []string{"+" + a.id.String()}) {
		t.Fatalf("told %v", told)
	}
	channel := directChannel(a.id, b.id, "x")
	for _, text := range []string{"no token", "ok", "bad", "ok too"} {
		if err := a.Send(within(t), channel, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range receive(t, b, 2) {
		if m.Verdict.NodeID != "node of "+a.id.String() || string(m.Data[:2]) != "ok" {
			t.Errorf("received %q, %+v", m.Data, m.Verdict)
		}
	}
	expectLosses(t, b, directionIn, map[string]uint64{"bad_token": 2})
	if err := b.Disconnect(a.id); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the guard hears of the end", g.hasTold("+"+a.id.String(), "-"+a.id.String()))
}

func TestAStrangerEndsInTheGaterAndIsNeverListed(t *testing.T) {
	a, b := startNode(t), startNode(t)
	g := newFakeGuard()
	guarded(t, b, g)
	_, _ = a.Connect(within(t), b.Addresses()) // the dialler may take it for established before it hears
	waitUntil(t, "the guard hears of the stranger", func() bool { return slices.Contains(g.told(), "?"+a.id.String()) })
	if peers := b.Peers(); len(peers) != 0 {
		t.Errorf("listed %+v", peers)
	}
}

func TestRelaysAndBootstrapPeersAreNoStrangers(t *testing.T) {
	a, c := startNode(t), startNode(t)
	b := startNode(t, func(o *Options) { o.Config.DHT.BootstrapPeers = []peer.AddrInfo{{ID: a.id}} })
	if !b.Infrastructure(a.id) || b.Infrastructure(c.id) {
		t.Fatal("the configuration names one of the two")
	}
	g := newFakeGuard()
	guarded(t, b, g)
	connect(t, a, b)
	waitUntil(t, "the bootstrap peer is listed", func() bool { return lists(b, a.id) })
	if told := g.told(); !slices.Equal(told, []string{"+" + a.id.String()}) {
		t.Errorf("told %v", told)
	}
}

func TestWhereReachabilityIsProbedStrangersGetAProbation(t *testing.T) {
	n := startNode(t, func(o *Options) { o.Config.NAT.AutoNAT = true })
	g := newFakeGuard()
	guarded(t, n, g)
	h := startRawHost(t)
	dialRaw(t, h, n)
	waitUntil(t, "the stranger is let in", func() bool { return len(n.host.Network().ConnsToPeer(h.ID())) > 0 })
	if told := g.told(); len(told) != 0 {
		t.Errorf("told %v", told)
	}
	// A flood of them is bounded.
	before := n.guard.probations.Load()
	for range maxProbations {
		n.guard.probations.Add(1)
	}
	if n.admits(1, h.ID()) {
		t.Error("a stranger above the bound was let in")
	}
	n.guard.probations.Add(-maxProbations)
	if now := n.guard.probations.Load(); now != before || !slices.Equal(g.told(), []string{"?" + h.ID().String()}) {
		t.Errorf("%d on probation after %d, told %v", now, before, g.told())
	}
}

func TestANodeHasOneGuardAtATime(t *testing.T) {
	n := startNode(t)
	first, second := newFakeGuard(), newFakeGuard()
	guarded(t, n, first)
	if err := n.SetGuard(second); !errors.Is(err, ErrGuarded) {
		t.Fatalf("a second guard: %v", err)
	}
	n.RemoveGuard(second)
	if n.guard.get() != Guard(first) {
		t.Fatal("who is no guard took the guard away")
	}
	n.RemoveGuard(first)
	n.RemoveGuard(first)
	guarded(t, n, second)
}

func TestUndecidedAndUnjudgedMessagesAreJudgedAtTheHandOver(t *testing.T) {
	n := startNode(t)
	message := func(data string, v queue.Verdict) queue.Message {
		return queue.Message{From: somePeer, Channel: "c", Data: []byte(data), Verdict: v}
	}
	judged := queue.Verdict{Judged: true}
	pending := queue.Verdict{Judged: true, Pending: true}
	if kept := n.Settle([]queue.Message{message("x", queue.Verdict{}), message("y", pending)}); len(kept) != 2 {
		t.Fatalf("without a guard %+v are left", kept)
	}
	g := newFakeGuard()
	guarded(t, n, g)
	g.state.settled = "not_member"
	kept := n.Settle([]queue.Message{
		message("bad", queue.Verdict{}), message("ok", queue.Verdict{}), message("undecided", pending), message("judged", judged),
	})
	if len(kept) != 2 || string(kept[0].Data) != "ok" || !kept[0].Verdict.Verified || string(kept[1].Data) != "judged" {
		t.Fatalf("left are %+v", kept)
	}
	expectLosses(t, n, directionIn, map[string]uint64{"bad_token": 1, "not_member": 1})
}

func TestADisconnectionWaitsNoLongerThanItsContext(t *testing.T) {
	a, b := startPair(t)
	if err := a.DisconnectContext(atOnce(), b.id); err != nil && !errors.Is(err, ErrTimeout) && !errors.Is(err, ErrCancelled) {
		t.Fatal(err)
	}
	if lists(a, b.id) {
		t.Error("the peer is still listed")
	}
	waitUntil(t, "the connection ends", func() bool { return len(a.host.Network().ConnsToPeer(b.id)) == 0 })
}
