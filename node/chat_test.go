package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"

	"peerbus/queue"
)

// number is a message that tells who sent it and which of his messages it is.
func number(sender, sequence, size int) []byte {
	message := binary.BigEndian.AppendUint32(nil, uint32(sender))
	message = binary.BigEndian.AppendUint32(message, uint32(sequence))
	return append(message, make([]byte, max(0, size-len(message)))...)
}

// expectOrder checks that each sender's messages came completely and in order.
func expectOrder(t *testing.T, got []queue.Message, senders, each int) {
	t.Helper()
	next := make([]int, senders)
	for _, m := range got {
		sender, sequence := int(binary.BigEndian.Uint32(m.Data)), int(binary.BigEndian.Uint32(m.Data[4:]))
		if sequence != next[sender] {
			t.Fatalf("message %d of sender %d came instead of %d", sequence, sender, next[sender])
		}
		next[sender]++
	}
	for sender, count := range next {
		if count != each {
			t.Errorf("%d messages of sender %d came, want %d", count, sender, each)
		}
	}
}

func TestFirstMessagesOfManyGoroutinesInBothDirectionsAllArrive(t *testing.T) {
	const senders, each = 8, 200
	wide := limits(func(l *Limits) { l.ChannelMessages = senders * each })
	for round := range 5 {
		a, b := startNode(t, wide), startNode(t, wide)
		if round%2 == 0 {
			connect(t, a, b)
		} else { // both dial, by sending to known addresses
			a.host.Peerstore().AddAddrs(b.id, b.host.Addrs(), time.Hour)
			b.host.Peerstore().AddAddrs(a.id, a.host.Addrs(), time.Hour)
		}
		var group sync.WaitGroup
		start := make(chan struct{})
		for _, pair := range [][2]*Node{{a, b}, {b, a}} {
			for sender := range senders {
				group.Go(func() {
					<-start
					for i := range each {
						if err := pair[0].Send(within(t), directChannel(pair[0].id, pair[1].id, "first"), number(sender, i, 20)); err != nil {
							t.Error(err)
						}
					}
				})
			}
		}
		close(start)
		group.Wait()
		for _, n := range []*Node{a, b} {
			expectOrder(t, receive(t, n, senders*each), senders, each)
			expectLosses(t, n, directionIn, map[string]uint64{})
			expectLosses(t, n, directionOut, map[string]uint64{})
		}
	}
}

func TestMessagesOfAllSizesKeepTheirOrder(t *testing.T) {
	a, b := startPair(t, limits(func(l *Limits) { l.ChannelMessages = 1000 }))
	channel := directChannel(a.id, b.id, "~")
	sizes := []int{1, soloBytes - 200, soloBytes, coalesceBytes, coalesceBytes - frameHeader{channel}.size(0), 1 << 20, 3<<20 + 1}
	const rounds = 10
	sender := make(chan error, 1)
	go func() {
		var err error
		for i := range rounds * len(sizes) {
			err = errors.Join(err, a.Send(within(t), channel, number(0, i, sizes[i%len(sizes)])))
		}
		sender <- err
	}()
	got := receive(t, b, rounds*len(sizes))
	if err := <-sender; err != nil {
		t.Fatal(err)
	}
	expectOrder(t, got, 1, len(got))
	for i, m := range got {
		if want := max(8, sizes[i%len(sizes)]); len(m.Data) != want {
			t.Errorf("message %d has %d bytes, want %d", i, len(m.Data), want)
		}
	}
}

func TestEveryBufferOfMemoryComesBack(t *testing.T) {
	memory := &countingMemory{}
	a, b := startNode(t, func(o *Options) { o.Memory = memory }), startNode(t)
	connect(t, a, b)
	channel := directChannel(a.id, b.id, "~")
	for _, total := range []int{soloBytes, coalesceBytes, coalesceBytes + 1, 1 << 20} {
		if err := a.SendAndWait(within(t), channel, make([]byte, total-frameHeader{channel}.size(0))); err != nil {
			t.Fatal(err)
		}
		receive(t, b, 1)
	}
	waitUntil(t, "all buffers are back", func() bool {
		memory.Lock()
		defer memory.Unlock()
		return memory.held == 0
	})
}

