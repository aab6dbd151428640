package node

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"go.uber.org/goleak"

	"peerbus/queue"
)

func TestTakenMessagesLeaveBeforeClose(t *testing.T) {
	const count = 1000
	a, b := startPair(t, limits(func(l *Limits) { l.ChannelMessages = count }))
	for i := range count {
		if err := a.Send(within(t), directChannel(a.id, b.id, "~"), number(0, i, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	expectOrder(t, receive(t, b, count), 1, count)
	expectLosses(t, a, directionOut, map[string]uint64{})
}

func TestWhatIsReceivedJustBeforeTheReceiverClosesIsAcceptedForItsSender(t *testing.T) {
	payload := make([]byte, 256_000) // its acknowledgement is not due at once
	for range 20 {
		a, b := startPair(t)
		channel := directChannel(b.id, a.id, "~")
		accepted := make(chan error, 1)
		go func() {
			err := b.Send(within(t), channel, payload)
			if err == nil {
				err = b.Flush(within(t), channel)
			}
			accepted <- err
		}()
		receive(t, a, 1)
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		if err := <-accepted; err != nil {
			t.Fatal(err)
		}
	}
}

func TestCloseEndsEveryGoroutineAndEveryWait(t *testing.T) {
	a, b := startPair(t)
	topic := topicName(a.id, "x")
	subscribe(t, a, b, topic)
	subscribe(t, b, a, topic)
	for _, pair := range [][2]*Node{{a, b}, {b, a}} {
		if err := pair[0].Send(within(t), directChannel(pair[0].id, pair[1].id, "~"), []byte("x")); err != nil {
			t.Fatal(err)
		}
		receive(t, pair[1], 1)
	}
	var waits sync.WaitGroup
	for _, n := range []*Node{a, b} {
		waits.Go(func() {
			if _, err := n.queue.Receive(t.Context(), "", 0, 0); !errors.Is(err, queue.ErrClosed) {
				t.Errorf("a receive ended with %v", err)
			}
		})
		waits.Go(func() {
			for {
				if _, err := n.events.Pop(t.Context(), 1); err != nil {
					if !errors.Is(err, ErrClosed) {
						t.Errorf("a wait for events ended with %v", err)
					}
					return
				}
			}
		})
	}
	if err := errors.Join(a.Close(), b.Close(), a.Close()); err != nil {
		t.Fatal(err)
	}
	waits.Wait()
	expectNoGoroutines(t)
	if err := a.Send(within(t), directChannel(a.id, b.id, "~"), []byte("x")); !errors.Is(err, ErrClosed) {
		t.Errorf("a send after close: %v", err)
	}
	if _, err := a.Publish(within(t), topic, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("a publish after close: %v", err)
	}
	if err := a.Subscribe(topicName(a.id, "y")); !errors.Is(err, ErrClosed) {
		t.Errorf("a subscription after close: %v", err)
	}
	if _, err := a.Connect(within(t), b.Addresses()); err == nil {
		t.Error("a connection after close")
	}
}

// Unlike expectNoGoroutines this sees those of libp2p, pubsub, quic-go and pion, too, some of which end a moment after Close: a
// deadline of libp2p's on a WebRTC stream is a goroutine of pion's, which outlives its connection by up to 10 s.
func TestCloseLeavesNoGoroutineOfAnyLibrary(t *testing.T) {
	others := goleak.IgnoreCurrent()
	every := func(o *Options) {
		o.Config.ListenAddrs = nil // TCP, WebSocket, QUIC, WebTransport and webrtc-direct
		o.Config.Relay.EnableService, o.Config.Network.ForcePublic = true, true
		o.Config.DHT = DHTConfig{Enabled: true, Server: true, Prefix: "/test"}
		o.Config.NAT.HolePunching, o.Config.NAT.AutoNAT = true, true
	}
	a, b := startNode(t, every), startNode(t, every)
	topic := topicName(a.id, "x")
	connect(t, a, b)
	subscribe(t, a, b, topic) // before the connection changes: pub/sub waits longer and longer for a peer that is soon back
	if _, err := a.Publish(within(t), topic, []byte("x")); err != nil {
		t.Fatal(err)
	}
	receive(t, b, 1)
	for i, addr := range b.Addresses() {
		if err := a.Disconnect(b.id); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Connect(within(t), []string{addr}); err != nil {
			t.Fatal(err)
		}
		if err := a.Send(within(t), directChannel(a.id, b.id, "~"), number(0, i, 100)); err != nil {
			t.Fatal(err)
		}
		receive(t, b, 1)
	}
	if err := errors.Join(a.Close(), b.Close()); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(3 * patience); ; {
		if left := goleak.Find(others); left == nil {
			return
		} else if time.Now().After(end) {
			t.Fatal(left)
		}
	}
}

// freezer forwards TCP until it is frozen: from then on both ends wait, as for a machine that is stopped.
type freezer struct {
	listener net.Listener
	frozen   chan struct{}
	thawed   chan struct{}
}

func newFreezer(t *testing.T, target ma.Multiaddr) *freezer {
	t.Helper()
	address, err := manet.ToNetAddr(target)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &freezer{listener, make(chan struct{}), make(chan struct{})}
	go f.serve(address.String())
	t.Cleanup(func() { close(f.thawed); _ = listener.Close() })
	return f
}

func (f *freezer) serve(target string) {
	for {
		from, err := f.listener.Accept()
		if err != nil {
			return
		}
		to, err := net.Dial("tcp", target)
		if err != nil {
			_ = from.Close()
			continue
		}
		go f.forward(from, to)
		go f.forward(to, from)
	}
}

func (f *freezer) forward(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	buffer := make([]byte, 4096)
	for {
		n, err := from.Read(buffer)
		select {
		case <-f.frozen:
			<-f.thawed
			return
		default:
		}
		if err != nil {
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func (f *freezer) address(t *testing.T, n *Node) string {
	t.Helper()
	addr, err := manet.FromNetAddr(f.listener.Addr())
	if err != nil {
		t.Fatal(err)
	}
	return addr.String() + "/p2p/" + n.id.String()
}

// frozenPair is a node with much to send to a peer that is stopped.
func frozenPair(t *testing.T) (*Node, *Node) {
	t.Helper()
	a, b := startNode(t, overChat), startNode(t)
	f := newFreezer(t, b.host.Addrs()[0])
	if _, err := a.Connect(within(t), []string{f.address(t, b)}); err != nil {
		t.Fatal(err)
	}
	if err := a.SendAndWait(within(t), directChannel(a.id, b.id, "~"), []byte("x")); err != nil {
		t.Fatal(err)
	}
	close(f.frozen)
	for range 20 {
		if err := a.Send(within(t), directChannel(a.id, b.id, "~"), make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	return a, b
}

func TestCloseReturnsInTimeAlthoughAPeerIsStopped(t *testing.T) {
	a, _ := frozenPair(t)
	if err := a.Close(); err != nil { // it would report a deadline that passed
		t.Fatal(err)
	}
	s := a.losses.totals()[directionOut]
	if sent := a.traffic.sentMessages.Load(); sent+sum(s) != 21 {
		t.Errorf("%d sent and %v lost of 21", sent, s)
	}
}

func TestDisconnectReturnsInTimeAlthoughThePeerIsStopped(t *testing.T) {
	a, b := frozenPair(t)
	done := make(chan error, 1)
	go func() { done <- a.Disconnect(b.id) }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-within(t).Done():
		t.Fatal("it did not return")
	}
	waitUntil(t, "all is counted", func() bool {
		return a.traffic.sentMessages.Load()+sum(a.losses.totals()[directionOut]) == 21
	})
}

func TestAPanicInAHandlerFailsItsNodeOnly(t *testing.T) {
	a, b := startNode(t), startNode(t)
	a.handle("/test/panic", func(network.Stream) { panic("on purpose") })
	connect(t, a, b)
	s, err := b.host.NewStream(within(t), a.id, "/test/panic")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = s.Write([]byte("x"))
	_ = s.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadAll(s); !errors.Is(err, network.ErrReset) {
		t.Errorf("the stream ended with %v", err)
	}
	failure := eventOf(t, a, EventNodeFailed, nil)
	if !strings.Contains(failure.Fields["function"].(string), "/test/panic") {
		t.Errorf("the event is %+v", failure)
	}
	if err := a.Usable(); !errors.Is(err, ErrInternal) {
		t.Errorf("the failed node: %v", err)
	}
	if err := b.Usable(); err != nil {
		t.Errorf("the other node: %v", err)
	}
}

func TestAFailedStartLeavesNothingBehind(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	addr, err := manet.FromNetAddr(taken.Addr())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	notADirectory := filepath.Join(dir, "file")
	if err := os.WriteFile(notADirectory, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*Config)
		want   error
	}{
		"a port that is taken":  {func(c *Config) { c.ListenAddrs = []ma.Multiaddr{addr} }, ErrRefused},
		"no identity directory": {func(c *Config) { c.IdentityDir = notADirectory }, ErrIdentity},
		"no such certificate":   {func(c *Config) { c.TLS.CertPath = notADirectory }, ErrConfig},
	} {
		config := quietConfig(filepath.Join(dir, "id"))
		c.change(&config)
		if n, err := New(t.Context(), Options{Config: config}); n != nil || !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	expectNoGoroutines(t)
}
