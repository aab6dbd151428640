package pool

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
)

// checkInvariants compares the indices of a set with each other (POOL-08).
func checkInvariants(t testing.TB, s *Set) {
	t.Helper()
	s.state.RLock()
	defer s.state.RUnlock()
	total := 0
	for _, p := range s.pools {
		total += len(p.members)
		limit := p.capacity
		if limit == Unbounded {
			limit = p.network.limit
		}
		if len(p.members) > limit {
			t.Fatalf("%s holds %d peers, its capacity is %d", p.name, len(p.members), limit)
		}
		for id, m := range p.members {
			_, live := p.network.live[id]
			_, flagged := p.flagged[id]
			switch {
			case s.state.members[id] != m || m.pool != p || m.info.ID != id:
				t.Fatalf("the indices disagree about %s in %s", id, p.name)
			case m.live != live || flagged != (!live || m.misplaced != ""):
				t.Fatalf("%s: live %v and %v, flagged %v, misplaced %q", id, m.live, live, flagged, m.misplaced)
			case m.info.Misc != s.state.roles.of(id):
				t.Fatalf("%s: misc %d, role %d", id, m.info.Misc, s.state.roles.of(id))
			}
		}
		for id := range p.flagged {
			if p.members[id] == nil {
				t.Fatalf("%s is flagged in %s, which does not hold it", id, p.name)
			}
		}
		for id := range p.added {
			if p.members[id] == nil {
				t.Fatalf("%s is added to %s, which does not hold it", id, p.name)
			}
		}
	}
	if total != len(s.state.members) {
		t.Fatalf("the pools hold %d peers, the index %d", total, len(s.state.members))
	}
	for _, n := range s.networks {
		for id, c := range n.live {
			m := s.state.members[id]
			placed := m != nil && m.pool.network == n
			if (n.unplaced[id] == c) == placed {
				t.Fatalf("%s on %s: placed %v, unplaced %v", id, n.name, placed, n.unplaced[id] != nil)
			}
		}
		if len(n.unplaced) > len(n.live) {
			t.Fatalf("%s: more unplaced than live", n.name)
		}
	}
	for id, role := range s.state.roles.byPeer {
		if _, in := s.state.roles.peers[role][id]; !in {
			t.Fatalf("the role index misses %s", id)
		}
	}
	for role, peers := range s.state.roles.peers {
		if len(peers) == 0 {
			t.Fatalf("the role index has an empty set for %d", role)
		}
		for id := range peers {
			if s.state.roles.byPeer[id] != role {
				t.Fatalf("the role index has %s at %d", id, role)
			}
		}
	}
}

// model is the plain reference for a NodeConn that keeps refused peers: no indices, everything is looked for.
type model struct {
	capacity map[string]int
	live     map[string]map[string]string // network, peer: direction
	pool     map[string]string
	lost     map[string]bool
	agents   map[string]bool
	masters  map[string]bool
	world    string
	stay     bool                // a lost world node does not end the membership
	left     map[string][]string // pool, peers: since the last update
}

func newModel(s *Set) *model {
	m := &model{
		capacity: map[string]int{}, pool: map[string]string{}, lost: map[string]bool{}, agents: map[string]bool{},
		masters: map[string]bool{},
		live:    map[string]map[string]string{NetworkPublic: {}, NetworkWorld: {}},
	}
	for _, p := range s.Pools() {
		m.capacity[p.Name] = p.Capacity
	}
	return m
}

func networkOfPool(pool string) string {
	if slices.Contains(PublicPools, pool) {
		return NetworkPublic
	}
	return NetworkWorld
}

// route answers the pool, "" for a stranger.
func (m *model) route(network, id string) string {
	in := m.live[network][id] == Inbound
	choose := func(a, b string) string {
		if in {
			return a
		}
		return b
	}
	switch {
	case network == NetworkPublic:
		return choose(InPublic, OutPublic)
	case m.agents[id]:
		return choose(InWorldAgents, OutWorldAgents)
	case m.world == id:
		return choose(InWorldNode, OutWorldNode)
	case m.masters[id]:
		return choose(InWorldMasters, OutWorldMasters)
	}
	return ""
}

func (m *model) size(pool string) int {
	count := 0
	for _, p := range m.pool {
		if p == pool {
			count++
		}
	}
	return count
}

// try places a live peer without a pool. Strangers go: this network disconnects them.
func (m *model) try(network, id string, final bool) {
	place := m.pool[id]
	if place != "" && networkOfPool(place) == network {
		return
	}
	target := m.route(network, id)
	switch {
	case target == "" && m.live[network][id] == Outbound && !final:
	case target == "":
		delete(m.live[network], id)
	case place == "" && m.size(target) < m.capacity[target]:
		m.pool[id] = target
	}
}

func (m *model) connect(network, id, direction string) {
	if _, live := m.live[network][id]; live {
		return
	}
	m.live[network][id] = direction
	if p := m.pool[id]; p != "" && networkOfPool(p) == network {
		delete(m.lost, id)
	}
	m.settle(network, id)
}

func (m *model) drop(network, id string) {
	if _, live := m.live[network][id]; !live {
		return
	}
	delete(m.live[network], id)
	if p := m.pool[id]; p != "" && networkOfPool(p) == network {
		m.lost[id] = true
		if network == NetworkWorld && id == m.world && !m.stay {
			m.leave()
		}
	}
}

