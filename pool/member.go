package pool

import (
	"context"
	"fmt"
)

func checkPeerID(id string) error {
	switch {
	case id == "":
		return fmt.Errorf("%w: the peer id is missing", ErrNotFound)
	case len(id) > maxPeerIDBytes:
		return fmt.Errorf("%w: a peer id of %d bytes, at most %d are taken", ErrArgument, len(id), maxPeerIDBytes)
	}
	return nil
}

// room tells whether one more peer fits.
func (p *poolState) room() bool {
	if p.capacity == Unbounded {
		return len(p.members) < p.network.limit
	}
	return len(p.members) < p.capacity
}

func (p *poolState) fullError() error {
	return fmt.Errorf("%w: %s holds %d peers", ErrFull, p.name, len(p.members))
}

// placeLocked puts a peer without a pool into one that has room.
func (s *Set) placeLocked(p *poolState, info PeerInfo) *member {
	m := &member{info: info.clone()}
	m.info.Misc = s.state.roles.of(info.ID)
	s.enterLocked(m, p)
	s.emitLocked(Event{Kind: EventPeerAdded, Network: p.network.name, Pool: p.name, Peer: info.ID, Role: m.info.Misc})
	return m
}

// enterLocked makes every index agree that the peer is in the pool.
func (s *Set) enterLocked(m *member, p *poolState) {
	id := m.info.ID
	c := p.network.live[id]
	m.pool, m.live, m.misplaced = p, c != nil, ""
	s.state.members[id] = m
	p.members[id] = m
	delete(p.network.unplaced, id)
	if c == nil {
		p.flagged[id] = m
	} else {
		c.refused = ""
	}
}

// Add puts a peer into a pool on the caller's word, connected or not (POOL-15 to POOL-19). Adding it to the pool that it is in
// refreshes its info. Errors: ErrNotFound (pool or id), ErrOtherPool, ErrFull; then nothing has changed.
func (s *Set) Add(info PeerInfo, poolName string) error {
	p, err := s.pool(poolName)
	if err != nil {
		return err
	}
	if err := checkPeerID(info.ID); err != nil {
		return err
	}
	s.state.Lock()
	defer s.state.Unlock()
	m := s.state.members[info.ID]
	switch {
	case s.state.closed:
		return ErrClosed
	case m == nil && !p.room():
		return p.fullError()
	case m == nil:
		s.placeLocked(p, info)
	case m.pool != p:
		return fmt.Errorf("%w: %s is in %s; move it", ErrOtherPool, info.ID, m.pool.name)
	default:
		misc := m.info.Misc
		m.info = info.clone()
		m.info.Misc = misc
	}
	return nil
}

// Move puts a pooled peer into another pool, or fails without effect. Errors: ErrNotFound, ErrNotPooled, ErrFull.
func (s *Set) Move(id, poolName string) error {
	p, err := s.pool(poolName)
	if err != nil {
		return err
	}
	s.state.Lock()
	defer s.state.Unlock()
	m := s.state.members[id]
	switch {
	case m == nil:
		return fmt.Errorf("%w: %.128q", ErrNotPooled, id)
	case m.pool == p:
		s.unflagLocked(m)
		return nil
	case !p.room():
		return p.fullError()
	}
	s.leaveLocked(m)
	s.enterLocked(m, p)
	s.emitLocked(Event{Kind: EventPeerMoved, Network: p.network.name, Pool: p.name, Peer: id, Role: m.info.Misc})
	return nil
}

// unflagLocked: the peer belongs where it is. A lost one stays flagged.
func (s *Set) unflagLocked(m *member) {
	m.misplaced = ""
	if m.live {
		delete(m.pool.flagged, m.info.ID)
	}
}

// leaveLocked takes a peer out of its pool; a connection that it still has is unplaced then.
func (s *Set) leaveLocked(m *member) {
	id, p := m.info.ID, m.pool
	delete(s.state.members, id)
	delete(p.members, id)
	delete(p.flagged, id)
	delete(p.added, id)
	if c := p.network.live[id]; c != nil {
		p.network.unplaced[id] = c
	}
}

// Remove disconnects a pooled peer and forgets its place, info and token; its role stays. It answers false for a peer that is
// in no pool, which is left alone, and when the network failed to disconnect, which does not keep the peer in its pool.
func (s *Set) Remove(ctx context.Context, id string) (bool, error) {
	s.state.Lock()
	m := s.state.members[id]
	var n *networkState
	if m != nil {
		m.removing = true
		n = m.pool.network
	}
	s.state.Unlock()
	if m == nil {
		return false, nil
	}
	err := n.network.Disconnect(ctx, id)
	s.state.Lock()
	defer s.state.Unlock()
	if s.state.members[id] == m {
		p := m.pool
		s.leaveLocked(m)
		s.emitLocked(Event{Kind: EventPeerRemoved, Network: p.network.name, Pool: p.name, Peer: id})
	}
	if err != nil {
		return false, fmt.Errorf("disconnecting %s: %w", id, err)
	}
	return true, nil
}

// removeAll removes peers side by side, so that one that is slow to disconnect does not hold up the others.
func (s *Set) removeAll(ctx context.Context, ids []string) error {
	return forEach(ids, disconnectWorkers, func(id string) error {
		_, err := s.Remove(ctx, id)
		return err
	})
}
