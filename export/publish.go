package main

// #include "shim.h"
import "C"

import (
	"fmt"
	"unsafe"

	"peerbus/node"
)

//export go_peerbus_publish_batch
func go_peerbus_publish_batch(number C.int, channel *C.char, channelLength C.size_t, messages *C.peerbus_payload, count, timeoutMs C.int, out *C.peerbus_publication, problem *C.char) C.int {
	return onChannel("peerbus_publish_batch", number, channel, channelLength, nil, 0, timeoutMs, problem, func(i *instance, c dataCall) (int, error) {
		payloads, err := i.payloadsArgument(messages, count)
		if err != nil {
			return 0, err
		}
		published, err := i.node.PublishBatch(c.context, c.channel, payloads)
		if out != nil {
			writePublications(unsafe.Slice(out, len(published)), published)
		}
		if len(published) > 0 {
			// Why the others were not published stands where peerbus_last_error finds it.
			if err != nil {
				fail(problem, err)
			}
			return len(published), nil
		}
		return 0, err
	})
}

func writePublications(out []C.peerbus_publication, published []node.Publication) {
	for k, p := range published {
		out[k] = C.peerbus_publication{id: C.uint64_t(p.ID), peers: C.uint64_t(p.Peers)}
	}
}

// payloadsArgument views the host's payloads without copying; they are only valid during the call.
func (i *instance) payloadsArgument(messages *C.peerbus_payload, count C.int) ([][]byte, error) {
	most, err := countArgument("count", count, C.PEERBUS_MAX_BATCH)
	if err != nil {
		return nil, err
	}
	if messages == nil {
		return nil, fmt.Errorf("%w: messages is NULL", node.ErrArgument)
	}
	payloads := make([][]byte, most)
	for k, m := range unsafe.Slice(messages, most) {
		if payloads[k], err = bytesArgument(m.data, uint64(m.size), i.maxMessage()); err != nil {
			return nil, fmt.Errorf("message %d: %w", k, err)
		}
	}
	return payloads, nil
}
