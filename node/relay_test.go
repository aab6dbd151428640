package node

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

func asRelay(o *Options) {
	o.Config.Relay.EnableService = true
	o.Config.Network.ForcePublic = true
}

// hidden is a node that listens nowhere, so that only a relay leads to it.
func hidden(o *Options) {
	o.tune = impatient(func(n *Node) { n.config.ListenAddrs, n.config.ListenIPs = nil, nil })
}

// impatient makes the relay client try again quickly.
func impatient(more ...func(*Node)) func(*Node) {
	return func(n *Node) {
		n.relays.backoff = 10 * time.Millisecond
		for _, f := range more {
			f(n)
		}
	}
}

func infoOf(n *Node) peer.AddrInfo { return peer.AddrInfo{ID: n.id, Addrs: n.host.Addrs()} }

// circuitOf waits for the first own address through the relay.
func circuitOf(t *testing.T, n, relay *Node) string {
	t.Helper()
	found := ""
	waitUntil(t, "there is an address through the relay", func() bool {
		for _, address := range n.Addresses() {
			if strings.Contains(address, "/p2p/"+relay.id.String()+"/p2p-circuit") {
				found = address
			}
		}
		return found != ""
	})
	return found
}

func reserve(t *testing.T, n, relay *Node) time.Time {
	t.Helper()
	if _, err := n.Connect(within(t), relay.Addresses()); err != nil {
		t.Fatal(err)
	}
	expires, err := n.ReserveOnRelay(within(t), relay.id)
	if err != nil {
		t.Fatal(err)
	}
	return expires
}

func hasCircuit(n *Node) bool { return strings.Contains(fmt.Sprint(n.Addresses()), "/p2p-circuit") }

func exchange(t *testing.T, a, b *Node, count int) {
	t.Helper()
	for _, pair := range [][2]*Node{{a, b}, {b, a}} {
		for i := range count {
			if err := pair[0].SendAndWait(within(t), directChannel(pair[0].id, pair[1].id, "~"), number(0, i, 20)); err != nil {
				t.Fatal(err)
			}
		}
		expectOrder(t, receive(t, pair[1], count), 1, count)
	}
}

func TestAReservationGivesAnAddressThatCarriesMessages(t *testing.T) {
	relay, b, a := startNode(t, asRelay), startNode(t, hidden), startNode(t)
	if before := hasCircuit(b); before {
		t.Fatalf("addresses %v", b.Addresses())
	}
	expires := reserve(t, b, relay)
	if left := time.Until(expires); left < 59*time.Minute || left > time.Hour {
		t.Errorf("the reservation lasts %s", left)
	}
	eventOf(t, b, EventRelayReserved, map[string]any{"relay": relay.id.String(), "renewed": false, "expires": FormatExpiry(expires)})
	circuit := circuitOf(t, b, relay)
	eventOf(t, b, EventAddressesChanged, nil)

	got, err := a.Connect(within(t), []string{circuit})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(got.Addrs[0], "/p2p-circuit") {
		t.Errorf("dialled %v", got.Addrs)
	}
	if c := a.host.Network().Connectedness(b.id); c != network.Limited {
		t.Errorf("the connection is %s, not limited", c)
	}
	exchange(t, a, b, 20)
	stats := relay.Statistics().Relay
	if stats.Reservations != 1 || stats.Circuits != 1 || stats.CircuitsOpened != 1 || stats.Bytes == 0 || !stats.Active {
		t.Errorf("the relay counts %+v", stats)
	}
}

func TestTheDiallerSeesARelayedPeer(t *testing.T) {
	relay, b, a := startNode(t, asRelay), startNode(t, hidden), startNode(t)
	reserve(t, b, relay)
	if _, err := a.Connect(within(t), []string{circuitOf(t, b, relay)}); err != nil {
		t.Fatal(err)
	}
	for _, p := range a.Peers() {
		if p.ID == b.id.String() && !p.Relayed {
			t.Errorf("listed as %+v", p)
		}
	}
}

