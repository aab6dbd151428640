package queue

import "time"

// maxWaitingRun bounds the messages of one batch that wait together. They are copied, so that only a Put that really waits
// makes its messages escape to the heap.
const maxWaitingRun = 64

// waiter is a Put that is blocked for room. Whoever makes room stores its messages for it, so that nobody overtakes it.
type waiter struct {
	ch   *channel
	peer *peer // holds a reference
	run  []Message
	next int    // the first of run that is neither stored nor lost
	gap  uint64 // losses right before run[next]

	blocker *budget   // what it lacked when last looked at
	since   time.Time // when run[next] began to wait
	err     error
	done    chan struct{} // closed when the waiter is out of the channel
	keep    bool          // of Deliver: what is not stored goes back to the caller
	refused Reason        // why run[next-1] was lost, of Deliver

	inChannel link[waiter]
	// inBudget is set for the first waiter of each peer on a channel; those behind it have nothing to look for yet.
	inBudget link[waiter]
}

// queueBlockerLocked is blockerLocked for a Put that may have to stand behind others: behind those of its own peer to keep the
// order, and behind those that wait for room in the channel, because there the first to come is the first served.
func (q *Queue) queueBlockerLocked(ch *channel, p *peer, size int64) *budget {
	for k := ch.waiters.first; k != nil; k = k.next {
		if w := k.owner; w.peer == p || w.inBudget.in == &ch.room.blocked {
			return w.blocker
		}
	}
	return q.blockerLocked(ch, p, size)
}

// waitLocked blocks until messages of the run are settled and returns how many are. It takes over the caller's reference to
// the peer.
func (q *Queue) waitLocked(c *call, ch *channel, p *peer, run []Message, blocker *budget) int {
	w := q.standLocked(ch, p, run, blocker)
	timer := time.NewTimer(c.maxWait)
	defer timer.Stop()
	for {
		q.unlock()
		var cause error
		select {
		case <-w.done:
		case <-timer.C:
			cause = ErrFull
		case <-c.ctx.Done():
			cause = c.ctx.Err()
		}
		q.mu.Lock()
		left := time.Until(w.since.Add(c.maxWait))
		if w.inChannel.in != nil && cause == ErrFull && left > 0 {
			timer.Reset(left)
			continue
		}
		if w.inChannel.in != nil {
			q.giveUpLocked(w, cause)
		}
		if w.err != nil {
			c.fail(w.err)
		}
		return w.next
	}
}

// standLocked puts a waiter at the end of the channel's line.
func (q *Queue) standLocked(ch *channel, p *peer, run []Message, blocker *budget) *waiter {
	w := &waiter{ch: ch, peer: p, blocker: blocker, since: time.Now(), done: make(chan struct{})}
	w.run = append(w.run, run[:min(len(run), maxWaitingRun)]...) // not slices.Clone, which makes its argument escape
	w.inChannel.owner, w.inBudget.owner = w, w
	w.gap, ch.tailGap = ch.tailGap, 0
	ch.waiters.pushBack(&w.inChannel)
	q.mu.blockedPuts++
	q.settleChannelLocked(ch)
	q.retryLocked(ch) // finds out what it waits for
	return w
}

// giveUpLocked loses the message that the waiter waits with.
func (q *Queue) giveUpLocked(w *waiter, cause error) {
	ch, m := w.ch, &w.run[w.next]
	if blocker := q.blockerLocked(ch, w.peer, int64(len(m.Data))); blocker != nil {
		w.blocker = blocker
	}
	q.loseArrivalLocked(ch, m, w.blocker.reason)
	w.next++
	*w.gapBehindLocked() += w.gap + m.Gap + 1
	if cause == ErrFull {
		ch.stalled(w.blocker)
	}
	q.endWaiterLocked(w, cause)
	q.settleChannelLocked(ch)
}

