package pool

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"google.golang.org/protobuf/encoding/protowire"
)

// rawOwner is a world node without this library: it owns a rendezvous topic and publishes whatever bytes it wants.
type rawOwner struct {
	host  host.Host
	topic *pubsub.Topic
}

func startRawOwner(t *testing.T) rawOwner {
	t.Helper()
	h, err := libp2p.New(libp2p.NoListenAddrs)
	must(t, err)
	t.Cleanup(func() { must(t, h.Close()) })
	router, err := pubsub.NewGossipSub(t.Context(), h, pubsub.WithMaxMessageSize(64<<20))
	must(t, err)
	topic, err := router.Join(rendezvousTopic(h.ID().String()))
	must(t, err)
	return rawOwner{h, topic}
}

// rule makes the victim's world that of the owner, connected and listening; it returns when a publication would reach it.
func (o rawOwner) rule(t *testing.T, victim realMember) {
	t.Helper()
	id := o.host.ID().String()
	must(t, victim.SetWorld(id))
	must(t, victim.NodeConn.Subscribe(id, rendezvousTopic(id), ""))
	var addrs []ma.Multiaddr
	for _, text := range victim.node.Addresses() {
		full, err := ma.NewMultiaddr(text)
		must(t, err)
		bare, _ := peer.SplitAddr(full)
		addrs = append(addrs, bare)
	}
	must(t, o.host.Connect(t.Context(), peer.AddrInfo{ID: victim.node.ID(), Addrs: addrs}))
	waitFor(t, "the victim is a subscriber", func() bool { return len(o.topic.ListPeers()) == 1 })
}

// publish publishes until something holds: the router may have no stream to the victim yet, and then publishes to nobody.
func (o rawOwner) publish(t *testing.T, what string, data []byte, holds func() bool) {
	t.Helper()
	var published time.Time
	waitFor(t, what, func() bool {
		if time.Since(published) > time.Second {
			must(t, o.topic.Publish(t.Context(), data))
			published = time.Now()
		}
		return holds()
	})
}

// roster is a message of the owner's with this JSON content.
func (o rawOwner) roster(json string) []byte {
	return wrap(o.host.ID().String(), "world_agents_list", "", "", time.Now(), JSONContent(json))
}

func rosterOf(count int, entries ...string) string {
	return fmt.Sprintf(`{"peers":[%s],"update_count":%d}`, strings.Join(entries, ","), count)
}

func rawEntry(id string, misc int) string {
	return fmt.Sprintf(`{"id":%q,"addrs":[],"misc":%d}`, id, misc)
}

func TestARawOwnerCannotHarmTheListsWithMalformedRosters(t *testing.T) {
	good := rosterOf(9, rawEntry(agentB, 1))
	cases := map[string]func(o rawOwner) []byte{
		"no envelope":         func(rawOwner) []byte { return []byte{0xFF, 0xFF} },
		"an envelope cut off": func(o rawOwner) []byte { return o.roster(good)[:60] },
		"another content type": func(o rawOwner) []byte {
			return bytes.Replace(o.roster(good), []byte("world_agents"), []byte("world_AGENTS"), 1)
		},
		"somebody else's name": func(rawOwner) []byte { return wrap(agentA, "world_agents_list", "", "", time.Now(), JSONContent(good)) },
		"no JSON":              func(o rawOwner) []byte { return o.roster(good[:20]) },
		"no object":            func(o rawOwner) []byte { return o.roster("[]") },
		"no peers":             func(o rawOwner) []byte { return o.roster(`{"update_count":9}`) },
		"no update count":      func(o rawOwner) []byte { return o.roster(`{"peers":[]}`) },
		"a negative count":     func(o rawOwner) []byte { return o.roster(rosterOf(-1)) },
		"a count of 31 digits": func(o rawOwner) []byte {
			return o.roster(`{"peers":[],"update_count":1000000000000000000000000000000}`)
		},
		"too many peers":  func(o rawOwner) []byte { return o.roster(rosterOf(9, strings.Repeat("0,", 65536)+"0")) },
		"a nest of lists": func(o rawOwner) []byte { return o.roster(strings.Repeat("[", 100_000)) },
		"a length that lies": func(o rawOwner) []byte {
			return protowire.AppendVarint(protowire.AppendTag(o.roster(good), 7, protowire.BytesType), 1<<40)
		},
	}
	a := newAuthority(t, AlgorithmEdDSA)
	victim := startRealMember(t, a, false)
	must(t, victim.SetWorldAgentsList([]Entry{entry(agentA, 5)}))
	for name, message := range cases {
		t.Run(name, func(t *testing.T) {
			o := startRawOwner(t)
			o.rule(t, victim)
			before, heard := victim.node.Statistics().Lost["in"]["decode_error"], victim.losses("decode_error")
			o.publish(t, "the roster is refused", message(o), func() bool {
				return victim.node.Statistics().Lost["in"]["decode_error"] > before && victim.losses("decode_error") > heard
			})
			victim.keeps(t, agentA)
		})
	}
}

