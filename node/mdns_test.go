package node

import (
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
)

// mdnsNode is a node on loopback, which therefore announces itself on the loopback interface only: these tests need no
// multicast on the machine's network, and send nothing to it.
func mdnsNode(t *testing.T, service string) *Node {
	return startNode(t, func(o *Options) { o.Config.MDNS = MDNSConfig{Enabled: true, Service: service} })
}

// testService keeps tests that run at once apart.
func testService(t *testing.T) string {
	return "_t" + strings.ToLower(peerID(t).String())[10:20] + "._udp"
}

func TestNodesOfOneLANFindEachOther(t *testing.T) {
	service := testService(t)
	a, b := mdnsNode(t, service), mdnsNode(t, service)
	found := findOne(t, a, "")
	if found.ID != b.id.String() || found.Source != SourceMDNS || !slices.Equal(found.Addresses, b.Addresses()) {
		t.Errorf("found %v, want %s at %v", found, b.id, b.Addresses())
	}
	if _, err := a.Connect(within(t), []string{"/p2p/" + b.id.String()}); err != nil {
		t.Errorf("connecting by id: %v", err)
	}
}

func TestANamespaceOnTheLANHoldsOnlyWhoAdvertisesIt(t *testing.T) {
	service := testService(t)
	member, outsider, searcher := mdnsNode(t, service), mdnsNode(t, service), mdnsNode(t, service)
	if err := member.Advertise(within(t), "printers"); err != nil {
		t.Fatal(err)
	}
	if err := outsider.Advertise(within(t), "scanners"); err != nil {
		t.Fatal(err)
	}
	if found := findOne(t, searcher, "printers"); found.ID != member.id.String() {
		t.Errorf("found %v, want %s", found, member.id)
	}
	if found := findOne(t, searcher, "scanners"); found.ID != outsider.id.String() {
		t.Errorf("found %v, want %s", found, outsider.id)
	}
}

func TestLANNetworksOfDifferentServicesDoNotMeet(t *testing.T) {
	t.Parallel()
	a, b := mdnsNode(t, testService(t)), mdnsNode(t, testService(t))
	if _, err := a.FindPeer(within(t), b.id); !errors.Is(err, ErrNotFound) {
		t.Errorf("looking for a node of another network: %v", err)
	}
}

func TestAnnouncementsOfStrangersAreReadWithCare(t *testing.T) {
	id := peerID(t).String()
	for _, texts := range [][]string{
		nil, {""}, {"dnsaddr="}, {"dnsaddr=/ip4/127.0.0.1/tcp/1"}, {"dnsaddr=/p2p/" + id}, {"dnsaddr=\xff\xff"}, {"txtvers=1"},
	} {
		if got := peersOf(texts); len(got) != 0 {
			t.Errorf("%q gave %v", texts, got)
		}
	}
	got := peersOf([]string{"dnsaddr=/ip4/10.0.0.1/tcp/1/p2p/" + id, "broken", "dnsaddr=/ip4/10.0.0.1/udp/2/quic-v1/p2p/" + id})
	if len(got) != 1 || len(got[0].Addrs) != 2 {
		t.Errorf("got %v", got)
	}
}

func TestANodeAnnouncesOnlyOnTheInterfacesItListensOn(t *testing.T) {
	interfaces, err := interfacesOf(addrsOf(t, "/ip4/127.0.0.1/tcp/1"))
	if err != nil || len(interfaces) != 1 || interfaces[0].Flags&net.FlagLoopback == 0 {
		t.Errorf("for a loopback address: %v, %v", interfaces, err)
	}
	if _, err := interfacesOf(addrsOf(t, "/ip4/203.0.113.7/tcp/1")); !errors.Is(err, ErrUnreachable) {
		t.Errorf("for an address of another machine: %v", err)
	}
}

func TestANodeThatClosesLeavesTheLANAtOnce(t *testing.T) {
	t.Parallel()
	service := testService(t)
	a, b := mdnsNode(t, service), mdnsNode(t, service)
	findOne(t, a, "")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.FindPeer(within(t), b.id); !errors.Is(err, ErrNotFound) {
		t.Errorf("looking for a closed node: %v", err)
	}
}