func (m *model) remove(id string) {
	p := m.pool[id]
	if p == "" {
		return
	}
	delete(m.live[networkOfPool(p)], id)
	delete(m.pool, id)
	delete(m.lost, id)
}

func (m *model) leave() {
	m.left = map[string][]string{}
	for id, p := range m.pool {
		if networkOfPool(p) == NetworkWorld {
			m.left[p] = append(m.left[p], id)
			m.remove(id)
		}
	}
	clear(m.live[NetworkWorld])
	listed := maps.Clone(m.agents)
	maps.Copy(listed, m.masters)
	m.world, m.agents, m.masters = "", map[string]bool{}, map[string]bool{}
	for _, id := range slices.Sorted(maps.Keys(listed)) { // their places are free for other networks
		m.settle(NetworkPublic, id)
	}
}

// reroute is what happens to one peer when a list changes.
func (m *model) reroute(id string) {
	m.settle(NetworkPublic, id)
	m.settle(NetworkWorld, id)
}

// settle judges one connection; a pooled stranger loses it.
func (m *model) settle(network, id string) {
	if _, live := m.live[network][id]; !live {
		return
	}
	if p := m.pool[id]; p == "" || networkOfPool(p) != network {
		m.try(network, id, false)
	} else if m.route(network, id) == "" {
		m.drop(network, id)
	}
}

func (m *model) update() (removed map[string][]string) {
	for _, network := range []string{NetworkPublic, NetworkWorld} {
		for _, id := range slices.Sorted(maps.Keys(m.live[network])) {
			m.try(network, id, true)
		}
	}
	removed = map[string][]string{}
	for _, id := range slices.Sorted(maps.Keys(m.pool)) {
		p := m.pool[id]
		if m.lost[id] || m.route(networkOfPool(p), id) != p {
			removed[p] = append(removed[p], id)
		}
	}
	for p, ids := range m.left {
		removed[p] = slices.Compact(slices.Sorted(slices.Values(append(removed[p], ids...))))
	}
	m.left = nil
	return removed
}

func TestRandomEventsMatchTheModel(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { runModel(t, seed) })
	}
}

func runModel(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 1))
	stay := seed%3 == 0
	c := newNodeConn(t, func(o *NodeConnOptions) { o.MaxConnections, o.Common.KeepRefused, o.StayInLostWorld = 16, true, stay })
	m := newModel(c.Set)
	m.stay = stay
	ids := make([]string, 24)
	for i := range ids {
		ids[i] = somePeer(i)
	}
	fakes := map[string]*fakeNetwork{NetworkPublic: c.public, NetworkWorld: c.private}
	for step := range 400 {
		id := ids[random.IntN(len(ids))]
		network := []string{NetworkPublic, NetworkWorld}[random.IntN(2)]
		switch random.IntN(9) {
		case 0, 1, 2:
			direction := []string{Inbound, Outbound}[random.IntN(2)]
			fakes[network].connect(t, id, direction)
			m.connect(network, id, direction)
		case 3:
			fakes[network].drop(t, id)
			m.drop(network, id)
		case 4:
			_, err := c.Remove(t.Context(), id)
			must(t, err)
			m.remove(id)
		case 5:
			changeList(t, c, m, random, ids)
		case 6:
			must(t, c.SetWorld(id))
			if before := m.world; before != id {
				m.world = id
				m.reroute(min(before, id))
				m.reroute(max(before, id))
			}
		case 7:
			c.private.disconnects()
			changes := c.update(t)
			want := m.update()
			for _, p := range AllPools {
				wantList(t, "step "+strconv.Itoa(step)+", removed of "+p, changes.Removed[p], want[p]...)
			}
		case 8:
			left, err := c.LeaveWorld()
			must(t, err)
			if left != m.world {
				t.Fatalf("left %q, want %q", left, m.world)
			}
			m.leave()
		}
		c.private.disconnects()
		compare(t, c, m, step)
	}
}

func changeList(t *testing.T, c nodeConn, m *model, random *rand.Rand, ids []string) {
	t.Helper()
	next := map[string]bool{}
	for range random.IntN(8) {
		next[ids[random.IntN(len(ids))]] = true
	}
	kind, role := &m.agents, int64(1)
	if random.IntN(2) == 0 {
		kind, role = &m.masters, 3
	}
	var list []Entry
	for id := range next {
		list = append(list, entry(id, role))
	}
	if role == 1 {
		must(t, c.SetWorldAgentsList(list))
	} else {
		must(t, c.SetWorldMastersList(list))
	}
	before := *kind
	*kind = next
	for _, id := range slices.Sorted(slices.Values(ids)) {
		if before[id] != next[id] {
			m.reroute(id)
		}
	}
}

func compare(t *testing.T, c nodeConn, m *model, step int) {
	t.Helper()
	checkInvariants(t, c.Set)
	for name, ids := range c.Status() {
		want := []string{}
		for id, p := range m.pool {
			if p == name {
				want = append(want, id)
			}
		}
		slices.Sort(want)
		wantList(t, "step "+strconv.Itoa(step)+", "+name, ids, want...)
	}
}
