package queue

import "math"

// portion is how much one call may still take.
type portion struct {
	messages int
	bytes    int64
	started  bool // the first message is taken whatever its size
}

func newPortion(messages int, bytes int64) portion {
	return portion{messages: positive(messages, math.MaxInt), bytes: positive(bytes, math.MaxInt64)}
}

func (p *portion) allows(size int64) bool {
	return !p.started || p.messages > 0 && size <= p.bytes
}

func (p *portion) use(size int64) {
	p.started = true
	p.messages--
	p.bytes -= size
}

// Take appends waiting messages of the channel to dst, oldest first, and never waits. "" is all channels in turn, one message
// of each. It takes at most max messages of together at most maxBytes bytes (not positive: as many as there are), but always at
// least one if any waits, even one larger than maxBytes.
func (q *Queue) Take(dst []Message, channel string, max int, maxBytes int64) []Message {
	q.mu.Lock()
	defer q.unlock()
	return q.takeLocked(dst, channel, max, maxBytes)
}

// TakeOldestOfEach appends the oldest message of every channel that has one, as long as they have together at most maxBytes
// bytes (not positive: no bound), but at least one.
func (q *Queue) TakeOldestOfEach(dst []Message, maxBytes int64) []Message {
	q.mu.Lock()
	defer q.unlock()
	left := newPortion(0, maxBytes)
	for range q.mu.waiting.n {
		size := int64(len(q.mu.waiting.first.owner.at(0).Data))
		if !left.allows(size) {
			break
		}
		left.use(size)
		dst = append(dst, q.takeTurnLocked(q.mu.waiting.first.owner))
	}
	return dst
}

func (q *Queue) takeLocked(dst []Message, name string, max int, maxBytes int64) []Message {
	left := newPortion(max, maxBytes)
	if name != "" {
		if ch := q.mu.channels[name]; ch != nil {
			dst = q.drainLocked(dst, ch, &left)
		}
		return dst
	}
	for q.mu.waiting.n > 1 {
		ch := q.mu.waiting.first.owner
		size := int64(len(ch.at(0).Data))
		if !left.allows(size) {
			return dst
		}
		left.use(size)
		dst = append(dst, q.takeTurnLocked(ch))
	}
	if q.mu.waiting.n == 1 {
		dst = q.drainLocked(dst, q.mu.waiting.first.owner, &left)
	}
	return dst
}

// drainLocked takes from one channel without going round.
func (q *Queue) drainLocked(dst []Message, ch *channel, left *portion) []Message {
	if ch.n == 0 {
		return dst
	}
	for ch.n > 0 {
		size := int64(len(ch.at(0).Data))
		if !left.allows(size) {
			break
		}
		left.use(size)
		dst = append(dst, q.popLocked(ch))
		q.mu.delivered++
	}
	q.settleChannelLocked(ch)
	return dst
}

// takeTurnLocked takes one message of the channel whose turn it is and sends the channel to the end of the line.
func (q *Queue) takeTurnLocked(ch *channel) Message {
	m := q.popLocked(ch)
	q.mu.delivered++
	if ch.n == 0 {
		q.settleChannelLocked(ch)
		return m
	}
	ch.place.remove()
	q.mu.waiting.pushBack(&ch.place)
	return m
}
