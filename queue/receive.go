package queue

import "context"

// receiver is a blocked Receive.
type receiver struct {
	channel     string
	wake        chan struct{} // closed by whoever wakes it; nil: rouse
	rouse       func()        // called by whoever wakes it, without the lock
	interrupted bool
	unheard     link[receiver] // in Queue.mu.receivers until it is woken
	blocked     link[receiver] // in Queue.mu.receiving until it holds the lock again
}

// Receive waits until a message of the channel is there ("" is all channels) and takes like Take. It returns ErrInterrupted
// after Interrupt, ErrClosed after Close, or the error of a context that ended; it takes nothing then. A context that has ended
// already makes it a Take that heeds Interrupt and Close.
func (q *Queue) Receive(ctx context.Context, channel string, max int, maxBytes int64) ([]Message, error) {
	return q.ReceiveAppend(ctx, nil, channel, max, maxBytes)
}

// ReceiveAppend is Receive into dst, which the caller may use again and again. With an error dst comes back as it was.
func (q *Queue) ReceiveAppend(ctx context.Context, dst []Message, channel string, max int, maxBytes int64) ([]Message, error) {
	q.mu.Lock()
	defer q.unlock()
	before := len(dst)
	for {
		dst = q.takeLocked(dst, channel, max, maxBytes)
		if len(dst) > before {
			return dst, nil
		}
		if err := q.endReceiveLocked(ctx); err != nil {
			return dst, err
		}
		if q.blockLocked(ctx, channel) {
			return dst, ErrInterrupted
		}
	}
}

// Wait is Receive that takes nothing: it returns nil as soon as a message of the channel is there.
func (q *Queue) Wait(ctx context.Context, channel string) error {
	q.mu.Lock()
	defer q.unlock()
	for {
		if q.waitsLocked(channel) {
			q.wakeFirstLocked(channel) // the wake-up, if there was one, was for one who takes
			return nil
		}
		if err := q.endReceiveLocked(ctx); err != nil {
			return err
		}
		if q.blockLocked(ctx, channel) {
			return ErrInterrupted
		}
	}
}

func (q *Queue) waitsLocked(channel string) bool {
	if channel == "" {
		return q.mu.messages > 0
	}
	ch := q.mu.channels[channel]
	return ch != nil && ch.n > 0
}

// endReceiveLocked returns why a Receive that finds nothing must not block.
func (q *Queue) endReceiveLocked(ctx context.Context) error {
	if q.mu.closed {
		return ErrClosed
	}
	if q.mu.interrupted {
		q.mu.interrupted = false
		return ErrInterrupted
	}
	return ctx.Err()
}

// blockLocked releases the lock until something may have come, and reports whether Interrupt ended the wait.
func (q *Queue) blockLocked(ctx context.Context, channel string) (interrupted bool) {
	r := &receiver{channel: channel, wake: make(chan struct{})}
	q.listenLocked(r)
	q.unlock()
	select {
	case <-r.wake:
	case <-ctx.Done():
	}
	q.mu.Lock()
	q.unblockLocked(r)
	return r.interrupted
}

func (q *Queue) listenLocked(r *receiver) {
	r.unheard.owner, r.blocked.owner = r, r
	q.mu.receiving.pushBack(&r.blocked)
	waiting := q.mu.receivers[r.channel]
	if waiting == nil {
		waiting = new(list[receiver])
		q.mu.receivers[r.channel] = waiting
	}
	waiting.pushBack(&r.unheard)
}

// unblockLocked passes no wake-up on: who was woken takes, unless interrupted, and then all that were blocked are.
func (q *Queue) unblockLocked(r *receiver) {
	r.blocked.remove()
	q.unhearLocked(r)
}

func (q *Queue) unhearLocked(r *receiver) {
	r.unheard.remove()
	if waiting := q.mu.receivers[r.channel]; waiting != nil && waiting.n == 0 {
		delete(q.mu.receivers, r.channel)
	}
}

// wakeReceiversLocked is called for each message that comes. Each wakes one receiver of its channel and one of all channels,
// so that many receivers do not run for one message.
func (q *Queue) wakeReceiversLocked(channel string) {
	q.wakeFirstLocked("")
	if channel != "" {
		q.wakeFirstLocked(channel)
	}
}

func (q *Queue) wakeFirstLocked(channel string) {
	if waiting := q.mu.receivers[channel]; waiting != nil {
		r := waiting.first.owner
		q.unhearLocked(r)
		if r.wake == nil {
			after := q.afterLocked()
			after.roused = append(after.roused, r.rouse)
			return
		}
		close(r.wake)
	}
}

// Interrupt makes every Receive that is blocked right now return ErrInterrupted. If none is, the next one that finds nothing does;
// interrupting again before that changes nothing.
func (q *Queue) Interrupt() {
	q.mu.Lock()
	defer q.unlock()
	if q.mu.receiving.n == 0 {
		q.mu.interrupted = !q.mu.closed
		return
	}
	for k := q.mu.receiving.first; k != nil; k = k.next {
		k.owner.interrupted = true
	}
	q.endReceiversLocked()
}

// endReceiversLocked wakes all receivers.
func (q *Queue) endReceiversLocked() {
	for channel := range q.mu.receivers {
		for q.mu.receivers[channel] != nil {
			q.wakeFirstLocked(channel)
		}
	}
}
