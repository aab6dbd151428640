package node

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

func TestConnectionsAreListedAndReportedOnBothSides(t *testing.T) {
	a, b := startPair(t)
	for _, c := range []struct {
		n         *Node
		other     peer.ID
		direction string
	}{{a, b.id, "outbound"}, {b, a.id, "inbound"}} {
		eventOf(t, c.n, EventPeerConnected, map[string]any{"peer": c.other.String(), "direction": c.direction, "relayed": false})
		known := c.n.Peers()
		if len(known) != 1 || known[0].ID != c.other.String() || known[0].Direction != c.direction || len(known[0].Addrs) == 0 {
			t.Errorf("listed %+v", known)
		}
		if text := strings.Join(known[0].Addrs, " "); strings.Contains(text, "/p2p/") {
			t.Errorf("addresses %s", text)
		}
		if _, err := time.Parse(time.RFC3339, known[0].ConnectedAt); err != nil {
			t.Error(err)
		}
	}
}

func TestConnectAnswersTheAddressThatWasDialled(t *testing.T) {
	a, b := startNode(t), startNode(t)
	wrong := "/ip4/127.0.0.1/tcp/1/p2p/" + b.id.String()
	got, err := a.Connect(within(t), append([]string{wrong, "no multiaddr"}, b.Addresses()...))
	if want := strings.TrimSuffix(b.Addresses()[0], "/p2p/"+b.id.String()); err != nil || got.ID != b.id.String() || !slices.Equal(got.Addrs, []string{want}) {
		t.Errorf("answered %+v, %v; want %s", got, err, want)
	}
	if again, err := a.Connect(within(t), b.Addresses()); err != nil || !slices.Equal(again.Addrs, got.Addrs) {
		t.Errorf("connecting again answered %+v, %v", again, err)
	}
	if self, err := a.Connect(within(t), a.Addresses()); err != nil || self.ID != a.id.String() {
		t.Errorf("connecting to itself answered %+v, %v", self, err)
	}
}

