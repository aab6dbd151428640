package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
)

const (
	// streamOpenTimeout bounds opening a chat stream, dialling included (GEN-06).
	streamOpenTimeout = 20 * time.Second
	// writeTimeout bounds one write. It exceeds chatBlockTimeout, so that a peerbus receiver whose queue is full gives up
	// before its sender does.
	writeTimeout = 30 * time.Second
	// writePiece is how much of a large frame that deadline is for.
	writePiece = 1 << 20
)

// write is the writer goroutine: it serves the outboxes in turn, one chunk each, until the link ends.
func (l *link) write() {
	for {
		l.leaveRelay()
		box, c := l.next()
		if box == nil {
			if l.idle() {
				continue
			}
			return
		}
		sent, err := l.deliver(c)
		l.settle(box, c, sent, err)
	}
}

// next takes the first chunk of the next outbox, or nil when nothing waits. The outbox keeps the chunk until it is settled.
func (l *link) next() (*outbox, chunk) {
	l.state.Lock()
	defer l.state.Unlock()
	s := &l.state
	if len(s.ready) == 0 || s.serving {
		return nil, chunk{}
	}
	s.serving = true
	box := s.ready[0]
	s.ready[0] = nil
	s.ready = s.ready[1:]
	box.busy = true
	return box, box.chunks[0]
}

// idle waits for work. It answers false when the writer shall end: the link is over, or the peer is gone and nothing waits.
func (l *link) idle() bool {
	if !l.connected() {
		return !l.abandon()
	}
	select {
	case <-l.wake:
		return true
	case <-l.ctx.Done():
		return false
	}
}

func (l *link) settle(box *outbox, c chunk, sent delivery, err error) {
	l.state.Lock()
	defer l.state.Unlock()
	box.busy, l.state.serving = false, false
	box.chunks[0] = chunk{}
	box.chunks = box.chunks[1:]
	if len(box.chunks) > 0 {
		l.state.ready = append(l.state.ready, box)
	} else {
		box.queued = false
		box.chunks = nil
	}
	l.node.traffic.sent(sent.messages, sent.bytes)
	box.settle(sent.messages, nil)
	if err == nil {
		l.settledLocked(box, len(c.frames))
	} else {
		reason := lossReason(err)
		l.loseLocked(box, c, c.messages-sent.messages, err, reason)
		if errors.Is(err, errNoStream) {
			l.failLocked(err, reason)
		}
	}
	l.release(c)
}

// errNoStream marks failures that hit every message for the peer alike.
var errNoStream = errors.New("no stream to the peer")

// delivery is what the transport took of a chunk, in whole frames.
type delivery struct {
	messages uint64
	bytes    int
}

// deliver writes a chunk, by an open WebRTC session or else by stream, and answers what the transport took.
func (l *link) deliver(c chunk) (delivery, error) {
	sent, err := l.deliverByWebRTC(c)
	if !errors.Is(err, errNoSession) {
		return sent, err
	}
	rest, err := l.deliverByStream(c.after(sent))
	return delivery{sent.messages + rest.messages, sent.bytes + rest.bytes}, err
}

// deliverByStream tries a write that fails on a stream that was there before once more on a fresh one, from the first frame
// that was not taken; not when the peer let the deadline pass, because a fresh stream only hides that until its window is
// full, too.
func (l *link) deliverByStream(c chunk) (delivery, error) {
	stream, reused, err := l.stream()
	if err != nil {
		return delivery{}, err
	}
	sent, err := l.writeChunk(stream, c)
	if err == nil || !reused || l.ctx.Err() != nil || errors.Is(err, ErrTimeout) {
		return sent, err
	}
	fresh, err := l.open()
	if err != nil {
		return sent, err
	}
	rest, err := l.writeChunk(fresh, c.after(sent))
	return delivery{sent.messages + rest.messages, sent.bytes + rest.bytes}, err
}

// writeChunk discards a stream that fails.
func (l *link) writeChunk(stream *chatStream, c chunk) (delivery, error) {
	n, err := stream.write(c.frames, l.node.writeTimeout)
	if err == nil {
		return delivery{c.messages, len(c.frames)}, nil
	}
	l.discard(stream)
	messages, bytes := framesWithin(c.frames, n)
	return delivery{messages, bytes}, l.writeError(err)
}

func (l *link) writeError(err error) error {
	if l.ctx.Err() != nil {
		return contextError(l.ctx, "writing")
	}
	if isDeadline(err) {
		return fmt.Errorf("%w: %s took nothing for %s", ErrTimeout, l.peer, l.node.writeTimeout)
	}
	return fmt.Errorf("%w: writing to %s: %v", ErrPeerClosed, l.peer, err)
}

func lossReason(err error) string {
	switch {
	case errors.Is(err, ErrClosed):
		return lossNodeClosed
	case errors.Is(err, ErrTimeout):
		return lossTimeout
	}
	return lossPeerClosed
}

// stream answers the stream to write on, opening one when there is none, and whether it was there before.
func (l *link) stream() (stream *chatStream, reused bool, err error) {
	l.state.Lock()
	stream = l.state.current
	if stream != nil {
		stream.written = true
	}
	l.state.Unlock()
	if stream != nil {
		return stream, true, nil
	}
	stream, err = l.open()
	return stream, false, err
}

func (l *link) open() (*chatStream, error) {
	ctx, cancel := context.WithTimeout(network.WithAllowLimitedConn(l.ctx, "chat"), streamOpenTimeout)
	defer cancel()
	raw, err := l.node.host.NewStream(ctx, l.peer, ChatProtocol)
	if err != nil {
		return nil, l.openError(ctx, err)
	}
	stream := newChatStream(raw)
	stream.written = true
	if err := l.attach(stream); err != nil {
		_ = raw.Reset()
		return nil, l.openError(ctx, err)
	}
	l.node.peers.markApplication(l.peer)
	if !l.node.spawn("chat reader", func() { l.read(stream) }) {
		l.discard(stream)
		return nil, fmt.Errorf("%w: %w", errNoStream, ErrClosed)
	}
	return stream, nil
}

func (l *link) openError(ctx context.Context, err error) error {
	switch {
	case l.ctx.Err() != nil:
		return fmt.Errorf("%w: %w", errNoStream, contextError(l.ctx, "opening a stream"))
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w: opening a stream to %s took longer than %s", errNoStream, ErrTimeout, l.peer, streamOpenTimeout)
	}
	return fmt.Errorf("%w: %w: opening a stream to %s: %v", errNoStream, dialFailure(err), l.peer, err)
}
