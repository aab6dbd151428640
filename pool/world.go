package pool

import (
	"context"
	"fmt"
	"slices"

	"peerbus/node"
)

// worldState is guarded by the lock of the set.
type worldState struct {
	node        string // peer id of the world node, "" outside a world
	inspector   string
	firstMaster string
	tag         int64 // update count that the next roster must exceed: that of the applied one, unless it was reset
	applied     int64 // update count of the applied roster
}

// SetWorld names the peer id of the world node, "" for none. The former one is a stranger unless a list holds it.
func (c *NodeConn) SetWorld(id string) error {
	return c.setSingle(allowWorldNode, &c.world.node, id)
}

// WorldPeerID is the peer id of the world node, "" for none.
func (c *NodeConn) WorldPeerID() string {
	c.state.RLock()
	defer c.state.RUnlock()
	return c.world.node
}

// SetInspector names the inspector's peer id, "" for none.
func (c *NodeConn) SetInspector(id string) error {
	return c.setSingle(allowInspector, &c.world.inspector, id)
}

// Inspector is the inspector's peer id, "" for none.
func (c *NodeConn) Inspector() string {
	c.state.RLock()
	defer c.state.RUnlock()
	return c.world.inspector
}

func (c *NodeConn) setSingle(allow string, where *string, id string) error {
	next := map[string]struct{}{}
	if id != "" {
		if err := checkPeerID(id); err != nil {
			return err
		}
		next[id] = struct{}{}
	}
	c.state.Lock()
	defer c.state.Unlock()
	*where = id
	c.swapAllowedLocked(map[string]map[string]struct{}{allow: next})
	return nil
}

// listKind is one of the two lists of a world.
type listKind struct {
	allow string
	role  int64 // of its peers, within roleKindMask
	noun  string
}

var (
	agentsList  = listKind{allowAgents, agentKind, "agent"}
	mastersList = listKind{allowMasters, masterKind, "master"}
)

func (k listKind) checkRole(id string, role int64) error {
	if err := checkRole(role); err != nil {
		return fmt.Errorf("%s: %w", id, err)
	}
	if role&roleKindMask != k.role {
		return fmt.Errorf("%w: role %d of %.128s is not that of a world %s", ErrArgument, role, id, k.noun)
	}
	return nil
}

func (k listKind) check(entries []Entry) error {
	if err := checkEntries(entries); err != nil {
		return fmt.Errorf("world %s list: %w", k.noun, err)
	}
	for i := range entries {
		if err := k.checkRole(entries[i].ID, entries[i].Misc); err != nil {
			return err
		}
	}
	return nil
}

// SetWorldAgentsList replaces the agents of the world. A bad entry fails the whole without effect.
func (c *NodeConn) SetWorldAgentsList(entries []Entry) error { return c.setList(agentsList, entries) }

// SetWorldMastersList replaces the masters of the world. A bad entry fails the whole without effect.
func (c *NodeConn) SetWorldMastersList(entries []Entry) error { return c.setList(mastersList, entries) }

func (c *NodeConn) setList(kind listKind, entries []Entry) error {
	if err := kind.check(entries); err != nil {
		return err
	}
	c.state.Lock()
	defer c.state.Unlock()
	c.setListsLocked(map[listKind][]Entry{kind: entries})
	return nil
}

// setListsLocked replaces lists: it forgets the peers with a role of the kind, then stores the new ones, and only then, when
// everything is in place, routes who entered or left and tells of roles that changed.
func (c *NodeConn) setListsLocked(lists map[listKind][]Entry) {
	before := map[string]int64{} // roles of everybody concerned
	for kind := range lists {
		c.forgetKindLocked(kind, before)
	}
	next := map[string]map[string]struct{}{}
	for kind, entries := range lists {
		next[kind.allow] = c.storeLocked(entries, before)
		if kind == mastersList {
			c.world.firstMaster = firstID(entries)
		}
	}
	c.swapAllowedLocked(next)
	for _, id := range sortedKeys(before) {
		c.roleChangedLocked(id, before[id])
		// Thousands may enter or leave at once: the event of the list stands for those that nobody deals with.
		if c.state.members[id] != nil || (before[id] != 0 && c.state.roles.of(id) != 0) {
			c.emitRoleLocked(id, before[id])
		}
	}
	for kind, entries := range lists {
		c.emitLocked(Event{Kind: EventWorldListChanged, Network: NetworkWorld, List: kind.allow, Peers: len(entries)})
	}
}

func (c *NodeConn) forgetKindLocked(kind listKind, before map[string]int64) {
	roles := &c.state.roles
	for _, id := range roles.matching(roleKindMask, kind.role) {
		before[id] = roles.of(id)
		roles.forget(id)
		c.state.addresses.forget(id)
	}
}

// storeLocked keeps roles and addresses of the entries and answers their ids.
func (c *NodeConn) storeLocked(entries []Entry, before map[string]int64) map[string]struct{} {
	ids := make(map[string]struct{}, len(entries))
	now := c.now()
	for _, e := range entries {
		if _, known := before[e.ID]; !known {
			before[e.ID] = c.state.roles.of(e.ID)
		}
		ids[e.ID] = struct{}{}
		if e.Addrs != nil {
			c.state.addresses.put(e.ID, e.Addrs, now)
		}
		c.state.roles.set(e.ID, e.Misc)
	}
	return ids
}

