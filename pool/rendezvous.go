package pool

import (
	"fmt"

	"peerbus/node"
)

// noRosterTag is the update count before the first roster; those of rosters are not negative.
const noRosterTag = int64(-1)

// rendezvousTopic is where a world node publishes its lists.
func rendezvousTopic(world string) string { return world + "::ps:rv" }

// RendezvousTag is the update count of the applied roster, -1 before the first.
func (c *NodeConn) RendezvousTag() int64 {
	c.state.RLock()
	defer c.state.RUnlock()
	return c.world.tag
}

// ResetRendezvousTag makes the next roster of somebody who may publish it count, whatever its update count; also, once more, the
// newest one that the network holds.
func (c *NodeConn) ResetRendezvousTag() {
	c.state.Lock()
	c.world.tag = noRosterTag
	c.state.Unlock()
	c.byName.networks[NetworkWorld].network.ResetRendezvous()
}

// publishes answers a network whether a peer that does not own the rendezvous topic may publish on it. newest is the update count
// of the newest roster that the network holds, listed whether that names the peer as a master.
func (s *Set) publishes(author string, newest int64, listed bool) bool {
	s.state.RLock()
	defer s.state.RUnlock()
	if s.state.masters == nil {
		return listed
	}
	return s.state.masters(author, newest, listed)
}

// publishesLocked goes by the roster that is about to be applied if there is one, else by the present list.
func (c *NodeConn) publishesLocked(author string, newest int64, listed bool) bool {
	if newest > c.world.applied {
		return listed
	}
	_, master := c.state.allow[allowMasters][author]
	return master
}

// ApplyNewestRoster applies the snapshot that the world network holds, if it is newer than the applied one (POOL-53). applied is
// false, without an error, when there is none or it was applied before.
func (c *NodeConn) ApplyNewestRoster() (applied bool, err error) {
	network, err := c.Network(NetworkWorld)
	if err != nil {
		return false, err
	}
	snapshot, ok := network.Rendezvous()
	if !ok || c.holds(snapshot.UpdateCount) {
		return false, nil
	}
	if err := c.ApplyRoster(snapshot); err != nil {
		return false, err
	}
	return true, nil
}

func (c *NodeConn) holds(updateCount int64) bool {
	c.state.RLock()
	defer c.state.RUnlock()
	return updateCount == c.world.tag
}

// ApplyRoster replaces both lists by those of a roster. ErrRefused: its author is neither the topic's owner nor listed as a
// master, or the owner is not the world node. ErrStale: its update count is not above the applied one. Both are counted and leave everything as it is. Entries
// that are malformed, repeated, or of a role that is neither agent nor master are left out and counted.
func (c *NodeConn) ApplyRoster(r Snapshot) error {
	if err := c.checkAllowed(&r); err != nil {
		return err
	}
	r.Peers = append([]Entry{}, r.Peers...)
	r.DropBad()
	agents, masters, skipped := divide(&r)
	c.state.Lock()
	defer c.state.Unlock()
	if err := c.allowedLocked(&r); err != nil { // again: another roster may have come first
		return err
	}
	c.world.tag, c.world.applied = r.UpdateCount, r.UpdateCount
	c.setListsLocked(map[listKind][]Entry{agentsList: agents, mastersList: masters})
	c.counts.add(ReasonRendezvousEntry, uint64(skipped))
	c.emitLocked(Event{
		Kind: EventRendezvousApplied, Network: NetworkWorld, Peer: r.Author, UpdateCount: r.UpdateCount,
		Peers: len(agents) + len(masters), Skipped: skipped,
	})
	return nil
}

// checkAllowed refuses before anything of the entries is looked at.
func (c *NodeConn) checkAllowed(r *Snapshot) error {
	c.state.Lock()
	defer c.state.Unlock()
	return c.allowedLocked(r)
}

// allowedLocked judges author and update count.
func (c *NodeConn) allowedLocked(r *Snapshot) error {
	_, master := c.state.allow[allowMasters][r.Author]
	master = master || r.Listed && r.After > c.world.applied // by a roster that this one overtook
	switch {
	case len(r.Peers) > node.MaxRosterPeers || r.Author == "" || (r.Author != r.Owner && !master),
		c.world.node != "" && r.Owner != c.world.node:
		return c.refuseRosterLocked(r, ReasonRendezvousRefused,
			fmt.Errorf("%w: roster %d of %.128q; the owner of the topic is %.128q", ErrRefused, r.UpdateCount, r.Author, r.Owner))
	case r.UpdateCount <= c.world.tag:
		return c.refuseRosterLocked(r, ReasonRendezvousStale,
			fmt.Errorf("%w: roster %d of %.128q, %d is applied", ErrStale, r.UpdateCount, r.Author, c.world.tag))
	}
	return nil
}

func (c *NodeConn) refuseRosterLocked(r *Snapshot, reason string, err error) error {
	c.counts.add(reason, 1)
	c.emitLocked(Event{Kind: EventRendezvousRefused, Network: NetworkWorld, Peer: r.Author, Reason: reason, UpdateCount: r.UpdateCount})
	return err
}

// divide sorts the entries into agents and masters. Those without addresses are passed over; those of another role are
// counted, with what was left out before.
func divide(r *Snapshot) (agents, masters []Entry, skipped int) {
	skipped = r.Skipped
	for _, e := range r.Peers {
		switch {
		case e.Addrs == nil:
		case e.Misc&roleKindMask == agentKind:
			agents = append(agents, e)
		case e.Misc&roleKindMask == masterKind:
			masters = append(masters, e)
		default:
			skipped++
		}
	}
	return agents, masters, skipped
}
