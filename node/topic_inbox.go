package node

import (
	"sync"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"

	"peerbus/queue"
)

// inboxGatherTime is how long messages of a burst wait for others before the host is woken for all of them: verification lets them
// come one by one, however they arrived.
const inboxGatherTime = time.Millisecond

// topicInbox moves what comes on one gossip topic into the receive queue. pubsub calls accept on its event loop; one goroutine at a
// time delivers what has come by then.
type topicInbox struct {
	topics *topics
	joined *topic
	state  struct {
		sync.Mutex
		pace       rpcPace
		waiting    []*pubsub.Message
		delivering bool
	}
	author string // of the message before, as the receive queue names it; the delivering goroutine's
	key    peer.ID
}

// accept takes every message, so that none enters the channel of the subscription. It drops what the subscription would have
// had no room for.
func (i *topicInbox) accept(message *pubsub.Message) bool {
	if i.joined.name.rendezvous() || message.GetFrom() == i.topics.node.id { // the validator has stored a rendezvous
		return false
	}
	i.state.Lock()
	defer i.state.Unlock()
	burst := i.state.pace.burst(time.Now(), rpcBurstGap)
	if len(i.state.waiting) >= i.topics.node.config.Limits.TopicMessages {
		i.lose(lossQueueFull, message)
		return false
	}
	i.state.waiting = append(i.state.waiting, message)
	if i.state.delivering {
		return false
	}
	i.state.delivering = i.topics.node.spawn("topic reader", func() {
		if burst {
			time.Sleep(inboxGatherTime)
		}
		for i.deliver() {
		}
	})
	if !i.state.delivering {
		i.state.waiting = nil
		i.lose(lossNodeClosed, message)
	}
	return false
}

// deliver answers false when nothing waits.
func (i *topicInbox) deliver() bool {
	i.state.Lock()
	waiting := i.state.waiting
	i.state.waiting = nil
	i.state.delivering = len(waiting) > 0
	i.state.Unlock()
	if len(waiting) == 0 {
		return false
	}
	batch := make([]queue.Message, 0, len(waiting))
	for _, message := range waiting {
		if m, good := i.judged(message); good {
			batch = append(batch, m)
		}
	}
	// A topic's policy never blocks; the queue counts and reports what it drops.
	_ = i.topics.node.queue.PutBatch(i.topics.node.ctx, batch, 0)
	return true
}

func (i *topicInbox) judged(message *pubsub.Message) (queue.Message, bool) {
	n, from := i.topics.node, i.nameOf(message.GetFrom())
	i.joined.numbers.received(message.GetFrom(), messageNumber(message.Message))
	i.topics.authors.received(message.GetFrom(), messageNumber(message.Message))
	known, reason := n.judge(from, i.joined.name.text, message.Data)
	if reason != "" {
		n.losses.add(directionIn, reason, i.joined.name.text, from, 1)
		return queue.Message{}, false
	}
	return queue.Message{
		From:     from,
		Channel:  i.joined.name.text,
		Protocol: i.topics.tracer.protocolOf(message.ReceivedFrom),
		ID:       messageNumber(message.Message),
		Data:     n.ownPayload(message.Data),
		Verdict:  known,
	}, true
}

// nameOf answers an author's id as text, which takes longer than the rest.
func (i *topicInbox) nameOf(id peer.ID) string {
	if id != i.key {
		i.key, i.author = id, id.String()
	}
	return i.author
}

func (i *topicInbox) lose(reason string, message *pubsub.Message) {
	i.topics.node.losses.add(directionIn, reason, i.joined.name.text, message.GetFrom().String(), 1)
}
