package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

const testPrefix = "/peerbus-test"

// dhtServer is the first node of a DHT.
func dhtServer(t *testing.T, change ...func(*Options)) *Node {
	return startNode(t, append([]func(*Options){func(o *Options) {
		o.Config.DHT = DHTConfig{Enabled: true, Server: true, Prefix: testPrefix}
	}}, change...)...)
}

// dhtClient is a node that keeps a client of the server's DHT.
func dhtClient(t *testing.T, server *Node, change ...func(*Options)) *Node {
	return startNode(t, append([]func(*Options){func(o *Options) {
		o.Config.DHT = DHTConfig{Enabled: true, Keep: true, Prefix: testPrefix, BootstrapPeers: []peer.AddrInfo{infoOf(server)}}
	}}, change...)...)
}

// peerID is that of nobody.
func peerID(t *testing.T) peer.ID {
	t.Helper()
	_, public, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// startForeignDHTServer runs a DHT server without any application protocol, connected to the given node.
func startForeignDHTServer(t *testing.T, prefix string, to *Node) peer.ID {
	t.Helper()
	h := startRawHost(t)
	table, err := dht.New(h, dht.Mode(dht.ModeServer), dht.ProtocolPrefix(protocol.ID(prefix)), dht.DisableValues())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = table.Close() })
	dialRaw(t, h, to)
	return h.ID()
}

// findOne searches until one peer is found.
func findOne(t *testing.T, n *Node, name string) FoundPeer {
	t.Helper()
	peers, err := n.FindPeers(within(t), name, 1, func(FoundPeer) {})
	if err != nil || len(peers) != 1 {
		t.Fatalf("searching %q found %v: %v", name, peers, err)
	}
	return peers[0]
}

func TestAPeerThatAdvertisesIsFoundThroughTheDHTAndCanBeDialled(t *testing.T) {
	server := dhtServer(t)
	advertiser, searcher := dhtClient(t, server), dhtClient(t, server)
	if err := advertiser.Advertise(within(t), "weather"); err != nil {
		t.Fatal(err)
	}
	found := findOne(t, searcher, "weather")
	want := FoundPeer{ID: advertiser.id.String(), Addresses: advertiser.Addresses(), Source: SourceDHT}
	if fmt.Sprint(found) != fmt.Sprint(want) {
		t.Errorf("found %v, want %v", found, want)
	}
	if _, err := searcher.Connect(within(t), found.Addresses); err != nil {
		t.Error(err)
	}
	eventOf(t, advertiser, EventAdvertised, map[string]any{"namespace": "weather", "source": SourceDHT})
}

func TestASearchFindsWhoAdvertisesLater(t *testing.T) {
	server := dhtServer(t)
	advertiser, searcher := dhtClient(t, server), dhtClient(t, server)
	found := make(chan FoundPeer, 1)
	go func() {
		_, _ = searcher.FindPeers(within(t), "later", 1, func(p FoundPeer) { found <- p })
	}()
	waitUntil(t, "the search runs", func() bool { return searcher.DiscoveryStatus().Running == 1 })
	if err := advertiser.Advertise(within(t), "later"); err != nil {
		t.Fatal(err)
	}
	select {
	case p := <-found:
		if p.ID != advertiser.id.String() {
			t.Errorf("found %v", p)
		}
	case <-within(t).Done():
		t.Fatal("the search did not find it")
	}
}

func TestNetworksOfDifferentPrefixesDoNotMeet(t *testing.T) {
	server := dhtServer(t)
	stranger := dhtClient(t, server, func(o *Options) { o.Config.DHT.Prefix = "/other" })
	waitUntil(t, "the bootstrap peer was tried", func() bool { return len(stranger.DiscoveryStatus().DHT.Failed) == 1 })
	ctx, cancel := context.WithCancel(within(t))
	searching := make(chan error, 1)
	go func() {
		_, err := stranger.FindPeers(ctx, "weather", 1, func(FoundPeer) {})
		searching <- err
	}()
	waitUntil(t, "the search runs", func() bool { return stranger.DiscoveryStatus().Running == 1 })
	cancel()
	if err := <-searching; !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "does not answer as a DHT server of /other") {
		t.Errorf("the search ended with %v", err)
	}
	if got := stranger.DiscoveryStatus().DHT; got.State != "joining" || got.Peers != 0 {
		t.Errorf("the DHT is %+v", got)
	}
}

