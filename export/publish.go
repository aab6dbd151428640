package main

// #include "shim.h"
import "C"

import (
	"unsafe"

	"peerbus/node"
)

//export go_peerbus_publish_batch
func go_peerbus_publish_batch(number C.int, channel *C.char, channelLength C.size_t, messages *C.peerbus_slice, count, timeoutMs C.int, out *C.peerbus_publication, problem *C.char) C.int {
	return onChannel("peerbus_publish_batch", number, channel, channelLength, nil, 0, timeoutMs, problem, func(i *instance, c dataCall) (int, error) {
		payloads, err := i.slicesArgument(messages, count)
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
		out[k] = C.peerbus_publication{id: C.uint64_t(p.ID), peers: C.uint64_t(p.Peers), missed: C.uint64_t(len(p.Missed))}
	}
}
