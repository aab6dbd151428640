package pool

import (
	"fmt"
	"slices"

	"peerbus/node"
)

// Rule routes peers to a pool. It fits a connection on the pool's network when every condition that it states holds.
type Rule struct {
	Pool string `json:"pool"`
	// Direction is Inbound, Outbound or "" for both.
	Direction string `json:"direction,omitempty"`
	// RoleMask and RoleValue: role & RoleMask == RoleValue.
	RoleMask  int64 `json:"role_mask,omitempty"`
	RoleValue int64 `json:"role_value,omitempty"`
	// Allow names allow sets; the peer is in one of them. Empty: everybody.
	Allow []string `json:"allow,omitempty"`
}

type rule struct {
	Rule
	pool *poolState
}

func (s *Set) addRules(rules []Rule) error {
	for i, r := range rules {
		p := s.byName.pools[r.Pool]
		switch {
		case p == nil:
			return fmt.Errorf("%w: rule %d leads to pool %.64q, which is not declared", ErrArgument, i, r.Pool)
		case r.Direction != "" && normalDirection(r.Direction) == "":
			return fmt.Errorf("%w: rule %d has direction %.64q; there are %q and %q", ErrArgument, i, r.Direction, Inbound, Outbound)
		case r.RoleValue&^r.RoleMask != 0 || r.RoleMask < 0:
			return fmt.Errorf("%w: rule %d never fits: role value %#x is not within mask %#x", ErrArgument, i, r.RoleValue, r.RoleMask)
		}
		r.Direction = normalDirection(r.Direction)
		r.Allow = slices.Clone(r.Allow)
		for _, name := range r.Allow {
			s.state.allow[name] = map[string]struct{}{}
		}
		p.network.rules = append(p.network.rules, &rule{r, p})
	}
	for _, n := range s.networks {
		if s.custom && (len(rules) > 0 || n.membersOnly) {
			return fmt.Errorf("%w: with custom routing there are no rules, so no networks of members only either", ErrArgument)
		}
	}
	return nil
}

func (r *rule) fits(c *connection, role int64, allow map[string]map[string]struct{}) bool {
	if r.Direction != "" && r.Direction != c.info.Direction {
		return false
	}
	if role&r.RoleMask != r.RoleValue {
		return false
	}
	return len(r.Allow) == 0 || inAny(c.info.ID, r.Allow, allow)
}

func inAny(id string, names []string, allow map[string]map[string]struct{}) bool {
	for _, name := range names {
		if _, in := allow[name][id]; in {
			return true
		}
	}
	return false
}

// strangerLocked: the network admits members only, and no allow set of its rules holds the peer.
func (s *Set) strangerLocked(n *networkState, id string) bool {
	if !n.membersOnly {
		return false
	}
	for _, r := range n.rules {
		if len(r.Allow) == 0 || inAny(id, r.Allow, s.state.allow) {
			return false
		}
	}
	return true
}

// routeLocked answers where the connection belongs, or why nowhere.
func (s *Set) routeLocked(n *networkState, c *connection) (target *poolState, reason string) {
	if s.strangerLocked(n, c.info.ID) {
		return nil, RefusedStranger
	}
	if n.refuseRelayed && c.info.Relayed {
		return nil, RefusedRelayed
	}
	if s.custom {
		if c.assigned == nil {
			return nil, RefusedUnroutable
		}
		return c.assigned, ""
	}
	role := s.state.roles.of(c.info.ID)
	for _, r := range n.rules {
		if r.fits(c, role, s.state.allow) {
			return r.pool, ""
		}
	}
	return nil, RefusedUnroutable
}

