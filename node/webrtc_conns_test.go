package node

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"peerbus/node/session"
)

func kindsOf(n *Node) (kinds []string) {
	for _, s := range n.WebRTCSessions() {
		kinds = append(kinds, s.Kind+" "+s.State)
	}
	return kinds
}

func TestInitiatingWithARelayedPeerOpensALibp2pConnection(t *testing.T) {
	a, b := startRelayed(t, time.Hour)
	s, err := a.InitiateWebRTC(within(t), b.id)
	if err != nil {
		t.Fatal(err)
	}
	if s.Kind != webrtcConnection || s.State != WebRTCOpen || !s.Offered || s.Path == nil || s.Path.Local.Type != "host" || s.Relayed {
		t.Errorf("it is %+v with path %+v", s, s.Path)
	}
	eventOf(t, a, EventWebRTCChanged, map[string]any{"peer": b.id.String(), "state": WebRTCConnecting, "offered": true})
	eventOf(t, a, EventWebRTCChanged, map[string]any{"peer": b.id.String(), "state": WebRTCOpen, "offered": true})
	eventOf(t, b, EventWebRTCChanged, map[string]any{"peer": a.id.String(), "state": WebRTCOpen, "offered": false})
	for _, n := range []*Node{a, b} {
		if got := fmt.Sprint(kindsOf(n)); got != "[connection open]" {
			t.Errorf("listed are %s", got)
		}
	}
	if counts := a.webrtc.statistics(); counts.Open != 1 || counts.Opened != 1 {
		t.Errorf("counted as %+v", counts)
	}
	if _, err := a.InitiateWebRTC(within(t), b.id); !errors.Is(err, ErrRefused) {
		t.Errorf("a second one: %v", err)
	}
}

func TestARelayedConnectionOfTwoNodesBecomesAWebRTCConnectionByItself(t *testing.T) {
	a, b := startRelayed(t, 300*time.Millisecond)
	waitUntil(t, "both have the direct connection", func() bool { return directTo(a, b) != nil && directTo(b, a) != nil })
	sendAll(t, a, b, []byte("direct"))
	receive(t, b, 1)
}

// TestAHolePunchThatFailsLetsWebRTCBegin plans WebRTC for an hour later.
func TestAHolePunchThatFailsLetsWebRTCBegin(t *testing.T) {
	a, b := startRelayed(t, time.Hour, func(o *Options) { o.Config.NAT.HolePunching = false })
	waitUntil(t, "it is planned", func() bool { return planOf(a, b) != nil })
	a.punches.ended(b.id, wayPunch, 0, "a test says so")
	waitUntil(t, "the connection is direct", func() bool { return directTo(a, b) != nil })
}

// wayOf is the address of the connection that a channel's stream runs on.
func wayOf(n *Node, channel string) string {
	o := n.outbounds.find(channel)
	o.state.Lock()
	defer o.state.Unlock()
	if o.state.stream == nil {
		return ""
	}
	return o.state.stream.Conn().RemoteMultiaddr().String()
}

// TestAnAcknowledgedChannelMovesToWebRTCAndBackToTheRelay does it while messages flow.
func TestAnAcknowledgedChannelMovesToWebRTCAndBackToTheRelay(t *testing.T) {
	a, b := startRelayed(t, time.Hour, limits(func(l *Limits) { l.ChannelMessages = 200 }))
	const count = 10_000
	c := openChannel(t, a, b, "~")
	var sending sync.WaitGroup
	sending.Go(func() { // the receiver's queue holds it up: what is received decides when it goes on
		for i := range count {
			if _, err := c.Send(within(t), number(0, i, 100)); err != nil {
				t.Errorf("message %d: %v", i, err)
				return
			}
		}
	})
	got := receive(t, b, count/3)
	if _, err := a.InitiateWebRTC(within(t), b.id); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the channel takes WebRTC", func() bool { return wayOf(a, c.Name()) == "/webrtc" })
	got = append(got, receive(t, b, count/3)...)
	if !a.CloseWebRTC(b.id) {
		t.Error("there was no WebRTC connection")
	}
	got = append(got, receive(t, b, count-2*(count/3))...)
	sending.Wait()
	expectOrder(t, got, 1, count)
	mustReach(t, c, count, DeliveryTaken)
	waitUntil(t, "the channel is relayed again", func() bool { return a.webrtc.onlyRelayed(b.id) && b.webrtc.onlyRelayed(a.id) })
	mustReach(t, c, mustSend(t, c, number(0, count, 100)), DeliveryAccepted)
	if got := receive(t, b, 1)[0]; got.Protocol != session.Protocol || got.Gap != 0 {
		t.Errorf("the last one came by %s with a gap of %d", got.Protocol, got.Gap)
	}
	expectLosses(t, a, directionOut, map[string]uint64{})
	expectLosses(t, b, directionIn, map[string]uint64{})
	eventOf(t, a, EventWebRTCChanged, map[string]any{"state": WebRTCClosed})
}

