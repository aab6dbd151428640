package main

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"unsafe"

	"peerbus/node"
	"peerbus/queue"
)

const (
	popMark = 0xB1
	// popHead is the mark, the total and the count; popMessageHead the three lengths of a message.
	popHead        = 1 + 4 + 4
	popMessageHead = 3 * 4
	// maxPopBytes bounds the payload of one PopMessages, so that its total stays below 2^31 in either form: base64 adds a
	// third.
	maxPopBytes = 1 << 30
)

// popMessages answers the oldest message of each channel, in the form that the node is configured for (P2P-17).
func popMessages(i *instance) *C.char {
	messages := i.node.Settle(i.node.Queue().TakeOldestOfEach(nil, maxPopBytes))
	if len(messages) == 0 {
		return reply(empty{}, nil)
	}
	var answer *C.char
	if i.node.Config().PopMessages == node.PopBinary {
		answer = popBinary(messages)
	} else {
		answer = popJSON(messages)
	}
	if answer == nil {
		i.node.LoseTaken(messages)
		return reply(nil, fmt.Errorf("%w: %d messages are lost and counted", errNoMemory, len(messages)))
	}
	i.node.ConfirmTaken(messages)
	i.node.FreeTaken(messages)
	return answer
}

func popJSON(messages []queue.Message) *C.char {
	type item struct {
		From string `json:"from"`
		Data []byte `json:"data"` // encoding/json writes base64
	}
	list := make([]item, 0, len(messages))
	for _, m := range messages {
		list = append(list, item{m.From, m.Data})
	}
	text, err := json.Marshal(list)
	if err != nil {
		return nil
	}
	return cText(text)
}

func popBinary(messages []queue.Message) *C.char {
	total := popHead
	for _, m := range messages {
		total += popMessageHead + len(m.From) + len(m.Protocol) + len(m.Data)
	}
	if total > math.MaxInt32 {
		return nil
	}
	memory := C.malloc(C.size_t(total))
	if memory == nil {
		return nil
	}
	buffer := append(unsafe.Slice((*byte)(memory), total)[:0], popMark)
	buffer = binary.BigEndian.AppendUint32(buffer, uint32(total))
	buffer = binary.BigEndian.AppendUint32(buffer, uint32(len(messages)))
	for _, m := range messages {
		buffer = binary.BigEndian.AppendUint32(buffer, uint32(len(m.From)))
		buffer = append(buffer, m.From...)
		buffer = binary.BigEndian.AppendUint32(buffer, uint32(len(m.Protocol)))
		buffer = append(buffer, m.Protocol...)
		buffer = binary.BigEndian.AppendUint32(buffer, uint32(len(m.Data)))
		buffer = append(buffer, m.Data...)
	}
	return (*C.char)(memory)
}
