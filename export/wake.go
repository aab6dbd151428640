package main

// #include "shim.h"
import "C"

import (
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"peerbus/node"
)

// wakeSet holds the two wake descriptors of a slot. They outlive a node, readable, until the slot gets the next one.
type wakeSet struct{ messages, events wakeDescriptor }

// watch connects the set with the flag of its instance.
func (w *wakeSet) watch(number int) {
	w.messages.flag = (*int32)(unsafe.Pointer(C.pb_readable(C.int(number))))
}

func (w *wakeSet) renew() error {
	if err := w.messages.renew(); err != nil {
		return err
	}
	return w.events.renew()
}

// wakeDescriptor is a descriptor that is readable while something waits. It is made when the host first asks for it, and
// what happened before counts.
type wakeDescriptor struct {
	flag  *int32 // of linger.c; nil for events
	state struct {
		sync.Mutex
		signal   *signal // nil: not asked for
		readable bool
	}
}

// show sets the flag.
func (w *wakeDescriptor) show(readable bool) {
	if w.flag == nil {
		return
	}
	value := int32(0)
	if readable {
		value = 1
	}
	atomic.StoreInt32(w.flag, value)
}

// set follows the queue; the queue calls it with its lock held, so it does not block.
func (w *wakeDescriptor) set(readable bool) {
	w.state.Lock()
	defer w.state.Unlock()
	if readable == w.state.readable {
		return
	}
	w.state.readable = readable
	w.show(readable)
	if w.state.signal != nil {
		w.state.signal.set(readable)
	}
}

func (w *wakeDescriptor) descriptor() (int, error) {
	w.state.Lock()
	defer w.state.Unlock()
	if w.state.signal == nil {
		made, err := newSignal()
		if err != nil {
			return 0, fmt.Errorf("%w: making a wake descriptor: %v; are too many files open?", errLimit, err)
		}
		made.set(w.state.readable)
		w.state.signal = made
	}
	return w.state.signal.readEnd(), nil
}

// renew closes the descriptor of the slot's previous node.
func (w *wakeDescriptor) renew() error {
	w.state.Lock()
	defer w.state.Unlock()
	w.state.readable = false
	w.show(false)
	if w.state.signal == nil {
		return nil
	}
	err := w.state.signal.close()
	w.state.signal = nil
	return err
}

//export go_peerbus_wake_descriptor
func go_peerbus_wake_descriptor(number, what C.int, problem *C.char) (code C.int) {
	i, err := lookUp(number)
	defer guard("peerbus_wake_descriptor", &i, &code, problem)
	if err != nil {
		return fail(problem, err)
	}
	var wanted *wakeDescriptor
	switch what {
	case C.PEERBUS_WAKE_MESSAGES:
		wanted = &i.slot.wakes.messages
	case C.PEERBUS_WAKE_EVENTS:
		wanted = &i.slot.wakes.events
	default:
		return fail(problem, fmt.Errorf("%w: what is %d; PEERBUS_WAKE_MESSAGES and PEERBUS_WAKE_EVENTS exist", node.ErrArgument, what))
	}
	fd, err := wanted.descriptor()
	if err != nil {
		return fail(problem, err)
	}
	return C.int(fd)
}
