package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	circuit "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	ma "github.com/multiformats/go-multiaddr"

	"peerbus/node/webrtc"
	"peerbus/node/webrtctransport"
)

// openWebRTC opens a session and waits until both sides have it.
func openWebRTC(t testing.TB, a, b *Node) {
	t.Helper()
	if _, err := a.InitiateWebRTC(within(t), b.id); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "both have the session", func() bool { return a.webrtc.writable(b.id) != nil && b.webrtc.writable(a.id) != nil })
}

func sendAll(t testing.TB, from, to *Node, payloads ...[]byte) {
	t.Helper()
	for _, payload := range payloads {
		if err := from.Send(within(t), directChannel(from.id, to.id, "x"), payload); err != nil {
			t.Fatal(err)
		}
	}
}

func stateOf(n *Node, id peer.ID) string {
	for _, s := range n.WebRTCSessions() {
		if s.Peer == id.String() {
			return s.State
		}
	}
	return ""
}

func TestMessagesTravelOnAnOpenWebRTCSession(t *testing.T) {
	a, b := startPair(t, overChat)
	openWebRTC(t, a, b)
	large := bytes.Repeat([]byte("0123456789"), 300_000)
	for _, pair := range [][2]*Node{{a, b}, {b, a}} {
		from, to := pair[0], pair[1]
		sendAll(t, from, to, []byte("small"), large, []byte("last"))
		got := receive(t, to, 3)
		for i, want := range [][]byte{[]byte("small"), large, []byte("last")} {
			if !bytes.Equal(got[i].Data, want) || got[i].From != from.id.String() || got[i].Protocol != WebRTCProtocol {
				t.Errorf("message %d is %d bytes from %s by %s", i, len(got[i].Data), got[i].From, got[i].Protocol)
			}
		}
	}
	session := a.WebRTCSessions()[0]
	if session.State != WebRTCOpen || !session.Offered || session.Path == nil || session.Relayed || session.Path.Local.Type != "host" {
		t.Errorf("the session is described as %+v", session)
	}
	if stats := a.Statistics().WebRTC; stats.Open != 1 || stats.Opened != 1 {
		t.Errorf("counted as %+v", stats)
	}
}

func TestAWebRTCSessionTellsItsStatesAsEvents(t *testing.T) {
	a, b := startPair(t, overChat)
	openWebRTC(t, a, b)
	eventOf(t, a, EventWebRTCChanged, map[string]any{"peer": b.id.String(), "state": WebRTCConnecting, "offered": true})
	open := eventOf(t, a, EventWebRTCChanged, map[string]any{"peer": b.id.String(), "state": WebRTCOpen})
	if local := open.Fields["local"].(webrtc.Candidate); !strings.HasPrefix(local.Address, "127.0.0.1:") {
		t.Errorf("the own candidate is %+v", local)
	}
	eventOf(t, b, EventWebRTCChanged, map[string]any{"state": WebRTCOpen, "offered": false})
	if !a.CloseWebRTC(b.id) {
		t.Error("there was no session to close")
	}
	eventOf(t, a, EventWebRTCChanged, map[string]any{"state": WebRTCClosed})
	eventOf(t, b, EventWebRTCChanged, map[string]any{"state": WebRTCClosed})
	if a.CloseWebRTC(b.id) {
		t.Error("a closed session was closed again")
	}
}

func TestInitiatingIsRefusedWhenThereIsASessionOrNoConnection(t *testing.T) {
	a, b := startPair(t, overChat)
	openWebRTC(t, a, b)
	if _, err := a.InitiateWebRTC(within(t), b.id); !errors.Is(err, ErrRefused) {
		t.Errorf("a second one: %v", err)
	}
	if _, err := b.InitiateWebRTC(within(t), a.id); !errors.Is(err, ErrRefused) {
		t.Errorf("a second one of the other side: %v", err)
	}
	if _, err := a.InitiateWebRTC(within(t), a.id); !errors.Is(err, ErrArgument) {
		t.Errorf("with itself: %v", err)
	}
	stranger := startNode(t)
	if _, err := a.InitiateWebRTC(within(t), stranger.id); !errors.Is(err, ErrNotConnected) {
		t.Errorf("with a stranger: %v", err)
	}
	off := startNode(t, func(o *Options) { o.Config.WebRTC.Enabled = false })
	connect(t, off, a)
	if _, err := off.InitiateWebRTC(within(t), a.id); !errors.Is(err, ErrUnsupported) {
		t.Errorf("switched off: %v", err)
	}
	if _, err := a.InitiateWebRTC(within(t), off.id); err == nil || errors.Is(err, ErrTimeout) {
		t.Errorf("with a peer that has it switched off: %v", err)
	}
}

