package pool

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
)

// Refusal is a connected peer that got no place.
type Refusal struct {
	Network string `json:"network"`
	Peer    string `json:"peer"`
	Reason  string `json:"reason"`
	Pool    string `json:"pool"` // that was full, or, for other_pool, that holds it or where it would belong; "" for none
}

// refuseLocked counts, reports and disconnects. A peer that its present pool holds keeps its connection when it would only
// belong elsewhere: the host moves or removes it.
func (s *Set) refuseLocked(n *networkState, c *connection, p *poolState, reason string) {
	r := Refusal{Network: n.name, Peer: c.info.ID, Reason: reason}
	if p != nil {
		r.Pool = p.name
	}
	if c.refused != reason {
		c.refused = reason
		s.counts.add(reason, 1)
		s.reportRefusalLocked(r)
	} else {
		s.noteRefusalLocked(r)
	}
	m := s.state.members[c.info.ID]
	ownPlace := m != nil && m.pool.network == n && reason == RefusedOtherPool
	if !ownPlace && (reason == RefusedStranger || !s.keep.Load()) {
		s.work.disconnect(n, c.info.ID)
	}
}

// refusalKey tells refusals apart: one peer on one network.
type refusalKey struct{ network, peer string }

// noteRefusalLocked keeps the refusal for the next Update, and answers whether that is news.
func (s *Set) noteRefusalLocked(r Refusal) bool {
	key := refusalKey{r.Network, r.Peer}
	before, known := s.state.refused[key]
	if !known && len(s.state.refused) >= maxRefusals {
		return false
	}
	s.state.refused[key] = r
	return before.Reason != r.Reason
}

// reportRefusalLocked raises an event unless the next Update tells of the same already: a peer that keeps coming raises one per
// Update. The counts are exact.
func (s *Set) reportRefusalLocked(r Refusal) {
	if s.noteRefusalLocked(r) {
		s.emitLocked(Event{Kind: EventPeerRefused, Network: r.Network, Pool: r.Pool, Peer: r.Peer, Reason: r.Reason})
	}
}

// Stranger is the question of a connection gater, after the security handshake of an inbound connection: whether the peer may
// not enter at all. A network asks it for nobody that its own work needs: relays, bootstrap peers, peers that probe its
// reachability.
func (s *Set) Stranger(network, id string) bool {
	n := s.byName.networks[network]
	if n == nil {
		return false
	}
	s.state.RLock()
	defer s.state.RUnlock()
	return s.strangerLocked(n, id)
}

// StrangerRefused counts and reports a stranger that a network turned away at the door.
func (s *Set) StrangerRefused(network, id string) {
	s.counts.add(RefusedStranger, 1)
	s.state.Lock()
	defer s.state.Unlock()
	s.reportRefusalLocked(Refusal{Network: network, Peer: id, Reason: RefusedStranger})
}

// job is one peer to disconnect.
type job struct {
	network *networkState
	id      string
}

// disconnector disconnects refused peers in the background. Jobs are told apart by peer, so their number follows the live
// connections.
type disconnector struct {
	set      *Set
	panicked func(where string, value any, stack []byte)
	ctx      context.Context
	cancel   context.CancelFunc

	state struct {
		sync.Mutex
		waiting []job
		known   map[job]struct{} // waiting or in work
		workers int
		closed  bool
		ended   sync.WaitGroup
	}
}

func newDisconnector(s *Set, panicked func(string, any, []byte)) *disconnector {
	d := &disconnector{set: s, panicked: panicked}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	d.state.known = map[job]struct{}{}
	return d
}

func (d *disconnector) disconnect(n *networkState, id string) {
	d.state.Lock()
	defer d.state.Unlock()
	j := job{n, id}
	if _, known := d.state.known[j]; known || d.state.closed {
		return
	}
	d.state.known[j] = struct{}{}
	d.state.waiting = append(d.state.waiting, j)
	if d.state.workers < disconnectWorkers {
		d.state.workers++
		d.state.ended.Add(1)
		go d.work()
	}
}

// work ends when nothing waits.
func (d *disconnector) work() {
	defer d.state.ended.Done()
	for {
		d.state.Lock()
		if len(d.state.waiting) == 0 || d.state.closed {
			d.state.workers--
			d.state.Unlock()
			return
		}
		j := d.state.waiting[0]
		d.state.waiting = d.state.waiting[1:]
		d.state.Unlock()
		d.run(j)
		d.state.Lock()
		delete(d.state.known, j)
		d.state.Unlock()
	}
}

// spawn runs something else in the background that Close waits for.
func (d *disconnector) spawn(what string, f func()) {
	d.state.Lock()
	defer d.state.Unlock()
	if d.state.closed {
		return
	}
	d.state.ended.Go(func() {
		defer d.recovered(what, func() {})
		f()
	})
}

// recovered is deferred: it tells of a panic.
func (d *disconnector) recovered(where string, then func()) {
	if value := recover(); value != nil {
		then()
		if d.panicked != nil {
			d.panicked(where, value, debug.Stack())
		}
	}
}

func (d *disconnector) run(j job) {
	defer d.recovered("disconnecting a refused peer", func() { d.failed(j, "panic") })
	unwanted, left := d.set.unwanted(j)
	if !unwanted || (!left && j.network.network.Spares(j.id)) {
		return
	}
	ctx, cancel := context.WithTimeout(d.ctx, disconnectTimeout)
	defer cancel()
	if err := j.network.network.Disconnect(ctx, j.id); err != nil && d.ctx.Err() == nil {
		d.failed(j, err.Error())
	}
}

// unwanted: the peer has not gone, and no list or room that changed since gave it a place. Who is left with its world goes even
// if the network has a use for it: the world node may be a relay.
func (s *Set) unwanted(j job) (unwanted, left bool) {
	s.state.RLock()
	defer s.state.RUnlock()
	c := j.network.live[j.id]
	return c != nil && (c.refused != "" || c.leaving), c != nil && c.leaving
}

// failed reports; the next Update refuses the peer, and so disconnects it, again.
func (d *disconnector) failed(j job, why string) {
	d.set.state.Lock()
	defer d.set.state.Unlock()
	d.set.emitLocked(Event{Kind: EventDisconnectFailed, Network: j.network.name, Peer: j.id, Reason: why})
}

func (d *disconnector) close() {
	d.state.Lock()
	d.state.closed = true
	d.state.waiting = nil
	d.state.Unlock()
	d.cancel()
	d.state.ended.Wait()
}

// forEach runs f for each id, at most workers at a time, and joins the errors.
func forEach(ids []string, workers int, f func(id string) error) error {
	var group sync.WaitGroup
	slots := make(chan struct{}, workers)
	problems := make([]error, len(ids))
	for i, id := range ids {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			defer func() {
				if value := recover(); value != nil {
					problems[i] = fmt.Errorf("%w: panic: %v", ErrInternal, value)
				}
			}()
			problems[i] = f(id)
		})
	}
	group.Wait()
	return errors.Join(problems...)
}