func TestSendsThatCannotArriveAreRefused(t *testing.T) {
	a, b := startPair(t, overChat, limits(func(l *Limits) { l.MessageBytes = 1000 }))
	stranger := mustID(t, somePeer)
	channel := directChannel(a.id, b.id, "~")
	for name, c := range map[string]struct {
		channel string
		payload []byte
		want    error
	}{
		"an empty message":         {channel, nil, ErrArgument},
		"one byte too many":        {channel, make([]byte, 1000-len(channel)), ErrTooLarge},
		"to itself":                {directChannel(a.id, a.id, "~"), []byte("x"), ErrArgument},
		"another owner's channel":  {directChannel(b.id, a.id, "~"), []byte("x"), ErrArgument},
		"a topic":                  {topicName(a.id, "x"), []byte("x"), ErrArgument},
		"a peer without addresses": {directChannel(a.id, stranger, "~"), []byte("x"), ErrNotConnected},
	} {
		if err := a.Send(within(t), c.channel, c.payload); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if err := a.SendAndWait(within(t), channel, make([]byte, 1000-len(channel)-1)); err != nil {
		t.Errorf("the largest message: %v", err)
	}
	receive(t, b, 1)
	if a.links.find(stranger) != nil {
		t.Error("a link to an unknown peer stays")
	}
}

// stall is a raw host that accepts chat streams and never reads.
func stall(t *testing.T, n *Node) peer.ID {
	t.Helper()
	h := startRawHost(t)
	h.SetStreamHandler(ChatProtocol, func(network.Stream) {})
	dialRaw(t, h, n)
	waitUntil(t, "the node knows the stalled peer's protocols", func() bool {
		known, err := n.host.Peerstore().SupportsProtocols(h.ID(), ChatProtocol)
		return err == nil && len(known) > 0
	})
	return h.ID()
}

func TestAStalledPeerDelaysNobodyAndIsCounted(t *testing.T) {
	const budget, size = 4 << 20, 32 << 10
	a := startNode(t, limits(func(l *Limits) { l.SendBytes, l.MessageBytes, l.Events = budget, 1<<20, 1<<16 }))
	a.writeTimeout = 200 * time.Millisecond
	b := startNode(t)
	connect(t, a, b)
	stalled := directChannel(a.id, stall(t, a), "~")
	taken := uint64(0)
	for ; ; taken++ {
		err := a.Send(atOnce(), stalled, make([]byte, size))
		if errors.Is(err, ErrWouldBlock) && a.Statistics().Waiting.Bytes >= budget-2*size {
			break
		} else if err != nil && !errors.Is(err, ErrWouldBlock) {
			t.Fatal(err)
		} else if err != nil {
			taken--
		}
	}
	if waiting := a.Statistics().Waiting.Bytes; waiting > budget {
		t.Errorf("%d bytes wait, at most %d may", waiting, budget)
	}
	for i := range 100 {
		if err := a.SendAndWait(within(t), directChannel(a.id, b.id, "~"), number(0, i, 100)); err != nil {
			t.Fatal(err)
		}
	}
	expectOrder(t, receive(t, b, 100), 1, 100)

	eventOf(t, a, EventMessagesLost, map[string]any{"reason": lossTimeout, "channel": stalled})
	eventOf(t, a, EventWritable, map[string]any{"channel": stalled})
	waitUntil(t, "all is settled", func() bool { return a.Statistics().Waiting.Messages == 0 })
	s := a.Statistics()
	if sent := s.Sent.Messages - 100; sent+s.Lost[directionOut][lossTimeout] != taken {
		t.Errorf("%d sent and %d lost of %d", sent, s.Lost[directionOut][lossTimeout], taken)
	}
}

func TestASendWaitsForRoomUntilItsDeadline(t *testing.T) {
	a := startNode(t, limits(func(l *Limits) { l.SendMessages = 4 }))
	stalled := directChannel(a.id, stall(t, a), "~")
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		err := a.Send(ctx, stalled, make([]byte, 256<<10))
		cancel()
		if err == nil {
			continue
		}
		if !errors.Is(err, ErrWouldBlock) {
			t.Error(err)
		}
		return
	}
}

func TestAPeerThatVanishesInTheMiddleIsCounted(t *testing.T) {
	n := startNode(t)
	h := startRawHost(t)
	dialRaw(t, h, n)
	s := openChat(t, h, n)
	frame := frameHeader{directChannel(h.ID(), n.id, "~")}.appendTo(nil, make([]byte, 100<<10))
	if _, err := s.Write(append(frame, frame[:50<<10]...)); err != nil {
		t.Fatal(err)
	}
	receive(t, n, 1)
	_ = h.Close()
	lost := eventOf(t, n, EventMessagesLost, map[string]any{"peer": h.ID().String(), "direction": directionIn})
	if reason := lost.Fields["reason"]; reason != lossPeerClosed && reason != lossBadFrame {
		t.Errorf("the reason is %v", reason)
	}
	waitUntil(t, "the link is gone", func() bool { return n.links.find(h.ID()) == nil })
}