func TestBothOfferingAtOnceGivesOneSession(t *testing.T) {
	for i := range 20 {
		t.Run(fmt.Sprint(i), bothOffer) // whose nodes end with it
	}
}

func bothOffer(t *testing.T) {
	a, b := startPair(t, overChat)
	var group sync.WaitGroup
	for _, pair := range [][2]*Node{{a, b}, {b, a}} {
		group.Go(func() {
			if _, err := pair[0].InitiateWebRTC(within(t), pair[1].id); err != nil && !errors.Is(err, ErrRefused) {
				t.Error(err)
			}
		})
	}
	group.Wait()
	waitUntil(t, "both have the session", func() bool { return a.webrtc.writable(b.id) != nil && b.webrtc.writable(a.id) != nil })
	sendAll(t, a, b, []byte("there"))
	sendAll(t, b, a, []byte("back"))
	if got := receive(t, b, 1)[0]; got.Protocol != WebRTCProtocol {
		t.Errorf("a message came by %s", got.Protocol)
	}
	receive(t, a, 1)
	if a.Statistics().WebRTC.Open != 1 || b.Statistics().WebRTC.Open != 1 {
		t.Errorf("%+v, %+v", a.Statistics().WebRTC, b.Statistics().WebRTC)
	}
}

func TestMessagesKeepTheirOrderWhenASessionOpensAndCloses(t *testing.T) {
	a, b := startPair(t, overChat, limits(func(l *Limits) { l.ChannelMessages = 100_000 }))
	const count = 3000
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() {
		for i := range count {
			switch i {
			case count / 4:
				if _, err := a.InitiateWebRTC(within(t), b.id); err != nil {
					t.Error(err)
				}
			case count / 2:
				if err := a.Flush(within(t), directChannel(a.id, b.id, "x")); err != nil {
					t.Error(err)
				}
				b.CloseWebRTC(a.id)
			}
			if err := a.Send(within(t), directChannel(a.id, b.id, "x"), binary.BigEndian.AppendUint32(nil, uint32(i))); err != nil {
				t.Error(err)
				return
			}
		}
	})
	byProtocol := map[string]int{}
	// What b's closing cut off is counted at a; everything else arrives in order.
	last, arrived := -1, 0
	lost := func() int { return int(sum(a.losses.totals()[directionOut])) }
	for known, since := 0, time.Now(); arrived+lost() < count; {
		short, stop := context.WithTimeout(t.Context(), 100*time.Millisecond)
		messages, _ := b.queue.Receive(short, "", count, 0)
		stop()
		for _, m := range messages {
			got := int(binary.BigEndian.Uint32(m.Data))
			if got <= last {
				t.Fatalf("message %d came after %d, by %s; %v", got, last, m.Protocol, byProtocol)
			}
			last = got
			arrived++
			byProtocol[m.Protocol]++
		}
		if now := arrived + lost(); now > known {
			known, since = now, time.Now()
		} else if time.Since(since) > patience {
			t.Fatalf("%d messages came and %d are counted as lost, of %d", arrived, lost(), count)
		}
	}
	if byProtocol[ChatProtocol] == 0 || byProtocol[WebRTCProtocol] == 0 {
		t.Errorf("the messages came by %v", byProtocol)
	}
}

func TestAFullChannelHoldsTheSenderAndLosesNothing(t *testing.T) {
	small := limits(func(l *Limits) {
		l.ChannelMessages, l.SendMessages, l.SendBytes = 4, 1000, 1<<20
	})
	a, b := startPair(t, overChat, small)
	openWebRTC(t, a, b)
	payload := make([]byte, 100_000)
	sent := 0
	for ; ; sent++ {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		err := a.Send(ctx, directChannel(a.id, b.id, "x"), payload)
		cancel()
		if errors.Is(err, ErrWouldBlock) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if sent > 200 {
			t.Fatal("20 MB were taken although nobody receives")
		}
	}
	for _, m := range receive(t, b, sent) {
		if len(m.Data) != len(payload) {
			t.Fatalf("a message of %d bytes", len(m.Data))
		}
	}
	expectLosses(t, b, directionIn, map[string]uint64{})
	expectLosses(t, a, directionOut, map[string]uint64{})
}

