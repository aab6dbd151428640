package node

import (
	"math"
	"sync"
	"time"
)

// Reasons of GEN-02 that this package counts, besides those of package queue.
const (
	lossSendQueueFull     = "send_queue_full"
	lossNoPeers           = "no_peers"
	lossOversize          = "oversize"
	lossBadFrame          = "bad_frame"
	lossBadChannel        = "bad_channel"
	lossChannelSpoofed    = "channel_spoofed"
	lossQueueFull         = "queue_full"
	lossRendezvousRefused = "rendezvous_refused"
	lossRendezvousStale   = "rendezvous_stale"
	lossDuplicate         = "duplicate"
	lossBanned            = "banned"
	lossTimeout           = "timeout"
	lossPeerClosed        = "peer_closed"
	lossNodeClosed        = "node_closed"
	lossSenderMismatch    = "sender_mismatch"
	lossDecodeError       = "decode_error"
	lossNoMemory          = "no_memory"
	lossNotMember         = "not_member"
	lossRateLimited       = "rate_limited"
	lossEmpty             = "empty"
	lossSkipped           = "skipped" // the sender gave these up, and said so
	lossNotConnected      = "not_connected"
	lossGossipOnly        = "gossip_only" // subscribes to a direct topic by gossip
)

const (
	directionIn  = "in"
	directionOut = "out"

	// lossMergePeriod is how long losses of one kind gather before they become one event.
	lossMergePeriod = time.Second
	// maxLossKinds bounds the memory that peers can make us spend on telling losses apart: in events, and on topics.
	maxLossKinds = 4096
)

// lossKind tells losses apart in events.
type lossKind struct{ direction, reason, channel, peer string }

// losses counts lost messages exactly and raises merged events: the first loss of a kind at once, the following ones
// once per lossMergePeriod.
type losses struct {
	events *Events
	run    func(name string, f func()) bool // Node.run: the timer's goroutine is ours and recovers

	state struct {
		sync.Mutex
		totals  map[string]uint64 // "<direction>.<reason>"
		pending map[lossKind]uint64
		topics  map[lossKind]uint64 // all of topics
		timer   *time.Timer
		closed  bool
	}
}

func newLosses(events *Events, run func(string, func()) bool) *losses {
	l := &losses{events: events, run: run}
	l.state.totals = map[string]uint64{}
	l.state.pending = map[lossKind]uint64{}
	l.state.topics = map[lossKind]uint64{}
	return l
}

func (l *losses) add(direction, reason, channel, peer string, count uint64) {
	if count == 0 {
		return
	}
	s := &l.state
	s.Lock()
	defer s.Unlock()
	addCount(s.totals, direction+"."+reason, count)
	kind := lossKind{direction, reason, channel, peer}
	if IsTopic(channel) {
		l.countTopicLocked(kind, count)
	}
	if _, known := s.pending[kind]; !known {
		if len(s.pending) < maxLossKinds {
			s.pending[kind] = 0
			l.raise(kind, count)
			l.scheduleLocked()
			return
		}
		kind = lossKind{direction: direction, reason: reason}
	}
	addCount(s.pending, kind, count)
	l.scheduleLocked()
}

// addCount stops at the largest int64: a peer may leave out 2^62 messages at a time, as often as it likes, and must not bring a
// count back to nothing.
func addCount[K comparable](counts map[K]uint64, key K, count uint64) {
	counts[key] = min(counts[key]+min(count, math.MaxInt64), math.MaxInt64)
}

// countTopicLocked keeps the last quarter of the room for sums without a peer. What does not even fit there is in totals alone.
func (l *losses) countTopicLocked(kind lossKind, count uint64) {
	topics := l.state.topics
	if _, known := topics[kind]; !known && len(topics) >= maxLossKinds/4*3 {
		kind.peer = ""
		if _, known := topics[kind]; !known && len(topics) >= maxLossKinds {
			return
		}
	}
	addCount(topics, kind, count)
}

// ofTopic answers what was lost on a topic since the node started. Losses of peers beyond maxLossKinds stand together, without
// one.
func (l *losses) ofTopic(channel string) []TopicLoss {
	l.state.Lock()
	defer l.state.Unlock()
	answer := []TopicLoss{}
	for kind, count := range l.state.topics {
		if kind.channel == channel {
			answer = append(answer, TopicLoss{kind.direction, kind.reason, kind.peer, count})
		}
	}
	return answer
}

func (l *losses) raise(kind lossKind, count uint64) {
	l.events.Push(EventMessagesLost, map[string]any{
		"direction": kind.direction, "reason": kind.reason, "channel": kind.channel, "peer": kind.peer, "count": count,
	})
}

func (l *losses) scheduleLocked() {
	if l.state.timer == nil && !l.state.closed {
		l.state.timer = time.AfterFunc(lossMergePeriod, func() { l.run("loss timer", l.flush) })
	}
}

// flush raises what has gathered. A kind without news is forgotten, so its next loss is an event at once.
func (l *losses) flush() {
	s := &l.state
	s.Lock()
	defer s.Unlock()
	s.timer = nil
	for kind, count := range s.pending {
		if count == 0 {
			delete(s.pending, kind)
			continue
		}
		l.raise(kind, count)
		s.pending[kind] = 0
	}
	if len(s.pending) > 0 {
		l.scheduleLocked()
	}
}

// close raises the rest and stops the timer.
func (l *losses) close() {
	l.flush()
	l.state.Lock()
	defer l.state.Unlock()
	l.state.closed = true
	if l.state.timer != nil {
		l.state.timer.Stop()
		l.state.timer = nil
	}
}

func (l *losses) totals() map[string]map[string]uint64 {
	l.state.Lock()
	defer l.state.Unlock()
	answer := map[string]map[string]uint64{directionIn: {}, directionOut: {}}
	for key, count := range l.state.totals {
		for _, direction := range []string{directionIn, directionOut} {
			if prefix := direction + "."; len(key) > len(prefix) && key[:len(prefix)] == prefix {
				answer[direction][key[len(prefix):]] = count
			}
		}
	}
	return answer
}
