package node

import (
	"context"
	"errors"
	"fmt"
)

const (
	// coalesceBytes is how much of small frames travels in one write: one TLS record burst, and little enough that other
	// channels of the peer get their turn.
	coalesceBytes = 64 << 10
	// soloBytes is the frame size from which a frame gets a buffer, and a write, of its own.
	soloBytes = 16 << 10
)

// An outbox holds what waits to be sent on one (peer, channel), already framed. Small frames are appended to the last
// chunk, so that a burst leaves in few writes and costs no allocation per message. Its link's lock guards it.
//
//	accepted: messages taken from the host   settled: those of them whose fate is known   lost: settled, but not sent
//
// accepted >= settled >= lost always; accepted - settled messages wait.
type outbox struct {
	channel string
	chunks  []chunk

	accepted, settled, lost uint64

	filling  uint64         // messages that have their room and are being copied
	waiters  []settleWaiter // in order of upTo
	wantRoom bool           // raise a writable event when room appears
	busy     bool           // its first chunk is being written
	queued   bool           // in the writer's list
}

// chunk is a run of whole frames.
type chunk struct {
	frames   []byte
	messages uint64
	small    bool // of chunkBuffers, not of Memory
}

// after is what remains of the chunk once that much of it was delivered.
func (c chunk) after(sent delivery) chunk {
	return chunk{frames: c.frames[sent.bytes:], messages: c.messages - sent.messages}
}

// settleWaiter waits for the fate of message number upTo, or of all the waiting ones up to it.
type settleWaiter struct {
	upTo       uint64
	all        bool
	lostBefore uint64
	done       chan error
}

func (b *outbox) waiting() uint64 { return b.accepted - b.settled + b.filling }

func (b *outbox) idle() bool { return b.waiting() == 0 && !b.wantRoom && !b.queued }

// tailFits tells whether a frame may join the last chunk. The first chunk of a busy outbox belongs to the writer.
func (b *outbox) tailFits(frame int) bool {
	last := len(b.chunks) - 1
	if last < 0 || (b.busy && last == 0) || frame >= soloBytes {
		return false
	}
	tail := b.chunks[last].frames
	return len(tail)+frame <= cap(tail)
}

func (b *outbox) appendSmall(frame frameHeader, payload []byte) {
	if !b.tailFits(frame.size(len(payload))) {
		b.chunks = append(b.chunks, chunk{frames: chunkBuffers.get(), small: true})
	}
	tail := &b.chunks[len(b.chunks)-1]
	tail.frames = frame.appendTo(tail.frames, payload)
	tail.messages++
}

// settle notes the fate of the next count messages and tells who waits for it.
func (b *outbox) settle(count uint64, err error) {
	b.settled += count
	if err != nil {
		b.lost += count
	}
	for len(b.waiters) > 0 && b.waiters[0].upTo <= b.settled {
		waiter := b.waiters[0]
		b.waiters = b.waiters[1:]
		if err == nil && waiter.all && b.lost > waiter.lostBefore {
			waiter.done <- fmt.Errorf("%w: %d messages on %q were lost", ErrPeerClosed, b.lost-waiter.lostBefore, b.channel)
		} else {
			waiter.done <- err
		}
	}
}

// awaitFate registers for the fate of everything accepted so far, or else only of the message accepted last.
func (b *outbox) awaitFate(all bool) settleWaiter {
	waiter := settleWaiter{upTo: b.accepted, all: all, lostBefore: b.lost, done: make(chan error, 1)}
	if b.settled == b.accepted {
		waiter.done <- nil
	} else {
		b.waiters = append(b.waiters, waiter)
	}
	return waiter
}

// wait blocks until the messages are settled or ctx ends.
func (w settleWaiter) wait(ctx context.Context) error {
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		return contextError(ctx, "waiting for the transport to take the messages")
	}
}

// contextError turns the end of a context into this package's errors.
func contextError(ctx context.Context, doing string) error {
	cause := context.Cause(ctx)
	switch {
	case errors.Is(cause, ErrClosed), errors.Is(cause, ErrCancelled), errors.Is(cause, ErrPeerClosed):
		return cause
	case errors.Is(cause, context.DeadlineExceeded):
		return fmt.Errorf("%w: %s", ErrTimeout, doing)
	}
	return fmt.Errorf("%w: %s", ErrCancelled, doing)
}