func TestAnOpenSessionHoldsThePeerAndItsEndLosesIt(t *testing.T) {
	a, b := startPair(t, overChat)
	a.peers.grace, b.peers.grace = time.Millisecond, time.Millisecond
	openWebRTC(t, a, b)
	if err := a.host.Network().ClosePeer(b.id); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the connection has ended", func() bool { return len(b.host.Network().ConnsToPeer(a.id)) == 0 })
	sendAll(t, a, b, []byte("still here"))
	sendAll(t, b, a, []byte("so am I"))
	if got := receive(t, b, 1)[0]; got.Protocol != WebRTCProtocol {
		t.Errorf("a message came by %s", got.Protocol)
	}
	receive(t, a, 1)
	if !lists(a, b.id) || !lists(b, a.id) {
		t.Error("the peer is not listed although its session is open")
	}
	a.CloseWebRTC(b.id)
	eventOf(t, a, EventPeerDisconnected, map[string]any{"peer": b.id.String()})
	eventOf(t, b, EventPeerDisconnected, map[string]any{"peer": a.id.String()})
}

func TestDisconnectingEndsTheSession(t *testing.T) {
	a, b := startPair(t, overChat)
	openWebRTC(t, a, b)
	sendAll(t, a, b, make([]byte, 1000), []byte("last"))
	if err := a.Disconnect(b.id); err != nil {
		t.Fatal(err)
	}
	if got := a.WebRTCSessions(); len(got) > 0 || lists(a, b.id) {
		t.Errorf("after disconnecting there is %+v", got)
	}
	receive(t, b, 2)
	waitUntil(t, "the other side knows", func() bool { return stateOf(b, a.id) == "" })
}

func TestClosingTheNodeDeliversWhatWasTaken(t *testing.T) {
	a, b := startPair(t, overChat)
	openWebRTC(t, a, b)
	const count = 10
	for range count {
		sendAll(t, a, b, make([]byte, 1000))
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	receive(t, b, count)
	expectLosses(t, a, directionOut, map[string]uint64{})
}

func TestClosingTheNodeCountsWhatDidNotArrive(t *testing.T) {
	a, b := startPair(t, overChat, limits(func(l *Limits) { l.ChannelMessages = 1 }))
	openWebRTC(t, a, b)
	const count = 50
	for range count {
		sendAll(t, a, b, make([]byte, 100_000))
	}
	waitUntil(t, "the peer is full", func() bool { return b.Statistics().Received.Blocked > 0 })
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	lost := a.losses.totals()[directionOut][lossNodeClosed]
	if lost == 0 || lost > count {
		t.Fatalf("%d of %d messages are counted as lost although the peer takes only some", lost, count)
	}
	// What is not counted has arrived: it waits at the peer.
	receive(t, b, int(count-lost))
}

func TestAKilledPeerLeavesNoMessageUncounted(t *testing.T) {
	a, b := startPair(t, overChat, limits(func(l *Limits) { l.ChannelMessages = 2 }))
	openWebRTC(t, a, b)
	const count = 60
	for range count {
		sendAll(t, a, b, make([]byte, 100_000))
	}
	waitUntil(t, "the session is full", func() bool { return a.WebRTCSessions()[0].Unacknowledged > 0 && b.Statistics().Received.Blocked > 0 })
	received := b.Statistics().Received.Messages
	// At once: nothing is drained, as when the process ends. Its connections go first, so that nothing falls back to a stream.
	if err := b.host.Close(); err != nil {
		t.Fatal(err)
	}
	b.webrtc.find(a.id).session.Close()
	waitUntil(t, "every message has its fate", func() bool {
		stats := a.Statistics()
		return stats.Waiting.Messages == 0 && stats.WebRTC.Open == 0
	})
	lost := sum(a.losses.totals()[directionOut])
	// Up to a receive window was acknowledged by b's transport and not read any more.
	if window := uint64(1<<20)/100_000 + 3; received+lost > count || received+lost+window < count {
		t.Errorf("%d of %d messages arrived, %d are counted as lost", received, count, lost)
	}
}

func TestSpoofedAndMalformedChannelsAreCounted(t *testing.T) {
	a, b := startPair(t, overChat)
	openWebRTC(t, a, b)
	session := a.webrtc.find(b.id).session
	for _, channel := range []string{directChannel(b.id, a.id, "x"), topicName(a.id, "t"), "nonsense"} {
		frame := frameHeader{channel}.appendTo(nil, []byte("x"))
		if _, err := session.Write(frame, channel, patience); err != nil {
			t.Fatal(err)
		}
	}
	sendAll(t, a, b, []byte("good"))
	receive(t, b, 1)
	expectLosses(t, b, directionIn, map[string]uint64{lossChannelSpoofed: 1, lossBadChannel: 2})
}

func TestAnEmptyMessageThatAPeerSendsArrives(t *testing.T) {
	a, b := startPair(t, overChat)
	openWebRTC(t, a, b)
	channel := directChannel(a.id, b.id, "x")
	if _, err := a.webrtc.find(b.id).session.Write(frameHeader{channel}.appendTo(nil, nil), channel, patience); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, b, 1)[0]; len(got.Data) != 0 || got.Channel != channel {
		t.Errorf("%+v arrived", got)
	}
}

