package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// defaultTopicStall is how long a subscriber may take nothing before it ceases to hold publishers back (topics.stall_ms).
	defaultTopicStall = time.Second
	// maxTopicStall is more than a connection lives without a sign of the peer.
	maxTopicStall = 10 * time.Minute
)

// topicOutboxes know what pubsub has queued for each peer and what it has written. pubsub's own queues are bounded in
// messages only, drop what finds them full, and die in silence with their stream. So publishers wait here before that
// happens, and what dies with a stream is counted.
//
//	          queued: full                written: half empty, or the stream ended
//	open ----------------------> full ------------------------------------------------> open
//	                              |  nothing written for topics.stall_ms
//	                              +--> stalled: holds nobody back; drops are counted, and above the
//	                                   byte bound the stream is reset, which frees what it held
type topicOutboxes struct {
	node  *Node
	full  atomic.Int32 // outboxes that hold publishers back, so that the usual publish takes no lock
	state struct {
		sync.Mutex
		byPeer   map[peer.ID]*topicOutbox
		messages int64               // of all outboxes
		expected map[uint64]struct{} // own messages, by number, that the router has yet to put into outboxes
		room     chan struct{}       // closed and replaced when an outbox ceases to be full
		empty    chan struct{}       // not nil while close waits: closed when no message is left
	}
}

// topicOutbox is what waits for one peer; the lock of topicOutboxes guards it.
type topicOutbox struct {
	messages   int64
	bytes      int64            // of payloads
	byTopic    map[string]int64 // messages
	full       bool
	discarded  bool // its stream was reset to free memory
	progressed time.Time
	stream     *topicStream // nil before it is opened
	carried    bool         // messages were written to it
}

func newTopicOutboxes(n *Node) *topicOutboxes {
	o := &topicOutboxes{node: n}
	o.state.byPeer = map[peer.ID]*topicOutbox{}
	o.state.expected = map[uint64]struct{}{}
	o.state.room = make(chan struct{})
	return o
}

func (o *topicOutboxes) ofLocked(p peer.ID) *topicOutbox {
	box := o.state.byPeer[p]
	if box == nil {
		box = &topicOutbox{byTopic: map[string]int64{}, progressed: time.Now()}
		o.state.byPeer[p] = box
	}
	return box
}

func (o *topicOutboxes) opened(p peer.ID, s *topicStream) {
	o.state.Lock()
	defer o.state.Unlock()
	o.ofLocked(p).stream = s
}

// streamOf answers the stream to a peer; nil: none is open.
func (o *topicOutboxes) streamOf(p peer.ID) *topicStream {
	o.state.Lock()
	defer o.state.Unlock()
	if box := o.state.byPeer[p]; box != nil {
		return box.stream
	}
	return nil
}

// expect notes an own message that is about to go to the router, which works on its own goroutine.
func (o *topicOutboxes) expect(number uint64) {
	o.state.Lock()
	defer o.state.Unlock()
	o.state.expected[number] = struct{}{}
}

// settle ends expect.
func (o *topicOutboxes) settle(notes []receipt) {
	o.state.Lock()
	defer o.state.Unlock()
	for _, note := range notes {
		delete(o.state.expected, note.id)
	}
	o.tellEmptyLocked()
}

// handled ends expect for the messages of an RPC.
func (o *topicOutboxes) handled(rpc *pubsub.RPC) {
	o.state.Lock()
	defer o.state.Unlock()
	o.handledLocked(rpc)
}

func (o *topicOutboxes) handledLocked(rpc *pubsub.RPC) {
	for _, m := range rpc.GetPublish() {
		if peer.ID(m.GetFrom()) == o.node.id {
			delete(o.state.expected, messageNumber(m))
		}
	}
}

// queued notes an RPC that pubsub put into the peer's queue. It runs on pubsub's event loop.
func (o *topicOutboxes) queued(p peer.ID, rpc *pubsub.RPC) {
	messages := rpc.GetPublish()
	if len(messages) == 0 {
		return
	}
	o.state.Lock()
	defer o.state.Unlock()
	box := o.ofLocked(p)
	if box.messages <= 0 {
		box.progressed = time.Now()
	}
	o.state.messages += int64(len(messages))
	box.messages += int64(len(messages))
	for _, m := range messages {
		box.bytes += int64(len(m.GetData()))
		box.byTopic[m.GetTopic()]++
	}
	if o.node.config.Network.FloodSub { // else the batch settles it
		o.handledLocked(rpc)
	}
	o.judgeLocked(box)
	// Forwarded messages are not held back; twice the bound is the end for them too.
	if box.bytes > 2*o.node.config.Limits.SendBytes {
		o.discardLocked(box)
	}
}

// written notes RPCs that the transport took. It may come before queued of the same ones.
func (o *topicOutboxes) written(p peer.ID, frames []byte) {
	o.state.Lock()
	defer o.state.Unlock()
	box := o.state.byPeer[p]
	if box == nil {
		return
	}
	box.progressed = time.Now()
	eachPublished(frames, func(topic []byte, size int) {
		box.carried = true
		o.state.messages--
		box.messages--
		box.bytes -= int64(size)
		if box.byTopic[string(topic)]--; box.byTopic[string(topic)] == 0 {
			delete(box.byTopic, string(topic))
		}
	})
	o.judgeLocked(box)
	o.tellEmptyLocked()
}

