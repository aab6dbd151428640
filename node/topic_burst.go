package node

import (
	"sync"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
)

const (
	// publicationGatherBytes are handed to the router at least in a burst of single publications, or else what came within
	// publicationGatherTime.
	publicationGatherBytes = 32 << 10
	publicationGatherTime  = 4 * time.Millisecond
	// publicationGap is how soon after an answer the next publication comes in a burst: a publisher that has a pace of its own, however
	// fast, is not held up.
	publicationGap = 200 * time.Microsecond
)

// topicBurst hands single publications that follow each other fast to the router together, as if they were a list: one pass through its
// event loop, one RPC and one write for each subscriber. A lone publication goes at once.
type topicBurst struct {
	topics *topics
	state  struct {
		sync.Mutex // also while a message is signed: what waits keeps its order
		pace       rpcPace
		batch      *pubsub.MessageBatch
		waiting    []waitingPublication // in the batch
		bytes      int
		due        bool // flush will come
	}
}

type waitingPublication struct {
	receipt
	topic string
}

// publish takes one message, and answers when it waits for the router or is with it.
func (b *topicBurst) publish(joined *topic, payloads [][]byte, peers int) ([]receipt, error) {
	b.state.Lock()
	defer b.state.Unlock()
	defer func() { b.state.pace.last = time.Now() }()
	if !b.state.pace.burst(time.Now(), publicationGap) && len(b.state.waiting) == 0 {
		b.state.Unlock()
		defer b.state.Lock()
		return b.topics.publishBatched(joined, payloads, peers)
	}
	note, err := b.addLocked(joined, payloads[0])
	if err != nil {
		return nil, err
	}
	if b.state.bytes >= publicationGatherBytes {
		b.flushLocked()
	} else if !b.state.due {
		b.state.due = true
		time.AfterFunc(publicationGatherTime, func() { b.topics.node.run("publication burst", b.flush) })
	}
	return []receipt{note}, nil
}

func (b *topicBurst) addLocked(joined *topic, payload []byte) (receipt, error) {
	if b.state.batch == nil {
		b.state.batch = &pubsub.MessageBatch{}
	}
	note := &receipt{expected: true}
	if err := b.topics.addTo(b.state.batch, joined, payload, note); err != nil {
		return receipt{}, err
	}
	b.state.waiting = append(b.state.waiting, waitingPublication{*note, joined.name.text})
	b.state.bytes += len(payload)
	return *note, nil
}

// flush ends the wait of what was gathered.
func (b *topicBurst) flush() {
	b.state.Lock()
	defer b.state.Unlock()
	b.state.due = false
	b.flushLocked()
}

func (b *topicBurst) flushLocked() {
	batch, waiting := b.state.batch, b.state.waiting
	b.state.batch, b.state.waiting, b.state.bytes = nil, nil, 0
	if len(waiting) == 0 {
		return
	}
	notes := make([]receipt, len(waiting))
	for i, one := range waiting {
		notes[i] = one.receipt
	}
	if b.topics.handOver(batch, notes) == nil {
		return
	}
	for _, one := range waiting { // the router has ended: the node closes
		b.topics.node.losses.add(directionOut, lossNodeClosed, one.topic, "", 1)
	}
}