// keeps: nothing was applied, and the lists hold this agent only.
func (m realMember) keeps(t *testing.T, agent string) {
	t.Helper()
	applied, err := m.ApplyNewestRoster()
	must(t, err)
	if applied || m.RendezvousTag() != noRosterTag {
		t.Errorf("applied %v, tag %d", applied, m.RendezvousTag())
	}
	wantList(t, "agents", m.WorldAgents(), agent)
	wantList(t, "masters", m.WorldMasters())
	if m.Role(agent) != 5 {
		t.Errorf("the role is %d", m.Role(agent))
	}
	checkInvariants(t, m.Set)
}

func TestBadEntriesOfARawRosterAreLeftOutAndCounted(t *testing.T) {
	a := newAuthority(t, AlgorithmEdDSA)
	victim := startRealMember(t, a, false)
	o := startRawOwner(t)
	o.rule(t, victim)
	before := victim.node.Statistics().Lost["in"]["rendezvous_refused"]
	far := fmt.Sprintf(`{"id":%q,"misc":1,"addrs":[%s""]}`, agentA, strings.Repeat(`"/ip4/192.0.2.1/tcp/1",`, 64))
	roster := o.roster(rosterOf(1<<40,
		rawEntry(agentB, 1), rawEntry(masterA, 3),
		rawEntry("no peer id", 1), rawEntry(agentB, 1), rawEntry(agentA, -1), far, `{"id":7}`, `null`, // malformed or repeated
		rawEntry(masterB, 0), rawEntry(unknown, 2), // of a role that is neither
		fmt.Sprintf(`{"id":%q,"addrs":null,"misc":1}`, worldNode), // told without addresses
	))
	o.publish(t, "the roster is applied", roster, func() bool {
		applied, err := victim.ApplyNewestRoster()
		must(t, err)
		return applied
	})
	wantList(t, "agents", victim.WorldAgents(), agentB)
	wantList(t, "masters", victim.WorldMasters(), masterA)
	if counts := victim.Counts(); counts[ReasonRendezvousEntry] != 8 || victim.RendezvousTag() != 1<<40 {
		t.Errorf("tag %d, counts %v", victim.RendezvousTag(), counts)
	}
	if lost := victim.node.Statistics().Lost["in"]["rendezvous_refused"]; lost != before+6 {
		t.Errorf("%d entries lost at the node", lost-before)
	}
	stale := victim.node.Statistics().Lost["in"]["rendezvous_stale"]
	o.publish(t, "the same count is stale", o.roster(rosterOf(1<<40, rawEntry(agentA, 1))), func() bool {
		return victim.node.Statistics().Lost["in"]["rendezvous_stale"] > stale && victim.losses("rendezvous_stale") > 0
	})
	wantList(t, "agents", victim.WorldAgents(), agentB)
}

func TestATokenOfAMebibyteFromAPeerIsRefusedAndCounted(t *testing.T) {
	a := newAuthority(t, AlgorithmEdDSA)
	a.Issuer.now = time.Now
	world, members := realWorld(t, a, 1)
	liar := members[0].node.ID().String()
	channel := DirectChannel(liar, world.node.ID().String(), "misc", "")
	send := func(piggyback string) {
		must(t, members[0].node.Send(t.Context(), channel, wrap(liar, "misc", channel, piggyback, time.Now(), JSONContent("1"))))
	}
	token := *members[0].token.Load()
	send(token + "0")
	waitFor(t, "the token is known", func() bool { kept, _ := world.LastToken(liar); return kept == token })
	send(strings.Repeat("x", 1<<20))
	send(token + strings.Repeat("=", 1<<20))
	waitFor(t, "both are refused", func() bool {
		return world.Counts()[ReasonBadToken] == 2 && world.node.Statistics().Lost["in"]["bad_token"] == 2 && world.losses("bad_token") > 0
	})
	if kept, _ := world.LastToken(liar); kept != token || !world.IsConnected(liar, InWorldAgents) {
		t.Error("the member and its token stay")
	}
}

func TestAnOversizedRosterOfARawOwnerIsCounted(t *testing.T) {
	a := newAuthority(t, AlgorithmEdDSA)
	victim := startLimitedMember(t, a, false, map[string]int{"message_bytes": 64 << 10})
	must(t, victim.SetWorldAgentsList([]Entry{entry(agentA, 5)}))
	o := startRawOwner(t)
	o.rule(t, victim)
	o.publish(t, "it is counted", o.roster(rosterOf(9, rawEntry(agentB, 1)+strings.Repeat(" ", 1<<20))), func() bool {
		return victim.node.Statistics().Lost["in"]["oversize"] > 0 && victim.losses("oversize") > 0
	})
	victim.keeps(t, agentA)
}

// losses counts the messages_lost events of a reason so far.
func (m realMember) losses(reason string) int {
	m.heard.Lock()
	defer m.heard.Unlock()
	return m.heard.lost[reason]
}

// pump tells waiters of every event of the node, and counts those of losses.
func (m realMember) pump() {
	for {
		events, err := m.node.Events().Pop(context.Background(), 64)
		if err != nil {
			return
		}
		m.heard.Lock()
		for _, e := range events {
			if reason, lost := e.Fields["reason"].(string); lost && e.Type == "messages_lost" {
				m.heard.lost[reason]++
			}
		}
		m.heard.Unlock()
		m.note()
	}
}
