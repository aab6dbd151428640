package pool

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Changes are what one Update found: peer ids by pool, changed pools only, and the refused peers.
type Changes struct {
	Added   map[string][]string `json:"added"`
	Removed map[string][]string `json:"removed"` // lost or misplaced, and not removed yet; once, those of a world that was left
	Refused []Refusal           `json:"refused"`
}

// Update tries to place the peers that are connected and in no pool, and answers what has changed since the last Update. Its
// cost follows the changes, the flagged and the unplaced peers, not the pooled ones.
//
// A peer that was added and lost in between is both in Added and in Removed. The error tells of networks that could not be asked
// for their connections; their pools stay as they are, and the changes are valid.
func (s *Set) Update() (Changes, error) {
	var problems []error
	for _, n := range s.networks {
		problems = append(problems, s.resync(n))
	}
	s.state.Lock()
	defer s.state.Unlock()
	if s.state.closed {
		return Changes{}, ErrClosed
	}
	for _, n := range s.networks {
		for _, id := range sortedKeys(n.unplaced) {
			s.settleLocked(n, n.unplaced[id], true)
		}
	}
	s.state.last = s.takeChangesLocked()
	return s.state.last.clone(), errors.Join(problems...)
}

// resync asks a network that could not be asked before. One that is closed tells of no changes any more, which is no news that
// nothing has changed.
func (s *Set) resync(n *networkState) error {
	if err := n.network.Usable(); err != nil {
		return fmt.Errorf("network %s cannot be asked for its connections, its pools stay as they are: %w", n.name, err)
	}
	s.state.RLock()
	unsynced := n.unsynced
	s.state.RUnlock()
	if !unsynced {
		return nil
	}
	return s.sync(n)
}

func (s *Set) takeChangesLocked() Changes {
	c := Changes{Added: map[string][]string{}, Removed: map[string][]string{}, Refused: []Refusal{}}
	for _, p := range s.pools {
		if len(p.added) > 0 {
			c.Added[p.name] = sortedKeys(p.added)
			p.added = map[string]struct{}{}
		}
		if removed := append(sortedKeys(p.flagged), p.left...); len(removed) > 0 {
			slices.Sort(removed)
			c.Removed[p.name] = slices.Compact(removed)
			p.left = nil
		}
		for id, m := range p.flagged {
			if m.misplaced != "" {
				s.noteRefusalLocked(Refusal{Network: p.network.name, Peer: id, Reason: m.misplaced, Pool: p.name})
			}
		}
	}
	c.Refused = slices.AppendSeq(c.Refused, maps.Values(s.state.refused))
	slices.SortFunc(c.Refused, func(a, b Refusal) int {
		return cmp.Or(strings.Compare(a.Network, b.Network), strings.Compare(a.Peer, b.Peer))
	})
	clear(s.state.refused)
	return c
}

func (c Changes) clone() Changes {
	return Changes{Added: cloneLists(c.Added), Removed: cloneLists(c.Removed), Refused: append([]Refusal{}, c.Refused...)}
}

func cloneLists(lists map[string][]string) map[string][]string {
	answer := make(map[string][]string, len(lists))
	for name, list := range lists {
		answer[name] = slices.Clone(list)
	}
	return answer
}

// LastChanges are those of the last Update.
func (s *Set) LastChanges() Changes {
	s.state.RLock()
	defer s.state.RUnlock()
	return s.state.last.clone()
}

// sync compares the set with the live connections of a network. Events that arrive while the network is asked are newer than
// its answer, so their peers are left alone.
func (s *Set) sync(n *networkState) error {
	s.state.Lock()
	n.touched = map[string]struct{}{}
	s.state.Unlock()
	peers, err := n.network.Peers()
	s.state.Lock()
	defer s.state.Unlock()
	touched := n.touched
	n.touched = nil
	n.unsynced = err != nil
	if err != nil {
		return fmt.Errorf("asking network %s for its connections: %w", n.name, err)
	}
	listed := make(map[string]struct{}, len(peers))
	for _, info := range peers {
		listed[info.ID] = struct{}{}
		_, newer := touched[info.ID]
		if info.Direction = normalDirection(info.Direction); newer || info.Direction == "" || checkPeerID(info.ID) != nil {
			continue
		}
		s.connectedLocked(n, info)
	}
	for id := range maps.Clone(n.live) {
		_, stays := listed[id]
		_, newer := touched[id]
		if !stays && !newer {
			s.disconnectedLocked(n, id)
		}
	}
	return nil
}

// Resync asks every network for its live connections: for use after connection events were lost.
func (s *Set) Resync() error {
	var problems []error
	for _, n := range s.networks {
		problems = append(problems, s.sync(n))
	}
	return errors.Join(problems...)
}
