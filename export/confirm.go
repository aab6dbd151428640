package main

// #include <string.h>
// #include "shim.h"
import "C"

import (
	"fmt"
	"unsafe"

	"peerbus/node"
)

//export go_peerbus_confirm
func go_peerbus_confirm(number C.int, messages *C.peerbus_message, count C.int, problem *C.char) (code C.int) {
	i, err := lookUp(number)
	defer guard("peerbus_confirm", &i, &code, problem)
	if err != nil {
		return fail(problem, err)
	}
	list, err := confirmationsArgument(messages, count)
	if err != nil {
		return fail(problem, err)
	}
	confirmed, err := i.node.Confirm(list)
	if err != nil {
		return fail(problem, err)
	}
	return C.int(confirmed)
}

// confirmationsArgument reads the channel and the id of each message. Those of one batch share their texts.
func confirmationsArgument(messages *C.peerbus_message, count C.int) ([]node.Confirmation, error) {
	most, err := countArgument("count", count, C.PEERBUS_MAX_BATCH)
	if err != nil {
		return nil, err
	}
	if messages == nil {
		return nil, fmt.Errorf("%w: messages is NULL", node.ErrArgument)
	}
	list := make([]node.Confirmation, most)
	var last *C.char
	for k := range list {
		m := (*C.peerbus_message)(unsafe.Add(unsafe.Pointer(messages), k*messageSize))
		switch {
		case m.channel == nil:
			return nil, fmt.Errorf("%w: the channel of message %d is NULL", node.ErrArgument, k)
		case m.channel == last:
			list[k].Channel = list[k-1].Channel
		default:
			if list[k].Channel, err = textArgument("channel", m.channel, C.strlen(m.channel)); err != nil {
				return nil, err
			}
			last = m.channel
		}
		list[k].ID = uint64(m.id)
	}
	return list, nil
}
