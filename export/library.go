package main

// #include "shim.h"
import "C"

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"peerbus/node"
)

// Bounds and defaults of InitializeLibrary.
const (
	defaultInstances     = 32
	maxInstances         = 4096
	maxChannels          = 1_000_000
	maxChannelMessages   = 1 << 24
	maxMessageBytes      = 1<<31 - 1 - 260
	defaultsVariable     = "PEERBUS_NODE_DEFAULTS"
	maxDefaultsFileBytes = 1 << 20
)

// library is what InitializeLibrary made.
type library struct {
	slots       []slot
	limits      node.Limits
	defaults    []byte // content of the PEERBUS_NODE_DEFAULTS file
	defaultsErr error  // why it could not be read: CreateNode reports it
}

var theLibrary atomic.Pointer[library]

// slot is the place of one node.
type slot struct {
	current atomic.Pointer[instance] // nil: no running node
	used    atomic.Bool              // a node ran here once
	life    sync.Mutex               // held while creating and closing
	abort   struct {
		sync.Mutex
		cancel context.CancelFunc // of a creation in progress
	}
	wakes wakeSet
}

// instance is one running node with what the border keeps for it.
type instance struct {
	node       *node.Node
	slot       *slot
	operations operations
	channels   channelHandles
	atOnce     *callContext // of the calls that do not wait
}

//export go_InitializeLibrary
func go_InitializeLibrary(instances, channels, channelMessages, messageBytes C.int, logConfig *C.char, logConfigLength C.size_t) {
	defer func() {
		if value := recover(); value != nil {
			failed("InitializeLibrary", nil, value)
		}
	}()
	made := &library{limits: node.DefaultLimits()}
	made.slots = make([]slot, bounded(instances, defaultInstances, maxInstances))
	for number := range made.slots {
		made.slots[number].wakes.watch(number)
	}
	made.limits.Channels = bounded(channels, made.limits.Channels, maxChannels)
	made.limits.ChannelMessages = bounded(channelMessages, made.limits.ChannelMessages, maxChannelMessages)
	made.limits.MessageBytes = bounded(messageBytes, made.limits.MessageBytes, maxMessageBytes)
	made.defaults, made.defaultsErr = readNodeDefaults()
	if !theLibrary.CompareAndSwap(nil, made) {
		logger().Warn("InitializeLibrary was called again; nothing changed")
		return
	}
	levels, err := textArgument("logConfigJSON", logConfig, logConfigLength)
	if err != nil {
		levels = "" // NULL and malformed texts leave every logger silent
	}
	theLog.configure(levels)
}

func bounded(value C.int, otherwise, most int) int {
	if value <= 0 {
		return otherwise
	}
	return min(int(value), most)
}

// readNodeDefaults reads the file that PEERBUS_NODE_DEFAULTS names. The variable comes from the C library, so that a host
// may set it after the process started.
func readNodeDefaults() ([]byte, error) {
	path := cEnvironment(defaultsVariable)
	if path == "" {
		return nil, nil
	}
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxDefaultsFileBytes {
		err = fmt.Errorf("%d bytes, at most %d are read", info.Size(), maxDefaultsFileBytes)
	}
	if err == nil {
		var text []byte
		if text, err = os.ReadFile(path); err == nil {
			return text, nil
		}
	}
	return nil, fmt.Errorf("%w: the file %q named by %s: %v", node.ErrConfig, path, defaultsVariable, err)
}

// slotOf finds the slot of a number.
func slotOf(number C.int) (*library, *slot, error) {
	l := theLibrary.Load()
	if l == nil {
		return nil, nil, fmt.Errorf("%w: call InitializeLibrary first", errNotInitialized)
	}
	if number < 0 || int(number) >= len(l.slots) {
		return nil, nil, fmt.Errorf("%w: instance %d; 0 .. %d are possible", node.ErrArgument, number, len(l.slots)-1)
	}
	return l, &l.slots[number], nil
}

// lookUp finds the running node of a slot.
func lookUp(number C.int) (*instance, error) {
	_, s, err := slotOf(number)
	if err != nil {
		return nil, err
	}
	i := s.current.Load()
	if i == nil {
		if s.used.Load() {
			return nil, fmt.Errorf("%w: instance %d", node.ErrClosed, number)
		}
		return nil, fmt.Errorf("%w: instance %d has no node; call CreateNode", errNoNode, number)
	}
	return i, i.node.Usable()
}

