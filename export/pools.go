package main

// #include "shim.h"
import "C"

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"peerbus/node"
	"peerbus/pool"
)

// maxPoolSets bounds the open pool sets of this process.
const maxPoolSets = 1024

// poolSet is one open pool set with what the border keeps for it.
type poolSet struct {
	number    int
	set       *pool.Set
	preset    *pool.NodeConn // nil: a set of the host's own pools
	networks  []string       // in declared order
	instances map[string]*instance

	ctx    context.Context // ends when the set closes
	cancel context.CancelCauseFunc
}

// poolSets are the open ones. Numbers are never used again, so a stale one finds nothing.
var poolSets struct {
	sync.Mutex
	last int
	open map[int]*poolSet
}

// newPoolSet takes a number, which events carry from the beginning. The set is nowhere to be found before keep.
func newPoolSet() (*poolSet, error) {
	poolSets.Lock()
	defer poolSets.Unlock()
	if len(poolSets.open) >= maxPoolSets || poolSets.last == math.MaxInt32 {
		return nil, fmt.Errorf("%w: %d pool sets are open; close some", errLimit, len(poolSets.open))
	}
	poolSets.last++
	p := &poolSet{number: poolSets.last, instances: map[string]*instance{}}
	p.ctx, p.cancel = context.WithCancelCause(context.Background())
	return p, nil
}

func (p *poolSet) keep() {
	poolSets.Lock()
	defer poolSets.Unlock()
	if poolSets.open == nil {
		poolSets.open = map[int]*poolSet{}
	}
	poolSets.open[p.number] = p
}

// drop forgets the set, and answers whether it was the first to do so.
func (p *poolSet) drop() bool {
	poolSets.Lock()
	defer poolSets.Unlock()
	_, open := poolSets.open[p.number]
	delete(poolSets.open, p.number)
	return open
}

// lookUpPools finds an open set.
func lookUpPools(number C.int) (*poolSet, error) {
	if theLibrary.Load() == nil {
		return nil, fmt.Errorf("%w: call InitializeLibrary first", errNotInitialized)
	}
	poolSets.Lock()
	defer poolSets.Unlock()
	if p := poolSets.open[int(number)]; p != nil {
		return p, nil
	}
	if number < 1 || int(number) > poolSets.last {
		return nil, fmt.Errorf("%w: there never was a pool set %d", node.ErrArgument, number)
	}
	return nil, fmt.Errorf("%w: %d", pool.ErrClosed, number)
}

// emit raises an event of the set on the node of its network. The set's lock is held.
func (p *poolSet) emit(e pool.Event) {
	i, err := p.carrier(e.Network)
	if err != nil {
		return // every node is closed
	}
	fields := e.Fields()
	fields["pools"] = p.number
	i.node.Events().Push(string(e.Kind), fields)
}

// instanceOf is the instance behind a network's name.
func (p *poolSet) instanceOf(network string) (*instance, error) {
	if i := p.instances[network]; i != nil {
		return i, nil
	}
	return nil, fmt.Errorf("%w: there is no network %.64q", node.ErrNotFound, network)
}

// onPreset is the set as a NodeConn.
func (p *poolSet) onPreset() (*pool.NodeConn, error) {
	if p.preset == nil {
		return nil, fmt.Errorf("%w: pool set %d has no lists of a world; make it with the preset \"node_conn\"", node.ErrUnsupported, p.number)
	}
	return p.preset, nil
}

func (p *poolSet) remove(ctx context.Context, id string) (bool, error) {
	if p.preset != nil {
		return p.preset.Remove(ctx, id)
	}
	return p.set.Remove(ctx, id)
}

func (p *poolSet) subscribe(peerID, channel, network string) error {
	if p.preset != nil {
		return p.preset.Subscribe(peerID, channel, network)
	}
	return p.set.Subscribe(peerID, channel, network)
}

func (p *poolSet) unsubscribe(peerID, channel, network string) error {
	if p.preset != nil {
		return p.preset.Unsubscribe(peerID, channel, network)
	}
	return p.set.Unsubscribe(peerID, channel, network)
}

func createPools(text string) (any, error) {
	if theLibrary.Load() == nil {
		return nil, fmt.Errorf("%w: call InitializeLibrary first", errNotInitialized)
	}
	config, err := parsePoolsConfig(text)
	if err != nil {
		return nil, err
	}
	p, err := newPoolSet()
	if err != nil {
		return nil, err
	}
	if err := config.build(p); err != nil {
		p.cancel(nil)
		return nil, err
	}
	if err := p.set.Attach(); err != nil {
		p.close()
		return nil, err
	}
	p.keep()
	return map[string]any{"pools": p.number, "capacities": p.set.Pools()}, nil
}

// close ends the calls that wait in the set and gives its nodes free.
func (p *poolSet) close() {
	p.cancel(pool.ErrClosed)
	p.set.Detach()
	p.set.Close()
}

func closePools(number C.int) (any, error) {
	if number == -1 {
		return closeAllPools()
	}
	p, err := lookUpPools(number)
	switch {
	case errors.Is(err, pool.ErrClosed):
		return fmt.Sprintf("pool set %d was closed before", number), nil
	case err != nil:
		return nil, err
	}
	if !p.drop() {
		return fmt.Sprintf("pool set %d is being closed already", number), nil
	}
	p.close()
	return fmt.Sprintf("pool set %d closed", number), nil
}

func closeAllPools() (any, error) {
	if theLibrary.Load() == nil {
		return nil, fmt.Errorf("%w: call InitializeLibrary first", errNotInitialized)
	}
	poolSets.Lock()
	open := poolSets.open
	poolSets.open = nil
	poolSets.Unlock()
	var group sync.WaitGroup
	for _, p := range open {
		group.Go(func() {
			defer func() {
				if value := recover(); value != nil {
					failed("ClosePools", nil, value)
				}
			}()
			p.close()
		})
	}
	group.Wait()
	return fmt.Sprintf("%d closed", len(open)), nil
}

// onPools is control for functions that need an open pool set. Their arguments are read through a.
func onPools(function string, number C.int, f func(p *poolSet, a *arguments) (any, error)) *C.char {
	p, err := lookUpPools(number)
	return control(function, nil, err, func() (any, error) { return f(p, &arguments{}) })
}

// arguments reads arguments and keeps the first failure.
type arguments struct{ err error }

func (a *arguments) text(name string, text *C.char, length C.size_t) string {
	if a.err != nil {
		return ""
	}
	var copied string
	copied, a.err = textArgument(name, text, length)
	return copied
}

// textOrNull is "" for NULL.
func (a *arguments) textOrNull(name string, text *C.char, length C.size_t) string {
	if text == nil {
		return ""
	}
	return a.text(name, text, length)
}

func (a *arguments) timeout(milliseconds C.int) time.Duration {
	if a.err != nil {
		return 0
	}
	var timeout time.Duration
	timeout, a.err = timeoutArgument(milliseconds)
	return timeout
}

// within bounds a wait in the set.
func (p *poolSet) within(timeout time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(p.ctx, timeout)
}
