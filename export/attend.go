package main

// #include "shim.h"
import "C"

// What a thread that lingers (linger.c) does inside Go; these are no public functions. The instance may be closed meanwhile: then
// there is nothing to do.

//export pb_attend
func pb_attend(number C.int, attendance *C.uint64_t) (descriptor C.int) {
	i, err := lookUp(number)
	descriptor = -1
	defer guardAttending(&i)
	if err != nil {
		return descriptor
	}
	fd, id, ok := i.node.Attend()
	if ok {
		*attendance, descriptor = C.uint64_t(id), C.int(fd)
	}
	return descriptor
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
func pb_leave(number C.int, attendance C.uint64_t) {
	i, err := lookUp(number)
	defer guardAttending(&i)
	if err == nil {
		i.node.Leave(uint64(attendance))
	}
}

func guardAttending(i **instance) {
	if value := recover(); value != nil {
		failed("linger", *i, value)
	}
}