func firstID(entries []Entry) string {
	if len(entries) == 0 {
		return ""
	}
	return entries[0].ID
}

// AddToWorldAgentsList adds one agent; role must be that of an agent.
func (c *NodeConn) AddToWorldAgentsList(id string, addrs []string, role int64) error {
	return c.addToList(agentsList, id, addrs, role)
}

// AddToWorldMastersList adds one master; role must be that of a master.
func (c *NodeConn) AddToWorldMastersList(id string, addrs []string, role int64) error {
	return c.addToList(mastersList, id, addrs, role)
}

func (c *NodeConn) addToList(kind listKind, id string, addrs []string, role int64) error {
	entry := Entry{ID: id, Addrs: addrs, Misc: role}
	if err := kind.checkRole(id, role); err != nil {
		return err
	}
	if err := checkEntry(&entry); err != nil {
		return err
	}
	c.state.Lock()
	defer c.state.Unlock()
	listed := c.state.allow[kind.allow]
	_, known := listed[id]
	if !known && len(listed) >= node.MaxRosterPeers {
		return fmt.Errorf("%w: the world %s list holds %d peers, at most %d are kept", ErrArgument, kind.noun, len(listed), node.MaxRosterPeers)
	}
	previous := c.state.roles.of(id)
	listed[id] = struct{}{}
	if addrs != nil {
		c.state.addresses.put(id, addrs, c.now())
	}
	c.state.roles.set(id, role)
	if kind == mastersList && c.world.firstMaster == "" {
		c.world.firstMaster = id
	}
	if !known {
		c.rerouteLocked(id)
	}
	c.roleChangedLocked(id, previous)
	c.emitRoleLocked(id, previous)
	return nil
}

// WorldAgents lists the agents of the world.
func (c *NodeConn) WorldAgents() []string { return c.listed(allowAgents) }

// WorldMasters lists the masters of the world.
func (c *NodeConn) WorldMasters() []string { return c.listed(allowMasters) }

// WorldAgentsAndMasters is their union.
func (c *NodeConn) WorldAgentsAndMasters() []string { return c.listed(allowAgents, allowMasters) }

func (c *NodeConn) listed(names ...string) []string {
	c.state.RLock()
	defer c.state.RUnlock()
	ids := []string{}
	for _, name := range names {
		for id := range c.state.allow[name] {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// FirstWorldMaster is the first master of the list that was last set or, if that was empty, the first one added since; "" for
// none.
func (c *NodeConn) FirstWorldMaster() string {
	c.state.RLock()
	defer c.state.RUnlock()
	return c.world.firstMaster
}

// IsPublic tells by the peer's pool, as the next three.
func (c *NodeConn) IsPublic(id string) bool      { return c.IsConnected(id, PublicPools...) }
func (c *NodeConn) IsWorldMaster(id string) bool { return c.IsConnected(id, WorldMastersPools...) }
func (c *NodeConn) IsWorldNode(id string) bool   { return c.IsConnected(id, WorldNodePools...) }
func (c *NodeConn) IsInWorld(id string) bool     { return c.IsConnected(id, WorldPools...) }

// Remove is Set.Remove, and forgets the cached addresses of a pooled peer.
func (c *NodeConn) Remove(ctx context.Context, id string) (bool, error) {
	_, pooled := c.PoolOf(id)
	removed, err := c.Set.Remove(ctx, id)
	if pooled {
		c.state.Lock()
		c.state.addresses.forget(id)
		c.state.Unlock()
	}
	return removed, err
}

// RemoveAllWorldAgents removes every pooled peer of the world network, with roles and addresses, and answers how many.
func (c *NodeConn) RemoveAllWorldAgents(ctx context.Context) (int, error) {
	infos, err := c.PeerInfos(WorldPools...)
	if err != nil {
		return 0, err
	}
	ids := make([]string, len(infos))
	for i, info := range infos {
		ids[i] = info.ID
	}
	err = c.removeAll(ctx, ids)
	c.state.Lock()
	defer c.state.Unlock()
	c.forgetRolesLocked(ids)
	return len(ids), err
}

// forgetRolesLocked forgets roles and addresses.
func (c *NodeConn) forgetRolesLocked(ids []string) {
	for _, id := range ids {
		previous := c.state.roles.of(id)
		c.state.roles.forget(id)
		c.state.addresses.forget(id)
		c.roleChangedLocked(id, previous)
		c.emitRoleLocked(id, previous)
	}
}

// Subscribe is Set.Subscribe with the world network as the default.
func (c *NodeConn) Subscribe(peerID, channel, defaultNetwork string) error {
	return c.Set.Subscribe(peerID, channel, orWorld(defaultNetwork))
}

// Unsubscribe is Set.Unsubscribe with the world network as the default.
func (c *NodeConn) Unsubscribe(peerID, channel, defaultNetwork string) error {
	return c.Set.Unsubscribe(peerID, channel, orWorld(defaultNetwork))
}

func orWorld(network string) string {
	if network == "" {
		return NetworkWorld
	}
	return network
}
