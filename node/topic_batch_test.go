package node

import (
	"bytes"
	"context"
	"errors"
	"testing"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"
)

func TestAPublishAnswersItsNumberThatReceiversSee(t *testing.T) {
	a, b := startPair(t)
	topic := topicName(a.id, "x")
	subscribe(t, a, b, topic)
	var last uint64
	for i := range 10 {
		published, err := a.Publish(within(t), topic, number(0, i, 20))
		if err != nil || published.ID <= last || published.Peers != 1 {
			t.Fatalf("published %+v after %d, %v", published, last, err)
		}
		last = published.ID
		if got := receive(t, b, 1); got[0].ID != published.ID {
			t.Errorf("received number %d, published %d", got[0].ID, published.ID)
		}
	}
}

func TestABatchArrivesInOrderAtEverySubscriber(t *testing.T) {
	for name, flood := range map[string]bool{"gossip": false, "floodsub": true} {
		t.Run(name, func(t *testing.T) {
			change := func(o *Options) {
				o.Config.Limits.ChannelMessages = 10_000
				o.Config.Network.FloodSub = flood
			}
			a, b := startPair(t, change)
			c := startNode(t, change)
			connect(t, c, a)
			topic := topicName(a.id, "x")
			subscribe(t, a, b, topic)
			subscribe(t, a, c, topic)
			const count = 1000
			payloads := make([][]byte, count)
			for i := range payloads {
				payloads[i] = number(0, i, []int{8, 100, 3000, 200_000}[i%100/97])
			}
			published, err := a.PublishBatch(within(t), topic, payloads)
			if err != nil || len(published) != count {
				t.Fatalf("%d published, %v", len(published), err)
			}
			for _, n := range []*Node{b, c} {
				got := receive(t, n, count)
				expectOrder(t, got, 1, count)
				for i, m := range got {
					if m.ID != published[i].ID || published[i].Peers != 2 {
						t.Fatalf("message %d has number %d, published %+v", i, m.ID, published[i])
					}
				}
				expectLosses(t, n, directionIn, map[string]uint64{})
			}
		})
	}
}

func TestABatchWithATooLargeMessageIsRefusedWhole(t *testing.T) {
	a, b := startPair(t, limits(func(l *Limits) { l.MessageBytes = 1000 }))
	topic := topicName(a.id, "x")
	subscribe(t, a, b, topic)
	published, err := a.PublishBatch(within(t), topic, [][]byte{make([]byte, 10), make([]byte, 1001)})
	if !errors.Is(err, ErrTooLarge) || len(published) != 0 {
		t.Errorf("%d published, %v", len(published), err)
	}
	if _, err := a.PublishBatch(within(t), topic, [][]byte{[]byte("next")}); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, b, 1); string(got[0].Data) != "next" {
		t.Errorf("received %q", got[0].Data)
	}
}

func TestSmallMessagesSharedByPeersStayWhole(t *testing.T) {
	// Limits below the size of a coalesced RPC make the router split it again.
	small := limits(func(l *Limits) { l.MessageBytes = 2000; l.ChannelMessages = 1000 })
	a, b := startPair(t, small)
	topic := topicName(a.id, "x")
	subscribe(t, a, b, topic)
	payloads := make([][]byte, 200)
	for i := range payloads {
		payloads[i] = number(0, i, 1500)
	}
	if _, err := a.PublishBatch(within(t), topic, payloads); err != nil {
		t.Fatal(err)
	}
	expectOrder(t, receive(t, b, len(payloads)), 1, len(payloads))
}

func TestWaitingForSubscribersEndsWhenEnoughAreThere(t *testing.T) {
	a, b := startPair(t)
	topic := topicName(a.id, "x")
	if peers, err := a.WaitForTopicPeers(atOnce(), topic, 0); err != nil || peers != 0 {
		t.Errorf("waiting for nobody: %d, %v", peers, err)
	}
	if peers, err := a.WaitForTopicPeers(atOnce(), topic, 1); err == nil {
		t.Errorf("%d peers without subscribers", peers)
	}
	answer := make(chan error, 1)
	ctx := within(t)
	go func() {
		_, err := a.WaitForTopicPeers(ctx, topic, 1)
		answer <- err
	}()
	if err := b.Subscribe(topic); err != nil {
		t.Fatal(err)
	}
	if err := <-answer; err != nil {
		t.Error(err)
	}
	closing := make(chan error, 1)
	go func() {
		_, err := a.WaitForTopicPeers(context.Background(), topic, 2)
		closing <- err
	}()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-closing; !errors.Is(err, ErrClosed) {
		t.Errorf("the end of the node: %v", err)
	}
}

func TestAnRPCHoldsNoMoreMessagesThanASubscriberVerifiesAtOnce(t *testing.T) {
	s := coalescingScheduler{outboxes: newTopicOutboxes(nil), byPeer: map[peer.ID][]*pubsub.RPC{}}
	for i := range 600 {
		s.AddRPC("a", "", &pubsub.RPC{RPC: pb.RPC{Publish: []*pb.Message{{Data: number(0, i, 20)}}}})
	}
	var got [][]byte
	for _, rpc := range s.All() {
		if count := len(rpc.GetPublish()); count > coalescedRPCMessages || count > verifiedAtOnce {
			t.Errorf("an RPC has %d messages", count)
		}
		for _, m := range rpc.GetPublish() {
			got = append(got, m.Data)
		}
	}
	for i, data := range got {
		if !bytes.Equal(data, number(0, i, 20)) {
			t.Fatalf("message %d is not in its place", i)
		}
	}
	if len(got) != 600 {
		t.Errorf("%d messages leave", len(got))
	}
}
