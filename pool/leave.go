package pool

import (
	"errors"
	"slices"
)

// Why a set left its world; the reason of EventWorldLeft.
const (
	LeftAsked = "asked"
	LeftLost  = "lost" // the world node was lost
)

// departure is what leaving a world still has to do outside the lock.
type departure struct {
	world string // peer id of the world node, "" if none was named
	event Event
}

// LeaveWorld ends the membership in the world (POOL-58). At once nobody is the world node, both lists are empty, the rendezvous
// tag is reset, and the peers of the world network have no places, roles and addresses any more; they are disconnected in the
// background. The subscription of the world's rendezvous topic ends, too. It answers the peer id of the world node that it left.
//
// Without SetWorld before it only empties. Losing the world node does the same, unless NodeConnOptions.StayInLostWorld.
func (c *NodeConn) LeaveWorld() (world string, err error) {
	c.state.Lock()
	if c.state.closed {
		c.state.Unlock()
		return "", ErrClosed
	}
	d := c.leaveWorldLocked(LeftAsked)
	c.state.Unlock()
	return d.world, c.finish(d)
}

// leaveWorldLocked makes the state that of a node in no world.
func (c *NodeConn) leaveWorldLocked(reason string) departure {
	n := c.byName.networks[NetworkWorld]
	d := departure{world: c.world.node}
	for _, connection := range n.live { // before the lists: they are no strangers, they are left
		connection.leaving = true
	}
	gone := c.takeWorldPlacesLocked()
	c.world.node, c.world.tag, c.world.applied = "", noRosterTag, noRosterTag
	c.state.allow[allowWorldNode] = map[string]struct{}{}
	c.setListsLocked(map[listKind][]Entry{agentsList: nil, mastersList: nil})
	c.forgetRolesLocked(gone)
	for _, id := range sortedKeys(n.live) {
		c.work.disconnect(n, id)
	}
	d.event = Event{Kind: EventWorldLeft, Network: NetworkWorld, Peer: d.world, Reason: reason, Peers: len(gone)}
	return d
}

// takeWorldPlacesLocked ends every place on the world network and answers whose they were. The next Update tells of them.
func (c *NodeConn) takeWorldPlacesLocked() []string {
	var gone []string
	for _, name := range WorldPools {
		p := c.byName.pools[name]
		p.left = sortedKeys(p.members)
		for _, id := range p.left {
			c.leaveLocked(p.members[id])
			c.emitLocked(Event{Kind: EventPeerRemoved, Network: p.network.name, Pool: name, Peer: id})
		}
		gone = append(gone, p.left...)
	}
	slices.Sort(gone)
	return gone
}

// lostLocked hears of every pooled peer that was lost. What leaving has to do outside the lock waits for a worker.
func (c *NodeConn) lostLocked(m *member) {
	if m.pool.network.name != NetworkWorld || m.info.ID != c.world.node || m.removing || c.stay {
		return
	}
	d := c.leaveWorldLocked(LeftLost)
	c.work.spawn("leaving a world", func() {
		if err := c.finish(d); err != nil {
			c.work.failed(job{m.pool.network, m.info.ID}, err.Error())
		}
	})
}

// finish ends the subscription of the world that was left, and only then tells of it: who joins again on that news subscribes
// after this.
func (c *NodeConn) finish(d departure) error {
	if d.world == "" {
		return nil
	}
	var err error
	if c.WorldPeerID() != d.world { // joined again already
		err = c.byName.networks[NetworkWorld].network.Unsubscribe(rendezvousTopic(d.world))
	}
	if errors.Is(err, ErrArgument) { // an id that makes no topic has no subscription either
		err = nil
	}
	c.state.Lock()
	defer c.state.Unlock()
	c.emitLocked(d.event)
	return err
}
