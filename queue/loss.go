package queue

import "sync"

// aftermath is what a call has to tell others once the lock is released.
type aftermath struct {
	losses []Loss
	freed  []memory
	left   []departure
	roused []func() // of Sleep
}

// memory is what a message leaves behind.
type memory struct {
	data []byte
	slab *Slab
}

// maxAftermath bounds the memory that an aftermath keeps for its next use, in entries.
const maxAftermath = 1024

var aftermaths = sync.Pool{New: func() any { return new(aftermath) }}

// loseArrivalLocked loses a message that was never stored.
func (q *Queue) loseArrivalLocked(ch *channel, m *Message, reason Reason) {
	q.mu.received++
	q.loseLocked(ch, m, reason)
}

// loseLocked counts a lost message. The caller, who knows its position in the channel, adds it to a gap. ch may be nil.
func (q *Queue) loseLocked(ch *channel, m *Message, reason Reason) {
	q.mu.lost[reason]++
	if ch != nil {
		ch.lost++
	}
	q.afterLocked().add(m, reason)
}

func (q *Queue) afterLocked() *aftermath {
	if q.mu.after == nil {
		q.mu.after = aftermaths.Get().(*aftermath)
	}
	return q.mu.after
}

func (a *aftermath) add(m *Message, reason Reason) {
	a.freed = append(a.freed, memory{m.Data, m.Slab})
	loss := Loss{Channel: m.Channel, From: m.From, Reason: reason}
	if last := len(a.losses) - 1; last >= 0 {
		previous := loss
		previous.Count = a.losses[last].Count
		if a.losses[last] == previous {
			a.losses[last].Count++
			return
		}
	}
	loss.Count = 1
	a.losses = append(a.losses, loss)
}

// report runs without the lock.
func (a *aftermath) report(o *Options) {
	for _, rouse := range a.roused {
		rouse()
	}
	if o.Lost != nil {
		for _, loss := range a.losses {
			o.Lost(loss)
		}
	}
	for _, left := range a.freed {
		m := Message{Data: left.data, Slab: left.slab}
		m.Free(o.Free)
	}
	for _, d := range a.left {
		d.tell(d.sequence)
	}
	if max(cap(a.freed), cap(a.losses), cap(a.left), cap(a.roused)) > maxAftermath {
		return
	}
	clear(a.losses)
	clear(a.freed)
	clear(a.left)
	clear(a.roused)
	a.losses, a.freed, a.left, a.roused = a.losses[:0], a.freed[:0], a.left[:0], a.roused[:0]
	aftermaths.Put(a)
}
