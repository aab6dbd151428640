package main

// #include "shim.h"
import "C"

import (
	"errors"
	"fmt"

	"peerbus/node"
	"peerbus/pool"
)

// presetNodeConn is the only preset.
const presetNodeConn = "node_conn"

// poolsConfig is the configJSON of CreatePools.
type poolsConfig struct {
	MaxConnections  *int        `json:"max_connections"`
	PublicKey       string      `json:"public_key"`
	Policy          pool.Policy `json:"policy"`
	Token           string      `json:"token"`
	InspectorNodeID string      `json:"inspector_node_id"`
	KeepRefused     bool        `json:"keep_refused"`

	Preset        string `json:"preset"`
	Public        *int   `json:"public"`
	World         *int   `json:"world"`
	IsWorldNode   bool   `json:"is_world_node"`
	RefuseRelayed bool   `json:"refuse_relayed"`
	StayInLost    bool   `json:"stay_in_lost_world"`

	Networks      []networkConfig `json:"networks"`
	Pools         []poolConfig    `json:"pools"`
	Rules         []pool.Rule     `json:"rules"`
	CustomRouting bool            `json:"custom_routing"`
}

type networkConfig struct {
	Name          string `json:"name"`
	Instance      *int   `json:"instance"`
	Limit         int    `json:"limit"`
	MembersOnly   bool   `json:"members_only"`
	RefuseRelayed bool   `json:"refuse_relayed"`
}

type poolConfig struct {
	Name     string        `json:"name"`
	Network  string        `json:"network"`
	Capacity pool.Capacity `json:"capacity"`
}

func parsePoolsConfig(text string) (*poolsConfig, error) {
	var c poolsConfig
	switch err := decodeStrict(text, &c); {
	case errors.Is(err, node.ErrArgument): // a capacity of no known form
		return nil, fmt.Errorf("pool set: %w", err)
	case err != nil:
		return nil, fmt.Errorf("%w: pool set: %v", node.ErrConfig, err)
	}
	own := c.Networks != nil || c.Pools != nil || c.Rules != nil || c.CustomRouting
	preset := c.Public != nil || c.World != nil || c.IsWorldNode || c.RefuseRelayed || c.StayInLost
	switch {
	case c.MaxConnections == nil:
		return nil, fmt.Errorf("%w: pool set: max_connections is missing", node.ErrArgument)
	case c.Preset != "" && c.Preset != presetNodeConn:
		return nil, fmt.Errorf("%w: pool set: preset %.64q; there is %q", node.ErrArgument, c.Preset, presetNodeConn)
	case c.Preset != "" && own:
		return nil, fmt.Errorf("%w: pool set: the preset has its own networks, pools and rules", node.ErrConfig)
	case c.Preset == "" && preset:
		return nil, fmt.Errorf("%w: pool set: public, world, is_world_node, refuse_relayed and stay_in_lost_world belong to the preset %q", node.ErrConfig, presetNodeConn)
	}
	return &c, nil
}

// build makes the set. It calls nothing of its nodes but what is there already.
func (c *poolsConfig) build(p *poolSet) error {
	common := pool.Options{
		MaxConnections: *c.MaxConnections, PublicKey: c.PublicKey, Policy: c.Policy, Token: c.Token,
		InspectorNodeID: c.InspectorNodeID, KeepRefused: c.KeepRefused, Emit: p.emit,
		Panicked: func(where string, value any, stack []byte) {
			logger().Error("panic", "where", where, "value", value, "stack", string(stack))
			dumpStacksOnce()
		},
	}
	if c.Preset != "" {
		return c.buildPreset(p, common)
	}
	var err error
	if common.Networks, err = c.networks(p); err != nil {
		return err
	}
	for _, o := range c.Pools {
		common.Pools = append(common.Pools, pool.PoolOptions{Name: o.Name, Network: o.Network, Capacity: o.Capacity})
	}
	common.Rules, common.CustomRouting = c.Rules, c.CustomRouting
	p.set, err = pool.New(common)
	return err
}

func (c *poolsConfig) buildPreset(p *poolSet, common pool.Options) error {
	public, err := p.network(pool.NetworkPublic, c.Public)
	if err != nil {
		return err
	}
	world, err := p.network(pool.NetworkWorld, c.World)
	if err != nil {
		return err
	}
	p.preset, err = pool.NewNodeConn(pool.NodeConnOptions{
		MaxConnections: *c.MaxConnections, Public: pool.NewNodeNetwork(public.node), World: pool.NewNodeNetwork(world.node),
		PublicLimit: public.node.Config().Limits.Connections, WorldLimit: world.node.Config().Limits.Connections,
		IsWorldNode: c.IsWorldNode, RefuseRelayed: c.RefuseRelayed, StayInLostWorld: c.StayInLost, Common: common,
	})
	if err != nil {
		return err
	}
	p.set = p.preset.Set
	return nil
}

func (c *poolsConfig) networks(p *poolSet) ([]pool.NetworkOptions, error) {
	var list []pool.NetworkOptions
	for _, n := range c.Networks {
		if p.instances[n.Name] != nil {
			return nil, fmt.Errorf("%w: two networks are named %.64q", node.ErrArgument, n.Name)
		}
		i, err := p.network(n.Name, n.Instance)
		if err != nil {
			return nil, err
		}
		limit := n.Limit
		if limit == 0 {
			limit = i.node.Config().Limits.Connections
		}
		list = append(list, pool.NetworkOptions{
			Name: n.Name, Network: pool.NewNodeNetwork(i.node), Limit: limit, MembersOnly: n.MembersOnly, RefuseRelayed: n.RefuseRelayed,
		})
	}
	return list, nil
}

// network puts a running node under a name.
func (p *poolSet) network(name string, number *int) (*instance, error) {
	if number == nil {
		return nil, fmt.Errorf("%w: network %.64q has no instance", node.ErrArgument, name)
	}
	i, err := lookUp(C.int(*number))
	if err != nil {
		return nil, fmt.Errorf("network %.64q: %w", name, err)
	}
	for other, known := range p.instances {
		if known == i {
			return nil, fmt.Errorf("%w: networks %.64q and %.64q are on the same instance %d", errInUse, other, name, *number)
		}
	}
	p.networks = append(p.networks, name)
	p.instances[name] = i
	return i, nil
}
