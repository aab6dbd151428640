package main

// #include "shim.h"
import "C"

import (
	"runtime/cgo"
	"time"

	"peerbus/queue"
)

// intake is what a peerbus_receive or peerbus_wait asks for: all that is left of the call in Go while its thread sleeps in C (sleep.c).
type intake struct {
	i        *instance
	channel  string // "" is every channel
	most     int    // 0: peerbus_wait, which takes nothing
	maxBytes int64
	asleep   *queue.Sleep
}

// within waits up to the timeout, or has the caller wait: in the bed, if there is one.
func (t intake) within(timeout time.Duration, bed *C.pb_bed, out **C.peerbus_batch, problem *C.char) C.int {
	if timeout > 0 && bed != nil {
		return t.orSleep(bed, out, problem)
	}
	call := t.i.callContext(timeout)
	defer call.end()
	return t.take(call, out, problem)
}

func (t intake) orSleep(bed *C.pb_bed, out **C.peerbus_batch, problem *C.char) C.int {
	for {
		code := t.take(t.i.atOnce, out, problem)
		if code != 0 {
			return code
		}
		if t.layIn(bed) {
			return C.PB_ASLEEP
		}
	}
}

// layIn answers false where something may have come meanwhile.
func (t intake) layIn(bed *C.pb_bed) bool {
	t.asleep = t.i.node.Queue().Sleep(t.channel, func() { C.pb_rouse(bed) })
	if t.asleep == nil {
		return false
	}
	bed.intake = C.uintptr_t(cgo.NewHandle(t))
	return true
}

//export pb_awake
func pb_awake(bed *C.pb_bed, timeLeft C.int, out **C.peerbus_batch, problem *C.char) (code C.int) {
	handle := cgo.Handle(bed.intake)
	t := handle.Value().(intake)
	handle.Delete()
	defer guard("peerbus_receive", &t.i, &code, problem)
	if err := t.asleep.End(); err != nil {
		return fail(problem, err)
	}
	if timeLeft == 0 {
		return t.take(t.i.atOnce, out, problem)
	}
	return t.orSleep(bed, out, problem)
}

func (t intake) take(call *callContext, out **C.peerbus_batch, problem *C.char) C.int {
	if t.most > 0 {
		return t.i.receive(call, t.channel, t.most, t.maxBytes, confirmedByHost, out, problem)
	}
	if err := t.i.node.Queue().Wait(call, t.channel); err != nil {
		return t.i.endOfReceive(err, problem)
	}
	return 1
}
