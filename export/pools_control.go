package main

// #include "shim.h"
import "C"

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
	"unsafe"

	"peerbus/node"
	"peerbus/pool"
)

//export go_CreatePools
func go_CreatePools(text *C.char, length C.size_t) *C.char {
	return control("CreatePools", nil, nil, func() (any, error) {
		config, err := textArgument("configJSON", text, length)
		if err != nil {
			return nil, err
		}
		return createPools(config)
	})
}

//export go_ClosePools
func go_ClosePools(number C.int) *C.char {
	return control("ClosePools", nil, nil, func() (any, error) { return closePools(number) })
}

//export go_PoolsConnect
func go_PoolsConnect(number C.int, network *C.char, networkLength C.size_t, list *C.char, listLength C.size_t, timeoutMs C.int) *C.char {
	return onPools("PoolsConnect", number, func(p *poolSet, a *arguments) (any, error) {
		name, text, timeout := a.text("network", network, networkLength), a.text("addrsJSON", list, listLength), a.timeout(timeoutMs)
		if a.err != nil {
			return nil, a.err
		}
		ctx, cancel := p.within(timeout)
		defer cancel()
		return connectPools(ctx, p, name, text)
	})
}

func connectPools(ctx context.Context, p *poolSet, network, list string) (any, error) {
	addresses, err := addressesArgument(list)
	if err != nil {
		return nil, err
	}
	id, relayed, err := p.set.Connect(ctx, network, addresses)
	return map[string]any{"peer": id, "relayed": relayed}, err
}

//export go_PoolsDisconnect
func go_PoolsDisconnect(number C.int, network *C.char, networkLength C.size_t, peer *C.char, peerLength C.size_t, timeoutMs C.int) *C.char {
	return onPools("PoolsDisconnect", number, func(p *poolSet, a *arguments) (any, error) {
		name, id, timeout := a.text("network", network, networkLength), a.text("peerID", peer, peerLength), a.timeout(timeoutMs)
		if a.err != nil {
			return nil, a.err
		}
		ctx, cancel := p.within(timeout)
		defer cancel()
		return disconnectPools(ctx, p, name, id)
	})
}

func disconnectPools(ctx context.Context, p *poolSet, network, id string) (any, error) {
	return "disconnected from " + id, p.set.Disconnect(ctx, network, id)
}

//export go_PoolsReserve
func go_PoolsReserve(number C.int, network *C.char, networkLength C.size_t, peer *C.char, peerLength C.size_t, timeoutMs C.int) *C.char {
	return onPools("PoolsReserve", number, func(p *poolSet, a *arguments) (any, error) {
		name, id, timeout := a.text("network", network, networkLength), a.text("peerID", peer, peerLength), a.timeout(timeoutMs)
		if a.err != nil {
			return nil, a.err
		}
		ctx, cancel := p.within(timeout)
		defer cancel()
		return reservePools(ctx, p, name, id)
	})
}

func reservePools(ctx context.Context, p *poolSet, network, id string) (any, error) {
	expires, err := p.set.Reserve(ctx, network, id)
	return map[string]string{"expires": expires.UTC().Format(time.RFC3339)}, err
}

//export go_PoolsUpdate
func go_PoolsUpdate(number C.int) *C.char {
	return onPools("PoolsUpdate", number, func(p *poolSet, _ *arguments) (any, error) {
		changes, err := p.set.Update()
		if err != nil && changes.Added == nil {
			return nil, err
		}
		return struct {
			pool.Changes
			Problems []string `json:"problems"`
		}{changes, problemsOf(err)}, nil
	})
}

// problemsOf lists joined errors.
func problemsOf(err error) []string {
	list := []string{}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range joined.Unwrap() {
			list = append(list, one.Error())
		}
	}
	return list
}

//export go_PoolsAdd
func go_PoolsAdd(number C.int, poolName *C.char, poolLength C.size_t, info *C.char, infoLength C.size_t) *C.char {
	return onPools("PoolsAdd", number, func(p *poolSet, a *arguments) (any, error) {
		name, text := a.text("pool", poolName, poolLength), a.text("infoJSON", info, infoLength)
		if a.err != nil {
			return nil, a.err
		}
		var given pool.PeerInfo
		if err := json.Unmarshal([]byte(text), &given); err != nil {
			return nil, fmt.Errorf("%w: infoJSON is no peer info: %v", node.ErrArgument, err)
		}
		if err := p.set.Add(given, name); err != nil {
			return nil, err
		}
		stored, _ := p.set.PeerInfo(given.ID)
		return stored, nil
	})
}

//export go_PoolsMove
func go_PoolsMove(number C.int, poolName *C.char, poolLength C.size_t, peer *C.char, peerLength C.size_t) *C.char {
	return onPools("PoolsMove", number, func(p *poolSet, a *arguments) (any, error) {
		name, id := a.text("pool", poolName, poolLength), a.text("peerID", peer, peerLength)
		if a.err != nil {
			return nil, a.err
		}
		return "moved to " + name, p.set.Move(id, name)
	})
}

//export go_PoolsRemove
func go_PoolsRemove(number C.int, peer *C.char, peerLength C.size_t, timeoutMs C.int) *C.char {
	return onPools("PoolsRemove", number, func(p *poolSet, a *arguments) (any, error) {
		id, timeout := a.text("peerID", peer, peerLength), a.timeout(timeoutMs)
		if a.err != nil {
			return nil, a.err
		}
		ctx, cancel := p.within(timeout)
		defer cancel()
		return p.remove(ctx, id)
	})
}

