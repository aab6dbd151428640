package queue

import "sync"

// Options configures a Queue. Every function may be nil.
type Options struct {
	Limits Limits
	// Policy is the default policy of a new channel; nil: Block. It is called WITH the lock held: it must be quick and must not
	// call the queue.
	Policy func(channel string) Policy
	// Lost hears every loss. It is called without the lock.
	Lost func(Loss)
	// Free takes back the Data of a message that is lost, unless it lies in a Slab, without the lock; nil: the garbage
	// collector does.
	Free func([]byte)
	// Wake is called WITH the lock held when the queue becomes readable (true) and when it ceases to be (false), so that the
	// transitions stay in order. Readable is: a message waits, an Interrupt that nobody has taken, or closed. It must not
	// block and must not call the queue.
	Wake func(readable bool)
}

// Queue is the receive queue of one node. All methods are safe for concurrent use.
type Queue struct {
	options Options
	limits  Limits

	mu struct {
		sync.Mutex
		closed bool

		channels      map[string]*channel
		waiting       list[channel] // with messages; the first is the next to be served
		blocked       list[channel] // without messages, but with blocked Puts
		idle          list[channel] // neither; most recently used first
		peers         map[string]*peer
		settings      map[string]*setting
		settingsByUse list[setting]

		bytes    budget
		places   budget // channels with waiting messages
		messages int
		readable bool // what Wake was told last

		received, delivered, gapsForgotten uint64
		lost                               map[Reason]uint64
		blockedPuts                        int

		// What the running call leaves to do for unlock.
		released []*budget
		dirty    []*channel
		left     []*Source // of which messages left
		after    *aftermath
		pass     uint64 // numbers the passes over blocked Puts

		receivers   map[string]*list[receiver] // blocked and not yet woken, by channel; "" is all channels
		receiving   list[receiver]             // all that are blocked
		interrupted bool                       // an Interrupt that nobody was there to hear

		sparePeers []*peer
		spareRings [][]slot
		spareSlots int
	}
}

// New makes an empty queue.
func New(o Options) *Queue {
	q := &Queue{options: o, limits: o.Limits.withDefaults()}
	q.mu.channels = make(map[string]*channel)
	q.mu.peers = make(map[string]*peer)
	q.mu.settings = make(map[string]*setting)
	q.mu.lost = make(map[Reason]uint64)
	q.mu.receivers = make(map[string]*list[receiver])
	q.mu.bytes = budget{limit: q.limits.Bytes, reason: ByteBudget}
	q.mu.places = budget{limit: int64(q.limits.Channels), reason: TooManyChannels}
	return q
}

// unlock ends a call: blocked Puts that fit now are stored, transitions are signalled, and once the lock is released the
// losses are reported.
func (q *Queue) unlock() {
	q.admitReleasedLocked()
	q.signalLocked()
	q.collectDeparturesLocked()
	after := q.mu.after
	q.mu.after = nil
	q.mu.Unlock()
	if after != nil {
		after.report(&q.options)
	}
}

// signalLocked looks only at the outcome of the call, so that replacing the only message is no transition.
func (q *Queue) signalLocked() {
	readable := q.mu.messages > 0 || q.mu.interrupted || q.mu.closed
	if readable == q.mu.readable {
		return
	}
	q.mu.readable = readable
	if q.options.Wake != nil {
		q.options.Wake(readable)
	}
}

// Len returns the number of waiting messages (SPEC P2P-19).
func (q *Queue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.mu.messages
}

// Bytes returns the bytes of the waiting messages.
func (q *Queue) Bytes() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.mu.bytes.used
}

// Close loses the waiting messages and those of blocked Puts as NodeClosed, and ends every blocked call with ErrClosed.
// Closing again does nothing.
func (q *Queue) Close() {
	q.mu.Lock()
	defer q.unlock()
	if q.mu.closed {
		return
	}
	q.mu.closed = true
	for _, ch := range q.mu.channels {
		q.closeChannelLocked(ch)
	}
	clear(q.mu.channels)
	clear(q.mu.settings)
	q.mu.idle, q.mu.settingsByUse = list[channel]{}, list[setting]{}
	q.mu.sparePeers, q.mu.spareRings, q.mu.spareSlots = nil, nil, 0
	q.endReceiversLocked()
}

// giveBackLocked takes out a message that its sender keeps: it counts as if it had never come.
func (q *Queue) giveBackLocked(ch *channel, s *Source, first bool) {
	m := q.popLocked(ch)
	q.mu.received--
	after := q.afterLocked()
	after.freed = append(after.freed, memory{m.Data, m.Slab})
	if first && s.Back != nil {
		after.left = append(after.left, departure{s.Back, m.Sequence})
	}
}

func (q *Queue) closeChannelLocked(ch *channel) {
	var back *Source
	for ch.n > 0 {
		s := ch.at(0).Source
		ch.at(0).Source = nil // nobody took it
		if s != nil && s.Kept {
			q.giveBackLocked(ch, s, s != back)
			back = s
			continue
		}
		q.evictLocked(ch, NodeClosed)
	}
	for ch.waiters.n > 0 {
		w := ch.waiters.first.owner
		for ; w.next < len(w.run) && !w.keep; w.next++ {
			q.loseArrivalLocked(ch, &w.run[w.next], NodeClosed)
		}
		q.endWaiterLocked(w, ErrClosed)
	}
	q.settleChannelLocked(ch)
}