func TestAPeerIsFoundAndConnectedByItsIDAlone(t *testing.T) {
	server := dhtServer(t)
	wanted, searcher := dhtClient(t, server), dhtClient(t, server)
	waitUntil(t, "the wanted peer joined", func() bool { return wanted.DiscoveryStatus().DHT.State == "joined" })
	addresses, err := searcher.FindPeer(within(t), wanted.id)
	if err != nil || !slices.Equal(addresses, wanted.Addresses()) {
		t.Fatalf("found %v, want %v: %v", addresses, wanted.Addresses(), err)
	}
	searcher.host.Peerstore().ClearAddrs(wanted.id)
	reached, err := searcher.Connect(within(t), []string{"/p2p/" + wanted.id.String()})
	if err != nil || reached.ID != wanted.id.String() || len(reached.Addrs) != 1 {
		t.Errorf("connected to %v: %v", reached, err)
	}
	waitUntil(t, "both list each other", func() bool { return lists(searcher, wanted.id) && lists(wanted, searcher.id) })
}

func TestConnectingByIDFailsWithAReason(t *testing.T) {
	absent := peerID(t)
	off := startNode(t)
	if _, err := off.Connect(within(t), []string{"/p2p/" + absent.String()}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("without discovery: %v", err)
	}
	server := dhtServer(t)
	if _, err := dhtClient(t, server).Connect(within(t), []string{"/p2p/" + absent.String()}); !errors.Is(err, ErrNotFound) {
		t.Errorf("a peer that nobody knows: %v", err)
	}
	if reached, err := off.Connect(within(t), []string{"/p2p/" + off.id.String()}); err != nil || reached.ID != off.id.String() {
		t.Errorf("itself: %v, %v", reached, err)
	}
}

func TestWithoutDiscoveryNothingRunsAndEveryFunctionSaysWhatToSet(t *testing.T) {
	n := startNode(t, func(o *Options) { o.Config.DHT = defaultConfig().DHT }) // enabled, but without bootstrap peers
	if got := n.DiscoveryStatus(); got.DHT.State != "off" || got.MDNS.State != "off" {
		t.Errorf("discovery is %+v", got)
	}
	_, search := n.FindPeers(within(t), "x", 1, func(FoundPeer) {})
	_, lookup := n.FindPeer(within(t), peerID(t))
	for _, err := range []error{search, lookup, n.Advertise(within(t), "x")} {
		if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "dht.bootstrap_peers") {
			t.Errorf("the error is %v", err)
		}
	}
	if err := n.StopAdvertising("x"); err != nil {
		t.Error(err)
	}
}

func TestTheDHTClosesAfterTheVerdictAndOpensAgainWhileItIsUsed(t *testing.T) {
	server := dhtServer(t)
	n := dhtClient(t, server, func(o *Options) { o.Config.DHT.Keep = false })
	waitUntil(t, "it joined", func() bool { return n.DiscoveryStatus().DHT.State == "joined" })
	n.reach.set(ReachPrivate)
	waitUntil(t, "it closed", func() bool { return n.DiscoveryStatus().DHT.State == "closed" })
	if err := n.Advertise(within(t), "weather"); err != nil {
		t.Fatal(err)
	}
	if state := n.DiscoveryStatus().DHT.State; state != "joined" {
		t.Errorf("while it advertises the DHT is %s", state)
	}
	if err := n.StopAdvertising("weather"); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "it closed again", func() bool { return n.DiscoveryStatus().DHT.State == "closed" })
}

func TestANodeThatKnowsItIsPublicStartsNoDHTClient(t *testing.T) {
	server := dhtServer(t)
	n := dhtClient(t, server, func(o *Options) { o.Config.DHT.Keep = false; o.Config.Network.ForcePublic = true })
	if state := n.DiscoveryStatus().DHT.State; state != "closed" {
		t.Errorf("the DHT is %s", state)
	}
}

