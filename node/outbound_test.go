package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peerstore"

	"peerbus/node/session"
	"peerbus/queue"
)

func openChannel(t testing.TB, from, to *Node, suffix string, states ...DeliveryState) *Channel {
	t.Helper()
	o := ChannelOptions{}
	for _, state := range states {
		o.Events = o.Events.With(state)
	}
	c, err := from.OpenChannel(directChannel(from.id, to.id, suffix), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func mustSend(t testing.TB, c *Channel, payload []byte) uint64 {
	t.Helper()
	id, err := c.Send(within(t), payload)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func mustReach(t testing.TB, c *Channel, id uint64, state DeliveryState) {
	t.Helper()
	if err := c.Await(within(t), id, state); err != nil {
		t.Fatalf("message %d did not become %s: %v", id, state, err)
	}
}

func expectLost(t testing.TB, c *Channel, id uint64) {
	t.Helper()
	if err := c.Await(within(t), id, DeliveryAccepted); !errors.Is(err, ErrLost) {
		t.Fatalf("awaiting message %d: %v, want it lost", id, err)
	}
}

func TestAMessageIsSentAcceptedAndTaken(t *testing.T) {
	a, b := startPair(t)
	c := openChannel(t, a, b, "~", DeliveryQueued, DeliverySent, DeliveryAccepted, DeliveryTaken)
	id := mustSend(t, c, []byte("hello"))
	if err := c.Await(atOnce(), id, DeliveryQueued); err != nil {
		t.Errorf("it has an id, and is queued: %v", err)
	}
	if id != 1 {
		t.Errorf("the first id is %d", id)
	}
	mustReach(t, c, id, DeliveryAccepted)
	if err := c.Await(atOnce(), id, DeliveryTaken); err == nil {
		t.Error("taken before anybody took it")
	}
	if got := receive(t, b, 1)[0]; got.Protocol != session.Protocol || string(got.Data) != "hello" {
		t.Errorf("received %+v", got)
	}
	mustReach(t, c, id, DeliveryTaken)
	for _, state := range []DeliveryState{DeliveryQueued, DeliverySent, DeliveryAccepted, DeliveryTaken} {
		eventOf(t, a, EventDelivery, map[string]any{"channel": c.Name(), "state": state.String(), "first": id, "last": id})
	}
	info, err := a.ChannelInfo(c.Name())
	if err != nil || info.Protocol != session.Protocol || info.Taken != 1 || !slices.Contains(info.Guarantees, "once") {
		t.Errorf("info %+v, %v", info, err)
	}
	if err := c.Await(within(t), 2, DeliverySent); !errors.Is(err, ErrArgument) {
		t.Errorf("awaiting an id that does not exist: %v", err)
	}
}

func TestMessagesOfAListAreQueuedInOneRunAndLargeOnesBetweenThemSplitIt(t *testing.T) {
	for name, change := range protocols {
		t.Run(name, func(t *testing.T) {
			a, b := startNode(t), startNode(t, change)
			connect(t, a, b)
			c := openChannel(t, a, b, "~", DeliveryQueued)
			large := make([]byte, soloBytes)
			for sent, payloads := 0, [][]byte{{1}, {2}, large, {4}, {5}}; sent < len(payloads); {
				_, taken, err := c.SendBatch(within(t), payloads[sent:])
				if err != nil {
					t.Fatal(err)
				}
				sent += taken
			}
			for next := uint64(1); next <= 5; {
				e := eventOf(t, a, EventDelivery, map[string]any{"state": "queued", "first": next})
				next = e.Fields["last"].(uint64) + 1
			}
		})
	}
}

func TestAnEmptyMessageTravelsOnAnAcknowledgedChannel(t *testing.T) {
	a, b := startPair(t)
	mustSend(t, openChannel(t, a, b, "~"), nil)
	if got := receive(t, b, 1)[0]; len(got.Data) != 0 {
		t.Errorf("got %q", got.Data)
	}
}

func TestAPeerThatSpeaksOnlyChatGetsChat(t *testing.T) {
	a, b := startNode(t), startNode(t, overChat)
	connect(t, a, b)
	c := openChannel(t, a, b, "~")
	id := mustSend(t, c, []byte("hello"))
	if got := receive(t, b, 1)[0]; got.Protocol != ChatProtocol {
		t.Errorf("it came by %s", got.Protocol)
	}
	mustReach(t, c, id, DeliverySent)
	if err := c.Await(within(t), id, DeliveryAccepted); !errors.Is(err, ErrUnsupported) {
		t.Errorf("awaiting what chat does not tell: %v", err)
	}
	if _, err := c.Send(within(t), nil); !errors.Is(err, ErrArgument) {
		t.Errorf("an empty message over chat: %v", err)
	}
	if info, err := a.ChannelInfo(c.Name()); err != nil || info.Protocol != ChatProtocol {
		t.Errorf("info %+v, %v", info, err)
	}
}

// TestMessagesBeforeThePeerIsKnownFallBackToChat sends before there is a connection that could tell what the peer speaks.
func TestMessagesBeforeThePeerIsKnownFallBackToChat(t *testing.T) {
	wide := limits(func(l *Limits) { l.ChannelMessages = 1000 })
	a, b := startNode(t), startNode(t, overChat, wide)
	a.host.Peerstore().AddAddrs(b.id, b.host.Addrs(), peerstore.PermanentAddrTTL)
	c := openChannel(t, a, b, "~")
	const count = 500
	for i := range count {
		if id := mustSend(t, c, number(0, i, 100+i*40)); id != uint64(i+1) {
			t.Fatalf("message %d has id %d", i, id)
		}
	}
	got := receive(t, b, count)
	expectOrder(t, got, 1, count)
	if got[0].Protocol != ChatProtocol {
		t.Errorf("it came by %s", got[0].Protocol)
	}
	mustReach(t, c, count, DeliverySent)
}

// transports are the two kinds that differ in how streams share a connection.
var transports = map[string]string{"tcp": "/ip4/127.0.0.1/tcp/0", "quic": "/ip4/127.0.0.1/udp/0/quic-v1"}

func listening(t *testing.T, address string) func(*Options) {
	return func(o *Options) { o.Config.ListenAddrs = addrsOf(t, address) }
}

// flow sends numbered messages over many channels and checks that each arrives once and in order.
type flow struct {
	a, b           *Node
	channels, each int
}

func (f flow) run(t *testing.T) {
	t.Helper()
	var group sync.WaitGroup
	for i := range f.channels {
		c := openChannel(t, f.a, f.b, fmt.Sprint(i))
		group.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 2))
			for k := range f.each {
				size := random.IntN(200)
				if random.IntN(50) == 0 {
					size = random.IntN(300 << 10)
				}
				if _, err := c.Send(within(t), number(i, k, size)); err != nil {
					t.Errorf("channel %d, message %d: %v", i, k, err)
					return
				}
			}
		})
	}
	got := receive(t, f.b, f.channels*f.each)
	group.Wait()
	expectOrder(t, got, f.channels, f.each)
	for _, m := range got {
		if m.Gap > 0 {
			t.Errorf("a gap of %d", m.Gap)
		}
	}
	expectLosses(t, f.a, directionOut, map[string]uint64{})
	expectLosses(t, f.b, directionIn, map[string]uint64{})
}

