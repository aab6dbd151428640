package queue

import (
	"context"
	"time"
)

// Put gives one message to the queue. Under Block it waits for room, at most maxWait (not positive: not at all).
//
// It returns nil if the message was stored, ErrFull if it was dropped, ErrClosed, or the error of a context that ended while it
// waited. Whatever it returns, the message is no longer the caller's: it is stored, or counted and freed.
func (q *Queue) Put(ctx context.Context, m Message, maxWait time.Duration) error {
	one := [1]Message{m}
	return q.PutBatch(ctx, one[:], maxWait)
}

// PutBatch does what Put would do for each message in turn, with one lock and one wake-up for all that fit at once. maxWait is
// for each message. It returns an error if any message was lost: ErrClosed or the context's error before ErrFull.
//
// It does not keep ms.
func (q *Queue) PutBatch(ctx context.Context, ms []Message, maxWait time.Duration) error {
	c := call{ctx: ctx, maxWait: maxWait}
	q.mu.Lock()
	defer q.unlock()
	for len(ms) > 0 {
		n := runLength(ms)
		for run := ms[:n]; len(run) > 0; {
			run = run[q.putRunLocked(&c, run):]
		}
		ms = ms[n:]
	}
	return c.err
}

// call is one PutBatch.
type call struct {
	ctx     context.Context
	maxWait time.Duration
	err     error
}

func (c *call) fail(err error) {
	if c.err == nil || c.err == ErrFull {
		c.err = err
	}
}

// runLength counts the leading messages of one peer on one channel: they share every lookup and, if need be, one wait.
func runLength(ms []Message) int {
	for i := 1; i < len(ms); i++ {
		if ms[i].Channel != ms[0].Channel || ms[i].From != ms[0].From {
			return i
		}
	}
	return len(ms)
}

// putRunLocked settles the first messages of a run, at least one, and returns how many. To wait it releases the lock, so
// nothing looked up before holds after.
func (q *Queue) putRunLocked(c *call, run []Message) (settled int) {
	if q.mu.closed {
		for i := range run {
			q.loseArrivalLocked(nil, &run[i], NodeClosed)
		}
		c.fail(ErrClosed)
		return len(run)
	}
	ch, p := q.channelLocked(run[0].Channel), q.holdPeerLocked(run[0].From)
	for settled < len(run) {
		m := &run[settled]
		if q.tooLarge(int64(len(m.Data))) {
			q.refuseLocked(ch, m, ByteBudget)
			c.fail(ErrFull)
		} else if blocker := q.offerLocked(ch, p, m); blocker == nil {
			// Stored.
		} else if ch.evictsOrDrops() || c.maxWait <= 0 || ch.overflowing(blocker) {
			q.refuseLocked(ch, m, blocker.reason)
			c.fail(ErrFull)
		} else if err := c.ctx.Err(); err != nil {
			q.refuseLocked(ch, m, blocker.reason)
			c.fail(err)
		} else {
			return settled + q.waitLocked(c, ch, p, run[settled:], blocker)
		}
		settled++
	}
	q.settleChannelLocked(ch)
	q.dropPeerLocked(p)
	return settled
}

// refuseLocked loses a message that comes behind all others.
func (q *Queue) refuseLocked(ch *channel, m *Message, reason Reason) {
	q.loseArrivalLocked(ch, m, reason)
	ch.tailGap += m.Gap + 1
}
