package main

// #include "shim.h"
import "C"

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"peerbus/node"
	"peerbus/pool"
)

//export go_PoolsQuery
func go_PoolsQuery(number C.int, query *C.char, queryLength C.size_t, given *C.char, givenLength C.size_t) *C.char {
	return onPools("PoolsQuery", number, func(p *poolSet, a *arguments) (any, error) {
		name, text := a.text("query", query, queryLength), a.text("argumentsJSON", given, givenLength)
		if a.err != nil {
			return nil, a.err
		}
		ask := poolQueries[name]
		if ask == nil {
			return nil, unknownName("query", name, poolQueries)
		}
		answer, err := ask(p, text)
		if err != nil {
			return nil, err
		}
		return answer, nil
	})
}

func unknownName[T any](what, name string, known map[string]T) error {
	return fmt.Errorf("%w: no %s %.64q; there are %s", node.ErrArgument, what, name, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
}

// poolQuery answers one question; the text holds its arguments.
type poolQuery func(p *poolSet, text string) (any, error)

// asking decodes the arguments of a query.
func asking[T any](f func(p *poolSet, a T) (any, error)) poolQuery {
	return func(p *poolSet, text string) (any, error) {
		var a T
		if err := decodeStrict(text, &a); err != nil {
			return nil, fmt.Errorf("%w: the arguments: %v", node.ErrArgument, err)
		}
		return f(p, a)
	}
}

// askingPreset is asking for what only the preset has, without arguments.
func askingPreset(f func(c *pool.NodeConn) any) poolQuery {
	return asking(func(p *poolSet, _ struct{}) (any, error) {
		c, err := p.onPreset()
		if err != nil {
			return nil, err
		}
		return f(c), nil
	})
}

// asked are the arguments that most queries have.
type (
	askedNothing struct{}
	askedPeer    struct {
		Peer string `json:"peer"`
	}
	askedPools struct {
		Pools []string `json:"pools"`
	}
	askedRole struct {
		Role  *int64 `json:"role"`
		Mask  *int64 `json:"mask"`
		Value *int64 `json:"value"`
	}
)

// byMask tells whether a mask is asked for; it is an error to ask for both or neither.
func (a askedRole) byMask() (bool, error) {
	exact, mask := a.Role != nil, a.Mask != nil && a.Value != nil
	if exact == mask || exact && (a.Mask != nil || a.Value != nil) {
		return false, fmt.Errorf("%w: give either role, or mask and value", node.ErrArgument)
	}
	return mask, nil
}

// orEmpty is the answer of a query that may find nothing.
func orEmpty(answer any, found bool) (any, error) {
	if !found {
		return empty{}, nil
	}
	return answer, nil
}

var poolQueries = map[string]poolQuery{
	"status": asking(func(p *poolSet, _ askedNothing) (any, error) { return p.set.Status(), nil }),
	"pools":  asking(func(p *poolSet, _ askedNothing) (any, error) { return p.set.Pools(), nil }),
	"text":   asking(func(p *poolSet, _ askedNothing) (any, error) { return p.set.String(), nil }),
	"peers":  asking(func(p *poolSet, a askedPools) (any, error) { return p.set.PeerInfos(a.Pools...) }),
	"peer": asking(func(p *poolSet, a askedPeer) (any, error) {
		info, ok := p.set.PeerInfo(a.Peer)
		return orEmpty(info, ok)
	}),
	"peer_ids": asking(func(p *poolSet, _ askedNothing) (any, error) { return p.set.PeerIDs(), nil }),
	"pool_of":  asking(poolOf),
	"is_connected": asking(func(p *poolSet, a struct {
		askedPeer
		askedPools
	}) (any, error) {
		return p.set.IsConnected(a.Peer, a.Pools...), nil
	}),
	"size":          asking(func(p *poolSet, a askedPools) (any, error) { return p.set.Size(a.Pools...) }),
	"role":          asking(func(p *poolSet, a askedPeer) (any, error) { return p.set.Role(a.Peer), nil }),
	"count_by_role": asking(countByRole),
	"find_by_role":  asking(findByRole),
	"addresses": asking(func(p *poolSet, a askedPeer) (any, error) {
		addrs, ok := p.set.Addresses(a.Peer)
		return orEmpty(append([]string{}, addrs...), ok)
	}),
	"last_token": asking(func(p *poolSet, a askedPeer) (any, error) {
		token, ok := p.set.LastToken(a.Peer)
		return orEmpty(token, ok)
	}),
	"last_claims": asking(func(p *poolSet, a askedPeer) (any, error) {
		claims, ok := p.set.LastClaims(a.Peer)
		return orEmpty(claims, ok)
	}),
	"verify_token": asking(verifyInSet),
	"changes":      asking(func(p *poolSet, _ askedNothing) (any, error) { return p.set.LastChanges(), nil }),
	"unrouted": asking(func(p *poolSet, a struct {
		Network string `json:"network"`
	}) (any, error) {
		return p.set.Unrouted(a.Network)
	}),
	"route_of": asking(routeOf),
	"idle_seconds": asking(func(p *poolSet, _ askedNothing) (any, error) {
		return p.set.PassedTimeSinceLastCommunication().Seconds(), nil
	}),
	"policy": asking(func(p *poolSet, _ askedNothing) (any, error) { return p.set.Policy(), nil }),
	"counts": asking(func(p *poolSet, _ askedNothing) (any, error) { return p.set.Counts(), nil }),

	"world": askingPreset(func(c *pool.NodeConn) any {
		return map[string]any{
			"world": c.WorldPeerID(), "inspector": c.Inspector(), "first_master": c.FirstWorldMaster(), "rendezvous_tag": c.RendezvousTag(),
		}
	}),
	"world_agents":             askingPreset(func(c *pool.NodeConn) any { return c.WorldAgents() }),
	"world_masters":            askingPreset(func(c *pool.NodeConn) any { return c.WorldMasters() }),
	"world_agents_and_masters": askingPreset(func(c *pool.NodeConn) any { return c.WorldAgentsAndMasters() }),
}

func poolOf(p *poolSet, a askedPeer) (any, error) {
	name, network, ok := p.set.PlaceOf(a.Peer)
	return orEmpty(struct {
		Pool    string `json:"pool"`
		Network string `json:"network"`
	}{name, network}, ok)
}

func countByRole(p *poolSet, a askedRole) (any, error) {
	byMask, err := a.byMask()
	switch {
	case err != nil:
		return nil, err
	case byMask:
		return p.set.CountByRoleMask(*a.Mask, *a.Value), nil
	}
	return p.set.CountByRole(*a.Role), nil
}

func findByRole(p *poolSet, a struct {
	askedRole
	DiscardSelf bool `json:"discard_self"`
}) (any, error) {
	byMask, err := a.byMask()
	switch {
	case err != nil:
		return nil, err
	case byMask:
		return p.set.FindByRoleMask(*a.Mask, *a.Value, a.DiscardSelf), nil
	}
	return p.set.FindByRole(*a.Role, a.DiscardSelf), nil
}

func routeOf(p *poolSet, a struct {
	Network string        `json:"network"`
	Info    pool.PeerInfo `json:"info"`
}) (any, error) {
	name, reason, err := p.set.RouteOf(a.Network, a.Info)
	return map[string]string{"pool": name, "reason": reason}, err
}
