package node

import "testing"

// TestASubscriberIsReachedAgainAfterAMessageThatWasTooLargeForIt: pubsub ends the publisher's stream over it.
func TestASubscriberIsReachedAgainAfterAMessageThatWasTooLargeForIt(t *testing.T) {
	a, b := startNode(t), startNode(t, limits(func(l *Limits) { l.MessageBytes = 100_000 }))
	connect(t, a, b)
	topic := topicName(a.id, "x")
	bothSubscribe(t, a, b, topic)
	for range 2 {
		mustPublish(t, a, topic, make([]byte, 200_000))
		eventOf(t, b, EventMessagesLost, map[string]any{"reason": lossOversize, "peer": a.id.String()})
		eventOf(t, a, EventTopicPeerLeft, map[string]any{"channel": topic})
		for _, pair := range [][2]*Node{{a, b}, {b, a}} {
			eventOf(t, pair[0], EventTopicPeerJoined, map[string]any{"channel": topic, "peer": pair[1].id.String()})
			if reached := mustPublish(t, pair[0], topic, []byte("small")); reached.Peers != 1 {
				t.Errorf("reached %d subscribers", reached.Peers)
			}
			receive(t, pair[1], 1)
		}
	}
}
