package queue

import "fmt"

// Policy says what happens to a message that finds no room. Any other value than these acts as Block.
type Policy uint8

const (
	Block      Policy = iota // Put waits, so that the sender feels it; then the new message is lost
	DropOldest               // the oldest messages of the channel are lost
	DropNewest               // the new message is lost
	Latest                   // only the newest message of the channel is kept, even when there is room for more
)

// maxPolicies bounds the settings of SetPolicy; the one least recently set or used goes back to the default.
const maxPolicies = 4096

var policyNames = [...]string{Block: "block", DropOldest: "drop_oldest", DropNewest: "drop_newest", Latest: "latest"}

func (p Policy) String() string {
	if int(p) < len(policyNames) {
		return policyNames[p]
	}
	return fmt.Sprintf("Policy(%d)", uint8(p))
}

// ParsePolicy is the inverse of String.
func ParsePolicy(name string) (Policy, error) {
	for p, known := range policyNames {
		if name == known {
			return Policy(p), nil
		}
	}
	return Block, fmt.Errorf("queue: unknown overflow policy %q; use block, drop_oldest, drop_newest or latest", name)
}

// setting is a policy that SetPolicy attached to a channel name.
type setting struct {
	channel string
	policy  Policy
	place   link[setting]
}

// SetPolicy sets the channel's policy, whether it has messages or not; it sticks to the name. It applies at once: Puts that are
// blocked on the channel go on by the new policy, and Latest drops all waiting messages but the newest.
func (q *Queue) SetPolicy(channel string, p Policy) {
	q.mu.Lock()
	defer q.unlock()
	if q.mu.closed {
		return
	}
	s := q.mu.settings[channel]
	if s == nil {
		s = &setting{channel: channel}
		s.place.owner = s
		q.mu.settings[channel] = s
	}
	s.policy = p
	s.place.remove()
	q.mu.settingsByUse.pushFront(&s.place)
	q.applyPolicyLocked(channel)
	if q.mu.settingsByUse.n > maxPolicies {
		oldest := q.mu.settingsByUse.last.owner
		oldest.place.remove()
		delete(q.mu.settings, oldest.channel)
		q.applyPolicyLocked(oldest.channel)
	}
}

// Reconsider applies Options.Policy again to a channel without a policy of its own: what it answers has changed.
func (q *Queue) Reconsider(channel string) {
	q.mu.Lock()
	defer q.unlock()
	if !q.mu.closed && q.mu.settings[channel] == nil {
		q.applyPolicyLocked(channel)
	}
}

func (q *Queue) policyLocked(channel string) Policy {
	if s := q.mu.settings[channel]; s != nil {
		s.place.remove()
		q.mu.settingsByUse.pushFront(&s.place)
		return s.policy
	}
	if q.options.Policy != nil {
		return q.options.Policy(channel)
	}
	return Block
}

func (q *Queue) applyPolicyLocked(name string) {
	ch := q.mu.channels[name]
	if ch == nil {
		return
	}
	ch.policy = q.policyLocked(name)
	if ch.policy == Latest {
		for ch.n > 1 {
			q.evictLocked(ch, QueueFull)
		}
	}
	if ch.evictsOrDrops() {
		q.flushWaitersLocked(ch)
	}
	q.settleChannelLocked(ch)
}

func (ch *channel) evictsOrDrops() bool {
	return ch.policy == DropOldest || ch.policy == DropNewest || ch.policy == Latest
}

// offerLocked stores the message by the channel's policy, or returns the budget that it lacks.
func (q *Queue) offerLocked(ch *channel, p *peer, m *Message) *budget {
	var blocker *budget
	size := int64(len(m.Data))
	switch ch.policy {
	case DropOldest:
		blocker = q.evictUntilLocked(ch, p, size)
	case DropNewest:
		blocker = q.blockerLocked(ch, p, size)
	case Latest:
		blocker = q.evictAllLocked(ch, p, size)
	default:
		blocker = q.queueBlockerLocked(ch, p, size)
	}
	if blocker == nil {
		gap := ch.tailGap
		ch.tailGap = 0
		q.pushLocked(ch, p, m, gap)
	}
	return blocker
}

// evictUntilLocked evicts the oldest messages until the new one fits. If all of them would not be enough, none is lost.
func (q *Queue) evictUntilLocked(ch *channel, p *peer, size int64) *budget {
	blocker := q.blockerLocked(ch, p, size)
	if blocker == nil {
		return nil
	}
	if last := q.lastBlockerLocked(ch, p, size); last != nil {
		return last
	}
	for blocker != nil {
		q.evictLocked(ch, blocker.reason)
		blocker = q.blockerLocked(ch, p, size)
	}
	return nil
}

func (q *Queue) evictAllLocked(ch *channel, p *peer, size int64) *budget {
	if last := q.lastBlockerLocked(ch, p, size); last != nil {
		return last
	}
	for ch.n > 0 {
		q.evictLocked(ch, QueueFull)
	}
	return nil
}

// evictLocked loses the oldest message; the gap moves to the message behind it. The channel keeps its place even when it is
// empty now, because a new message follows or applyPolicyLocked settles it.
func (q *Queue) evictLocked(ch *channel, reason Reason) {
	m := q.popLocked(ch)
	q.loseLocked(ch, &m, reason)
	if s := m.Source; s != nil && s.Evicted != nil {
		after := q.afterLocked()
		after.left = append(after.left, departure{s.Evicted, m.Sequence})
	}
	gap := &ch.tailGap
	if ch.n > 0 {
		gap = &ch.at(0).Gap
	}
	*gap += m.Gap + 1
}
