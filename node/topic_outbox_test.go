package node

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"google.golang.org/protobuf/proto"
)

// rawSubscriber subscribes to the topic and leaves the publisher's stream to serve.
func rawSubscriber(t *testing.T, publisher *Node, topic string, serve func(network.Stream)) host.Host {
	t.Helper()
	h := startRawHost(t)
	h.SetStreamHandler(pubsub.GossipSubID_v11, serve)
	dialRaw(t, h, publisher)
	s, err := h.NewStream(within(t), publisher.id, pubsub.GossipSubID_v11)
	if err != nil {
		t.Fatal(err)
	}
	text, err := proto.Marshal(&pb.RPC{Subscriptions: []*pb.RPC_SubOpts{{Subscribe: proto.Bool(true), Topicid: &topic}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(append(binary.AppendUvarint(nil, uint64(len(text))), text...)); err != nil {
		t.Fatal(err)
	}
	if _, err := publisher.WaitForTopicPeers(within(t), topic, 1); err != nil {
		t.Fatal(err)
	}
	return h
}

// stalledSubscriber never reads.
func stalledSubscriber(t *testing.T, publisher *Node, topic string) host.Host {
	t.Helper()
	return rawSubscriber(t, publisher, topic, func(network.Stream) {})
}

func tightTopics(o *Options) {
	o.Config.Limits.SendBytes = 4 << 20
	o.Config.Limits.ChannelMessages = 10_000
}

func TestASubscriberThatTakesNothingCostsItsOwnMessagesAndBoundedMemory(t *testing.T) {
	a, b := startPair(t, tightTopics)
	topic := topicName(a.id, "x")
	stalled := stalledSubscriber(t, a, topic)
	subscribe(t, a, b, topic)
	const count, size = 100, 1 << 20
	for i := range count {
		// A generous deadline: the stalled one holds the publisher back for topics.stall_ms only.
		if _, err := a.Publish(within(t), topic, number(0, i, size)); err != nil {
			t.Fatal(err)
		}
		if waiting := a.topics.outboxes.bytesOf(stalled.ID()); waiting > 3*a.config.Limits.SendBytes {
			t.Fatalf("%d bytes wait for the stalled peer", waiting)
		}
		receive(t, b, 1)
	}
	e := eventOf(t, a, EventMessagesLost, map[string]any{"reason": lossSendQueueFull, "peer": stalled.ID().String(), "channel": topic})
	if e.Fields["direction"] != directionOut {
		t.Errorf("event %v", e.Fields)
	}
	expectLosses(t, b, directionIn, map[string]uint64{})
}

func (o *topicOutboxes) bytesOf(id any) int64 {
	o.state.Lock()
	defer o.state.Unlock()
	for p, box := range o.state.byPeer {
		if p == id {
			return box.bytes
		}
	}
	return 0
}

func TestPublishingFasterThanASubscriberTakesIsHeldBack(t *testing.T) {
	a := startNode(t, tightTopics)
	topic := topicName(a.id, "x")
	rawSubscriber(t, a, topic, func(s network.Stream) {
		// Alive but slow: it reads on before it would count as stalled.
		for tick := time.NewTicker(defaultTopicStall / 10); ; <-tick.C {
			if _, err := s.Read(make([]byte, 64<<10)); err != nil {
				tick.Stop()
				return
			}
		}
	})
	for ctx := within(t); ; {
		short, stop := context.WithTimeout(ctx, 50*time.Millisecond)
		_, err := a.Publish(short, topic, make([]byte, 256<<10))
		stop()
		if errors.Is(err, ErrWouldBlock) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	expectLosses(t, a, directionOut, map[string]uint64{})
}

func TestASubscriberThatTakesNothingHoldsPublishersBackAsLongAsConfigured(t *testing.T) {
	a := startNode(t, tightTopics, func(o *Options) { o.Config.Topics.Stall = maxTopicStall })
	topic := topicName(a.id, "x")
	stalledSubscriber(t, a, topic)
	published := 0
	for payload := make([]byte, 256<<10); ; published++ {
		short, stop := context.WithTimeout(t.Context(), 10*time.Millisecond)
		_, err := a.Publish(short, topic, payload)
		stop()
		if errors.Is(err, ErrWouldBlock) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	// What a publication within the default time would have let through and lost.
	short, stop := context.WithTimeout(t.Context(), 2*defaultTopicStall)
	defer stop()
	if _, err := a.Publish(short, topic, []byte("x")); !errors.Is(err, ErrWouldBlock) {
		t.Errorf("after %d messages that nobody takes: %v", published, err)
	}
	expectLosses(t, a, directionOut, map[string]uint64{})
}

func TestMessagesThatDieWithTheStreamOfASubscriberAreCounted(t *testing.T) {
	a := startNode(t)
	topic := topicName(a.id, "x")
	stalled := stalledSubscriber(t, a, topic)
	const count, size = 40, 1 << 20 // above what the transport buffers, below the bounds
	for range count {
		if _, err := a.Publish(within(t), topic, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := stalled.Close(); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the losses are counted", func() bool { return a.losses.totals()[directionOut][lossPeerClosed] > 0 })
	if lost := a.losses.totals()[directionOut][lossPeerClosed]; lost > count {
		t.Errorf("%d of %d messages counted as lost", lost, count)
	}
	if left := a.topics.outboxes.bytesOf(stalled.ID()); left != 0 {
		t.Errorf("%d bytes still count", left)
	}
}

func TestWhatIsPublishedBeforeCloseLeaves(t *testing.T) {
	a, b := startPair(t, limits(func(l *Limits) { l.ChannelMessages = 10_000 }))
	topic := topicName(a.id, "x")
	subscribe(t, a, b, topic)
	const count = 500
	for i := range count {
		if _, err := a.Publish(within(t), topic, number(0, i, 10_000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	expectOrder(t, receive(t, b, count), 1, count)
	expectLosses(t, a, directionOut, map[string]uint64{})
}

func TestPublishedMessagesAreFoundInAnRPC(t *testing.T) {
	rpc := &pb.RPC{
		Subscriptions: []*pb.RPC_SubOpts{{Subscribe: proto.Bool(true), Topicid: proto.String("s")}},
		Publish: []*pb.Message{
			{From: []byte("me"), Data: make([]byte, 300), Topic: proto.String("one"), Seqno: []byte("12345678"), Signature: make([]byte, 64)},
			{Topic: proto.String("two")},
		},
		Control: &pb.ControlMessage{},
	}
	text, err := proto.Marshal(rpc)
	if err != nil {
		t.Fatal(err)
	}
	frame := append(binary.AppendUvarint(nil, uint64(len(text))), text...)
	sizes := map[string]int{}
	eachPublished(frame, func(topic []byte, size int) { sizes[string(topic)] = size })
	if len(sizes) != 2 || sizes["one"] != 300 || sizes["two"] != 0 {
		t.Errorf("found %v", sizes)
	}
	for cut := range frame { // a cut frame finds fewer, and ends
		eachPublished(frame[:cut], func([]byte, int) {})
	}
}
