package pool

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"peerbus/node"
)

// patience is how long a test waits for what must happen. It fails a test, it never makes one pass.
const patience = 20 * time.Second

// member of a world that runs over a real node, with a public network in memory.
type realMember struct {
	*NodeConn
	node  *node.Node
	hooks Hooks
	moved chan struct{} // an event has been handled
}

func startRealMember(t *testing.T, a authority, isWorldNode bool) realMember {
	t.Helper()
	text, err := json.Marshal(map[string]any{
		"identity_dir": t.TempDir(), "listen_addrs": []string{"/ip4/127.0.0.1/tcp/0"}, "dht": map[string]any{"enabled": false},
		"nat":    map[string]any{"port_mapping": false, "hole_punching": false, "autonat": false},
		"webrtc": map[string]any{"enabled": false},
	})
	must(t, err)
	config, err := node.ParseConfig(text, nil, node.DefaultLimits())
	must(t, err)
	n, err := node.New(t.Context(), node.Options{Config: config, Version: "test"})
	must(t, err)
	conn, err := NewNodeConn(NodeConnOptions{
		MaxConnections: 100, Public: newFakeNetwork("own-public"), World: NewNodeNetwork(n), IsWorldNode: isWorldNode,
		Common: Options{PublicKey: a.publicKey},
	})
	must(t, err)
	token, err := a.Issue(Request{NodeID: "node-" + n.ID().String(), Peers: []string{n.ID().String()}})
	must(t, err)
	must(t, conn.SetToken(token))
	m := realMember{NodeConn: conn, node: n, moved: make(chan struct{}, 1024)}
	m.hooks, err = conn.Hooks(NetworkWorld)
	must(t, err)
	done := make(chan struct{})
	go func() { defer close(done); m.pump() }()
	t.Cleanup(func() {
		if err := conn.CloseTransports(); err != nil {
			t.Errorf("closing: %v", err)
		}
		<-done
	})
	return m
}

// pump does what the node's hooks will do.
func (m realMember) pump() {
	for {
		events, err := m.node.Events().Pop(context.Background(), 64)
		if err != nil {
			return
		}
		for _, e := range events {
			if m.hooks.HandleEvent(e) != nil {
				return
			}
			select {
			case m.moved <- struct{}{}:
			default:
			}
		}
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

	// A message with a token, judged as it would be before it is queued.
	must(t, agent.Send(ctx, Outgoing{Peer: worldID, ContentType: "misc", Content: JSONContent(`"hi"`)}))
	messages, err := world.node.Queue().Receive(ctx, "", 1, 0)
	if err != nil || len(messages) != 1 {
		t.Fatalf("%d messages, error %v", len(messages), err)
	}
	v := world.hooks.Check(messages[0].From, messages[0].Channel, messages[0].Data)
	if v.Reason != "" || v.NodeID != "node-"+agentID {
		t.Fatalf("verdict %+v", v)
	}

	// A roster of the owner.
	topic := worldID + "::ps:rv"
	must(t, world.Subscribe(worldID, topic, ""))
	must(t, agent.Subscribe(worldID, topic, ""))
	world.waitUntil(t, "the agent has joined the topic", func() bool { return len(world.node.TopicPeers()) == 1 })
	roster, err := EncodeRoster([]Entry{{ID: agentID, Addrs: agent.node.Addresses(), Misc: 1}, entry(masterA, 3)}, 7)
	must(t, err)
	_, err = world.Publish(ctx, worldID, topic, "world_agents_list", JSONContent(string(roster)))
	must(t, err)
	agent.waitUntil(t, "the roster is applied", func() bool {
		applied, err := agent.ApplyNewestRoster()
		must(t, err)
		return applied
	})
	wantList(t, "masters", agent.WorldMasters(), masterA)
	if agent.RendezvousTag() != 7 {
		t.Fatalf("tag %d", agent.RendezvousTag())
	}

	// The gater, and leaving.
	stranger, err := peer.Decode(unknown)
	must(t, err)
	if world.hooks.Admit(network.DirInbound, stranger) || !world.hooks.Admit(network.DirOutbound, stranger) || !world.hooks.Admit(network.DirInbound, agent.node.ID()) {
		t.Fatal("members and whom we dial are admitted, strangers are not")
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

func TestHooksFeedTheSet(t *testing.T) {
	c := newNodeConn(t, nil)
	hooks, err := c.Hooks(NetworkPublic)
	must(t, err)
	_, err = c.Hooks("nowhere")
	wantError(t, err, ErrNotFound)
	must(t, hooks.PeerConnected(node.PeerInfo{ID: "a", Direction: "outbound", Relayed: true}))
	infos, err := c.PeerInfos(OutPublic)
	must(t, err)
	if len(infos) != 1 || !infos[0].Relayed || infos[0].Addrs == nil {
		t.Fatalf("infos %+v", infos)
	}
	must(t, hooks.PeerDisconnected("a"))
	wantList(t, "removed", c.update(t).Removed[OutPublic], "a")
}
