package queue

import "context"

// Source is where numbered messages come from. It hears when they are out of the queue.
type Source struct {
	// Left says that every stored message up to this number was taken, or evicted by the policy that the host chose for the
	// channel. It is called without the lock; of two calls at the same time either may come first. Messages that wait when
	// the queue closes never left.
	Left func(sequence uint64)

	// Kept says that whoever sent the messages keeps each until the host is done with it: those that wait when the queue
	// closes are not lost. Back then hears of the first one, if any.
	Kept bool
	Back func(sequence uint64)
	// Evicted, unless nil, hears of each message that the policy evicts. Both are called without the lock.
	Evicted func(sequence uint64)

	// The queue's lock guards these.
	upTo  uint64
	noted bool // in Queue.mu.left
}

// departure is what a Source is told.
type departure struct {
	tell     func(sequence uint64)
	sequence uint64
}

func (q *Queue) departLocked(m *Message) {
	s := m.Source
	s.upTo = m.Sequence
	if !s.noted {
		s.noted = true
		q.mu.left = append(q.mu.left, s)
	}
}

func (q *Queue) collectDeparturesLocked() {
	if len(q.mu.left) == 0 {
		return
	}
	after := q.afterLocked()
	for _, s := range q.mu.left {
		s.noted = false
		after.left = append(after.left, departure{s.Left, s.upTo})
	}
	clear(q.mu.left)
	q.mu.left = q.mu.left[:0]
}

// Deliver gives messages of one peer on one channel to the queue, and says exactly what became of them. Under Block it waits
// for room as long as ctx lasts.
//
// The first stored messages are in the queue. When lost is not empty, the one behind them was refused for that reason: it is
// counted and freed. The others are the caller's again and neither counted nor freed: call again, unless err is the error of
// ctx or ErrClosed. Each call settles at least one message or returns an error, and none waits once it has stored one, so that
// the caller can say so.
func (q *Queue) Deliver(ctx context.Context, run []Message) (stored int, lost Reason, err error) {
	q.mu.Lock()
	defer q.unlock()
	if q.mu.closed {
		return 0, "", ErrClosed
	}
	ch, p := q.channelLocked(run[0].Channel), q.holdPeerLocked(run[0].From)
	for ; stored < len(run); stored++ {
		m := &run[stored]
		if q.tooLarge(int64(len(m.Data))) {
			lost = ByteBudget
		} else if blocker := q.offerLocked(ch, p, m); blocker == nil {
			continue
		} else if ch.evictsOrDrops() {
			lost = blocker.reason
		} else if err = ctx.Err(); stored == 0 && err == nil {
			return q.deliverLaterLocked(ctx, ch, p, run, blocker)
		}
		if lost != "" {
			q.refuseLocked(ch, m, lost)
		}
		break
	}
	if stored > 0 {
		err = nil
	}
	q.settleChannelLocked(ch)
	q.dropPeerLocked(p)
	return stored, lost, err
}

// deliverLaterLocked waits for room. It takes over the caller's reference to the peer.
func (q *Queue) deliverLaterLocked(ctx context.Context, ch *channel, p *peer, run []Message, blocker *budget) (int, Reason, error) {
	w := q.standLocked(ch, p, run, blocker)
	w.keep = true
	q.unlock()
	select {
	case <-w.done:
	case <-ctx.Done():
	}
	q.mu.Lock()
	if w.inChannel.in != nil {
		*w.gapBehindLocked() += w.gap
		q.endWaiterLocked(w, ctx.Err())
		q.settleChannelLocked(ch)
	}
	if w.refused != "" {
		return w.next - 1, w.refused, nil
	}
	return w.next, "", w.err
}
