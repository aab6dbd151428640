package pool

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"peerbus/node"
)

func sortedKeys[V any](m map[string]V) []string {
	keys := slices.AppendSeq(make([]string, 0, len(m)), maps.Keys(m))
	slices.Sort(keys)
	return keys
}

func byID(a, b PeerInfo) int { return strings.Compare(a.ID, b.ID) }

// poolsNamed answers the named pools, each once; all for none.
func (s *Set) poolsNamed(names []string) ([]*poolState, error) {
	if len(names) == 0 {
		return s.pools, nil
	}
	answer := make([]*poolState, 0, len(names))
	for _, name := range names {
		p, err := s.pool(name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(answer, p) {
			answer = append(answer, p)
		}
	}
	return answer, nil
}

// PeerInfos describes the peers of the named pools, of all without names, in order of pools and ids.
func (s *Set) PeerInfos(pools ...string) ([]PeerInfo, error) {
	asked, err := s.poolsNamed(pools)
	if err != nil {
		return nil, err
	}
	s.state.RLock()
	defer s.state.RUnlock()
	answer := []PeerInfo{}
	for _, p := range asked {
		from := len(answer)
		for _, m := range p.members {
			answer = append(answer, m.info.clone())
		}
		slices.SortFunc(answer[from:], byID)
	}
	return answer, nil
}

// PeerInfo describes one pooled peer; ok is false for others.
func (s *Set) PeerInfo(id string) (info PeerInfo, ok bool) {
	s.state.RLock()
	defer s.state.RUnlock()
	if m := s.state.members[id]; m != nil {
		return m.info.clone(), true
	}
	return PeerInfo{}, false
}

// Status is every pool with its peer ids.
func (s *Set) Status() map[string][]string {
	s.state.RLock()
	defer s.state.RUnlock()
	answer := make(map[string][]string, len(s.pools))
	for _, p := range s.pools {
		answer[p.name] = sortedKeys(p.members)
	}
	return answer
}

// PeerIDs lists the pooled peers.
func (s *Set) PeerIDs() []string {
	s.state.RLock()
	defer s.state.RUnlock()
	return sortedKeys(s.state.members)
}

// PlaceOf is the pool of a peer and its network; ok is false for one that is in none.
func (s *Set) PlaceOf(id string) (poolName, network string, ok bool) {
	s.state.RLock()
	defer s.state.RUnlock()
	if m := s.state.members[id]; m != nil {
		return m.pool.name, m.pool.network.name, true
	}
	return "", "", false
}

// PoolOf is the pool of a peer; ok is false for one that is in none.
func (s *Set) PoolOf(id string) (name string, ok bool) {
	name, _, ok = s.PlaceOf(id)
	return name, ok
}

// NetworkOf is the network of a pooled peer.
func (s *Set) NetworkOf(id string) (name string, ok bool) {
	_, name, ok = s.PlaceOf(id)
	return name, ok
}

// IsConnected tells whether the peer is in one of the named pools, in any without names. An unknown pool holds nobody.
func (s *Set) IsConnected(id string, pools ...string) bool {
	name, ok := s.PoolOf(id)
	return ok && (len(pools) == 0 || slices.Contains(pools, name))
}

// Size counts the peers of the named pools, of all without names.
func (s *Set) Size(pools ...string) (int, error) {
	asked, err := s.poolsNamed(pools)
	if err != nil {
		return 0, err
	}
	s.state.RLock()
	defer s.state.RUnlock()
	total := 0
	for _, p := range asked {
		total += len(p.members)
	}
	return total, nil
}

// PoolInfo is what a pool is and holds.
type PoolInfo struct {
	Name     string `json:"name"`
	Network  string `json:"network"`
	Capacity int    `json:"capacity"` // Unbounded: the network's limit
	Peers    int    `json:"peers"`
}

// Pools describes the pools in declared order.
func (s *Set) Pools() []PoolInfo {
	s.state.RLock()
	defer s.state.RUnlock()
	answer := make([]PoolInfo, len(s.pools))
	for i, p := range s.pools {
		answer[i] = PoolInfo{Name: p.name, Network: p.network.name, Capacity: p.capacity, Peers: len(p.members)}
	}
	return answer
}

// SetAddressesInPeerInfo replaces the addresses in the info of a pooled peer; for others it does nothing.
func (s *Set) SetAddressesInPeerInfo(id string, addrs []string) error {
	if err := node.CheckAddresses(addrs); err != nil {
		return err
	}
	s.state.Lock()
	defer s.state.Unlock()
	if m := s.state.members[id]; m != nil {
		m.info.Addrs = append([]string{}, addrs...)
	}
	return nil
}

// counters count by reason, exactly. The reasons are the constants of this package.
type counters struct {
	sync.Mutex
	byReason map[string]uint64
}

func (c *counters) add(reason string, count uint64) {
	if count == 0 {
		return
	}
	c.Lock()
	defer c.Unlock()
	if c.byReason == nil {
		c.byReason = map[string]uint64{}
	}
	c.byReason[reason] += count
}

// Counts answers how many peers, messages, rosters and roster entries were refused, by reason.
func (s *Set) Counts() map[string]uint64 {
	s.counts.Lock()
	defer s.counts.Unlock()
	answer := make(map[string]uint64, len(s.counts.byReason))
	maps.Copy(answer, s.counts.byReason)
	return answer
}
