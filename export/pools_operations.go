package main

// #include "shim.h"
import "C"

import (
	"context"
	"fmt"
	"time"

	"peerbus/node"
)

//export go_StartPoolsOperation
func go_StartPoolsOperation(number C.int, network *C.char, networkLength C.size_t, function *C.char, functionLength C.size_t, argument *C.char, argumentLength C.size_t, timeoutMs C.int) *C.char {
	return onPools("StartPoolsOperation", number, func(p *poolSet, a *arguments) (any, error) {
		name, what := a.text("network", network, networkLength), a.text("function", function, functionLength)
		given, timeout := a.text("argument", argument, argumentLength), a.timeout(timeoutMs)
		if a.err != nil {
			return nil, a.err
		}
		return p.startOperation(name, what, given, timeout)
	})
}

// poolOperation is a function of a pool set that StartPoolsOperation runs.
type poolOperation func(ctx context.Context, p *poolSet, network, argument string) (any, error)

var poolOperations = map[string]poolOperation{
	"PoolsConnect":    connectPools,
	"PoolsDisconnect": disconnectPools,
	"PoolsReserve":    reservePools,
	"PoolsRemove": func(ctx context.Context, p *poolSet, _, peer string) (any, error) {
		return p.remove(ctx, peer)
	},
	"PoolsRemoveAllWorldAgents": func(ctx context.Context, p *poolSet, _, _ string) (any, error) {
		return removeAllWorldAgents(ctx, p)
	},
	"PoolsLeaveWorld": func(_ context.Context, p *poolSet, _, _ string) (any, error) { return leaveWorld(p) },
	"PoolsSubscribe": onTopic(func(p *poolSet, t poolTopic) (any, error) {
		return "subscribed to " + t.Channel, p.subscribe(t.Peer, t.Channel, t.Network)
	}),
	"PoolsUnsubscribe": onTopic(func(p *poolSet, t poolTopic) (any, error) {
		return "unsubscribed from " + t.Channel, p.unsubscribe(t.Peer, t.Channel, t.Network)
	}),
}

// poolTopic is the argument of PoolsSubscribe and PoolsUnsubscribe as operations.
type poolTopic struct {
	Peer    string `json:"peer"`
	Channel string `json:"channel"`
	Network string `json:"network"`
}

func onTopic(f func(*poolSet, poolTopic) (any, error)) poolOperation {
	return func(_ context.Context, p *poolSet, _, argument string) (any, error) {
		var t poolTopic
		if err := decodeStrict(argument, &t); err != nil {
			return nil, fmt.Errorf(`%w: expected {"peer","channel","network"}: %v`, node.ErrArgument, err)
		}
		return f(p, t)
	}
}

// startOperation runs a function in the background of the network's node, "" for the first one that is open. It ends with the
// set, too.
func (p *poolSet) startOperation(network, function, argument string, timeout time.Duration) (any, error) {
	run := poolOperations[function]
	if run == nil {
		return nil, unknownName("operation", function, poolOperations)
	}
	i, err := p.carrier(network)
	if err != nil {
		return nil, err
	}
	return i.operate(function, timeout, func(ctx context.Context, _ int64) (any, error) {
		both, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		defer context.AfterFunc(p.ctx, func() { cancel(context.Cause(p.ctx)) })()
		return run(both, p, network, argument)
	})
}

// carrier is the instance that tells of something on the network, or, for "", of something that has none.
func (p *poolSet) carrier(network string) (*instance, error) {
	if network != "" {
		return p.instanceOf(network)
	}
	for _, name := range p.networks {
		if i := p.instances[name]; i.node.Context().Err() == nil {
			return i, nil
		}
	}
	return nil, fmt.Errorf("%w: every node of pool set %d is closed", node.ErrClosed, p.number)
}
