package pool

import (
	"fmt"
	"sync/atomic"
)

// connection is a live connection to an application peer.
type connection struct {
	info PeerInfo
	// With custom routing: whether the host has seen it, and where it wants it.
	asked    bool // the host was asked
	routed   bool
	assigned *poolState
	refused  string // the reason of the last refusal
	leaving  bool   // its world was left
	// verified is the token of a message that came before the peer had a place.
	verified atomic.Pointer[verifiedToken]
}

func (i PeerInfo) clone() PeerInfo {
	i.Addrs = append([]string{}, i.Addrs...)
	return i
}

// Connected tells the set of a new connection. A peer that is known to be connected keeps its first direction.
func (s *Set) Connected(network string, info PeerInfo) error {
	n, err := s.networkByName(network)
	if err != nil {
		return err
	}
	if err := checkPeerID(info.ID); err != nil {
		return err
	}
	word := info.Direction
	if info.Direction = normalDirection(word); info.Direction == "" {
		return fmt.Errorf("%w: the direction %.64q of %s is undefined", ErrArgument, word, info.ID)
	}
	s.state.Lock()
	defer s.state.Unlock()
	if s.state.closed {
		return ErrClosed
	}
	if n.touched != nil {
		n.touched[info.ID] = struct{}{}
	}
	s.connectedLocked(n, info)
	return nil
}

func (s *Set) connectedLocked(n *networkState, info PeerInfo) {
	if n.live[info.ID] != nil {
		return
	}
	c := &connection{info: info.clone()}
	n.live[info.ID] = c
	n.unplaced[info.ID] = c
	s.settleLocked(n, c, false)
}

// Disconnected tells the set that the last connection to a peer has ended.
func (s *Set) Disconnected(network, id string) error {
	n, err := s.networkByName(network)
	if err != nil {
		return err
	}
	s.state.Lock()
	defer s.state.Unlock()
	if n.touched != nil {
		n.touched[id] = struct{}{}
	}
	s.disconnectedLocked(n, id)
	return nil
}

func (s *Set) disconnectedLocked(n *networkState, id string) {
	if n.live[id] == nil {
		return
	}
	delete(n.live, id)
	delete(n.unplaced, id)
	m := s.state.members[id]
	if m == nil || m.pool.network != n {
		return
	}
	m.live, m.misplaced = false, ""
	m.pool.flagged[id] = m
	s.emitLocked(Event{Kind: EventPeerLost, Network: n.name, Pool: m.pool.name, Peer: id})
	if s.state.lost != nil {
		s.state.lost(m)
	}
}

// settleLocked decides about one live connection: its pool, its refusal, or, unless final, to wait for the host.
func (s *Set) settleLocked(n *networkState, c *connection, final bool) {
	if c.leaving {
		s.work.disconnect(n, c.info.ID)
		return
	}
	m := s.state.members[c.info.ID]
	if m != nil && m.pool.network == n {
		s.settleMemberLocked(n, c, m)
		return
	}
	target, reason := s.routeLocked(n, c)
	switch {
	case s.awaitsHost(c, reason, final):
		s.askHostLocked(n, c)
	case reason != "":
		s.refuseLocked(n, c, nil, reason)
	case m != nil:
		s.refuseLocked(n, c, m.pool, RefusedOtherPool)
	case !target.room():
		s.refuseLocked(n, c, target, RefusedFull)
	default:
		s.placeLocked(target, c.info)
		target.added[c.info.ID] = struct{}{}
	}
}

// awaitsHost: the host has not routed the connection yet or, until the next Update, may name as a member the peer that it
// dialled.
func (s *Set) awaitsHost(c *connection, reason string, final bool) bool {
	if s.custom {
		return reason == RefusedUnroutable && !c.routed
	}
	return reason == RefusedStranger && c.info.Direction == Outbound && !final
}

// askHostLocked tells the host of a connection that its routing function has to place.
func (s *Set) askHostLocked(n *networkState, c *connection) {
	if !s.custom || c.asked {
		return
	}
	c.asked = true
	e := Event{
		Kind: EventRouteRequested, Network: n.name, Peer: c.info.ID, Direction: c.info.Direction, Relayed: c.info.Relayed,
		Role: s.state.roles.of(c.info.ID),
	}
	if len(c.info.Addrs) > 0 {
		e.Address = c.info.Addrs[0]
	}
	s.emitLocked(e)
}

// settleMemberLocked: a pooled peer is connected, has returned, or what the rules look at has changed.
func (s *Set) settleMemberLocked(n *networkState, c *connection, m *member) {
	delete(n.unplaced, c.info.ID)
	if !m.live {
		m.live = true
		m.info = c.info.clone()
		m.info.Misc = s.state.roles.of(c.info.ID)
		s.emitLocked(Event{Kind: EventPeerReturned, Network: n.name, Pool: m.pool.name, Peer: c.info.ID})
	}
	target, reason := s.routeLocked(n, c)
	if s.custom && !c.routed && reason == RefusedUnroutable {
		target, reason = m.pool, "" // the host placed it before
	}
	switch {
	case reason == "" && target == m.pool:
		c.refused = ""
		s.unflagLocked(m)
		return
	case reason == "":
		reason = RefusedOtherPool
	}
	m.pool.flagged[c.info.ID] = m
	if m.misplaced != reason {
		m.misplaced = reason
		s.refuseLocked(n, c, target, reason)
	}
}
