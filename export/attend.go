package main

// #include "shim.h"
import "C"

import "time"

// attendedFor is how long a host may be away between two looks. Those who look ask for it anew after half of it (linger.c).
const attendedFor = 500 * time.Microsecond

// What a thread that lingers (linger.c) does inside Go; these are no public functions. The instance may be closed meanwhile: then
// there is nothing to do.

//export pb_attend
func pb_attend(number C.int) {
	i, err := lookUp(number)
	defer guardAttending(&i)
	if err == nil {
		i.attend(number)
	}
}

//export pb_look
func pb_look(number C.int, attendance C.uint64_t) {
	i, err := lookUp(number)
	defer guardAttending(&i)
	if err == nil {
		i.node.Look(uint64(attendance))
	}
}

//export pb_leave
func pb_leave(number C.int) {
	i, err := lookUp(number)
	defer guardAttending(&i)
	if err == nil {
		i.leave(number)
	}
}

func guardAttending(i **instance) {
	if value := recover(); value != nil {
		failed("linger", *i, value)
	}
}

// attend tells linger.c what it may look at.
func (i *instance) attend(number C.int) {
	descriptor, attendance, ok := i.node.Attend(attendedFor)
	if !ok {
		descriptor, attendance = -1, 0
	}
	C.pb_attended(number, C.int(descriptor), C.uint64_t(attendance))
}

func (i *instance) leave(number C.int) {
	if attendance := C.pb_unattended(number); attendance != 0 {
		i.node.Leave(uint64(attendance))
	}
}

//export go_peerbus_look
func go_peerbus_look(number, again C.int, problem *C.char) (code C.int) {
	i, err := lookUp(number)
	defer guard("peerbus_look", &i, &code, problem)
	if err != nil {
		return fail(problem, err)
	}
	call := i.callContext(0)
	defer call.end()
	code = 1
	if err := i.node.Queue().Wait(call, ""); err != nil {
		code = i.endOfReceive(err, problem)
	}
	switch {
	case again == 0:
		i.leave(number)
	case code == 0:
		i.attend(number)
	}
	return code
}
