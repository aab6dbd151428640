package pool

import (
	"fmt"
	"slices"
)

// Bits of a role (POOL-49). Higher bits are defined by each world; role 0 is public.
const (
	RoleInWorld = int64(1) << 0
	RoleMaster  = int64(1) << 1

	roleKindMask = RoleInWorld | RoleMaster
	agentKind    = RoleInWorld
	masterKind   = RoleInWorld | RoleMaster
)

// roleTable keeps the roles of known peers and their inverse.
type roleTable struct {
	byPeer map[string]int64
	peers  map[int64]map[string]struct{}
}

func newRoleTable() roleTable {
	return roleTable{byPeer: map[string]int64{}, peers: map[int64]map[string]struct{}{}}
}

func (t *roleTable) of(id string) int64 { return t.byPeer[id] }

func (t *roleTable) forget(id string) {
	role, known := t.byPeer[id]
	if !known {
		return
	}
	delete(t.byPeer, id)
	delete(t.peers[role], id)
	if len(t.peers[role]) == 0 {
		delete(t.peers, role)
	}
}

func (t *roleTable) set(id string, role int64) {
	t.forget(id)
	t.byPeer[id] = role
	if t.peers[role] == nil {
		t.peers[role] = map[string]struct{}{}
	}
	t.peers[role][id] = struct{}{}
}

// matching answers the peers with role & mask == value; its cost follows the distinct roles and the answer.
func (t *roleTable) matching(mask, value int64) []string {
	var ids []string
	for role, peers := range t.peers {
		if role&mask == value {
			for id := range peers {
				ids = append(ids, id)
			}
		}
	}
	slices.Sort(ids)
	return ids
}

func checkRole(role int64) error {
	if role < 0 || (role != 0 && role&RoleInWorld == 0) {
		return fmt.Errorf("%w: role %d; a role is 0, or not negative with bit 0 set", ErrArgument, role)
	}
	return nil
}

// Role is the stored role of a peer, 0 for an unknown one.
func (s *Set) Role(id string) int64 {
	s.state.RLock()
	defer s.state.RUnlock()
	return s.state.roles.of(id)
}

// SetRole stores a peer's role, known or not, connected or not, and routes it anew where rules look at roles.
func (s *Set) SetRole(id string, role int64) error {
	if err := checkRole(role); err != nil {
		return err
	}
	if err := checkPeerID(id); err != nil {
		return err
	}
	s.state.Lock()
	defer s.state.Unlock()
	previous := s.state.roles.of(id)
	s.state.roles.set(id, role)
	s.roleChangedLocked(id, previous)
	s.emitRoleLocked(id, previous)
	return nil
}

func (s *Set) emitRoleLocked(id string, previous int64) {
	if role := s.state.roles.of(id); role != previous {
		s.emitLocked(Event{Kind: EventRoleChanged, Peer: id, Role: role, Previous: previous})
	}
}

// roleChangedLocked makes the pooled info and the pools agree with the stored role.
func (s *Set) roleChangedLocked(id string, previous int64) {
	role := s.state.roles.of(id)
	if m := s.state.members[id]; m != nil {
		m.info.Misc = role
	}
	if role == previous {
		return
	}
	for _, n := range s.networks {
		if c := n.live[id]; c != nil && n.looksAtRoles() {
			s.settleLocked(n, c, false)
		}
	}
}

func (n *networkState) looksAtRoles() bool {
	return slices.ContainsFunc(n.rules, func(r *rule) bool { return r.RoleMask != 0 })
}

// CountByRole counts the known peers with exactly this role.
func (s *Set) CountByRole(role int64) int {
	s.state.RLock()
	defer s.state.RUnlock()
	return len(s.state.roles.peers[role])
}

// CountByRoleMask counts the known peers with role & mask == value.
func (s *Set) CountByRoleMask(mask, value int64) int {
	s.state.RLock()
	defer s.state.RUnlock()
	count := 0
	for role, peers := range s.state.roles.peers {
		if role&mask == value {
			count += len(peers)
		}
	}
	return count
}

// PeerAddresses are the known addresses of a peer.
type PeerAddresses struct {
	ID    string   `json:"id"`
	Addrs []string `json:"addrs"`
}

// FindByRole lists the peers with exactly this role whose addresses are known, in order of ids. discardSelf leaves the own
// peer ids out.
func (s *Set) FindByRole(role int64, discardSelf bool) []PeerAddresses {
	return s.find(discardSelf, func(t *roleTable) []string { return sortedKeys(t.peers[role]) })
}

// FindByRoleMask is FindByRole for role & mask == value.
func (s *Set) FindByRoleMask(mask, value int64, discardSelf bool) []PeerAddresses {
	return s.find(discardSelf, func(t *roleTable) []string { return t.matching(mask, value) })
}

func (s *Set) find(discardSelf bool, choose func(*roleTable) []string) []PeerAddresses {
	own := map[string]bool{}
	for _, n := range s.networks {
		own[n.network.ID()] = discardSelf
	}
	s.state.RLock()
	defer s.state.RUnlock()
	answer := []PeerAddresses{}
	for _, id := range choose(&s.state.roles) {
		if addrs, known := s.state.addresses.get(id, s.now()); known && !own[id] {
			answer = append(answer, PeerAddresses{ID: id, Addrs: slices.Clone(addrs)})
		}
	}
	return answer
}