func TestAnAdvertisementThatNobodyTakesFailsAndLeavesNothing(t *testing.T) {
	server := dhtServer(t)
	n := dhtClient(t, server)
	waitUntil(t, "it joined", func() bool { return n.DiscoveryStatus().DHT.State == "joined" })
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if err := n.Advertise(within(t), "weather"); !errors.Is(err, ErrUnreachable) && !errors.Is(err, ErrTimeout) {
		t.Errorf("advertising ended with %v", err)
	}
	if got := n.DiscoveryStatus().Advertised; len(got) != 0 {
		t.Errorf("advertised is still %v", got)
	}
}

func TestCancellingAnAdvertisementLeavesNothing(t *testing.T) {
	dead := infoOf(startNode(t))
	dead.ID = peerID(t)
	n := startNode(t, func(o *Options) {
		o.Config.DHT = DHTConfig{Enabled: true, Keep: true, Prefix: testPrefix, BootstrapPeers: []peer.AddrInfo{dead}}
	})
	if err := n.Advertise(atOnce(), "weather"); !errors.Is(err, ErrCancelled) {
		t.Errorf("advertising ended with %v", err)
	}
	if got := n.DiscoveryStatus().Advertised; len(got) != 0 {
		t.Errorf("advertised is still %v", got)
	}
}

func TestSearchesRefuseWhatTheyCannotDo(t *testing.T) {
	n := dhtServer(t)
	for name, want := range map[string]error{
		"":                            ErrUnsupported, // needs mDNS
		strings.Repeat("x", 256):      ErrArgument,
		"\xff":                        ErrArgument,
		"a::ps:b::ps:c":               ErrArgument,
		n.id.String() + "::ps:a::dm:": ErrArgument,
	} {
		if _, err := n.FindPeers(within(t), name, 1, func(FoundPeer) {}); !errors.Is(err, want) {
			t.Errorf("searching %.20q: %v, want %v", name, err, want)
		}
	}
	for _, most := range []int{0, -1, MaxFoundPeers + 1} {
		if _, err := n.FindPeers(within(t), "x", most, func(FoundPeer) {}); !errors.Is(err, ErrArgument) {
			t.Errorf("searching for %d peers: %v", most, err)
		}
	}
}

func TestTheSubscribersOfATopicMeetThroughTheDHT(t *testing.T) {
	server := dhtServer(t)
	topics := func(o *Options) { o.Config.DHT.Topics = true }
	a, b := dhtClient(t, server, topics), dhtClient(t, server, topics)
	topic := topicName(a.id, "news")
	for _, n := range []*Node{a, b} {
		if err := n.Subscribe(topic); err != nil {
			t.Fatal(err)
		}
	}
	eventOf(t, a, EventTopicPeerJoined, map[string]any{"channel": topic, "peer": b.id.String()})
	if found := findOne(t, dhtClient(t, server), topic); found.ID != a.id.String() && found.ID != b.id.String() {
		t.Errorf("a search for the topic found %v", found)
	}
}

func TestPeerExchangeIsFollowedOnlyWhereItIsOn(t *testing.T) {
	exchange := func(o *Options) { o.Config.Network.PeerExchange = true }
	hub, on, off, other := startNode(t, exchange), startNode(t, exchange), startNode(t), startNode(t)
	topic := topicName(hub.id, "news")
	for _, n := range []*Node{on, off, other} {
		connect(t, n, hub)
		if err := n.Subscribe(topic); err != nil {
			t.Fatal(err)
		}
	}
	waitUntil(t, "the hub knows the subscribers", func() bool { return len(hub.topics.router.ListPeers(topic)) == 3 })
	// Subscribing takes them into the mesh, leaving prunes them and names the others to each.
	if err := errors.Join(hub.Subscribe(topic), hub.Unsubscribe(topic)); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the one that takes part connected to the others", func() bool {
		return len(on.host.Network().ConnsToPeer(off.id)) > 0 && len(on.host.Network().ConnsToPeer(other.id)) > 0
	})
	if conns := off.host.Network().ConnsToPeer(other.id); len(conns) > 0 {
		t.Errorf("one that does not take part connected too: %v", conns)
	}
}