// judgeLocked turns an outbox full or open.
func (o *topicOutboxes) judgeLocked(box *topicOutbox) {
	limits := o.node.config.Limits
	most := int64(limits.TopicMessages) / 2 // the rest of pubsub's queue is for what others publish meanwhile
	switch {
	case !box.full && (box.messages >= most || box.bytes >= limits.SendBytes):
		box.full = true
		o.full.Add(1)
	case box.full && box.messages <= most/2 && box.bytes <= limits.SendBytes/2:
		o.openLocked(box)
	}
}

func (o *topicOutboxes) openLocked(box *topicOutbox) {
	if box.full {
		box.full = false
		o.full.Add(-1)
	}
	close(o.state.room)
	o.state.room = make(chan struct{})
}

// discardLocked resets the stream of a peer that takes nothing; ended counts what it held.
func (o *topicOutboxes) discardLocked(box *topicOutbox) {
	if box.discarded || box.stream == nil {
		return
	}
	box.discarded = true
	stream := box.stream
	o.node.spawn("discarding a topic stream", func() { _ = stream.Reset() })
}

// ended counts what pubsub forgot with the peer's stream.
func (o *topicOutboxes) ended(p peer.ID) {
	o.state.Lock()
	box := o.state.byPeer[p]
	delete(o.state.byPeer, p)
	if box == nil {
		o.state.Unlock()
		return
	}
	o.openLocked(box)
	o.state.messages -= box.messages
	o.tellEmptyLocked()
	o.state.Unlock()
	reason := lossPeerClosed
	switch {
	case o.node.ctx.Err() != nil:
		reason = lossNodeClosed
	case box.discarded:
		reason = lossSendQueueFull
	}
	for topic, count := range box.byTopic {
		if count > 0 {
			o.node.losses.add(directionOut, reason, topic, p.String(), uint64(count))
		}
	}
}

// await blocks while a subscriber of the topic has no room but goes on taking.
func (o *topicOutboxes) await(ctx context.Context, t *topic) error {
	for o.full.Load() > 0 {
		room, again := o.check(t)
		if room == nil {
			return nil
		}
		if err := awaitRoom(ctx, room, again, t.name.text); err != nil {
			if errors.Is(err, ErrWouldBlock) {
				o.announce(t)
			}
			return err
		}
	}
	return nil
}

// check answers nil when nobody holds the topic back, else the channel that tells of room and when to look again.
func (o *topicOutboxes) check(t *topic) (room <-chan struct{}, again time.Duration) {
	o.state.Lock()
	defer o.state.Unlock()
	now := time.Now()
	for id, box := range o.state.byPeer {
		if !box.full || !t.hasPeer(id) {
			continue
		}
		left := box.progressed.Add(o.node.config.Topics.Stall).Sub(now)
		if left <= 0 {
			if box.bytes >= o.node.config.Limits.SendBytes {
				o.discardLocked(box)
			}
			continue
		}
		if room == nil || left < again {
			room, again = o.state.room, left
		}
	}
	return room, again
}

func awaitRoom(ctx context.Context, room <-chan struct{}, again time.Duration, channel string) error {
	timer := time.NewTimer(again)
	defer timer.Stop()
	select {
	case <-room:
		return nil
	case <-timer.C:
		return nil
	case <-ctx.Done():
	}
	if err := contextError(ctx, "publishing on "+channel); !errors.Is(err, ErrTimeout) {
		return err
	}
	return fmt.Errorf("%w: the subscribers of %q take messages slower than they are published", ErrWouldBlock, channel)
}

// announce raises a writable event once the topic has room again.
func (o *topicOutboxes) announce(t *topic) {
	if !t.announcing.CompareAndSwap(false, true) {
		return
	}
	o.node.spawn("topic room", func() {
		defer t.announcing.Store(false)
		for {
			room, again := o.check(t)
			if room == nil {
				o.node.events.PushOnce(EventWritable, EventWritable+t.name.text, map[string]any{"channel": t.name.text})
				return
			}
			if awaitRoom(o.node.ctx, room, again, t.name.text) != nil {
				return
			}
		}
	})
}

// close waits until the transport has taken everything and the peers have read it, or for the timeout.
func (o *topicOutboxes) close(timeout time.Duration) {
	ctx, cancel := context.WithTimeout(o.node.ctx, timeout)
	defer cancel()
	o.state.Lock()
	empty := make(chan struct{})
	o.state.empty = empty
	o.tellEmptyLocked()
	o.state.Unlock()
	select {
	case <-empty:
	case <-ctx.Done():
	}
	var finishing sync.WaitGroup
	for _, stream := range o.carriers() {
		finishing.Go(func() { o.node.run("finishing a topic stream", func() { stream.finish(ctx) }) })
	}
	finishing.Wait()
}

// carriers are the streams that messages were written to.
func (o *topicOutboxes) carriers() []*topicStream {
	o.state.Lock()
	defer o.state.Unlock()
	var streams []*topicStream
	for _, box := range o.state.byPeer {
		if box.carried && box.stream != nil {
			streams = append(streams, box.stream)
		}
	}
	return streams
}

func (o *topicOutboxes) tellEmptyLocked() {
	if o.state.empty != nil && o.state.messages <= 0 && len(o.state.expected) == 0 {
		close(o.state.empty)
		o.state.empty = nil
	}
}

// endAll counts what is left when the node has closed.
func (o *topicOutboxes) endAll() {
	o.state.Lock()
	left := slices.Collect(maps.Keys(o.state.byPeer))
	o.state.Unlock()
	for _, p := range left {
		o.ended(p)
	}
}
