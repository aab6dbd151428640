package main

// #include "shim.h"
import "C"

// What a thread that lingers (linger.c) does inside Go. The instance may be closed meanwhile: then there is nothing to do.

//export go_peerbus_attend
func go_peerbus_attend(number C.int, attendance *C.uint64_t) (descriptor C.int) {
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

//export go_peerbus_look
func go_peerbus_look(number C.int, attendance C.uint64_t) {
	i, err := lookUp(number)
	defer guardAttending(&i)
	if err == nil {
		i.node.Look(uint64(attendance))
	}
}

//export go_peerbus_leave
func go_peerbus_leave(number C.int, attendance C.uint64_t) {
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