func TestReservationsThatCannotBe(t *testing.T) {
	plain, n := startNode(t), startNode(t)
	off := startNode(t, func(o *Options) { o.Config.Relay.EnableClient = false })
	for name, try := range map[string]struct {
		node  *Node
		relay *Node
		want  error
	}{
		"at itself":                  {n, n, ErrArgument},
		"at a stranger":              {n, plain, ErrNotConnected},
		"without the relay client":   {off, plain, ErrUnsupported},
		"at a node that is no relay": {startConnected(t, plain), plain, ErrRefused},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := try.node.ReserveOnRelay(within(t), try.relay.id); !errors.Is(err, try.want) {
				t.Errorf("got %v, want %v", err, try.want)
			}
		})
	}
}

func startConnected(t *testing.T, to *Node) *Node {
	n := startNode(t)
	connect(t, n, to)
	return n
}

func TestOnlyWhoIsAllowedReserves(t *testing.T) {
	friend, stranger := startNode(t), startNode(t)
	relay := startNode(t, asRelay, func(o *Options) { o.Config.Relay.Allow = []peer.ID{friend.id} })
	reserve(t, friend, relay)
	connect(t, stranger, relay)
	_, err := stranger.ReserveOnRelay(within(t), relay.id)
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "relay.allow") {
		t.Errorf("got %v", err)
	}
	eventOf(t, stranger, EventRelayFailed, map[string]any{"relay": relay.id.String()})
	// The relay answers before it counts.
	waitUntil(t, "the relay counts the refusal", func() bool {
		return relay.Statistics().Relay.Refused["reserve.PERMISSION_DENIED"] == 1
	})
}

func TestATokenOpensTheRelay(t *testing.T) {
	withToken := func(token string) func(*Options) { return func(o *Options) { o.Config.Relay.Token = token } }
	relay := startNode(t, asRelay, withToken("open sesame"))
	for token, want := range map[string]error{"open sesame": nil, "open barley": ErrRefused, "": ErrRefused} {
		n := startNode(t, withToken(token))
		connect(t, n, relay)
		if _, err := n.ReserveOnRelay(within(t), relay.id); !errors.Is(err, want) {
			t.Errorf("with the token %q: %v, want %v", token, err, want)
		}
	}
}

func TestAReservationIsRenewedBeforeItEnds(t *testing.T) {
	relay := startNode(t, asRelay, func(o *Options) { o.Config.Relay.Reservation = 4 * time.Second })
	b := startNode(t, hidden)
	first := reserve(t, b, relay)
	eventOf(t, b, EventRelayReserved, map[string]any{"renewed": false})
	renewed := eventOf(t, b, EventRelayReserved, map[string]any{"renewed": true})
	if renewed.Fields["expires"].(string) <= FormatExpiry(first) || !renewed.Time.Before(first) {
		t.Errorf("renewed at %s until %v, the first one ended at %s", renewed.Time, renewed.Fields["expires"], first)
	}
	if !hasCircuit(b) {
		t.Error("no address through the relay any more")
	}
}

func TestAReservationComesBackWithItsRelayAndChatGoesOn(t *testing.T) {
	relay, a, b := startNode(t, asRelay), startNode(t, hidden), startNode(t, hidden)
	reserve(t, b, relay)
	circuit := circuitOf(t, b, relay)
	if _, err := a.Connect(within(t), []string{circuit}); err != nil {
		t.Fatal(err)
	}
	exchange(t, a, b, 5)
	eventOf(t, b, EventRelayReserved, nil)
	addrs := relay.host.Network().ListenAddresses()
	if err := relay.Close(); err != nil {
		t.Fatal(err)
	}
	eventOf(t, b, EventRelayLost, map[string]any{"relay": relay.id.String()})
	waitUntil(t, "the address is withdrawn", func() bool { return !hasCircuit(b) })
	eventOf(t, b, EventRelayFailed, map[string]any{"relay": relay.id.String()})

	again := startNode(t, asRelay, func(o *Options) { o.Config.IdentityDir, o.Config.ListenAddrs = relay.config.IdentityDir, addrs })
	eventOf(t, b, EventRelayReserved, map[string]any{"relay": again.id.String(), "renewed": false})
	circuitOf(t, b, again)
	if _, err := a.Connect(within(t), []string{circuit}); err != nil {
		t.Fatal(err)
	}
	exchange(t, a, b, 5)
}

