package pool

import "fmt"

// Networks of the preset (POOL-41).
const (
	NetworkPublic = "p2p_public"
	NetworkWorld  = "p2p_world"
)

// Pools of the preset.
const (
	InPublic        = "in_all_universe_public"
	OutPublic       = "out_all_universe_public"
	InWorldAgents   = "in_world_agents_private"
	OutWorldAgents  = "out_world_agents_private"
	InWorldNode     = "in_world_node_private"
	OutWorldNode    = "out_world_node_private"
	InWorldMasters  = "in_world_masters_private"
	OutWorldMasters = "out_world_masters_private"
)

// Allow sets of the preset.
const (
	allowAgents    = "world_agents"
	allowMasters   = "world_masters"
	allowWorldNode = "world_node"
	allowInspector = "inspector"
)

// Aggregates of pools. Callers must not change them.
var (
	PublicPools       = []string{InPublic, OutPublic}
	WorldNodePools    = []string{InWorldNode, OutWorldNode}
	WorldAgentsPools  = []string{InWorldAgents, OutWorldAgents}
	WorldMastersPools = []string{InWorldMasters, OutWorldMasters}
	WorldPools        = []string{InWorldNode, OutWorldNode, InWorldAgents, OutWorldAgents, InWorldMasters, OutWorldMasters}
	AllPools          = append(append([]string{}, PublicPools...), WorldPools...)
	OutgoingPools     = []string{OutPublic, OutWorldNode, OutWorldAgents, OutWorldMasters}
	IncomingPools     = []string{InPublic, InWorldNode, InWorldAgents, InWorldMasters}
)

// NodeConnOptions describe the two-network preset.
type NodeConnOptions struct {
	MaxConnections int
	Public, World  Network
	// PublicLimit and WorldLimit are the hard limits of the networks; 0: DefaultConnectionLimit.
	PublicLimit, WorldLimit int
	IsWorldNode             bool
	RefuseRelayed           bool // on the world network (POOL-58)
	// StayInLostWorld: losing the world node does not leave the world.
	StayInLostWorld bool

	// Common are the other options; Networks, Pools, Rules, CustomRouting and MaxConnections of it are not looked at.
	Common Options
}

// PresetPools are the pools of an agent or of a world node, in declared order (POOL-42).
func PresetPools(isWorldNode bool) []PoolOptions {
	agents, node, masters := Ratio(.375), Slots(1), Slots(1)
	if isWorldNode {
		agents, node, masters = Ratio(.25), Unlimited(), Ratio(.125)
	}
	return []PoolOptions{
		{InPublic, NetworkPublic, Ratio(.125)},
		{OutPublic, NetworkPublic, Ratio(.125)},
		{InWorldAgents, NetworkWorld, agents},
		{OutWorldAgents, NetworkWorld, agents},
		{InWorldNode, NetworkWorld, node},
		{OutWorldNode, NetworkWorld, node},
		{InWorldMasters, NetworkWorld, masters},
		{OutWorldMasters, NetworkWorld, masters},
	}
}

// presetRules: the public network routes by direction; the world network by lists, agents before world node before masters,
// and the inspector goes with the masters (POOL-43, POOL-44).
func presetRules() []Rule {
	rules := []Rule{{Pool: InPublic, Direction: Inbound}, {Pool: OutPublic, Direction: Outbound}}
	for _, line := range []struct {
		in, out string
		allow   []string
	}{
		{InWorldAgents, OutWorldAgents, []string{allowAgents}},
		{InWorldNode, OutWorldNode, []string{allowWorldNode}},
		{InWorldMasters, OutWorldMasters, []string{allowMasters, allowInspector}},
	} {
		rules = append(rules, Rule{Pool: line.in, Direction: Inbound, Allow: line.allow},
			Rule{Pool: line.out, Direction: Outbound, Allow: line.allow})
	}
	return rules
}

// NodeConn is the set of an agent or world node: a public and a world network, and the lists of the world it is in.
type NodeConn struct {
	*Set
	world worldState
	stay  bool // in a world whose node was lost
}

// NewNodeConn makes the preset.
func NewNodeConn(o NodeConnOptions) (*NodeConn, error) {
	if o.Public == nil || o.World == nil {
		return nil, fmt.Errorf("%w: the preset needs a public and a world network", ErrArgument)
	}
	common := o.Common
	common.MaxConnections = o.MaxConnections
	common.CustomRouting = false
	common.Networks = []NetworkOptions{
		{Name: NetworkPublic, Network: o.Public, Limit: o.PublicLimit},
		{Name: NetworkWorld, Network: o.World, Limit: o.WorldLimit, MembersOnly: true, RefuseRelayed: o.RefuseRelayed},
	}
	common.Pools = PresetPools(o.IsWorldNode)
	common.Rules = presetRules()
	set, err := New(common)
	if err != nil {
		return nil, err
	}
	c := &NodeConn{Set: set, world: worldState{tag: noRosterTag, applied: noRosterTag}, stay: o.StayInLostWorld}
	set.state.Lock()
	defer set.state.Unlock()
	set.state.guestSets = []string{allowAgents, allowMasters}
	set.state.lost = c.lostLocked
	set.state.masters = c.publishesLocked
	return c, nil
}