// RouteOf answers the pool that the rules give to a connection, without placing it: a direction that is neither Inbound nor
// Outbound is ErrArgument, a peer that belongs nowhere "" with the reason.
func (s *Set) RouteOf(network string, info PeerInfo) (poolName, reason string, err error) {
	n, err := s.networkByName(network)
	if err != nil {
		return "", "", err
	}
	word := info.Direction
	if info.Direction = normalDirection(word); info.Direction == "" {
		return "", "", fmt.Errorf("%w: the direction %.64q of %.128s is undefined", ErrArgument, word, info.ID)
	}
	s.state.RLock()
	defer s.state.RUnlock()
	target, reason := s.routeLocked(n, &connection{info: info})
	if target == nil {
		return "", reason, nil
	}
	return target.name, "", nil
}

// SetAllowed replaces an allow set that a rule names, and routes the peers that entered or left it anew.
func (s *Set) SetAllowed(name string, ids []string) error {
	next := make(map[string]struct{}, len(ids))
	for _, id := range ids {
		if err := checkPeerID(id); err != nil {
			return fmt.Errorf("allow set %s: %w", name, err)
		}
		next[id] = struct{}{}
	}
	if len(next) > node.MaxRosterPeers {
		return fmt.Errorf("%w: %d peers in allow set %s, at most %d are kept", ErrArgument, len(next), name, node.MaxRosterPeers)
	}
	s.state.Lock()
	defer s.state.Unlock()
	if s.state.allow[name] == nil {
		return fmt.Errorf("%w: no rule names the allow set %.64q", ErrNotFound, name)
	}
	s.swapAllowedLocked(map[string]map[string]struct{}{name: next})
	return nil
}

// swapAllowedLocked replaces allow sets, all of them before it routes anybody, so that a peer which goes from one to the other
// is never a stranger.
func (s *Set) swapAllowedLocked(next map[string]map[string]struct{}) {
	affected := map[string]struct{}{}
	for name, ids := range next {
		before := s.state.allow[name]
		s.state.allow[name] = ids
		addMissing(affected, before, ids)
		addMissing(affected, ids, before)
	}
	for _, id := range sortedKeys(affected) {
		s.rerouteLocked(id)
	}
}

// addMissing adds to answer what is in one set and not in the other.
func addMissing(answer, in, notIn map[string]struct{}) {
	for id := range in {
		if _, both := notIn[id]; !both {
			answer[id] = struct{}{}
		}
	}
}

// rerouteLocked settles the peer's connections after something that rules look at has changed.
func (s *Set) rerouteLocked(id string) {
	for _, n := range s.networks {
		if c := n.live[id]; c != nil {
			s.settleLocked(n, c, false)
		}
	}
}

// Unrouted lists the live connections of a network that wait for the host's routing function.
func (s *Set) Unrouted(network string) ([]PeerInfo, error) {
	n, err := s.networkByName(network)
	if err != nil {
		return nil, err
	}
	s.state.RLock()
	defer s.state.RUnlock()
	answer := []PeerInfo{}
	for _, c := range n.unplaced {
		if s.custom && !c.routed {
			info := c.info.clone()
			info.Misc = s.state.roles.of(info.ID)
			answer = append(answer, info)
		}
	}
	slices.SortFunc(answer, byID)
	return answer, nil
}

// Route says where the host's routing function wants connections: peer id to pool name, "" for nowhere. Peers that have gone
// meanwhile are passed over. A pool that is unknown or of another network fails the whole call without effect.
func (s *Set) Route(network string, pools map[string]string) error {
	n, err := s.networkByName(network)
	if err != nil {
		return err
	}
	if !s.custom {
		return fmt.Errorf("%w: the set routes by rules", ErrArgument)
	}
	for id, name := range pools {
		if name == "" {
			continue
		}
		p, err := s.pool(name)
		if err != nil {
			return err
		}
		if p.network != n {
			return fmt.Errorf("%w: pool %s, given for %.128s, is not on network %s", ErrArgument, name, id, network)
		}
	}
	s.state.Lock()
	defer s.state.Unlock()
	for _, id := range sortedKeys(pools) {
		if c := n.live[id]; c != nil {
			c.routed, c.assigned = true, s.byName.pools[pools[id]]
			s.settleLocked(n, c, false)
		}
	}
	return nil
}