func TestStaticRelaysServeOneAtATimeAndStandInForEachOther(t *testing.T) {
	first, second := startNode(t, asRelay), startNode(t, asRelay)
	b := startNode(t, hidden, func(o *Options) { o.Config.Relay.StaticRelays = []peer.AddrInfo{infoOf(first), infoOf(second)} })
	circuitOf(t, b, first)
	if strings.Contains(fmt.Sprint(b.Addresses()), second.id.String()) {
		t.Errorf("both relays are used: %v", b.Addresses())
	}
	if len(b.Peers()) != 0 {
		t.Errorf("a relay is listed as an application peer: %v", b.Peers())
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	circuitOf(t, b, second)
	if strings.Contains(fmt.Sprint(b.Addresses()), first.id.String()) {
		t.Errorf("the address through the lost relay is still there: %v", b.Addresses())
	}
}

func TestAnIsolatedNodeKeepsItsRelay(t *testing.T) {
	relay := startNode(t, asRelay)
	relay.host.RemoveStreamHandler(ChatProtocol)
	b := startNode(t, hidden, func(o *Options) {
		o.Config.Network.Isolated = true
		o.Config.Relay.StaticRelays = []peer.AddrInfo{infoOf(relay)}
	})
	circuitOf(t, b, relay)
	if b.host.Network().Connectedness(relay.id) != network.Connected {
		t.Error("the relay was expelled")
	}
}

func TestAnotherStaticRelayTakesThePlace(t *testing.T) {
	first, second, plain := startNode(t, asRelay), startNode(t, asRelay), startNode(t)
	b := startNode(t, hidden, func(o *Options) { o.Config.Relay.StaticRelays = []peer.AddrInfo{infoOf(first)} })
	circuitOf(t, b, first)
	if _, err := b.StartStaticRelay(within(t), infoOf(plain)); !errors.Is(err, ErrRefused) {
		t.Fatalf("a node that is no relay: %v", err)
	}
	circuitOf(t, b, first)
	if _, err := b.StartStaticRelay(within(t), infoOf(second)); err != nil {
		t.Fatal(err)
	}
	circuitOf(t, b, second)
	eventOf(t, b, EventRelayLost, map[string]any{"relay": first.id.String()})
	if strings.Contains(fmt.Sprint(b.Addresses()), first.id.String()) {
		t.Errorf("addresses %v", b.Addresses())
	}
}

func TestDisconnectingFromARelayEndsItsReservation(t *testing.T) {
	relay, b := startNode(t, asRelay), startNode(t, hidden)
	reserve(t, b, relay)
	circuitOf(t, b, relay)
	if err := b.Disconnect(relay.id); err != nil {
		t.Fatal(err)
	}
	eventOf(t, b, EventRelayLost, map[string]any{"relay": relay.id.String()})
	if hasCircuit(b) || b.host.Network().Connectedness(relay.id) != network.NotConnected {
		t.Errorf("addresses %v", b.Addresses())
	}
}

func TestAnAddressThroughARelayStandsBesideOthers(t *testing.T) {
	got := fmt.Sprint(preferRoutable(addrsOf(t, "/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.1/tcp/1",
		"/ip4/127.0.0.1/tcp/2/p2p/"+somePeer+"/p2p-circuit")))
	if want := fmt.Sprint(addrsOf(t, "/ip4/10.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/2/p2p/"+somePeer+"/p2p-circuit")); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestCircuitAddressesAreBoundedAndClean(t *testing.T) {
	relay, err := peer.Decode(somePeer)
	if err != nil {
		t.Fatal(err)
	}
	tail := "/p2p/" + somePeer
	var given []ma.Multiaddr
	for i := range 100 {
		given = append(given, addrsOf(t, fmt.Sprintf("/ip4/10.0.0.1/tcp/%d", i+1), fmt.Sprintf("/ip4/10.0.0.1/tcp/%d%s", i+1, tail))...)
	}
	given = append(given, addrsOf(t, "/ip4/0.0.0.0/tcp/1", "/ip4/10.0.0.9/tcp/1"+tail+"/p2p-circuit")...)
	got := circuitsThrough(relay, given)
	if len(got) != maxCircuitAddresses || got[0].String() != "/ip4/10.0.0.1/tcp/1"+tail+"/p2p-circuit" || got[1].String() != "/ip4/10.0.0.1/tcp/2"+tail+"/p2p-circuit" {
		t.Errorf("got %v", got)
	}
}

func TestAnnouncedAddressesAreTold(t *testing.T) {
	n := startNode(t, func(o *Options) { o.Config.AnnounceAddrs = addrsOf(t, "/ip4/11.0.0.7/tcp/4001") })
	if got := n.Addresses(); len(got) != 1 || !strings.HasPrefix(got[0], "/ip4/11.0.0.7/tcp/4001/p2p/") {
		t.Errorf("addresses %v", got)
	}
}

func TestBackoffGrowsAndIsBounded(t *testing.T) {
	b := backoff{first: relayBackoff}
	for i := range 40 {
		pause, want := b.next(), min(relayBackoff<<min(i, 16), maxRelayBackoff)
		if pause < want*7/8 || pause > want*9/8+1 {
			t.Errorf("pause %d is %s, want about %s", i, pause, want)
		}
	}
}

func TestATopicIsNotSilentlyMissingOnALimitedConnection(t *testing.T) {
	relay, a, b := startNode(t, asRelay), startNode(t, hidden), startNode(t, hidden)
	reserve(t, b, relay)
	if err := a.host.Network().ClosePeer(relay.id); err != nil {
		t.Fatal(err)
	}
	name := topicName(a.id, "news")
	if err := b.Subscribe(name); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Connect(within(t), []string{circuitOf(t, b, relay)}); err != nil {
		t.Fatal(err)
	}
	eventOf(t, a, EventPeerConnected, map[string]any{"peer": b.id.String(), "relayed": true, "limited": true})
	_, err := a.Publish(within(t), name, []byte("unheard"))
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "carries no topics") {
		t.Errorf("got %v", err)
	}
	expectLosses(t, a, directionOut, map[string]uint64{lossNoPeers: 1})
}

func TestAMessageThatIsTooLargeForALimitedConnectionIsLostAfterTheResumeWindow(t *testing.T) {
	relay, a, b := startNode(t, asRelay), startNode(t, hidden, func(o *Options) { o.Config.Channel.ResumeWindow = time.Second }), startNode(t, hidden)
	reserve(t, b, relay)
	if _, err := a.Connect(within(t), []string{circuitOf(t, b, relay)}); err != nil {
		t.Fatal(err)
	}
	exchange(t, a, b, 3)
	channel := directChannel(a.id, b.id, "~")
	if err := a.Send(within(t), channel, make([]byte, 300_000)); err != nil {
		t.Fatal(err)
	}
	eventOf(t, a, EventMessagesLost, map[string]any{"direction": directionOut, "channel": channel, "peer": b.id.String()})
	if err := a.Send(within(t), channel, number(7, 0, 20)); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, b, 1)[0]; len(got.Data) != 20 {
		t.Errorf("%d bytes came", len(got.Data))
	}
	if lost := sum(a.losses.totals()[directionOut]); lost != 1 {
		t.Errorf("%d messages were lost: %v", lost, a.losses.totals())
	}
}

