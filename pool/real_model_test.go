package pool

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"peerbus/node"
)

// realModel drives a set whose world network is a node, and peers that are nodes without a set, beside the model.
type realModel struct {
	hub    realMember
	peers  map[string]*node.Node
	ids    []string
	model  *model
	random *rand.Rand
}

func newRealModel(t *testing.T, seed uint64) *realModel {
	t.Helper()
	r := &realModel{
		hub: startRealMember(t, newAuthority(t, AlgorithmEdDSA), false), peers: map[string]*node.Node{},
		random: rand.New(rand.NewPCG(seed, 2)),
	}
	r.hub.SetKeepRefused(true)
	r.model = newModel(r.hub.Set)
	for range 4 {
		n := startNode(t, nil)
		t.Cleanup(func() { must(t, n.Close()) })
		r.peers[n.ID().String()] = n
	}
	r.ids = slices.Sorted(maps.Keys(r.peers))
	return r
}

// settle waits until the set has the connections that the model has, and compares.
func (r *realModel) settle(t *testing.T, step int) {
	t.Helper()
	want := slices.Sorted(maps.Keys(r.model.live[NetworkWorld]))
	waitFor(t, "step "+strconv.Itoa(step)+": the connections are those of the model", func() bool {
		r.hub.state.RLock()
		defer r.hub.state.RUnlock()
		return slices.Equal(sortedKeys(r.hub.byName.networks[NetworkWorld].live), want)
	})
	compare(t, nodeConn{NodeConn: r.hub.NodeConn}, r.model, step)
}

// dial connects a peer to the hub. A member gets in, if not at once: who was disconnected is kept out for a moment. A stranger
// is turned away, counted.
func (r *realModel) dial(t *testing.T, id string) {
	t.Helper()
	if r.model.live[NetworkWorld][id] != "" {
		return
	}
	addrs := r.hub.node.Addresses()
	r.model.live[NetworkWorld][id] = Inbound
	stranger := r.model.route(NetworkWorld, id) == ""
	delete(r.model.live[NetworkWorld], id)
	refusals := r.hub.Counts()[RefusedStranger]
	waitFor(t, "the hub decides about a peer", func() bool {
		_, dialled := r.peers[id].Connect(t.Context(), addrs)
		if stranger {
			return r.hub.Counts()[RefusedStranger] > refusals
		}
		return dialled == nil && r.hub.isLive(id)
	})
	if !stranger {
		r.model.connect(NetworkWorld, id, Inbound)
	}
}

func (m realMember) isLive(id string) bool {
	m.state.RLock()
	defer m.state.RUnlock()
	return m.byName.networks[NetworkWorld].live[id] != nil
}

func (r *realModel) step(t *testing.T, step int) {
	id := r.ids[r.random.IntN(len(r.ids))]

	switch r.random.IntN(10) {
	case 0, 1, 2:
		r.dial(t, id)
	case 3:
		must(t, r.hub.Disconnect(t.Context(), NetworkWorld, id))
		r.model.drop(NetworkWorld, id)
	case 4:
		_, err := r.hub.Remove(t.Context(), id)
		must(t, err)
		r.model.remove(id)
	case 5, 6, 7:
		changeList(t, nodeConn{NodeConn: r.hub.NodeConn}, r.model, r.random, r.ids)
	case 8:
		changes, err := r.hub.Update()
		must(t, err)
		want := r.model.update()
		for _, p := range AllPools {
			wantList(t, "step "+strconv.Itoa(step)+", removed of "+p, changes.Removed[p], want[p]...)
		}
	case 9:
		must(t, r.hub.SetWorld(id))
		if before := r.model.world; before != id {
			r.model.world = id
			r.model.reroute(min(before, id))
			r.model.reroute(max(before, id))
		}
	}
}

// TestRandomEventsOverRealNodesMatchTheModel: the same model as in memory, with connections, disconnections and refusals that
// really happen.
func TestRandomEventsOverRealNodesMatchTheModel(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			r := newRealModel(t, seed)
			began := time.Now()
			for step := 0; step < 60 && time.Since(began) < patience; step++ {
				r.step(t, step)
				r.settle(t, step)
			}
		})
	}
}
