package queue

// Defaults of Limits (SPEC GEN-07).
const (
	DefaultChannels        = 100
	DefaultChannelMessages = 50
	DefaultPeerBytes       = 64 << 20
	DefaultBytes           = 256 << 20
)

// Limits bounds what waits. A value that is not positive stands for its default.
type Limits struct {
	Channels        int   // channels with waiting messages, node-wide
	PeerChannels    int   // of those, opened by one peer; default: half of Channels
	ChannelMessages int   // messages waiting on one channel
	ChannelBytes    int64 // bytes waiting on one channel; default: half of PeerBytes, so that one channel cannot use up its peer's share
	PeerBytes       int64 // bytes waiting from one peer
	Bytes           int64 // bytes waiting in all
}

func (l Limits) withDefaults() Limits {
	l.Channels = positive(l.Channels, DefaultChannels)
	l.PeerChannels = positive(l.PeerChannels, max(l.Channels/2, 1))
	l.ChannelMessages = positive(l.ChannelMessages, DefaultChannelMessages)
	l.PeerBytes = positive(l.PeerBytes, DefaultPeerBytes)
	l.Bytes = positive(l.Bytes, DefaultBytes)
	l.ChannelBytes = positive(l.ChannelBytes, max(l.PeerBytes/2, 1))
	return l
}

func positive[N int | int64](value, otherwise N) N {
	if value > 0 {
		return value
	}
	return otherwise
}

// budget is a bounded resource and the blocked Puts that lack it: the bytes or channel places of a peer or of the node, or the
// room in one channel.
type budget struct {
	used, limit int64
	reason      Reason // of a message that is lost because this budget is used up
	// releases grows with every release and never goes back, not even when the record of a peer is used again: an expired
	// wait compares it to see whether anything was given back since.
	releases uint64
	blocked  list[waiter]
	swept    bool // already noted in Queue.mu.released
}

// lacks reports whether n more would exceed the limit. It cannot overflow, whatever n is.
func (b *budget) lacks(n int64) bool { return n > b.limit-b.used }

func (q *Queue) releaseLocked(b *budget, n int64) {
	b.used -= n
	b.releases++
	if b.blocked.n > 0 && !b.swept {
		b.swept = true
		q.mu.released = append(q.mu.released, b)
	}
}

// blockerLocked returns the budget that keeps a message of this size from joining the channel now, nil if it fits.
func (q *Queue) blockerLocked(ch *channel, p *peer, size int64) *budget {
	if ch.n >= q.limits.ChannelMessages || ch.n > 0 && ch.room.lacks(size) {
		return &ch.room
	}
	if b := q.placeBlockerLocked(ch, p); b != nil {
		return b
	}
	if p.bytes.lacks(size) {
		return &p.bytes
	}
	if q.mu.bytes.lacks(size) {
		return &q.mu.bytes
	}
	return nil
}

// placeBlockerLocked returns the budget that keeps an idle channel from getting a place among the waiting ones.
func (q *Queue) placeBlockerLocked(ch *channel, p *peer) *budget {
	switch {
	case ch.opener != nil:
		return nil
	case p.places.lacks(1):
		return &p.places
	case q.mu.places.lacks(1):
		return &q.mu.places
	}
	return nil
}

// lastBlockerLocked returns the budget that would still block after the channel had evicted all its messages.
func (q *Queue) lastBlockerLocked(ch *channel, p *peer, size int64) *budget {
	if b := q.placeBlockerLocked(ch, p); b != nil {
		return b
	}
	if p.bytes.lacks(size) && p.bytes.lacks(size-ch.bytesFrom(p)) {
		return &p.bytes
	}
	if q.mu.bytes.lacks(size - ch.room.used) {
		return &q.mu.bytes
	}
	return nil
}

// tooLarge reports whether a message of this size could never be stored.
func (q *Queue) tooLarge(size int64) bool {
	return size > q.limits.PeerBytes || size > q.limits.Bytes
}
