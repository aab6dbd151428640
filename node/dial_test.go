package node

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	ma "github.com/multiformats/go-multiaddr"
)

// machineAt10 has one interface on a LAN.
var machineAt10 = []netip.Prefix{netip.MustParsePrefix("10.0.0.5/24")}

// expectDials ranks addresses, shuffled, and compares with lines of "<delay> <address>".
func expectDials(t *testing.T, own []netip.Prefix, want ...string) {
	t.Helper()
	expectDialsFirst(t, dialFirstQUIC, own, want...)
}

func expectDialsFirst(t *testing.T, first string, own []netip.Prefix, want ...string) {
	t.Helper()
	var texts []string
	for _, line := range want {
		texts = append(texts, strings.Fields(line)[1])
	}
	rand.Shuffle(len(texts), func(i, j int) { texts[i], texts[j] = texts[j], texts[i] })
	var got []string
	for _, ranked := range rankDialsFrom(addrsOf(t, texts...), own, first) {
		got = append(got, fmt.Sprintf("%s %s", ranked.Delay, ranked.Addr))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestDialOrderIsQUICThenWebSocketThenTCPThenARelay(t *testing.T) {
	expectDials(t, machineAt10,
		"0s /ip4/11.0.0.1/udp/1/quic-v1",
		"250ms /ip4/11.0.0.1/udp/2/quic-v1/webtransport",
		"500ms /ip4/11.0.0.1/tcp/4/ws",
		"750ms /ip4/11.0.0.1/tcp/3",
		"1s /ip4/127.0.0.1/tcp/3",
		"500ms /ip4/11.0.0.9/udp/1/quic-v1/p2p/"+somePeer+"/p2p-circuit",
		"750ms /ip4/11.0.0.9/tcp/1/p2p/"+somePeer+"/p2p-circuit",
	)
}

func TestTCPIsDialledFirstWhereTheConfigurationSaysSo(t *testing.T) {
	n := startNode(t, func(o *Options) { o.Config.Network.DialFirst = dialFirstTCP })
	if got := n.rankDials(addrsOf(t, "/ip4/127.0.0.1/udp/1/quic-v1", "/ip4/127.0.0.1/tcp/3"))[0].Addr; transportRank(got) != rankTCP {
		t.Errorf("first comes %s", got)
	}
	expectDialsFirst(t, dialFirstTCP, machineAt10,
		"0s /ip4/11.0.0.1/tcp/3",
		"250ms /ip4/11.0.0.1/udp/1/quic-v1",
		"500ms /ip4/11.0.0.1/udp/2/quic-v1/webtransport",
		"750ms /ip4/11.0.0.1/tcp/4/ws",
	)
}

func TestTheSharedLANComesBeforeOtherNetworks(t *testing.T) {
	expectDials(t, machineAt10,
		"0s /ip4/10.0.0.7/udp/1/quic-v1",
		"30ms /ip4/10.0.0.7/tcp/1",
		"60ms /ip4/11.0.0.1/udp/1/quic-v1",
		"310ms /ip4/10.9.0.7/tcp/1",
		"560ms /ip4/127.0.0.1/tcp/1",
	)
}

func TestLoopbackComesFirstWhenThePeerIsOnThisMachine(t *testing.T) {
	expectDials(t, machineAt10,
		"0s /ip4/127.0.0.1/udp/1/quic-v1",
		"30ms /ip4/127.0.0.1/tcp/1",
		"60ms /ip4/10.0.0.5/udp/1/quic-v1",
		"90ms /ip4/10.0.0.5/tcp/1",
		"120ms /ip4/11.0.0.1/tcp/1",
	)
	expectDials(t, machineAt10,
		"0s /ip4/127.0.0.1/tcp/1",
		"500ms /ip4/11.0.0.9/tcp/1/p2p/"+somePeer+"/p2p-circuit",
	)
}

func TestIPv6AndLowPortsComeFirstAndManyAddressesAreDialledTogether(t *testing.T) {
	want := []string{"0s /ip6/2001:db8::1/tcp/9", "250ms /ip4/11.0.0.1/tcp/1", "500ms /ip4/11.0.0.1/tcp/2"}
	for port := 3; port < 20; port++ {
		want = append(want, fmt.Sprintf("750ms /ip4/11.0.0.1/tcp/%d", port))
	}
	expectDials(t, nil, want...)
}

func FuzzEveryAddressIsRankedOnce(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9})
	shapes := []string{"/ip4/10.0.0.%d/tcp/1", "/ip4/127.0.0.1/tcp/%d", "/ip6/::1/udp/%d/quic-v1", "/dns4/a%d.example/tcp/443/wss", "/memory/%d",
		"/ip4/11.0.0.%d/udp/1/webrtc-direct", "/ip4/11.0.0.%d/tcp/1/p2p/" + somePeer + "/p2p-circuit", "/ip4/11.0.0.%d/udp/9/quic-v1/webtransport"}
	f.Fuzz(func(t *testing.T, picks []byte) {
		var addrs []ma.Multiaddr
		for i, pick := range picks {
			addrs = append(addrs, addrsOf(t, fmt.Sprintf(shapes[int(pick)%len(shapes)], i%250+1))...)
		}
		given := map[string]int{}
		for _, addr := range addrs {
			given[addr.String()]++
		}
		for _, ranked := range rankDialsFrom(addrs, machineAt10, dialFirstQUIC) {
			given[ranked.Addr.String()]--
			if ranked.Delay < 0 || ranked.Delay > 30*time.Second {
				t.Errorf("%s waits %s", ranked.Addr, ranked.Delay)
			}
		}
		for addr, left := range given {
			if left != 0 {
				t.Errorf("%s is ranked %d times too seldom", addr, left)
			}
		}
	})
}

