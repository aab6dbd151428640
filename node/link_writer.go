package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
)

const (
	// streamOpenTimeout bounds opening a chat stream, dialling included (GEN-06).
	streamOpenTimeout = 20 * time.Second
	// writeTimeout bounds one write. It exceeds chatBlockTimeout, so that a peerbus receiver whose queue is full gives up
	// before its sender does.
	writeTimeout = 30 * time.Second
)

// write is the writer goroutine: it serves the outboxes in turn, one chunk each, until the link ends.
func (l *link) write() {
	for {
		box, c := l.next()
		if box == nil {
			if l.idle() {
				continue
			}
			return
		}
		sent, err := l.deliver(c.frames, c.messages)
		l.settle(box, c, sent, err)
	}
}

// next takes the first chunk of the next outbox, or nil when nothing waits. The outbox keeps the chunk until it is settled.
func (l *link) next() (*outbox, chunk) {
	l.state.Lock()
	defer l.state.Unlock()
	s := &l.state
	if len(s.ready) == 0 {
		return nil, chunk{}
	}
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

func (l *link) settle(box *outbox, c chunk, sent uint64, err error) {
	l.state.Lock()
	defer l.state.Unlock()
	box.busy = false
	box.chunks[0] = chunk{}
	box.chunks = box.chunks[1:]
	if len(box.chunks) > 0 {
		l.state.ready = append(l.state.ready, box)
	} else {
		box.queued = false
		box.chunks = nil
	}
	l.node.traffic.sent(sent, len(c.frames))
	box.settle(sent, nil)
	if err == nil {
		l.settledLocked(box, len(c.frames))
	} else {
		reason := lossReason(err)
		l.loseLocked(box, c, c.messages-sent, err, reason)
		if errors.Is(err, errNoStream) {
			l.failLocked(err, reason)
		}
	}
	l.release(c)
}

// errNoStream marks failures that hit every message for the peer alike.
var errNoStream = errors.New("no stream to the peer")

// deliver writes whole frames and answers how many of them the transport took. A write that fails on a stream that was
// used before is tried once more on a fresh one, from the first frame that was not taken.
func (l *link) deliver(frames []byte, messages uint64) (uint64, error) {
	stream, reused, err := l.stream()
	if err != nil {
		return 0, err
	}
	n, err := stream.write(frames)
	if err == nil {
		return messages, nil
	}
	l.discard(stream)
	sent, end := framesWithin(frames, n)
	if !reused || sent == messages || l.ctx.Err() != nil {
		return sent, l.writeError(err)
	}
	fresh, _, openErr := l.stream()
	if openErr != nil {
		return sent, openErr
	}
	n, err = fresh.write(frames[end:])
	if err == nil {
		return messages, nil
	}
	l.discard(fresh)
	again, _ := framesWithin(frames[end:], n)
	return sent + again, l.writeError(err)
}

func (l *link) writeError(err error) error {
	if l.ctx.Err() != nil {
		return contextError(l.ctx, "writing")
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%w: %s took nothing for %s", ErrTimeout, l.peer, writeTimeout)
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

// stream answers the stream to write on, opening one when there is none, and whether it was written before.
func (l *link) stream() (*chatStream, bool, error) {
	l.state.Lock()
	current := l.state.current
	reused := false
	if current != nil {
		reused = current.written
		current.written = true
	}
	l.state.Unlock()
	if current != nil {
		return current, reused, nil
	}
	opened, err := l.open()
	return opened, false, err
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
		return nil, err
	}
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