func TestMessagesForAPeerThatIsGoneAreCounted(t *testing.T) {
	a, b := startPair(t, overChat)
	// Known for good: without an address the send is refused at once instead of being taken and lost.
	a.host.Peerstore().AddAddrs(b.id, b.host.Addrs(), peerstore.PermanentAddrTTL)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the connection has ended", func() bool { return len(a.host.Network().Conns()) == 0 })
	channel := directChannel(a.id, b.id, "~")
	if err := a.SendAndWait(within(t), channel, []byte("x")); err == nil {
		t.Error("a message to a closed node was sent")
	}
	eventOf(t, a, EventMessagesLost, map[string]any{"channel": channel, "count": uint64(1)})
	waitUntil(t, "the link is gone", func() bool { return a.links.find(b.id) == nil })
}

// cuttingStream takes a number of bytes and then fails like a stream that the peer reset.
type cuttingStream struct {
	network.Stream
	left int
}

func (s *cuttingStream) Write(p []byte) (int, error) {
	n := min(s.left, len(p))
	s.left -= n
	if n < len(p) {
		return n, network.ErrReset
	}
	return n, nil
}

func (s *cuttingStream) SetWriteDeadline(time.Time) error { return nil }
func (s *cuttingStream) Reset() error                     { return nil }

func TestAFailedWriteGoesOnWithTheFirstFrameThatWasNotTaken(t *testing.T) {
	frame := len(frameHeader{directChannel(mustID(t, somePeer), mustID(t, somePeer), "~")}.appendTo(nil, number(0, 0, 8)))
	for _, c := range []struct{ takes, wantFirst int }{
		{0, 0}, {1, 0}, {frame - 1, 0}, {frame, 1}, {frame + 4, 1}, {5*frame + frame/2, 5}, {10*frame - 1, 9},
	} {
		a, b := startPair(t)
		l := a.links.obtain(b.id)
		broken := newChatStream(&cuttingStream{left: c.takes})
		broken.written = true
		l.state.Lock()
		l.state.current = broken
		l.state.Unlock()
		box, channel := &outbox{}, directChannel(a.id, b.id, "~")
		for i := range 10 {
			box.appendSmall(frameHeader{channel}, number(0, i, 8))
		}
		sent, err := l.deliver(box.chunks[0])
		if err != nil || sent.messages != 10 || sent.bytes != len(box.chunks[0].frames) {
			t.Fatalf("delivered %+v, %v", sent, err)
		}
		got := receive(t, b, 10-c.wantFirst)
		if first := int(binary.BigEndian.Uint32(got[0].Data[4:])); first != c.wantFirst {
			t.Errorf("after %d bytes the fresh stream began with message %d, want %d", c.takes, first, c.wantFirst)
		}
	}
}

func TestAPeersHalfCloseEndsTheStreamForWritingToo(t *testing.T) {
	n := startNode(t)
	h := startRawHost(t)
	streams := make(chan network.Stream, 4)
	h.SetStreamHandler(ChatProtocol, func(s network.Stream) { streams <- s })
	dialRaw(t, h, n)
	s := openChat(t, h, n)
	frame := frameHeader{directChannel(h.ID(), n.id, "~")}.appendTo(nil, []byte("in"))
	if _, err := s.Write(frame); err != nil {
		t.Fatal(err)
	}
	receive(t, n, 1)
	channel := directChannel(n.id, h.ID(), "~")
	if err := n.SendAndWait(within(t), channel, []byte("on the peer's stream")); err != nil {
		t.Fatal(err)
	}
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	_ = s.SetReadDeadline(time.Now().Add(patience))
	answer, err := io.ReadAll(s)
	if want := (frameHeader{channel}).appendTo(nil, []byte("on the peer's stream")); err != nil || !bytes.Equal(answer, want) {
		t.Errorf("read %q, %v", answer, err)
	}
	if err := n.SendAndWait(within(t), channel, []byte("on a stream of its own")); err != nil {
		t.Fatal(err)
	}
	select {
	case <-streams:
	case <-within(t).Done():
		t.Error("no fresh stream came")
	}
}

