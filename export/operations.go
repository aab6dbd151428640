package main

// #include "shim.h"
import "C"

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"peerbus/node"
)

const (
	// maxPopEvents bounds the events of one PopEvents.
	maxPopEvents = 4096
	// maxOperations bounds the operations of one node, running or with an end that the host has not taken yet.
	maxOperations = 1024
)

// operations are the control functions that run in the background of one node. The end of each is an event that no bound
// drops, so an operation counts until the host has taken that event.
type operations struct {
	state struct {
		sync.Mutex
		last    int64
		unheard int // started, and their end not taken
		running map[int64]context.CancelCauseFunc
	}
}

// operationFunctions are what StartOperation runs.
var operationFunctions = map[string]func(ctx context.Context, i *instance, argument string) (any, error){
	"ConnectTo": connect,
	"DisconnectFrom": func(_ context.Context, i *instance, argument string) (any, error) {
		id, err := decodePeer(argument)
		if err != nil {
			return nil, err
		}
		return disconnect(i, id)
	},
	"Diagnose":                 diagnose,
	"ReserveOnRelay":           reserve,
	"StartStaticRelay":         startStaticRelay,
	"InitiateWebRTCConnection": initiateWebRTC,
	"SubscribeToTopic": func(_ context.Context, i *instance, argument string) (any, error) {
		return subscribe(i, argument)
	},
	"UnsubscribeFromTopic": func(_ context.Context, i *instance, argument string) (any, error) {
		return unsubscribe(i, argument)
	},
	"WaitForTopicPeers": func(ctx context.Context, i *instance, argument string) (any, error) {
		var asked struct {
			Channel string `json:"channel"`
			Count   int    `json:"count"`
		}
		if err := json.Unmarshal([]byte(argument), &asked); err != nil || asked.Count < 0 {
			return nil, fmt.Errorf(`%w: expected {"channel":text,"count":number}, got %q`, node.ErrArgument, argument)
		}
		return waitForTopicPeers(ctx, i, asked.Channel, asked.Count)
	},
	"Flush": func(ctx context.Context, i *instance, argument string) (any, error) {
		if err := i.node.Flush(ctx, argument); err != nil {
			return nil, err
		}
		return "flushed " + argument, nil
	},
	"FindPeer": func(ctx context.Context, i *instance, argument string) (any, error) {
		id, err := decodePeer(argument)
		if err != nil {
			return nil, err
		}
		return findPeer(ctx, i, id)
	},
	"Advertise": advertise,
}

func decodePeer(text string) (peer.ID, error) {
	id, err := peer.Decode(text)
	if err != nil {
		return "", fmt.Errorf("%w: %q is not a peer id: %v", node.ErrArgument, text, err)
	}
	return id, nil
}

func (i *instance) startOperation(function, argument string, timeout time.Duration) (any, error) {
	run := operationFunctions[function]
	if run == nil {
		return nil, fmt.Errorf("%w: no operation %q; there are %s", node.ErrArgument, function,
			strings.Join(slices.Sorted(maps.Keys(operationFunctions)), ", "))
	}
	return i.operate(function, timeout, func(ctx context.Context, _ int64) (any, error) { return run(ctx, i, argument) })
}

// operate runs a function in the background, telling it the number of the operation.
func (i *instance) operate(function string, timeout time.Duration, run func(ctx context.Context, number int64) (any, error)) (any, error) {
	ctx, cancel := context.WithCancelCause(i.node.Context())
	number, err := i.operations.begin(cancel)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	started := i.node.Spawn("operation "+function, func() {
		deadline, stop := context.WithTimeout(ctx, timeout)
		defer stop()
		result := panicked
		defer func() {
			i.operations.end(number)
			cancel(nil)
			i.node.Events().PushMust(node.EventOperation, map[string]any{
				"operation": number, "function": function, "result": result,
			})
		}()
		result = envelopeOf(run(deadline, number))
	})
	if !started {
		i.operations.end(number)
		i.operations.heard(1)
		cancel(nil)
		return nil, node.ErrClosed
	}
	return map[string]int64{"operation": number}, nil
}

// panicked is the result of an operation that did not come to one.
var panicked = envelopeOf(nil, fmt.Errorf("%w: the operation failed; the log has the stacks", node.ErrInternal))

func (o *operations) begin(cancel context.CancelCauseFunc) (int64, error) {
	o.state.Lock()
	defer o.state.Unlock()
	if o.state.unheard >= maxOperations {
		return 0, fmt.Errorf("%w: %d operations run or wait for PopEvents to take their end", errLimit, maxOperations)
	}
	if o.state.running == nil {
		o.state.running = map[int64]context.CancelCauseFunc{}
	}
	o.state.last++
	o.state.unheard++
	o.state.running[o.state.last] = cancel
	return o.state.last, nil
}

func (o *operations) end(number int64) {
	o.state.Lock()
	defer o.state.Unlock()
	delete(o.state.running, number)
}

func (o *operations) heard(count int) {
	o.state.Lock()
	defer o.state.Unlock()
	o.state.unheard -= count
}

func (i *instance) cancelOperation(number int64) (any, error) {
	i.operations.state.Lock()
	cancel := i.operations.state.running[number]
	i.operations.state.Unlock()
	if cancel == nil {
		return nil, fmt.Errorf("%w: operation %d does not run", node.ErrNotFound, number)
	}
	cancel(node.ErrCancelled)
	return "cancelled", nil
}

func (i *instance) popEvents(most int, timeout time.Duration) (any, error) {
	call := newCallContext(i.node.Context(), timeout)
	defer call.end()
	list, err := i.node.Events().Pop(call, most)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		if errors.Is(context.Cause(i.node.Context()), node.ErrClosed) {
			return nil, node.ErrClosed
		}
		return empty{}, nil
	}
	ends := 0
	for _, e := range list {
		if e.Type == node.EventOperation {
			ends++
		}
	}
	i.operations.heard(ends)
	return list, nil
}