// disturb does something to a pair of nodes again and again while a flow runs, each time after some messages got through: harm
// to a channel that is still coming back would only make its pauses grow.
func (f flow) disturb(t *testing.T, harm func()) {
	t.Helper()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		arrived := func() uint64 { return f.b.Statistics().Received.Messages }
		for seen, times := uint64(0), 0; times < 12; {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond): // how often is not what the test is about
				if now := arrived(); now > seen {
					harm()
					seen, times = now, times+1
				}
			}
		}
	}()
	f.run(t)
	close(stop)
	<-stopped
}

func TestChannelsSurviveLostConnections(t *testing.T) {
	for name, address := range transports {
		t.Run(name, func(t *testing.T) {
			a, b := startPair(t, listening(t, address), limits(func(l *Limits) { l.ChannelMessages = 200 }))
			flow{a, b, 16, 400}.disturb(t, func() {
				if rand.IntN(2) == 0 {
					_ = a.host.Network().ClosePeer(b.id)
				} else {
					_ = b.host.Network().ClosePeer(a.id)
				}
			})
		})
	}
}

func TestChannelsSurviveResetStreams(t *testing.T) {
	for name, address := range transports {
		t.Run(name, func(t *testing.T) {
			a, b := startPair(t, listening(t, address), limits(func(l *Limits) { l.ChannelMessages = 200 }))
			flow{a, b, 8, 400}.disturb(t, func() {
				for _, n := range []*Node{a, b} {
					for _, c := range n.host.Network().Conns() {
						for _, s := range c.GetStreams() {
							if s.Protocol() == session.Protocol && rand.IntN(3) == 0 {
								_ = s.Reset()
							}
						}
					}
				}
			})
		})
	}
}