// openSignal opens a signalling stream from a raw host.
func openSignal(t *testing.T, n *Node) network.Stream {
	t.Helper()
	h := startRawHost(t)
	dialRaw(t, h, n)
	s, err := h.NewStream(within(t), n.id, webrtc.SignalProtocol)
	if err != nil {
		t.Fatal(err)
	}
	_ = s.SetDeadline(time.Now().Add(patience))
	return s
}

func TestMalformedSignallingIsAnsweredWithAnError(t *testing.T) {
	var cases []struct {
		Name string      `json:"name"`
		Wire vectorBytes `json:"wire"`
	}
	readVectors(t, "webrtc/refused_signals.json", &cases)
	n := startNode(t)
	for _, c := range cases {
		s := openSignal(t, n)
		if _, err := s.Write(c.Wire); err != nil {
			t.Fatal(err)
		}
		if got, err := webrtc.ReadSignal(s); err != nil || got.Type != webrtc.SignalError {
			t.Errorf("%s: answered %+v, %v", c.Name, got, err)
		}
	}
	if n.Usable() != nil || n.Statistics().WebRTC.Open > 0 {
		t.Errorf("the node is %v, %+v", n.Usable(), n.Statistics().WebRTC)
	}
}

func TestAPeerThatSignalsNothingHoldsUpNobodyElse(t *testing.T) {
	a, b := startPair(t, overChat)
	silent := openSignal(t, b)
	if _, err := silent.Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
	again, err := silent.Conn().NewStream(within(t))
	if err != nil {
		t.Fatal(err)
	}
	_ = again.Reset()
	openWebRTC(t, a, b)
}

func TestASilentAnswererEndsWithTheCallersDeadline(t *testing.T) {
	n, h := startNode(t), startRawHost(t)
	h.SetStreamHandler(webrtc.SignalProtocol, func(network.Stream) {})
	dialRaw(t, h, n)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := n.InitiateWebRTC(ctx, h.ID()); !errors.Is(err, ErrTimeout) {
		t.Errorf("it ended with %v", err)
	}
	waitUntil(t, "the attempt is forgotten", func() bool { return stateOf(n, h.ID()) == "" })
	if got := n.Statistics().WebRTC.Failed; got != 1 {
		t.Errorf("%d attempts failed", got)
	}
}

func TestClosingTheNodeEndsAttempts(t *testing.T) {
	n, h := startNode(t), startRawHost(t)
	h.SetStreamHandler(webrtc.SignalProtocol, func(network.Stream) {})
	dialRaw(t, h, n)
	ended := make(chan error, 1)
	go func() {
		_, err := n.InitiateWebRTC(within(t), h.ID())
		ended <- err
	}()
	waitUntil(t, "the attempt runs", func() bool { return stateOf(n, h.ID()) == WebRTCConnecting })
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, ErrClosed) {
		t.Errorf("the attempt ended with %v", err)
	}
	expectNoGoroutines(t)
}

// startRelayed is two nodes that are connected through a third, a dialled b.
func startRelayed(t *testing.T, delay time.Duration, change ...func(*Options)) (a, b *Node) {
	t.Helper()
	return startRelayedTo(t, delay, func(*Node) {}, change...)
}