func TestTheSideThatDialledThroughTheRelayGoesBackWhenTheOtherOneClosesWebRTC(t *testing.T) {
	a, b := startRelayed(t, time.Hour)
	if _, err := a.InitiateWebRTC(within(t), b.id); err != nil {
		t.Fatal(err)
	}
	for _, c := range a.punches.relayedConns(b.id) { // as happens when it is unused
		_ = c.Close()
	}
	waitUntil(t, "the relayed connection is closed", func() bool {
		return a.punches.relayedConns(b.id) == nil && b.punches.relayedConns(a.id) == nil && directTo(b, a) != nil
	})
	if !b.CloseWebRTC(a.id) {
		t.Error("there was no WebRTC connection")
	}
	waitUntil(t, "the peers are connected through the relay", func() bool { return a.webrtc.onlyRelayed(b.id) && b.webrtc.onlyRelayed(a.id) })
	exchange(t, a, b, 5)
	if a.webrtc.plan(b.id) == nil {
		t.Error("another one is planned although one side has closed it")
	}
}

func TestADisconnectedPeerIsNotDialledAgainThroughTheRelay(t *testing.T) {
	a, b := startRelayed(t, time.Hour)
	if _, err := a.InitiateWebRTC(within(t), b.id); err != nil {
		t.Fatal(err)
	}
	if err := a.Disconnect(b.id); err != nil {
		t.Fatal(err)
	}
	eventOf(t, a, EventWebRTCChanged, map[string]any{"state": WebRTCClosed})
	if a.isConnected(b.id) {
		t.Error("it is connected")
	}
}

func TestADiagnosisNamesTheChosenCandidatesAndWhyWebRTCFailed(t *testing.T) {
	a, b := startRelayed(t, time.Hour, func(o *Options) { o.Config.WebRTC.STUNServers = []string{"stun:127.0.0.1:9"} })
	facts := func() DiagnosedWebRTC {
		d, err := a.Diagnose(within(t))
		if err != nil {
			t.Fatal(err)
		}
		return d.WebRTC.(DiagnosedWebRTC)
	}
	a.webrtc.conns.failed(b.id, true, errors.New("a test says so"))
	if got := facts(); got.LastFailure == nil || got.LastFailure.Peer != b.id.String() || got.Counts.Failed != 1 {
		t.Errorf("it says %+v", got)
	}
	if got := adviceOf(t, a); !slices.Contains(got, AdviceWebRTCFailed) {
		t.Errorf("advice is %v", got)
	}
	if _, err := a.InitiateWebRTC(within(t), b.id); err != nil {
		t.Fatal(err)
	}
	if got := facts(); len(got.Connections) != 1 || got.Connections[0].Path == nil || fmt.Sprint(got.STUNServers) != "[stun:127.0.0.1:9]" {
		t.Errorf("it says %+v", got)
	}
	if got := adviceOf(t, a); slices.Contains(got, AdviceWebRTCFailed) {
		t.Errorf("advice is %v although the connection is direct", got)
	}
}

func TestWebRTCThatIsOffIsAdvisedWhenAPeerIsRelayed(t *testing.T) {
	a, _ := startRelayed(t, time.Hour, func(o *Options) { o.Config.WebRTC.Enabled = false })
	if got := adviceOf(t, a); !slices.Contains(got, AdviceWebRTCOff) {
		t.Errorf("advice is %v", got)
	}
	if a, _ = startRelayed(t, time.Hour); slices.Contains(adviceOf(t, a), AdviceWebRTCOff) {
		t.Error("it is advised although WebRTC is on")
	}
}

func TestADHTWhoseBootstrapPeersAreDeadIsAdvised(t *testing.T) {
	gone := startNode(t)
	dead := infoOf(gone)
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	n := startNode(t, func(o *Options) {
		o.Config.DHT = DHTConfig{Enabled: true, Keep: true, Prefix: testPrefix, BootstrapPeers: []peer.AddrInfo{dead}}
	})
	waitUntil(t, "the attempt has failed", func() bool { return slices.Contains(adviceOf(t, n), AdviceDHTUnreachable) })
	dhtServer(t, func(o *Options) { o.Config.IdentityDir, o.Config.ListenAddrs = gone.config.IdentityDir, dead.Addrs })
	waitUntil(t, "the advice is gone once the bootstrap peer is back", func() bool {
		return n.DiscoveryStatus().DHT.State == "joined" && !slices.Contains(adviceOf(t, n), AdviceDHTUnreachable)
	})
}

func adviceOf(t *testing.T, n *Node) (codes []string) {
	t.Helper()
	d, err := n.Diagnose(within(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, advice := range d.Advice {
		codes = append(codes, advice.Code)
	}
	return codes
}