func TestARelayWithoutLimitsCarriesTopics(t *testing.T) {
	a, b, _ := relayedPair(t)
	name := topicName(a.id, "news")
	if err := b.Subscribe(name); err != nil {
		t.Fatal(err)
	}
	if err := a.Subscribe(name); err != nil {
		t.Fatal(err)
	}
	eventOf(t, a, EventTopicPeerJoined, map[string]any{"peer": b.id.String()})
	if reached, err := a.Publish(within(t), name, []byte("heard")); err != nil || reached.Peers != 1 {
		t.Fatal(reached, err)
	}
	if got := receive(t, b, 1); string(got[0].Data) != "heard" {
		t.Errorf("received %q", got[0].Data)
	}
}

func TestAReservationThatIsNotRenewedIsLostAtItsEnd(t *testing.T) {
	relay := startNode(t, asRelay, func(o *Options) { o.Config.Relay.Reservation = 3 * time.Second })
	b := startNode(t, hidden)
	expires := reserve(t, b, relay)
	relay.relay.close() // it stays connected, and refuses from now on
	eventOf(t, b, EventRelayFailed, map[string]any{"relay": relay.id.String()})
	lost := eventOf(t, b, EventRelayLost, map[string]any{"relay": relay.id.String()})
	if lost.Time.Before(expires) {
		t.Errorf("lost at %s, before its end at %s", lost.Time, expires)
	}
	if hasCircuit(b) {
		t.Errorf("addresses %v", b.Addresses())
	}
}