func startRelayedTo(t *testing.T, delay time.Duration, prepare func(b *Node), change ...func(*Options)) (a, b *Node) {
	t.Helper()
	relay := startNode(t, asRelay, broadly)
	a, b = startNode(t, change...), startNode(t, change...)
	prepare(b)
	a.webrtc.upgradeDelay = delay
	connect(t, b, relay)
	closeDirect(t, b)
	if _, err := circuit.Reserve(within(t), b.host, peer.AddrInfo{ID: relay.id, Addrs: relay.host.Addrs()}); err != nil {
		t.Fatal(err)
	}
	circuitAddress := fmt.Sprintf("%s/p2p-circuit/p2p/%s", relay.Addresses()[0], b.id)
	if _, err := a.Connect(within(t), []string{circuitAddress}); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// closeDirect makes a node reachable through relays only, as a NAT would.
func closeDirect(t *testing.T, n *Node) {
	t.Helper()
	listening := n.host.Network()
	for _, addr := range listening.ListenAddresses() {
		if hasProtocol(addr, ma.P_TCP) {
			listening.(*swarm.Swarm).ListenClose(addr)
		}
	}
}

// startRelayedWithoutTransport is startRelayed with a peer that does not serve the libp2p transport, as those of the existing
// network.
func startRelayedWithoutTransport(t *testing.T, delay time.Duration) (a, b *Node) {
	t.Helper()
	return startRelayedTo(t, delay, func(b *Node) { b.host.RemoveStreamHandler(webrtctransport.SignalProtocol) }, overChat)
}

func TestTheDiallerOfARelayedConnectionStartsWebRTCByItself(t *testing.T) {
	a, b := startRelayedWithoutTransport(t, 300*time.Millisecond)
	sendAll(t, a, b, []byte("first"))
	receive(t, b, 1)
	eventOf(t, a, EventWebRTCChanged, map[string]any{"state": WebRTCOpen, "offered": true})
	waitUntil(t, "both have the session", func() bool { return b.webrtc.writable(a.id) != nil })
	sendAll(t, a, b, []byte("direct"))
	if got := receive(t, b, 1)[0]; got.Protocol != WebRTCProtocol {
		t.Errorf("the second message came by %s", got.Protocol)
	}
}

func TestUpdateICEReplacesWhatLaterSessionsUse(t *testing.T) {
	n := startNode(t, func(o *Options) { o.Config.WebRTC.STUNServers = []string{"stun:127.0.0.1:1"} })
	for _, step := range []struct{ update, want string }{
		{`{}`, "[stun:127.0.0.1:1] []"},
		{`{"turn_servers":[{"urls":"turn:127.0.0.1:2","username":"u","credential":"c"}]}`, "[stun:127.0.0.1:1] [{[turn:127.0.0.1:2] u c}]"},
		{`{"stun_servers":null,"turn_servers":null}`, "[stun:127.0.0.1:1] [{[turn:127.0.0.1:2] u c}]"},
		{`{"stun_servers":[]}`, "[] [{[turn:127.0.0.1:2] u c}]"},
		{`{"stun_servers":["stun:127.0.0.1:3"],"turn_servers":[]}`, "[stun:127.0.0.1:3] []"},
	} {
		if err := n.UpdateICE([]byte(step.update)); err != nil {
			t.Fatal(err)
		}
		c := n.webrtc.iceConfig()
		if got := fmt.Sprint(c.STUNServers, c.TURNServers); got != step.want {
			t.Errorf("after %s: %s, want %s", step.update, got, step.want)
		}
	}
	for _, bad := range []string{``, `[]`, `{"stun":[]}`, `{"stun_servers":"stun:h"}`, `{"stun_servers":["turn:h"]}`, `{"turn_servers":[{"urls":[]}]}`} {
		if err := n.UpdateICE([]byte(bad)); !errors.Is(err, ErrArgument) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestASTUNServerOfTheConfigurationIsAsked(t *testing.T) {
	server, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	asked := make(chan struct{})
	go func() {
		if _, _, err := server.ReadFrom(make([]byte, 1500)); err == nil {
			close(asked)
		}
	}()
	a, b := startPair(t, overChat)
	if err := a.UpdateICE([]byte(`{"stun_servers":["stun:` + server.LocalAddr().String() + `"]}`)); err != nil {
		t.Fatal(err)
	}
	openWebRTC(t, a, b)
	select {
	case <-asked:
	case <-time.After(patience):
		t.Error("nobody asked it")
	}
}
