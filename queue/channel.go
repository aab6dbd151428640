package queue

import "slices"

const (
	// maxIdleChannels bounds the records of channels without waiting messages. A record that is forgotten takes its gap and
	// its count of losses along; the totals keep them.
	maxIdleChannels = 1024
	// maxSpareSlots bounds the ring slots kept for use again, so that a channel that fills and empties allocates nothing.
	maxSpareSlots = 32 << 10
	// minRingSlots is the size of a new ring; a power of two.
	minRingSlots = 8
	// maxStalls bounds the expired waits that one channel remembers. A forgotten one costs its peer one more wait.
	maxStalls = 16
)

// channel is one FIFO of waiting messages, and what is remembered of it while it is idle.
type channel struct {
	name   string
	policy Policy
	slots  []slot // ring; its length is a power of two, or 0
	head   int
	n      int
	room   budget // bytes; the number of messages is bounded by n
	opener *peer  // whose place it uses; nil while idle

	tailGap uint64       // losses behind the last message that waits or whose Put waits
	lost    uint64       // since the record was made
	waiters list[waiter] // blocked Puts, in order of arrival
	stalls  []stall
	place   link[channel] // in Queue.mu.waiting, .blocked or .idle
	dirty   bool          // already noted in Queue.mu.dirty
}

type slot struct {
	Message
	peer *peer
}

// stall is an expired wait: while nothing has been given back since, the channel is overflowing for Puts that lack the same.
type stall struct {
	lacked   *budget
	releases uint64
}

func (s stall) over() bool { return s.releases != s.lacked.releases }

func (ch *channel) overflowing(b *budget) bool {
	return slices.Contains(ch.stalls, stall{b, b.releases})
}

func (ch *channel) stalled(b *budget) {
	ch.stalls = slices.DeleteFunc(ch.stalls, stall.over)
	if ch.overflowing(b) {
		return
	}
	if len(ch.stalls) == maxStalls {
		ch.stalls = slices.Delete(ch.stalls, 0, 1)
	}
	ch.stalls = append(ch.stalls, stall{b, b.releases})
}

func (ch *channel) at(i int) *slot { return &ch.slots[(ch.head+i)&(len(ch.slots)-1)] }

func (ch *channel) bytesFrom(p *peer) (sum int64) {
	for i := range ch.n {
		if s := ch.at(i); s.peer == p {
			sum += int64(len(s.Data))
		}
	}
	return sum
}

// channelLocked returns the channel's record. A new one is in no list yet: settleChannelLocked finds its place.
func (q *Queue) channelLocked(name string) *channel {
	ch := q.mu.channels[name]
	if ch == nil {
		ch = &channel{name: name, policy: q.policyLocked(name)}
		ch.room = budget{limit: q.limits.ChannelBytes, reason: QueueFull}
		ch.place.owner = ch
		q.mu.channels[name] = ch
	}
	return ch
}

// pushLocked stores a message that fits.
func (q *Queue) pushLocked(ch *channel, p *peer, m *Message, gap uint64) {
	if ch.opener == nil {
		q.openLocked(ch, p)
	}
	if ch.n == len(ch.slots) {
		q.growLocked(ch)
	}
	s := ch.at(ch.n)
	s.Message, s.peer = *m, p
	s.Gap += gap
	ch.n++
	size := int64(len(m.Data))
	ch.room.used += size
	p.bytes.used += size
	q.mu.bytes.used += size
	p.refs++
	q.mu.messages++
	q.mu.received++
	if len(q.mu.receivers) > 0 {
		q.wakeReceiversLocked(ch.name)
	}
}

// openLocked gives an idle channel its place among the waiting ones. Blocked Puts of other peers no longer need one.
func (q *Queue) openLocked(ch *channel, p *peer) {
	ch.opener = p
	p.refs++
	p.places.used++
	q.mu.places.used++
	ch.place.remove()
	q.mu.waiting.pushBack(&ch.place)
	q.retryLocked(ch)
}

// popLocked takes the oldest message out. The caller settles a channel that this empties.
func (q *Queue) popLocked(ch *channel) (m Message) {
	s := ch.at(0)
	m = s.Message
	p := s.peer
	*s = slot{}
	ch.head = (ch.head + 1) & (len(ch.slots) - 1)
	ch.n--
	size := int64(len(m.Data))
	q.releaseLocked(&ch.room, size)
	q.releaseLocked(&p.bytes, size)
	q.releaseLocked(&q.mu.bytes, size)
	q.dropPeerLocked(p)
	q.mu.messages--
	if m.Source != nil {
		q.departLocked(&m)
	}
	return m
}

// settleChannelLocked puts a channel without messages where it belongs; others stay where they are.
func (q *Queue) settleChannelLocked(ch *channel) {
	if ch.n > 0 {
		return
	}
	if p := ch.opener; p != nil {
		ch.opener = nil
		q.releaseLocked(&p.places, 1)
		q.releaseLocked(&q.mu.places, 1)
		q.dropPeerLocked(p)
		q.spareRingLocked(ch)
	}
	ch.place.remove()
	if ch.waiters.n > 0 {
		q.mu.blocked.pushBack(&ch.place)
		return
	}
	q.mu.idle.pushFront(&ch.place)
	if q.mu.idle.n > maxIdleChannels {
		q.forgetLocked(q.mu.idle.last.owner)
	}
}

func (q *Queue) forgetLocked(ch *channel) {
	ch.place.remove()
	delete(q.mu.channels, ch.name)
	q.mu.gapsForgotten += ch.tailGap
}

// growLocked makes room for one more slot: from the spare rings, else twice the size.
func (q *Queue) growLocked(ch *channel) {
	if last := len(q.mu.spareRings) - 1; ch.n == 0 && last >= 0 {
		ch.slots = q.mu.spareRings[last]
		q.mu.spareRings[last] = nil
		q.mu.spareRings = q.mu.spareRings[:last]
		q.mu.spareSlots -= len(ch.slots)
		return
	}
	slots := make([]slot, max(2*len(ch.slots), minRingSlots))
	copied := copy(slots, ch.slots[ch.head:])
	copy(slots[copied:], ch.slots[:ch.head])
	ch.slots, ch.head = slots, 0
}

func (q *Queue) spareRingLocked(ch *channel) {
	if q.mu.spareSlots+len(ch.slots) <= maxSpareSlots {
		q.mu.spareRings = append(q.mu.spareRings, ch.slots)
		q.mu.spareSlots += len(ch.slots)
	}
	ch.slots, ch.head = nil, 0
}