// silentAddresses accept connections and never answer.
func silentAddresses(t *testing.T, count int) []ma.Multiaddr {
	t.Helper()
	var addrs []ma.Multiaddr
	for range count {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		addrs = append(addrs, addrsOf(t, fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", l.Addr().(*net.TCPAddr).Port))...)
	}
	return addrs
}

func TestDeadAddressesDoNotHoldUpTheLiveOneAndTheWinnerIsReported(t *testing.T) {
	a, b := startNode(t), startNode(t)
	var texts []string
	for _, dead := range silentAddresses(t, 20) {
		texts = append(texts, dead.String()+"/p2p/"+b.id.String())
	}
	texts = append(texts, b.Addresses()...)
	began := time.Now()
	got, err := a.Connect(within(t), texts)
	if err != nil {
		t.Fatal(err)
	}
	if want := b.Addresses()[0]; got.Addrs[0]+"/p2p/"+b.id.String() != want {
		t.Errorf("reported %v, reached %s", got.Addrs, want)
	}
	// libp2p gives a dead address 5 s. The bound tells that wait from the staggers, which are a hundredth of it.
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestAnAddressThatFailedIsTriedAgainAtOnce(t *testing.T) {
	a, b := startNode(t), startNode(t)
	id, addrs := b.config.IdentityDir, b.host.Network().ListenAddresses()
	texts := b.Addresses()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Connect(within(t), texts); err == nil {
		t.Fatal("connected to a closed node")
	}
	startNode(t, func(o *Options) { o.Config.IdentityDir, o.Config.ListenAddrs = id, addrs })
	if _, err := a.Connect(within(t), texts); err != nil {
		t.Fatal(err)
	}
}

func TestWhatTakesOnlyWebSocketIsReachedBesideTheTCPAddressOfItsPort(t *testing.T) {
	a := startNode(t)
	b := startNode(t, func(o *Options) { o.Config.ListenAddrs = addrsOf(t, "/ip4/127.0.0.1/tcp/0/ws") })
	ws := b.Addresses()[0]
	tcp := strings.Replace(ws, "/ws", "", 1)
	got, err := a.Connect(within(t), []string{tcp, ws})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(got.Addrs[0], "/ws") {
		t.Errorf("dialled %v", got.Addrs)
	}
}
