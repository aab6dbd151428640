package node

import (
	"net"
	"strings"
	"testing"

	ma "github.com/multiformats/go-multiaddr"
)

// talk connects by one address only and exchanges messages both ways.
func talk(t *testing.T, a, b *Node, address string) {
	t.Helper()
	got, err := a.Connect(within(t), []string{address})
	if err != nil {
		t.Fatal(err)
	}
	if bare, _, _ := strings.Cut(address, "/p2p/"); !strings.HasPrefix(bare, strings.TrimSuffix(got.Addrs[0], "/webtransport")) {
		t.Errorf("dialled %s, answered %v", address, got.Addrs)
	}
	for _, pair := range [][2]*Node{{a, b}, {b, a}} {
		channel := directChannel(pair[0].id, pair[1].id, "~")
		for i, size := range []int{10, 300 << 10} {
			if err := pair[0].SendAndWait(within(t), channel, number(0, i, size)); err != nil {
				t.Fatal(err)
			}
		}
		expectOrder(t, receive(t, pair[1], 2), 1, 2)
	}
}

func everyTransport(o *Options) { o.Config.ListenAddrs = nil }

func TestEveryTransportCarriesMessages(t *testing.T) {
	b := startNode(t, everyTransport)
	seen := map[string]bool{}
	for _, address := range b.Addresses() {
		kind := transportOf(t, address)
		seen[kind] = true
		t.Run(kind, func(t *testing.T) { talk(t, startNode(t, everyTransport), b, address) })
	}
	for _, kind := range []string{"tcp", "ws", "quic-v1", "webtransport", "webrtc-direct"} {
		if !seen[kind] {
			t.Errorf("no address of %s among %v", kind, b.Addresses())
		}
	}
}

// transportOf names the last protocol without an argument.
func transportOf(t *testing.T, address string) string {
	t.Helper()
	addr, err := ma.NewMultiaddr(address)
	if err != nil {
		t.Fatal(err)
	}
	kind := ""
	for _, p := range addr.Protocols() {
		if p.Code != ma.P_P2P && p.Code != ma.P_CERTHASH {
			kind = p.Name
		}
	}
	return kind
}

func TestIPv6ListenersCarryMessages(t *testing.T) {
	if l, err := net.Listen("tcp6", "[::1]:0"); err != nil {
		t.Skip("this machine has no IPv6 loopback: ", err)
	} else {
		_ = l.Close()
	}
	six := func(o *Options) { o.Config.ListenAddrs, o.Config.ListenIPs = nil, []string{"::1"} }
	b := startNode(t, six)
	for _, address := range b.Addresses() {
		if !strings.HasPrefix(address, "/ip6/::1/") {
			t.Errorf("address %s", address)
		}
		t.Run(transportOf(t, address), func(t *testing.T) { talk(t, startNode(t, six), b, address) })
	}
}

func TestWholeListenAddressesAreTaken(t *testing.T) {
	b := startNode(t, func(o *Options) {
		o.Config.ListenAddrs = addrsOf(t, "/ip4/127.0.0.1/tcp/0/ws", "/ip4/127.0.0.1/udp/0/quic-v1")
	})
	if len(b.Addresses()) != 2 {
		t.Errorf("addresses %v", b.Addresses())
	}
	for _, address := range b.Addresses() {
		talk(t, startNode(t, everyTransport), b, address)
	}
}

func TestOwnAddressesComeInOrderAndWithThePeerID(t *testing.T) {
	n := startNode(t, everyTransport)
	last := 0
	for _, address := range n.Addresses() {
		addr, err := ma.NewMultiaddr(address)
		if err != nil {
			t.Fatal(err)
		}
		if rank := transportRank(addr); rank < last {
			t.Errorf("%s comes too late in %v", address, n.Addresses())
		} else {
			last = rank
		}
		if !strings.HasSuffix(address, "/p2p/"+n.id.String()) {
			t.Errorf("address %s", address)
		}
	}
}