func createNode(number C.int, configText string) (any, error) {
	l, s, err := slotOf(number)
	if err != nil {
		return nil, err
	}
	if l.defaultsErr != nil {
		return nil, l.defaultsErr
	}
	config, err := node.ParseConfig([]byte(configText), l.defaults, l.limits)
	if err != nil {
		return nil, err
	}
	i, err := s.create(number, config)
	if err != nil {
		return nil, err
	}
	reachability := i.node.Reachability()
	return map[string]any{
		"addresses":    i.node.Addresses(),
		"isPublic":     reachability == node.ReachPublic,
		"reachability": reachability,
	}, nil
}

func (s *slot) create(number C.int, config node.Config) (*instance, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if !s.beginCreation(cancel) {
		return nil, fmt.Errorf("%w: a node is being created or closed on instance %d", errInUse, number)
	}
	defer s.endCreation()
	if s.current.Load() != nil {
		return nil, fmt.Errorf("%w: instance %d has a node; close it first", errInUse, number)
	}
	if err := s.wakes.renew(); err != nil {
		return nil, fmt.Errorf("%w: wake descriptors: %v", node.ErrInternal, err)
	}
	made, err := node.New(ctx, node.Options{
		Config:      config,
		Version:     Version,
		Log:         logger().With("node", config.LogName, "instance", int(number)),
		Memory:      cMemory{},
		WakeMessage: s.wakes.messages.set,
		WakeEvent:   s.wakes.events.set,
		Panicked:    func(string, any, []byte) { dumpStacksOnce() },
	})
	if err != nil {
		return nil, err
	}
	i := &instance{node: made, slot: s, atOnce: newCallContext(made.Context(), 0)}
	s.used.Store(true)
	s.current.Store(i)
	return i, nil
}

// beginCreation takes the slot's life lock together with the means to abort, so that close never waits for a creation that it
// cannot end.
func (s *slot) beginCreation(cancel context.CancelFunc) bool {
	s.abort.Lock()
	defer s.abort.Unlock()
	if !s.life.TryLock() {
		return false
	}
	s.abort.cancel = cancel
	return true
}

func (s *slot) endCreation() {
	s.abort.Lock()
	defer s.abort.Unlock()
	s.abort.cancel = nil
	s.life.Unlock()
}

// close ends the slot's node. A creation that waits for a verdict ends early.
func (s *slot) close() (closed bool, err error) {
	s.abort.Lock()
	if s.abort.cancel != nil {
		s.abort.cancel()
	}
	s.abort.Unlock()
	s.life.Lock()
	defer s.life.Unlock()
	i := s.current.Load()
	if i == nil {
		return false, nil
	}
	err = i.node.Close()
	s.current.Store(nil)
	return true, err
}

func closeNode(number C.int) (any, error) {
	if number == -1 {
		return closeAll()
	}
	_, s, err := slotOf(number)
	if err != nil {
		return nil, err
	}
	if s.current.Load() == nil && !s.used.Load() {
		s.abort.Lock()
		creating := s.abort.cancel != nil
		s.abort.Unlock()
		if !creating {
			return nil, fmt.Errorf("%w: instance %d has no node; nothing to close", errNoNode, number)
		}
	}
	closed, err := s.close()
	switch {
	case err != nil:
		return nil, err
	case !closed:
		return fmt.Sprintf("instance %d was closed before", number), nil
	}
	return fmt.Sprintf("instance %d closed", number), nil
}

// closeAll closes every node, at the same time.
func closeAll() (any, error) {
	l := theLibrary.Load()
	if l == nil {
		return nil, fmt.Errorf("%w: call InitializeLibrary first", errNotInitialized)
	}
	var group sync.WaitGroup
	var closed, problems atomic.Int64
	for number := range l.slots {
		group.Go(func() {
			defer func() {
				if value := recover(); value != nil {
					problems.Add(1)
					failed("CloseNode", l.slots[number].current.Load(), value)
				}
			}()
			wasOpen, err := l.slots[number].close()
			switch {
			case err != nil:
				problems.Add(1)
				logger().Error("closing failed", "instance", number, "error", err)
			case wasOpen:
				closed.Add(1)
			}
		})
	}
	group.Wait()
	return fmt.Sprintf("%d closed, %d failed", closed.Load(), problems.Load()), nil
}