// TestChannelsMoveToANewConnection closes the older one of two connections, over and over.
func TestChannelsMoveToANewConnection(t *testing.T) {
	a, b := startPair(t, func(o *Options) {
		o.Config.ListenAddrs = addrsOf(t, transports["tcp"], transports["quic"])
	}, limits(func(l *Limits) { l.ChannelMessages = 200 }))
	flow{a, b, 4, 300}.disturb(t, func() {
		before := a.host.Network().ConnsToPeer(b.id)
		ctx, cancel := context.WithTimeout(network.WithForceDirectDial(t.Context(), "test"), patience)
		defer cancel()
		_, _ = a.host.Network().DialPeer(ctx, b.id)
		for _, c := range before {
			_ = c.Close()
		}
	})
}

func TestTheStreamLeavesAConnectionThatIsClosed(t *testing.T) {
	a, b := startPair(t)
	c := openChannel(t, a, b, "~")
	mustReach(t, c, mustSend(t, c, []byte("1")), DeliveryAccepted)
	for _, conn := range a.host.Network().Conns() {
		_ = conn.Close()
	}
	mustReach(t, c, mustSend(t, c, []byte("2")), DeliveryAccepted)
	receive(t, b, 2)
}

// restart closes a node and starts another one with its identity and its addresses.
func restart(t *testing.T, n *Node) *Node {
	t.Helper()
	addresses := n.host.Network().ListenAddresses()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	return startNode(t, func(o *Options) {
		o.Config.IdentityDir = n.config.IdentityDir
		o.Config.ListenAddrs = addresses
	})
}

func TestARestartOfTheReceiverIsReported(t *testing.T) {
	a, b := startPair(t)
	c := openChannel(t, a, b, "~")
	mustReach(t, c, mustSend(t, c, []byte("1")), DeliveryAccepted)
	b = restart(t, b)
	mustReach(t, c, mustSend(t, c, []byte("2")), DeliveryAccepted)
	eventOf(t, a, EventReceiverRestarted, map[string]any{"peer": b.id.String(), "channel": c.Name(), "untaken": uint64(1), "first": uint64(1), "last": uint64(1)})
	if got := receive(t, b, 1); string(got[0].Data) != "2" {
		t.Errorf("the new process got %q", got[0].Data)
	}
	if err := c.Await(within(t), 1, DeliveryTaken); !errors.Is(err, ErrLost) {
		t.Errorf("a message that only the old process had: %v", err)
	}
	mustReach(t, c, 2, DeliveryTaken)
}

func TestARestartOfTheSenderIsReported(t *testing.T) {
	a, b := startPair(t)
	c := openChannel(t, a, b, "~")
	// The queue is full, so that the session cannot end in an orderly way.
	for i := range b.config.Limits.ChannelMessages + 1 {
		mustSend(t, c, number(0, i, 0))
	}
	a = restart(t, a)
	connect(t, a, b)
	mustSend(t, openChannel(t, a, b, "~"), []byte("again"))
	eventOf(t, b, EventSenderRestarted, map[string]any{"peer": a.id.String(), "channel": c.Name()})
}

func TestMessagesAreLostAndNamedWhenTheResumeWindowIsOver(t *testing.T) {
	a, b := startPair(t, func(o *Options) { o.Config.Channel.ResumeWindow = 300 * time.Millisecond })
	c := openChannel(t, a, b, "~")
	mustReach(t, c, mustSend(t, c, []byte("1")), DeliveryAccepted)
	a.host.Peerstore().AddAddrs(b.id, b.host.Addrs(), peerstore.PermanentAddrTTL)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the connection has ended", func() bool { return len(a.host.Network().Conns()) == 0 })
	second, third := mustSend(t, c, []byte("2")), mustSend(t, c, []byte("3"))
	eventOf(t, a, EventDelivery, map[string]any{"state": "lost", "reason": string(session.ReasonExpired), "first": second, "last": third})
	expectLost(t, c, second)
	expectLost(t, c, third)
	mustReach(t, c, 1, DeliveryAccepted)
	expectLosses(t, a, directionOut, map[string]uint64{string(session.ReasonExpired): 2})
}

func TestASlowReceiverHoldsOnlyItsChannelAndMemoryStaysBounded(t *testing.T) {
	for name, address := range transports {
		t.Run(name, func(t *testing.T) { slowReceiver(t, address) })
	}
}

