package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// maxIdleOutboxes bounds the empty outboxes kept for one peer.
	maxIdleOutboxes = 1024
	// maxChatStreams bounds the chat streams that one peer may hold open towards us.
	maxChatStreams = 16
)

// errRetired tells a sender to fetch the peer's link again.
var errRetired = errors.New("link retired")

// A link is everything this node keeps to exchange direct messages with one peer: an outbox per channel, the streams, and
// one writer goroutine that starts with the first message. On the chat protocol all channels of a peer share the one
// stream that is written, hence one writer for all outboxes, which it serves in turn.
//
//	idle --first message--> writing --node or peer closes--> draining --queue empty or deadline--> retired
//	  ^---- queue empty ------/                                 idle and disconnected ------------------^
type link struct {
	node *Node
	peer peer.ID
	wake chan struct{} // holds one token when the writer has something to look at

	state struct {
		sync.Mutex
		boxes   map[string]*outbox
		ready   []*outbox     // with chunks, in turn
		bytes   int64         // of waiting frames, also those being copied
		writer  bool          // the writer goroutine runs
		serving bool          // a chunk is being written, by the writer or by a sender
		ended   chan struct{} // closed when the writer that was started last has ended
		closing error         // not nil: takes nothing any more, for this reason
		retired bool
		room    chan struct{} // closed when room appears; nil when nobody waits

		lastSend time.Time // when a small message was taken
		aside    bool      // it was a lone one that the writer has to write: stepAside

		current *chatStream // the one that is written
		streams map[*chatStream]struct{}
	}
	ctx    context.Context
	cancel context.CancelCauseFunc
}

func newLink(n *Node, id peer.ID) *link {
	l := &link{node: n, peer: id, wake: make(chan struct{}, 1)}
	l.ctx, l.cancel = context.WithCancelCause(n.ctx)
	l.state.boxes = map[string]*outbox{}
	l.state.streams = map[*chatStream]struct{}{}
	return l
}

func (l *link) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// enqueue takes one message for the channel, waiting for room until ctx ends. With fate it also registers for what becomes
// of the message.
func (l *link) enqueue(ctx context.Context, channel string, payload []byte, fate bool) (settleWaiter, error) {
	frame := frameHeader{channel}
	size := frame.size(len(payload))
	l.state.Lock()
	defer unlockAside(&l.state, &l.state.aside)
	box, err := l.roomLocked(ctx, channel, size)
	if err != nil {
		return settleWaiter{}, err
	}
	l.state.bytes += int64(size)
	if size < soloBytes {
		box.appendSmall(frame, payload)
	} else if err := l.appendLargeLocked(box, frame, payload); err != nil {
		return settleWaiter{}, err
	}
	box.accepted++
	waiter := settleWaiter{}
	if fate {
		waiter = box.awaitFate(false)
	}
	if size >= soloBytes || !l.sendLoneLocked(box) {
		l.scheduleLocked(box)
	}
	return waiter, nil
}

// appendLargeLocked copies a large payload without holding the lock.
func (l *link) appendLargeLocked(box *outbox, frame frameHeader, payload []byte) error {
	box.filling++
	l.state.Unlock()
	buffer := frame.appendTo(l.node.memory.Get(frame.size(len(payload)))[:0], payload)
	l.state.Lock()
	box.filling--
	if l.state.retired {
		l.node.memory.Put(buffer)
		return errRetired
	}
	box.chunks = append(box.chunks, chunk{frames: buffer, messages: 1})
	return nil
}

func (l *link) roomLocked(ctx context.Context, channel string, size int) (*outbox, error) {
	for {
		s := &l.state
		switch {
		case s.retired:
			return nil, errRetired
		case s.closing != nil:
			return nil, s.closing
		}
		box := l.boxLocked(channel)
		if l.fitsLocked(box, size) {
			return box, nil
		}
		if err := ctx.Err(); err != nil {
			if errors.Is(context.Cause(ctx), ErrClosed) {
				return nil, ErrClosed
			}
			box.wantRoom = true
			return nil, fmt.Errorf("%w: %d messages and %d bytes wait to be sent to %s; wait for the writable event or give a longer timeout",
				ErrWouldBlock, box.waiting(), s.bytes, l.peer)
		}
		l.waitForRoomLocked(ctx)
	}
}

func (l *link) fitsLocked(box *outbox, size int) bool {
	limits := l.node.config.Limits
	if box.waiting() >= uint64(limits.SendMessages) {
		return false
	}
	return l.state.bytes == 0 || l.state.bytes+int64(size) <= limits.SendBytes
}