func TestConnectErrors(t *testing.T) {
	a, thirdPeer := startNode(t), peerID(t)
	for name, c := range map[string]struct {
		addrs []string
		want  error
	}{
		"no address":     {nil, ErrArgument},
		"no multiaddr":   {[]string{"hello"}, ErrArgument},
		"no peer id":     {[]string{"/ip4/127.0.0.1/tcp/1"}, ErrArgument},
		"unknown peer":   {[]string{"/p2p/" + thirdPeer.String()}, ErrUnsupported}, // discovery is off
		"two peers":      {[]string{"/ip4/127.0.0.1/tcp/1/p2p/" + somePeer, "/ip4/127.0.0.1/tcp/1/p2p/" + anotherPeer}, ErrArgument},
		"too many":       {slices.Repeat([]string{"/ip4/127.0.0.1/tcp/1/p2p/" + somePeer}, MaxConnectAddresses+1), ErrArgument},
		"nobody listens": {[]string{"/ip4/127.0.0.1/tcp/1/p2p/" + somePeer}, ErrUnreachable},
	} {
		if _, err := a.Connect(within(t), c.addrs); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestADisconnectionLastsAlthoughTheOtherRedials(t *testing.T) {
	a, b := startPair(t)
	if err := a.Send(within(t), directChannel(a.id, b.id, "~"), []byte("x")); err != nil {
		t.Fatal(err)
	}
	receive(t, b, 1)
	addrs := a.Addresses()
	lasts := time.Now().Add(redialRefusal)
	if err := a.Disconnect(b.id); err != nil {
		t.Fatal(err)
	}
	if lists(a, b.id) || a.host.Network().Connectedness(b.id) != network.NotConnected {
		t.Error("still connected")
	}
	if known := a.host.Peerstore().Addrs(b.id); len(known) > 0 {
		t.Errorf("not forgotten: %v", known)
	}
	eventOf(t, a, EventPeerDisconnected, map[string]any{"peer": b.id.String()})
	waitUntil(t, "the other side notices", func() bool { return b.host.Network().Connectedness(a.id) == network.NotConnected })
	for {
		if _, err := b.Connect(within(t), addrs); err == nil {
			break
		}
	}
	if early := time.Until(lasts); early > 0 {
		t.Errorf("it came back %s too early", early)
	}
	waitUntil(t, "both list each other again", func() bool { return lists(a, b.id) && lists(b, a.id) })
}

func TestTheSideThatDisconnectedMayReconnectAtOnce(t *testing.T) {
	a, b := startPair(t)
	for range 5 {
		addrs := b.Addresses()
		if err := a.Disconnect(b.id); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Connect(within(t), addrs); err != nil {
			t.Fatal(err)
		}
		// The end of the old connection may be reported only now.
		if err := a.SendAndWait(within(t), directChannel(a.id, b.id, "~"), []byte("x")); err != nil {
			t.Fatal(err)
		}
		receive(t, b, 1)
		if !lists(a, b.id) {
			t.Fatal("not listed")
		}
	}
	a.peers.state.Lock()
	defer a.peers.state.Unlock()
	if entry := a.peers.state.byID[b.id]; len(entry.connections) != len(a.host.Network().ConnsToPeer(b.id)) || entry.lost != nil {
		t.Errorf("the table holds %+v", entry)
	}
}

func TestDisconnectingNobodySucceeds(t *testing.T) {
	a := startNode(t)
	if err := errors.Join(a.Disconnect(a.id), a.Disconnect(mustID(t, somePeer))); err != nil {
		t.Error(err)
	}
}

func TestTakenMessagesLeaveBeforeADisconnection(t *testing.T) {
	const count = 500
	a, b := startPair(t, limits(func(l *Limits) { l.ChannelMessages = count }))
	for i := range count {
		if err := a.Send(within(t), directChannel(a.id, b.id, "~"), number(0, i, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Disconnect(b.id); err != nil {
		t.Fatal(err)
	}
	expectOrder(t, receive(t, b, count), 1, count)
	expectLosses(t, a, directionOut, map[string]uint64{})
}

func setGrace(n *Node, grace time.Duration) {
	n.peers.state.Lock()
	defer n.peers.state.Unlock()
	n.peers.grace = grace
}

// cutConnections ends them without this package's doing, like a network that fails.
func cutConnections(t *testing.T, n *Node, id peer.ID) {
	t.Helper()
	if err := n.host.Network().ClosePeer(id); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the connection has ended", func() bool { return n.host.Network().Connectedness(id) == network.NotConnected })
}

func TestAPeerThatReturnsInTimeWasNeverGone(t *testing.T) {
	a, b := startPair(t)
	cutConnections(t, a, b.id)
	if !lists(a, b.id) {
		t.Error("a lost peer left the list at once")
	}
	if _, err := a.Connect(within(t), b.Addresses()); err != nil {
		t.Fatal(err)
	}
	setGrace(a, time.Millisecond) // a later loss is reported: it is the first such event
	cutConnections(t, a, b.id)
	eventOf(t, a, EventPeerConnected, map[string]any{"peer": b.id.String()})
	for {
		if e := eventOf(t, a, "", nil); e.Type == EventPeerDisconnected {
			break
		}
	}
	if lists(a, b.id) {
		t.Error("a peer that is gone is listed")
	}
}

func TestAPeerThatDoesNotReturnIsReportedAfterTheGrace(t *testing.T) {
	a, b := startPair(t)
	setGrace(a, 50*time.Millisecond)
	cutConnections(t, b, a.id)
	eventOf(t, a, EventPeerDisconnected, map[string]any{"peer": b.id.String()})
	if lists(a, b.id) {
		t.Error("a peer that is gone is listed")
	}
}

func TestAnEarlierLossDoesNotExpireALaterOne(t *testing.T) {
	n := offlineNode(t, somePeer)
	id := mustID(t, anotherPeer)
	entry := &peerEntry{application: true, lost: time.NewTimer(time.Hour), losses: 2}
	n.peers.state.byID[id] = entry
	n.peers.expire(id, entry, 1)
	if n.peers.state.byID[id] == nil {
		t.Error("expired")
	}
	n.peers.expire(id, entry, 2)
	if n.peers.state.byID[id] != nil {
		t.Error("not expired")
	}
}

func TestPeersThatSpeakNeitherProtocolAreNotListed(t *testing.T) {
	n := startNode(t)
	dialRaw(t, startRawHost(t), n)
	waitUntil(t, "the host is connected", func() bool { return n.Statistics().Conns == 1 })
	if known := n.Peers(); len(known) != 0 {
		t.Errorf("listed %+v", known)
	}
}

func TestAPeerThatOnlySpeaksChatIsListed(t *testing.T) {
	n := startNode(t)
	h := startRawHost(t)
	h.SetStreamHandler(ChatProtocol, func(s network.Stream) {})
	if _, err := n.Connect(within(t), []string{fmt.Sprintf("%s/p2p/%s", h.Addrs()[0], h.ID())}); err != nil {
		t.Fatal(err)
	}
	if !lists(n, h.ID()) {
		t.Error("not listed")
	}
}

func TestAConnectionWithoutAHelloIsStillAConnection(t *testing.T) {
	n := startNode(t)
	h := startRawHost(t)
	h.SetStreamHandler(HelloProtocol, func(s network.Stream) { _ = s.Reset() })
	if _, err := n.Connect(within(t), []string{fmt.Sprintf("%s/p2p/%s", h.Addrs()[0], h.ID())}); err != nil {
		t.Error(err)
	}
}

func TestAnIsolatedNodeExpelsForeigners(t *testing.T) {
	isolated := startNode(t, func(o *Options) { o.Config.Network.Isolated = true })
	foreign, friend := startRawHost(t), startNode(t)
	_ = foreign.Connect(within(t), peer.AddrInfo{ID: isolated.id, Addrs: isolated.host.Addrs()})
	waitUntil(t, "the foreigner is expelled", func() bool {
		return foreign.Network().Connectedness(isolated.id) == network.NotConnected
	})
	connect(t, friend, isolated)
	if err := friend.SendAndWait(within(t), directChannel(friend.id, isolated.id, "~"), []byte("x")); err != nil {
		t.Fatal(err)
	}
	receive(t, isolated, 1)
	waitUntil(t, "the foreigner is forgotten", func() bool { return len(isolated.host.Peerstore().Addrs(foreign.ID())) == 0 })
}

func TestOnePeerMayNotHoldMoreConnectionsThanAllowed(t *testing.T) {
	const allowed = 2
	n := startNode(t, limits(func(l *Limits) { l.PeerConnections = allowed }))
	key := newKey(t, crypto.Ed25519)
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	// One host holds one connection, so the peer is several hosts with the same key.
	for i := range 3 * allowed {
		h := startRawHost(t, libp2p.Identity(key))
		_ = h.Connect(within(t), peer.AddrInfo{ID: n.id, Addrs: n.host.Addrs()})
		if got := len(n.host.Network().ConnsToPeer(id)); got > allowed || i < allowed && got != i+1 {
			t.Errorf("%d connections after %d dials", got, i+1)
		}
	}
}

// A protocol that is added later may be missing at a peer for good, see announceProtocols.
func TestEveryProtocolIsAnnouncedFromTheStart(t *testing.T) {
	for name, flood := range map[string]bool{"gossip": false, "floodsub": true} {
		t.Run(name, func(t *testing.T) {
			n := startNode(t, func(o *Options) { o.Config.Network.FloodSub = flood })
			announced := n.protocols()
			for _, id := range n.host.Mux().Protocols() {
				own := !strings.HasPrefix(string(id), "/ipfs/") && !strings.HasPrefix(string(id), "/libp2p/")
				if own && !slices.Contains(announced, id) {
					t.Errorf("%s is served, but Node.protocols does not list it", id)
				}
			}
			for _, id := range announced {
				if !slices.Contains(n.host.Mux().Protocols(), id) {
					t.Errorf("%s is announced, but not served", id)
				}
			}
		})
	}
}

func TestAPeerWhoseProtocolsAreNotKnownIsAskedForHello(t *testing.T) {
	a, b := startNode(t), startNode(t)
	if err := a.host.Connect(within(t), peer.AddrInfo{ID: b.id, Addrs: b.host.Addrs()}); err != nil {
		t.Fatal(err)
	}
	a.awaitIdentify(within(t), b.id)
	if err := a.host.Peerstore().SetProtocols(b.id); err != nil {
		t.Fatal(err)
	}
	if lists(a, b.id) || lists(b, a.id) {
		t.Fatal("listed although no program asked for the connection")
	}
	connect(t, a, b)
}