func slowReceiver(t *testing.T, address string) {
	const bound = 2 << 20
	a, b := startPair(t, listening(t, address), limits(func(l *Limits) {
		l.ChannelSendBytes, l.SendBytes, l.MessageBytes = bound, 2*bound, 1<<20
		l.ChannelMessages, l.ChannelBytes, l.PeerQueueBytes = 100, 1<<20, 4<<20
	}))
	slow := openChannel(t, a, b, "slow")
	sent := 0
	for ; ; sent++ {
		if _, err := slow.Send(atOnce(), number(0, sent, 100<<10)); errors.Is(err, ErrWouldBlock) {
			if info, _ := a.ChannelInfo(slow.Name()); info.Sent == info.Accepted && sent > 100 {
				t.Fatal("the channel does not fill up")
			}
			if b.queue.Stats().BlockedPuts > 0 { // all the way is full
				break
			}
			time.Sleep(time.Millisecond) // let the network carry what it can
			sent--
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if held := a.Statistics().Waiting.Bytes; held > bound+100<<10 {
		t.Errorf("the sender holds %d bytes, more than %d", held, bound)
	}
	if held := b.queue.Bytes(); held > 1<<20 {
		t.Errorf("the receive queue holds %d bytes", held)
	}
	quick := openChannel(t, a, b, "quick")
	for i := range 200 {
		id := mustSend(t, quick, number(1, i, 10<<10))
		if m, err := b.queue.Receive(within(t), quick.Name(), 1, 0); err != nil || len(m) != 1 {
			t.Fatalf("message %d on the other channel: %v", i, err)
		}
		mustReach(t, quick, id, DeliveryTaken)
	}
	expectOrder(t, receive(t, b, sent), 1, sent)
	eventOf(t, a, EventWritable, map[string]any{"channel": slow.Name()})
	expectLosses(t, a, directionOut, map[string]uint64{})
}

func TestThePeersShareBoundsAllItsChannelsTogether(t *testing.T) {
	const bound = 1 << 20
	a, b := startPair(t, limits(func(l *Limits) {
		l.ChannelSendBytes, l.SendBytes, l.MessageBytes = bound, bound, bound
		l.ChannelMessages = 1
	}))
	full := 0
	for i := range 20 {
		c := openChannel(t, a, b, fmt.Sprint(i))
		for range 10 {
			if _, err := c.Send(atOnce(), make([]byte, 60<<10)); errors.Is(err, ErrWouldBlock) {
				full++
			}
		}
		if info, err := a.ChannelInfo(c.Name()); err != nil || info.Last == 0 {
			t.Errorf("channel %d could not send at all: %v", i, err)
		}
	}
	// One message per channel beyond the bound keeps a stalled channel from silencing another.
	if held := a.outbounds.ofPeer(b.id).held.Load(); full == 0 || held > bound+20*64<<10 {
		t.Errorf("%d bytes are held, %d sends were refused", held, full)
	}
	waitUntil(t, "nothing waits", func() bool {
		b.queue.Take(nil, "", 0, 0) // not Receive: after the last message none comes, but its acknowledgement
		return a.Statistics().Waiting.Messages == 0
	})
	if held := a.outbounds.ofPeer(b.id).held.Load(); held != 0 {
		t.Errorf("%d bytes are counted when nothing waits", held)
	}
}

func TestWhatTheReceiverDropsIsNamed(t *testing.T) {
	a, b := startPair(t, limits(func(l *Limits) { l.ChannelMessages = 2 }))
	c := openChannel(t, a, b, "~")
	if err := b.SetPolicy(c.Name(), queue.DropNewest); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		mustSend(t, c, number(0, i, 0))
	}
	eventOf(t, a, EventDelivery, map[string]any{"state": "lost", "reason": "peer_queue_full", "last": uint64(4), "in_doubt": false})
	mustReach(t, c, 2, DeliveryAccepted)
	expectLost(t, c, 3)
	expectLost(t, c, 4)
	mustReach(t, c, 4, DeliverySent)
	receive(t, b, 2)
	mustSend(t, c, number(0, 4, 0))
	if got := receive(t, b, 1)[0]; got.Gap != 2 {
		t.Errorf("the gap is %d", got.Gap)
	}
}

func TestCloseReportsWhatIsNotAcknowledged(t *testing.T) {
	a, b := startPair(t, limits(func(l *Limits) { l.ChannelMessages = 3 }))
	c := openChannel(t, a, b, "~")
	for i := range 10 {
		mustSend(t, c, number(0, i, 0))
	}
	mustReach(t, c, 3, DeliveryAccepted)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	eventOf(t, a, EventDelivery, map[string]any{"state": "lost", "reason": lossNodeClosed, "first": uint64(4), "last": uint64(10), "in_doubt": true})
	expectLosses(t, a, directionOut, map[string]uint64{lossNodeClosed: 7})
}

func TestCloseWaitsForAcknowledgementsAndFinishesTheSession(t *testing.T) {
	a, b := startPair(t, limits(func(l *Limits) { l.ChannelMessages = 1000 }))
	c := openChannel(t, a, b, "~")
	for i := range 1000 {
		mustSend(t, c, number(0, i, 0))
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	expectOrder(t, receive(t, b, 1000), 1, 1000)
	expectLosses(t, a, directionOut, map[string]uint64{})
	a = startNode(t, func(o *Options) { o.Config.IdentityDir = a.config.IdentityDir })
	connect(t, a, b)
	mustSend(t, openChannel(t, a, b, "~"), []byte("again"))
	receive(t, b, 1)
	b.events.Interrupt()
	for {
		events, err := b.events.Pop(atOnce(), 100)
		if err != nil || len(events) == 0 {
			break
		}
		for _, e := range events {
			if e.Type == EventSenderRestarted {
				t.Error("a session that ended in an orderly way was taken for a lost one")
			}
		}
	}
}

func TestDisconnectEndsSessionsAndAHandleGoesOnAfterwards(t *testing.T) {
	a, b := startPair(t, limits(func(l *Limits) { l.ChannelMessages = 1 }))
	c := openChannel(t, a, b, "~")
	for i := range 3 {
		mustSend(t, c, number(0, i, 0))
	}
	mustReach(t, c, 1, DeliveryAccepted)
	if err := a.Disconnect(b.id); err != nil {
		t.Fatal(err)
	}
	expectLost(t, c, 2)
	expectLost(t, c, 3)
	if _, err := c.Send(within(t), []byte("x")); !errors.Is(err, ErrNotConnected) {
		t.Errorf("sending to a peer that we disconnected: %v", err)
	}
	receive(t, b, 1)
	connect(t, a, b)
	if id := mustSend(t, c, []byte("again")); id != 4 {
		t.Errorf("ids go on with %d", id)
	}
	for string(receive(t, b, 1)[0].Data) != "again" { // what was in doubt may have arrived
	}
	mustReach(t, c, 4, DeliveryAccepted)
	mustReach(t, c, 1, DeliveryAccepted)
}

func TestAChannelThatIsNotThePeersIsRefused(t *testing.T) {
	n := startNode(t)
	h := startRawHost(t)
	dialRaw(t, h, n)
	for name, channel := range map[string]string{
		"spoofed owner": directChannel(n.id, h.ID(), "~"),
		"no channel":    "nonsense",
		"a topic":       topicName(h.ID(), "x"),
	} {
		s, err := h.NewStream(within(t), n.id, session.Protocol)
		if err != nil {
			t.Fatal(err)
		}
		open := session.Open{Session: session.NewID(), Generation: 1, Oldest: 1, Channel: channel}
		if _, err := s.Write(session.AppendOpen(nil, open)); err != nil {
			t.Fatal(err)
		}
		_ = s.SetReadDeadline(time.Now().Add(patience))
		answer, _ := io.ReadAll(s)
		head, size, err := session.ParseHead(answer, 0)
		if err != nil || head.Type != session.TypeClose {
			t.Errorf("%s: the answer is % x", name, answer)
			continue
		}
		if closed, err := session.ParseClose(answer[size:]); err != nil || closed.Code != session.CloseRefused {
			t.Errorf("%s: closed with %+v, %v", name, closed, err)
		}
	}
	if n.inbounds.table.Len() != 0 {
		t.Error("a refused stream has a session")
	}
	if lost := n.losses.totals()[directionIn]; lost[lossChannelSpoofed] != 1 || lost[lossBadChannel] != 2 {
		t.Errorf("refusals are counted as %v", lost)
	}
}

func TestAClosedNodeLeavesNoChannelGoroutines(t *testing.T) {
	a, b := startPair(t)
	for i := range 5 {
		c, back := openChannel(t, a, b, fmt.Sprint(i)), openChannel(t, b, a, fmt.Sprint(i))
		mustReach(t, c, mustSend(t, c, []byte("x")), DeliveryAccepted)
		mustReach(t, back, mustSend(t, back, []byte("x")), DeliveryAccepted)
	}
	for _, n := range []*Node{a, b} {
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
	expectNoGoroutines(t)
}