func (l *link) waitForRoomLocked(ctx context.Context) {
	s := &l.state
	if s.room == nil {
		s.room = make(chan struct{})
	}
	room := s.room
	s.Unlock()
	select {
	case <-room:
	case <-ctx.Done():
	}
	s.Lock()
}

func (l *link) boxLocked(channel string) *outbox {
	s := &l.state
	box := s.boxes[channel]
	if box == nil {
		if len(s.boxes) >= maxIdleOutboxes {
			l.forgetIdleLocked()
		}
		box = &outbox{channel: channel}
		s.boxes[channel] = box
	}
	return box
}

func (l *link) forgetIdleLocked() {
	for channel, box := range l.state.boxes {
		if box.idle() {
			delete(l.state.boxes, channel)
		}
	}
}

// scheduleLocked puts the outbox into the writer's list and starts the writer when it does not run.
func (l *link) scheduleLocked(box *outbox) {
	s := &l.state
	if !box.queued {
		box.queued = true
		s.ready = append(s.ready, box)
	}
	l.startWriterLocked()
}

// startWriterLocked makes sure that a writer looks at the list.
func (l *link) startWriterLocked() {
	s := &l.state
	if !s.writer {
		s.writer = true
		ended := make(chan struct{})
		s.ended = ended
		if !l.node.spawn("writer", func() { defer close(ended); l.write() }) {
			s.writer = false
			close(ended)
			l.failLocked(ErrClosed, lossNodeClosed)
			return
		}
	}
	l.poke()
}

// flush waits until everything that the channel holds now is settled.
func (l *link) flush(ctx context.Context, channel string) error {
	l.state.Lock()
	box := l.state.boxes[channel]
	if box == nil {
		l.state.Unlock()
		return nil
	}
	fate := box.awaitFate(true)
	l.state.Unlock()
	return fate.wait(ctx)
}

// settledLocked gives the room of written or lost frames back and tells those who wait for it. Waking at half of the bounds
// keeps a fast sender from being woken for every single message.
func (l *link) settledLocked(box *outbox, bytes int) {
	s := &l.state
	limits := l.node.config.Limits
	s.bytes -= int64(bytes)
	if s.bytes > limits.SendBytes/2 || box.waiting() > uint64(limits.SendMessages)/2 {
		return
	}
	l.announceRoomLocked()
	for _, other := range s.boxes {
		if other.wantRoom && other.waiting() <= uint64(limits.SendMessages)/2 {
			other.wantRoom = false
			l.node.events.PushOnce(EventWritable, EventWritable+other.channel, map[string]any{"channel": other.channel})
		}
	}
}

func (l *link) announceRoomLocked() {
	if l.state.room != nil {
		close(l.state.room)
		l.state.room = nil
	}
}

// failLocked counts everything that waits as lost.
func (l *link) failLocked(err error, reason string) {
	for _, box := range l.state.ready {
		box.queued = false
		keep := 0
		if box.busy {
			keep = 1 // the writer settles the chunk in its hands
		}
		for _, c := range box.chunks[keep:] {
			l.loseLocked(box, c, c.messages, err, reason)
			l.release(c)
		}
		clear(box.chunks[keep:])
		box.chunks = box.chunks[:keep]
	}
	l.state.ready = nil
	l.announceRoomLocked()
}

func (l *link) loseLocked(box *outbox, c chunk, messages uint64, err error, reason string) {
	box.settle(messages, err)
	l.settledLocked(box, len(c.frames))
	l.node.losses.add(directionOut, reason, box.channel, l.peer.String(), messages)
}

func (l *link) release(c chunk) {
	if c.small {
		chunkBuffers.put(c.frames)
	} else {
		l.node.memory.Put(c.frames)
	}
}

// connected tells whether the peer can be reached without dialling.
func (l *link) connected() bool {
	return l.node.webrtc.writable(l.peer) != nil || l.node.isConnected(l.peer)
}

// address is where the stream leads that the link writes now; "" when there is none, or a WebRTC session carries the messages.
func (l *link) address() string {
	if l.node.webrtc.writable(l.peer) != nil {
		return ""
	}
	l.state.Lock()
	defer l.state.Unlock()
	if l.state.current == nil {
		return ""
	}
	return l.state.current.Conn().RemoteMultiaddr().String()
}

func (n *Node) isConnected(id peer.ID) bool {
	switch n.host.Network().Connectedness(id) {
	case network.Connected, network.Limited:
		return true
	}
	return false
}