// gapBehindLocked is where losses of this waiter's messages show: before the next message of the same peer.
func (w *waiter) gapBehindLocked() *uint64 {
	for k := w.inChannel.next; k != nil; k = k.next {
		if k.owner.peer == w.peer {
			return &k.owner.gap
		}
	}
	return &w.ch.tailGap
}

// endWaiterLocked lets a blocked Put go on. Those behind it may fit now.
func (q *Queue) endWaiterLocked(w *waiter, err error) {
	w.err = err
	w.inChannel.remove()
	w.inBudget.remove()
	q.mu.blockedPuts--
	q.retryLocked(w.ch)
	q.dropPeerLocked(w.peer)
	close(w.done)
}

// retryLocked makes unlock look at the blocked Puts of the channel.
func (q *Queue) retryLocked(ch *channel) {
	if ch.waiters.n > 0 && !ch.dirty {
		ch.dirty = true
		q.mu.dirty = append(q.mu.dirty, ch)
	}
}

// admitReleasedLocked stores what fits of the blocked Puts whose budgets were given something back.
func (q *Queue) admitReleasedLocked() {
	for _, b := range q.mu.released {
		b.swept = false
		for k := b.blocked.first; k != nil; k = k.next {
			q.retryLocked(k.owner.ch)
		}
	}
	clear(q.mu.released)
	q.mu.released = q.mu.released[:0]
	for i := 0; i < len(q.mu.dirty); i++ {
		ch := q.mu.dirty[i]
		ch.dirty = false
		q.admitLocked(ch)
	}
	clear(q.mu.dirty)
	q.mu.dirty = q.mu.dirty[:0]
}

// admitLocked walks the blocked Puts of a channel in order. One that lacks room in the channel stops those behind it; one that
// lacks anything else stops only its own peer.
func (q *Queue) admitLocked(ch *channel) {
	q.mu.pass++
	for k := ch.waiters.first; k != nil; {
		w := k.owner
		k = k.next
		if w.peer.skipped == q.mu.pass {
			continue
		}
		blocker := q.storeRunLocked(w)
		if blocker == nil || w.keep && w.next > 0 {
			q.endWaiterLocked(w, nil)
			continue
		}
		w.blocker = blocker
		if w.inBudget.in != &blocker.blocked {
			w.inBudget.remove()
			blocker.blocked.pushBack(&w.inBudget)
		}
		if blocker == &ch.room {
			return
		}
		w.peer.skipped = q.mu.pass
	}
}

// storeRunLocked stores what fits of a blocked run. It returns nil if the Put has nothing to wait for any more: all is stored,
// or the next message can never be.
func (q *Queue) storeRunLocked(w *waiter) *budget {
	first := w.next
	for ; w.next < len(w.run); w.next++ {
		m := &w.run[w.next]
		size := int64(len(m.Data))
		if q.tooLarge(size) {
			break
		}
		if blocker := q.blockerLocked(w.ch, w.peer, size); blocker != nil {
			if w.next > first {
				w.since = time.Now()
			}
			return blocker
		}
		q.pushLocked(w.ch, w.peer, m, w.gap)
		w.gap = 0
	}
	return nil
}

// flushWaitersLocked ends the blocked Puts of a channel whose policy no longer waits. The gaps are lined up again as if the
// messages came now.
func (q *Queue) flushWaitersLocked(ch *channel) {
	behind := ch.tailGap
	ch.tailGap = 0
	for ch.waiters.n > 0 {
		w := ch.waiters.first.owner
		ch.tailGap += w.gap
		w.gap = 0
		// putRunLocked of the blocked call goes on with the rest, if any.
		m := &w.run[w.next]
		w.next++
		var err error
		if blocker := q.offerLocked(ch, w.peer, m); blocker != nil {
			q.refuseLocked(ch, m, blocker.reason)
			w.refused, err = blocker.reason, ErrFull
		}
		q.endWaiterLocked(w, err)
	}
	ch.tailGap += behind
}
