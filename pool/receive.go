package pool

import (
	"fmt"
	"sync/atomic"
	"unicode/utf8"

	"peerbus/node"
)

// Verdict is what the set says of a received message (POOL-38).
type Verdict struct {
	// Reason is why the message is refused, "" if it is not.
	Reason string
	// NodeID of the sender, from its token; "" when Verified is false.
	NodeID string
	// Verified: the token holds. False under PolicyNone and without a policy.
	Verified bool
	// Inspector: the sender is the configured inspector and says so.
	Inspector bool
	// Pending: the sender is connected but not placed yet. Ask Settled when the message is handed over.
	Pending bool
	// unverified is the piggyback as it came, under PolicyNone. It lies in the message.
	unverified []byte
}

// Piggyback is what stands in the place of the message's own: node id and inspector bit, or, unverified, what came.
func (v Verdict) Piggyback() string {
	switch {
	case !v.Verified:
		return string(v.unverified)
	case v.Inspector:
		return v.NodeID + "1"
	}
	return v.NodeID + "0"
}

// Receivable answers ErrNoPolicy when no message can be judged (POOL-06): then receiving through the pools takes nothing.
func (s *Set) Receivable() error {
	if s.policy == "" {
		return fmt.Errorf("%w: give a public key, or the policy \"none\"", ErrNoPolicy)
	}
	return nil
}

// Check judges a message before it enters a queue. sender is who the connection or the signature of the topic proves; channel
// is where it arrived. Refusals are counted here by reason; the caller reports them with its losses. Without a policy every
// message passes, since nobody receives through the pools.
func (s *Set) Check(network, sender, channel string, data []byte) Verdict {
	return s.check(s.byName.networks[network], sender, channel, data)
}

func (s *Set) check(n *networkState, sender, channel string, data []byte) Verdict {
	s.activity.mark()
	if s.policy == "" {
		return Verdict{}
	}
	v := s.judge(n, sender, channel, data)
	if v.Reason != "" {
		s.counts.add(v.Reason, 1)
	}
	return v
}

func (s *Set) judge(n *networkState, sender, channel string, data []byte) Verdict {
	h, err := readHeader(data)
	switch {
	case err != nil:
		return Verdict{Reason: ReasonDecodeError}
	case string(h.sender) != sender:
		return Verdict{Reason: ReasonSenderMismatch}
	case !h.on(channel):
		return Verdict{Reason: ReasonChannelSpoofed}
	}
	last, standing := s.standing(n, sender)
	switch {
	case standing == standingNone:
		return Verdict{Reason: ReasonNotMember}
	case s.policy == PolicyNone:
		return Verdict{unverified: h.piggyback, Pending: standing == standingPending}
	}
	v := s.judgeToken(last, sender, h.piggyback)
	v.Pending = standing == standingPending && v.Reason == ""
	return v
}

// on: the message names the channel that it came by, or none. Hosts of the existing network read the channel from the message.
func (h *header) on(channel string) bool {
	return len(h.channel) == 0 || string(h.channel) == channel || string(h.channel) == unknownChannel
}

type standing uint8

const (
	standingNone standing = iota
	standingGuest
	standingPending
	standingMember
)

// standing answers what the sender is to the network: pooled on it, heard without a place, or connected and undecided; and
// where its last token is kept, nil for a guest.
func (s *Set) standing(n *networkState, sender string) (last *atomic.Pointer[verifiedToken], _ standing) {
	if n == nil {
		return nil, standingNone
	}
	s.state.RLock()
	defer s.state.RUnlock()
	if m := s.state.members[sender]; m != nil && m.pool.network == n {
		return &m.verified, standingMember
	}
	if _, guest := s.state.guests[n.name][sender]; guest || inAny(sender, s.state.guestSets, s.state.allow) {
		return nil, standingGuest
	}
	if c := n.unplaced[sender]; c != nil && c.refused == "" && !c.leaving {
		return &c.verified, standingPending
	}
	return nil, standingNone
}

// Settled answers, for a message whose verdict was Pending, whether its sender is a member by now. A refusal is counted.
func (s *Set) Settled(network, sender string) bool {
	n := s.byName.networks[network]
	last, standing := s.standing(n, sender)
	switch standing {
	case standingMember:
		last.CompareAndSwap(nil, s.takeVerified(n, sender))
	case standingGuest:
	default:
		s.counts.add(ReasonNotMember, 1)
		return false
	}
	return true
}

// takeVerified takes the token that the peer showed before it had a place; nil without one.
func (s *Set) takeVerified(n *networkState, id string) *verifiedToken {
	s.state.RLock()
	defer s.state.RUnlock()
	if c := n.live[id]; c != nil {
		return c.verified.Swap(nil)
	}
	return nil
}

// judgeToken verifies the piggyback, which is a token and the inspector bit. The common case, the token that the member sent
// last, costs a comparison.
func (s *Set) judgeToken(last *atomic.Pointer[verifiedToken], sender string, piggyback []byte) Verdict {
	_, width := utf8.DecodeLastRune(piggyback)
	token, bit := piggyback[:len(piggyback)-width], piggyback[len(piggyback)-width:]
	var verified *verifiedToken
	if last != nil {
		verified = last.Load()
	}
	if verified == nil || verified.raw != string(token) || !s.now().Before(verified.claims.Expires) {
		var err error
		if verified, err = s.verifier.verify(token, sender); err != nil {
			return Verdict{Reason: ReasonOfToken(err)}
		}
		if last != nil {
			last.Store(verified)
		}
	}
	id := verified.claims.NodeID
	return Verdict{NodeID: id, Verified: true, Inspector: string(bit) == "1" && id == *s.inspector.Load()}
}

// SetGuests replaces the senders whose messages a network takes although no pool holds them (POOL-38).
func (s *Set) SetGuests(network string, ids []string) error {
	n, err := s.networkByName(network)
	if err != nil {
		return err
	}
	if len(ids) > node.MaxRosterPeers {
		return fmt.Errorf("%w: %d senders, at most %d are kept", ErrArgument, len(ids), node.MaxRosterPeers)
	}
	next := make(map[string]struct{}, len(ids))
	for _, id := range ids {
		if err := checkPeerID(id); err != nil {
			return err
		}
		next[id] = struct{}{}
	}
	s.state.Lock()
	defer s.state.Unlock()
	s.state.guests[n.name] = next
	return nil
}