func TestAnIsolatedNodeKeepsForeignServersOutOfItsTable(t *testing.T) {
	server := dhtServer(t)
	isolated := dhtClient(t, server, func(o *Options) { o.Config.Network.Isolated = true })
	foreign := startForeignDHTServer(t, testPrefix, server)
	waitUntil(t, "the server knows the foreign one", func() bool { return server.DiscoveryStatus().DHT.Peers == 1 })
	waitUntil(t, "it joined", func() bool { return isolated.DiscoveryStatus().DHT.State == "joined" })
	// The look-up makes the isolated node dial the foreign server, whom it expels.
	if _, err := isolated.FindPeer(within(t), peerID(t)); !errors.Is(err, ErrNotFound) {
		t.Errorf("looking for an absent peer: %v", err)
	}
	waitUntil(t, "the foreign server is expelled", func() bool {
		return isolated.found.dht.avoids(foreign) && len(isolated.host.Network().ConnsToPeer(foreign)) == 0
	})
	if got := isolated.DiscoveryStatus().DHT; got.Peers != 1 {
		t.Errorf("the table holds %d peers, want the server alone", got.Peers)
	}
}

func TestClosingEndsEveryGoroutineOfDiscovery(t *testing.T) {
	server := dhtServer(t)
	n := dhtClient(t, server, func(o *Options) {
		o.Config.DHT.Topics = true
		o.Config.MDNS = MDNSConfig{Enabled: true, Service: testService(t)}
	})
	if err := errors.Join(n.Advertise(within(t), "weather"), n.Subscribe(topicName(n.id, "news"))); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = n.FindPeers(t.Context(), "nobody", 1, func(FoundPeer) {}) }()
	waitUntil(t, "the search runs", func() bool { return n.DiscoveryStatus().Running == 1 })
	if err := errors.Join(n.Close(), server.Close()); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "no goroutine of discovery runs", func() bool {
		stacks := allStacks()
		return !strings.Contains(stacks, "go-libp2p-kad-dht") && !strings.Contains(stacks, "zeroconf") && len(ownGoroutines()) == 0
	})
}

func allStacks() string {
	buffer := make([]byte, 8<<20)
	return string(buffer[:runtime.Stack(buffer, true)])
}

func TestTheStoreOfADHTServerIsBounded(t *testing.T) {
	s := newDHTStore()
	put := func(key, owner string) error {
		return s.Put(t.Context(), datastore.NewKey("/providers/"+key+"/"+owner), []byte("time"))
	}
	for i := range maxDHTPeerRecords {
		if err := put(fmt.Sprint(i), "greedy"); err != nil {
			t.Fatal(err)
		}
	}
	if err := put("one more", "greedy"); !errors.Is(err, errStoreFull) {
		t.Errorf("one record above the share of a peer: %v", err)
	}
	if err := errors.Join(put("0", "greedy"), put("0", "modest")); err != nil {
		t.Errorf("a renewal and another peer: %v", err)
	}
	if err := s.Put(t.Context(), datastore.NewKey("/providers/x/y"), make([]byte, maxDHTRecordBytes+1)); !errors.Is(err, errStoreFull) {
		t.Errorf("a huge record: %v", err)
	}
	for prefix, want := range map[string]int{"/providers/0": 2, "/providers": maxDHTPeerRecords + 1, "/prov": 0, "": maxDHTPeerRecords + 1} {
		results, err := s.Query(t.Context(), query.Query{Prefix: prefix})
		if err != nil {
			t.Fatal(err)
		}
		entries, err := results.Rest()
		if err != nil || len(entries) != want {
			t.Errorf("%d records below %q, want %d: %v", len(entries), prefix, want, err)
		}
	}
	if err := s.Delete(t.Context(), datastore.NewKey("/providers/7/greedy")); err != nil {
		t.Fatal(err)
	}
	if err := put("one more", "greedy"); err != nil {
		t.Errorf("after a deletion: %v", err)
	}
}
