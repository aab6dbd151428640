package pool

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"peerbus/node"
)

// patience is how long a test waits for what must happen. It fails a test, it never makes one pass.
const patience = 20 * time.Second

// member of a world that runs over a real node, with a public network in memory.
type realMember struct {
	*NodeConn
	node  *node.Node
	moved chan struct{} // something has changed
	heard *lossEvents
}

// lossEvents counts messages_lost events by reason.
type lossEvents struct {
	sync.Mutex
	lost map[string]int
}

// startNode starts a node on loopback. The caller closes it.
func startNode(t *testing.T, limits map[string]int) *node.Node {
	t.Helper()
	text, err := json.Marshal(map[string]any{
		"identity_dir": t.TempDir(), "listen_addrs": []string{"/ip4/127.0.0.1/tcp/0"}, "dht": map[string]any{"enabled": false},
		"nat":    map[string]any{"port_mapping": false, "hole_punching": false, "autonat": false},
		"webrtc": map[string]any{"enabled": false}, "limits": limits,
	})
	must(t, err)
	config, err := node.ParseConfig(text, nil, node.DefaultLimits())
	must(t, err)
	n, err := node.New(t.Context(), node.Options{Config: config, Version: "test"})
	must(t, err)
	return n
}

func startRealMember(t *testing.T, a authority, isWorldNode bool) realMember {
	t.Helper()
	return startLimitedMember(t, a, isWorldNode, nil)
}

func startLimitedMember(t *testing.T, a authority, isWorldNode bool, limits map[string]int) realMember {
	t.Helper()
	n := startNode(t, limits)
	var err error
	m := realMember{node: n, moved: make(chan struct{}, 1), heard: &lossEvents{lost: map[string]int{}}}
	m.NodeConn, err = NewNodeConn(NodeConnOptions{
		MaxConnections: 100, Public: newFakeNetwork("own-public"), World: NewNodeNetwork(n), IsWorldNode: isWorldNode,
		Common: Options{PublicKey: a.publicKey, Emit: func(Event) { m.note() }},
	})
	must(t, err)
	token, err := a.Issue(Request{NodeID: "node-" + n.ID().String(), Peers: []string{n.ID().String()}})
	must(t, err)
	must(t, m.SetToken(token))
	must(t, m.Attach())
	done := make(chan struct{})
	go func() { defer close(done); m.pump() }()
	t.Cleanup(func() {
		m.Detach()
		if err := m.CloseTransports(); err != nil {
			t.Errorf("closing: %v", err)
		}
		<-done
	})
	return m
}

func (m realMember) note() {
	select {
	case m.moved <- struct{}{}:
	default:
	}
}

func (m realMember) waitUntil(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for !holds() {
		select {
		case <-m.moved:
		case <-ctx.Done():
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// publishUntil publishes rosters as a world does, until one is applied: the first may come before the router has a stream to
// the subscriber, and is then counted as lost.
func (m realMember) publishUntil(t *testing.T, agent realMember, topic string, peers []Entry) {
	t.Helper()
	again := time.NewTicker(time.Second)
	defer again.Stop()
	deadline := time.After(patience)
	for count := int64(7); ; count++ {
		roster, err := EncodeRoster(peers, count)
		must(t, err)
		_, err = m.Publish(t.Context(), m.node.ID().String(), topic, "world_agents_list", JSONContent(string(roster)))
		must(t, err)
		for waiting := true; waiting; {
			switch applied, err := agent.ApplyNewestRoster(); {
			case err != nil:
				t.Fatal(err)
			case applied:
				return
			}
			select {
			case <-agent.moved:
			case <-again.C:
				waiting = false
			case <-deadline:
				t.Fatal("no roster was applied")
			}
		}
	}
}

func TestAWorldOverRealNodes(t *testing.T) {
	a := newAuthority(t, AlgorithmEdDSA)
	a.Issuer.now = time.Now
	world, agent := startRealMember(t, a, true), startRealMember(t, a, false)
	worldID, agentID := world.node.ID().String(), agent.node.ID().String()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	// Join: the world lists the agent, which dials and then names the world node.
	must(t, world.AddToWorldAgentsList(agentID, agent.node.Addresses(), 1))
	id, relayed, err := agent.Connect(ctx, NetworkWorld, world.node.Addresses())
	if id != worldID || relayed || err != nil {
		t.Fatalf("connected to %s, relayed %v, error %v", id, relayed, err)
	}
	must(t, agent.SetWorld(worldID))
	agent.waitUntil(t, "the world node is pooled", func() bool { return agent.IsWorldNode(worldID) })
	world.waitUntil(t, "the agent is pooled", func() bool { return world.IsConnected(agentID, InWorldAgents) })

	// A message with a token, judged before it is queued.
	must(t, agent.Send(ctx, Outgoing{Peer: worldID, ContentType: "misc", Content: JSONContent(`"hi"`)}))
	messages, err := world.node.Queue().Receive(ctx, "", 1, 0)
	if err != nil || len(messages) != 1 {
		t.Fatalf("%d messages, error %v", len(messages), err)
	}
	if v := messages[0].Verdict; !v.Verified || v.Pending || v.NodeID != "node-"+agentID {
		t.Fatalf("verdict %+v", v)
	}

	// A roster of the owner.
	topic := worldID + "::ps:rv"
	must(t, world.Subscribe(worldID, topic, ""))
	must(t, agent.Subscribe(worldID, topic, ""))
	world.waitUntil(t, "the agent has joined the topic", func() bool { return len(world.node.TopicPeers()) == 1 })
	world.publishUntil(t, agent, topic, []Entry{{ID: agentID, Addrs: agent.node.Addresses(), Misc: 1}, entry(masterA, 3)})
	wantList(t, "masters", agent.WorldMasters(), masterA)

	// The gater, and leaving.
	stranger := startRealMember(t, a, false)
	// The dialler may take the connection for established before it hears of the refusal.
	_, _, _ = stranger.Connect(ctx, NetworkWorld, world.node.Addresses())
	world.waitUntil(t, "the stranger is refused", func() bool { return world.Counts()[RefusedStranger] > 0 })
	if peers := world.node.Peers(); len(peers) != 1 {
		t.Fatalf("peers %+v", peers)
	}
	removed, err := world.Remove(ctx, agentID)
	if !removed || err != nil {
		t.Fatalf("removed %v, error %v", removed, err)
	}
	wantPool(t, world.Set, agentID, "")
	peers, err := NewNodeNetwork(world.node).Peers()
	if len(peers) != 0 || err != nil {
		t.Fatalf("peers %+v, error %v", peers, err)
	}
}

func TestANodeNetworkRefusesWhatIsNoPeerID(t *testing.T) {
	n := NewNodeNetwork(nil)
	wantError(t, n.Disconnect(t.Context(), "x"), ErrArgument)
	_, err := n.Reserve(t.Context(), "x")
	wantError(t, err, ErrArgument)
}

func TestANodeIsInOneSetAtATime(t *testing.T) {
	a := newAuthority(t, AlgorithmEdDSA)
	m := startRealMember(t, a, false)
	again, err := New(Options{MaxConnections: 1, Networks: []NetworkOptions{{Name: "n", Network: NewNodeNetwork(m.node)}}})
	must(t, err)
	defer again.Close()
	wantError(t, again.Attach(), node.ErrGuarded)
	again.Detach()
	wantError(t, again.Attach(), node.ErrGuarded)
	m.Detach()
	must(t, again.Attach())
	again.Detach()
}
