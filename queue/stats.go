package queue

import "maps"

// maxChannelStats bounds Stats.ByChannel.
const maxChannelStats = 256

// Stats is what the queue did and holds, at one moment. Received = Delivered + Messages + the sum of Lost, always.
type Stats struct {
	Received  uint64 // messages that were stored or lost; those of blocked Puts are neither yet
	Delivered uint64
	Lost      map[Reason]uint64
	// GapsForgotten counts lost messages that no Message.Gap will show, because the idle channel's record had to go.
	GapsForgotten uint64

	Messages    int // waiting now
	Bytes       int64
	Channels    int // with waiting messages
	BlockedPuts int

	// ByChannel is bounded: channels with messages first, then those with blocked Puts, then those used last.
	ByChannel []ChannelStats
}

// ChannelStats is one channel that has messages, blocked Puts, or a record of losses.
type ChannelStats struct {
	Channel     string
	Policy      Policy
	Messages    int
	Bytes       int64
	BlockedPuts int
	Lost        uint64 // since the queue last forgot the channel, see the package's states of a channel
	Gap         uint64 // losses that the next message to come will show
}

// Stats returns a copy that is the caller's.
func (q *Queue) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := Stats{
		Received:      q.mu.received,
		Delivered:     q.mu.delivered,
		Lost:          maps.Clone(q.mu.lost),
		GapsForgotten: q.mu.gapsForgotten,
		Messages:      q.mu.messages,
		Bytes:         q.mu.bytes.used,
		Channels:      q.mu.waiting.n,
		BlockedPuts:   q.mu.blockedPuts,
	}
	s.addChannels(&q.mu.waiting)
	s.addChannels(&q.mu.blocked)
	s.addChannels(&q.mu.idle)
	return s
}

func (s *Stats) addChannels(l *list[channel]) {
	for k := l.first; k != nil && len(s.ByChannel) < maxChannelStats; k = k.next {
		ch := k.owner
		if ch.n == 0 && ch.waiters.n == 0 && ch.lost == 0 {
			continue
		}
		s.ByChannel = append(s.ByChannel, ChannelStats{
			Channel:     ch.name,
			Policy:      ch.policy,
			Messages:    ch.n,
			Bytes:       ch.room.used,
			BlockedPuts: ch.waiters.n,
			Lost:        ch.lost,
			Gap:         ch.tailGap,
		})
	}
}