func TestChatGoesOnWhenTheRelayIsChanged(t *testing.T) {
	first, second := startNode(t, asRelay), startNode(t, asRelay)
	a, b := startNode(t, hidden), startNode(t, hidden)
	reserve(t, b, first)
	if _, err := a.Connect(within(t), []string{circuitOf(t, b, first)}); err != nil {
		t.Fatal(err)
	}
	exchange(t, a, b, 5)
	if _, err := b.StartStaticRelay(within(t), infoOf(second)); err != nil {
		t.Fatal(err)
	}
	circuitOf(t, b, second)
	waitUntil(t, "a hears of the address through the second relay", func() bool {
		return strings.Contains(fmt.Sprint(a.host.Peerstore().Addrs(b.id)), second.id.String())
	})
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the old way is gone", func() bool { // a channel may be on its way by the second relay already
		return !slices.ContainsFunc(a.host.Network().ConnsToPeer(b.id), func(c network.Conn) bool {
			return strings.Contains(c.RemoteMultiaddr().String(), first.id.String())
		})
	})
	if err := a.SendAndWait(within(t), directChannel(a.id, b.id, "~"), number(0, 0, 20)); err != nil {
		t.Fatal(err)
	}
	expectOrder(t, receive(t, b, 1), 1, 1)
	exchange(t, a, b, 5)
}

func TestOnlyWebSocketOnPort443IsTriedAloneFirst(t *testing.T) {
	for address, want := range map[string]bool{
		"/dns4/relay.example/tcp/443/wss":      true,
		"/ip4/192.0.2.1/tcp/443/tls/ws":        true,
		"/ip4/192.0.2.1/tcp/443":               false,
		"/ip4/192.0.2.1/tcp/4001/ws":           false,
		"/ip4/192.0.2.1/udp/443/quic-v1":       false,
		"/ip4/192.0.2.1/udp/443/webrtc-direct": false,
	} {
		if got := passesFirewalls(addrsOf(t, address)[0]); got != want {
			t.Errorf("%s: %t", address, got)
		}
	}
}

func TestARelayIsReachedWhenItsPreferredAddressIsDead(t *testing.T) {
	relay, n := startNode(t, asRelay), startNode(t)
	info := infoOf(relay)
	info.Addrs = append(addrsOf(t, "/ip4/127.0.0.1/tcp/443/ws"), info.Addrs...)
	if _, err := n.StartStaticRelay(within(t), info); err != nil {
		t.Fatal(err)
	}
	circuitOf(t, n, relay)
}

func TestARelayReachedByWebRTCDirectIsAnnouncedWithItsCertificate(t *testing.T) {
	byWebRTCDirect := func(o *Options) {
		o.Config.ListenAddrs, o.Config.WebRTC.Enabled = addrsOf(t, "/ip4/127.0.0.1/udp/0/webrtc-direct"), true
	}
	relay, n := startNode(t, asRelay, byWebRTCDirect), startNode(t, byWebRTCDirect)
	reserve(t, n, relay)
	circuits := n.relays.circuitAddresses()
	if len(circuits) == 0 {
		t.Fatal("no addresses through the relay")
	}
	for _, addr := range circuits {
		if !hasProtocol(addr, ma.P_CERTHASH) {
			t.Errorf("nobody can dial %s", addr)
		}
	}
	c := n.host.Network().ConnsToPeer(relay.id)[0]
	if !lacksCertificate(c.RemoteMultiaddr()) {
		t.Fatalf("libp2p gives %s by now", c.RemoteMultiaddr())
	}
	n.peers.rememberDialled(c)
	if known := n.host.Peerstore().Addrs(relay.id); slices.ContainsFunc(known, lacksCertificate) {
		t.Errorf("known are %v", known)
	}
}
