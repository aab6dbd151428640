package node

import (
	"testing"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
)

func TestATopicInboxIsBoundedAndCountsWhatItHasNoRoomFor(t *testing.T) {
	a, b := startPair(t, limits(func(l *Limits) { l.TopicMessages = 10; l.ChannelMessages = 100 }))
	topic := topicName(a.id, "x")
	subscribe(t, a, b, topic)
	inbox := &topicInbox{topics: b.topics, joined: b.topics.state.joined[topic]}
	inbox.state.delivering = true // as if it took long
	for i := range 12 {
		message := &pubsub.Message{Message: &pb.Message{From: []byte(a.id), Data: number(0, i, 20), Topic: &topic}, ReceivedFrom: a.id}
		if inbox.accept(message) {
			t.Fatal("a message is left to the subscription")
		}
	}
	expectLosses(t, b, directionIn, map[string]uint64{lossQueueFull: 2})
	if !inbox.deliver() || inbox.deliver() {
		t.Error("what waits is not delivered at once")
	}
	expectOrder(t, receive(t, b, 10), 1, 10)
}

func TestATopicInboxOfAClosedNodeCountsWhatComes(t *testing.T) {
	a, b := startPair(t)
	topic := topicName(a.id, "x")
	subscribe(t, a, b, topic)
	inbox := &topicInbox{topics: b.topics, joined: b.topics.state.joined[topic]}
	b.tasks.Lock()
	b.tasks.closed = true
	b.tasks.Unlock()
	defer func() { b.tasks.Lock(); b.tasks.closed = false; b.tasks.Unlock() }()
	inbox.accept(&pubsub.Message{Message: &pb.Message{From: []byte(a.id), Topic: &topic}, ReceivedFrom: a.id})
	expectLosses(t, b, directionIn, map[string]uint64{lossNodeClosed: 1})
}