//export go_PoolsRemoveAllWorldAgents
func go_PoolsRemoveAllWorldAgents(number C.int, timeoutMs C.int) *C.char {
	return onPools("PoolsRemoveAllWorldAgents", number, func(p *poolSet, a *arguments) (any, error) {
		timeout := a.timeout(timeoutMs)
		if a.err != nil {
			return nil, a.err
		}
		ctx, cancel := p.within(timeout)
		defer cancel()
		return removeAllWorldAgents(ctx, p)
	})
}

func removeAllWorldAgents(ctx context.Context, p *poolSet) (any, error) {
	preset, err := p.onPreset()
	if err != nil {
		return nil, err
	}
	return preset.RemoveAllWorldAgents(ctx)
}

//export go_PoolsRoute
func go_PoolsRoute(number C.int, network *C.char, networkLength C.size_t, routes *C.char, routesLength C.size_t) *C.char {
	return onPools("PoolsRoute", number, func(p *poolSet, a *arguments) (any, error) {
		name, text := a.text("network", network, networkLength), a.text("routesJSON", routes, routesLength)
		if a.err != nil {
			return nil, a.err
		}
		var pools map[string]string
		if err := json.Unmarshal([]byte(text), &pools); err != nil {
			return nil, fmt.Errorf("%w: routesJSON is not {\"<peer id>\": \"<pool>\"}: %v", node.ErrArgument, err)
		}
		return "routed", p.set.Route(name, pools)
	})
}

//export go_PoolsSetWorldList
func go_PoolsSetWorldList(number C.int, list *C.char, listLength C.size_t, data unsafe.Pointer, size C.size_t) *C.char {
	return onPools("PoolsSetWorldList", number, func(p *poolSet, a *arguments) (any, error) {
		name := a.text("list", list, listLength)
		if a.err != nil {
			return nil, a.err
		}
		if size > C.PEERBUS_MAX_LIST {
			return nil, fmt.Errorf("%w: a list of %d bytes, at most %d are read", node.ErrTooLarge, uint64(size), int(C.PEERBUS_MAX_LIST))
		}
		text, err := bytesArgument(data, uint64(size), C.PEERBUS_MAX_LIST)
		if err != nil {
			return nil, err
		}
		w, err := p.worldList(name)
		if err != nil {
			return nil, err
		}
		entries, err := pool.ParseList(text)
		if err != nil {
			return nil, err
		}
		return len(entries), w.set(entries)
	})
}

//export go_PoolsAddToWorldList
func go_PoolsAddToWorldList(number C.int, list *C.char, listLength C.size_t, entry *C.char, entryLength C.size_t) *C.char {
	return onPools("PoolsAddToWorldList", number, func(p *poolSet, a *arguments) (any, error) {
		name, text := a.text("list", list, listLength), a.text("entryJSON", entry, entryLength)
		if a.err != nil {
			return nil, a.err
		}
		w, err := p.worldList(name)
		if err != nil {
			return nil, err
		}
		var e pool.Entry
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			return nil, fmt.Errorf("%w: entryJSON is no list entry: %v", node.ErrArgument, err)
		}
		return "added to " + name, w.add(e.ID, e.Addrs, e.Misc)
	})
}

// worldList is one of the two lists of the preset.
type worldList struct {
	set func([]pool.Entry) error
	add func(id string, addrs []string, role int64) error
}

func (p *poolSet) worldList(name string) (worldList, error) {
	c, err := p.onPreset()
	if err != nil {
		return worldList{}, err
	}
	switch name {
	case "world_agents":
		return worldList{c.SetWorldAgentsList, c.AddToWorldAgentsList}, nil
	case "world_masters":
		return worldList{c.SetWorldMastersList, c.AddToWorldMastersList}, nil
	}
	return worldList{}, fmt.Errorf("%w: list %.64q; there are \"world_agents\" and \"world_masters\"", node.ErrArgument, name)
}

//export go_PoolsApplyRendezvous
func go_PoolsApplyRendezvous(number C.int) *C.char {
	return onPools("PoolsApplyRendezvous", number, func(p *poolSet, _ *arguments) (any, error) {
		preset, err := p.onPreset()
		if err != nil {
			return nil, err
		}
		applied, err := preset.ApplyNewestRoster()
		return map[string]any{"applied": applied, "update_count": preset.RendezvousTag()}, err
	})
}

//export go_PoolsLeaveWorld
func go_PoolsLeaveWorld(number C.int) *C.char {
	return onPools("PoolsLeaveWorld", number, func(p *poolSet, _ *arguments) (any, error) { return leaveWorld(p) })
}

func leaveWorld(p *poolSet) (any, error) {
	preset, err := p.onPreset()
	if err != nil {
		return nil, err
	}
	return preset.LeaveWorld()
}

//export go_PoolsSubscribe
func go_PoolsSubscribe(number C.int, peer *C.char, peerLength C.size_t, channel *C.char, channelLength C.size_t, network *C.char, networkLength C.size_t) *C.char {
	return onPools("PoolsSubscribe", number, func(p *poolSet, a *arguments) (any, error) {
		id, topic, name := a.text("peerID", peer, peerLength), a.text("channel", channel, channelLength), a.text("network", network, networkLength)
		if a.err != nil {
			return nil, a.err
		}
		return "subscribed to " + topic, p.subscribe(id, topic, name)
	})
}

//export go_PoolsUnsubscribe
func go_PoolsUnsubscribe(number C.int, peer *C.char, peerLength C.size_t, channel *C.char, channelLength C.size_t, network *C.char, networkLength C.size_t) *C.char {
	return onPools("PoolsUnsubscribe", number, func(p *poolSet, a *arguments) (any, error) {
		id, topic, name := a.text("peerID", peer, peerLength), a.text("channel", channel, channelLength), a.text("network", network, networkLength)
		if a.err != nil {
			return nil, a.err
		}
		return "unsubscribed from " + topic, p.unsubscribe(id, topic, name)
	})
}