func TestOnePeerHoldsABoundedNumberOfStreams(t *testing.T) {
	n := startNode(t)
	h := startRawHost(t)
	dialRaw(t, h, n)
	frame := frameHeader{directChannel(h.ID(), n.id, "~")}.appendTo(nil, []byte("x"))
	for range maxChatStreams {
		if _, err := openChat(t, h, n).Write(frame); err != nil {
			t.Fatal(err)
		}
	}
	receive(t, n, maxChatStreams)
	extra := openChat(t, h, n)
	_, _ = extra.Write(frame)
	_ = extra.SetReadDeadline(time.Now().Add(patience))
	if _, err := extra.Read(make([]byte, 1)); !errors.Is(err, network.ErrReset) {
		t.Errorf("one stream too many ended with %v", err)
	}
	// What this node opens itself does not count against the peer.
	h.SetStreamHandler(ChatProtocol, func(s network.Stream) { _, _ = io.Copy(io.Discard, s) })
	if err := n.SendAndWait(within(t), directChannel(n.id, h.ID(), "~"), []byte("out")); err != nil {
		t.Error(err)
	}
}

func TestNothingTakenIsLostUncounted(t *testing.T) {
	for name, protocol := range protocols {
		for _, policy := range []queue.Policy{queue.Block, queue.DropOldest, queue.DropNewest, queue.Latest} {
			t.Run(name+"/"+policy.String(), func(t *testing.T) { conserve(t, policy, protocol) })
		}
	}
}

// conserve sends at random through small queues to a slow reader, and compares what was taken with what came or was counted.
func conserve(t *testing.T, policy queue.Policy, protocol func(*Options)) {
	const channels, senders, each = 3, 4, 300
	small := limits(func(l *Limits) {
		l.ChannelMessages, l.ChannelBytes, l.MessageBytes = 8, 256<<10, 128<<10
		l.SendMessages, l.SendBytes, l.Events = 16, 512<<10, 1<<16
	})
	a, b := startPair(t, small, protocol)
	var names []string
	for i := range channels {
		names = append(names, directChannel(a.id, b.id, fmt.Sprint(i)))
		if err := b.SetPolicy(names[i], policy); err != nil {
			t.Fatal(err)
		}
	}
	var taken atomic.Uint64
	var group sync.WaitGroup
	for sender := range senders {
		group.Go(func() {
			random := rand.New(rand.NewPCG(uint64(sender), 1))
			for i := range each {
				ctx := within(t)
				if random.IntN(2) == 0 {
					ctx = atOnce()
				}
				switch err := a.Send(ctx, names[random.IntN(channels)], number(sender, i, random.IntN(20<<10))); {
				case err == nil:
					taken.Add(1)
				case !errors.Is(err, ErrWouldBlock):
					t.Error(err)
				}
			}
		})
	}
	received, gaps := uint64(0), uint64(0)
	sendersDone := make(chan struct{})
	go func() { group.Wait(); close(sendersDone) }()
	settled := func() bool {
		s, r := a.Statistics(), b.Statistics()
		return s.Waiting.Messages == 0 && r.Received.Blocked == 0 && r.Received.Messages == s.Sent.Messages
	}
	progress, since := uint64(0), time.Now()
	for done := false; ; {
		moment, stop := context.WithTimeout(t.Context(), time.Millisecond) // nothing may come, since everything has
		messages, _ := b.queue.Receive(moment, "", 2, 0)
		stop()
		for _, m := range messages {
			received++
			gaps += m.Gap
		}
		if now := taken.Load() + received; now > progress {
			progress, since = now, time.Now()
		} else if time.Since(since) > patience {
			t.Fatalf("not settled: %+v and %+v", a.Statistics(), b.Statistics())
		}
		select {
		case <-sendersDone:
			if done && b.queue.Len() == 0 {
				compareCounts(t, a, b, taken.Load(), received, gaps)
				return
			}
			done = settled()
		default:
		}
	}
}

func compareCounts(t *testing.T, a, b *Node, taken, received, gaps uint64) {
	t.Helper()
	lost := func() uint64 {
		out := a.losses.totals()[directionOut]
		for _, countedThere := range []string{"peer_queue_full", "peer_too_many_channels", "peer_byte_budget"} {
			delete(out, countedThere)
		}
		return sum(out) + sum(b.losses.totals()[directionIn])
	}
	// The queue reports a loss a moment after it counted the message as received.
	waitUntil(t, fmt.Sprintf("%d taken are %d received and %d lost", taken, received, lost()), func() bool {
		return received+lost() == taken
	})
	if lostIn := sum(b.losses.totals()[directionIn]); gaps > lostIn {
		t.Errorf("gaps of %d messages with %d losses", gaps, lostIn)
	}
}