// gone tells whether the link takes no messages any more.
func (l *link) gone() bool {
	l.state.Lock()
	defer l.state.Unlock()
	return l.state.retired || l.state.closing != nil
}

// close takes no more messages, lets those that wait leave until the deadline, half-closes the streams and retires the link.
// It resets none: peers of the existing network redial when that happens (P2P-13). The caller closes the connections, which
// ends what is left, a write in progress included.
func (l *link) close(reason error, lossReason string, patience time.Duration) {
	ctx, cancel := context.WithTimeout(l.ctx, patience)
	defer cancel()
	l.state.Lock()
	if l.state.closing == nil {
		l.state.closing = reason
	}
	l.announceRoomLocked()
	l.state.Unlock()
	l.drain(ctx)
	l.endStreams(ctx)
	l.cancel(reason) // before the streams end, so that the writer opens no new one
	l.state.Lock()
	l.failLocked(reason, lossReason)
	l.retireLocked(reason)
	l.state.Unlock()
}

// awaitWriter waits until the writer has ended, so that every loss is counted.
func (l *link) awaitWriter(patience time.Duration) {
	l.state.Lock()
	ended := l.state.ended
	l.state.Unlock()
	if ended == nil {
		return
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
	}
}

// drain waits until nothing waits to be written.
func (l *link) drain(ctx context.Context) {
	l.state.Lock()
	var fates []settleWaiter
	for _, box := range l.state.boxes {
		fates = append(fates, box.awaitFate(true))
	}
	l.state.Unlock()
	for _, fate := range fates {
		_ = fate.wait(ctx) // what did not leave is counted by failLocked
	}
}

// abandon ends the writer of a peer that is gone, unless something waits, and answers whether it did.
func (l *link) abandon() bool {
	l.state.Lock()
	defer l.state.Unlock()
	if len(l.state.ready) > 0 {
		return false
	}
	l.state.writer = false
	l.retireUnusedLocked()
	return true
}

// retireUnused retires a link that holds nothing.
func (l *link) retireUnused() {
	l.state.Lock()
	defer l.state.Unlock()
	l.retireUnusedLocked()
}

func (l *link) retireUnusedLocked() {
	if !l.state.writer && len(l.state.ready) == 0 && len(l.state.streams) == 0 {
		l.retireLocked(ErrPeerClosed)
	}
}

// peerGone is called when the peer's last connection has ended: the writer, or else the link itself, may end.
func (l *link) peerGone() {
	l.poke()
	l.retireUnused()
}

func (l *link) retireLocked(reason error) {
	l.state.retired = true
	l.announceRoomLocked()
	l.cancel(reason)
	l.node.links.remove(l)
}

// links finds the link of a peer.
type links struct {
	node  *Node
	state struct {
		sync.RWMutex
		byPeer map[peer.ID]*link
		closed bool
	}
}

func newLinks(n *Node) *links {
	ls := &links{node: n}
	ls.state.byPeer = map[peer.ID]*link{}
	return ls
}

func (ls *links) find(id peer.ID) *link {
	ls.state.RLock()
	defer ls.state.RUnlock()
	return ls.state.byPeer[id]
}

// obtain answers the peer's link, making it when there is none; nil once the node closes.
func (ls *links) obtain(id peer.ID) *link {
	if l := ls.find(id); l != nil {
		return l
	}
	ls.state.Lock()
	defer ls.state.Unlock()
	if ls.state.closed {
		return nil
	}
	l := ls.state.byPeer[id]
	if l == nil {
		l = newLink(ls.node, id)
		ls.state.byPeer[id] = l
	}
	return l
}

func (ls *links) remove(l *link) {
	ls.state.Lock()
	defer ls.state.Unlock()
	if ls.state.byPeer[l.peer] == l {
		delete(ls.state.byPeer, l.peer)
	}
}

func (ls *links) all() []*link {
	ls.state.RLock()
	defer ls.state.RUnlock()
	return slices.Collect(maps.Values(ls.state.byPeer))
}

// close drains and ends every link at the same time.
func (ls *links) close(patience time.Duration) {
	ls.state.Lock()
	ls.state.closed = true
	ls.state.Unlock()
	var group sync.WaitGroup
	for _, l := range ls.all() {
		group.Go(func() {
			defer ls.node.recoverPanic("closing a link")
			l.close(ErrClosed, lossNodeClosed, patience)
		})
	}
	group.Wait()
}
