package main

// #include "shim.h"
import "C"

import (
	"fmt"
	"unsafe"

	"peerbus/node"
	"peerbus/pool"
)

//export go_peerbus_pools_send
func go_peerbus_pools_send(number C.int, peer *C.char, peerLength C.size_t, trail *C.char, trailLength C.size_t, contentType *C.char, contentTypeLength C.size_t, field C.int, data unsafe.Pointer, size C.size_t, network *C.char, networkLength C.size_t, timeoutMs C.int, problem *C.char) (code C.int) {
	p, err := lookUpPools(number)
	defer guardPools("peerbus_pools_send", &code, problem)
	if err != nil {
		return fail(problem, err)
	}
	var a arguments
	o := pool.Outgoing{
		Peer: a.text("peer_id", peer, peerLength), Trail: a.text("trail", trail, trailLength),
		ContentType: a.text("content_type", contentType, contentTypeLength), Network: a.textOrNull("network", network, networkLength),
		Content: a.content(p, field, data, size),
	}
	call := newCallContext(p.ctx, a.timeout(timeoutMs))
	defer call.end()
	if a.err != nil {
		return fail(problem, a.err)
	}
	if err := p.set.Send(call, o); err != nil {
		return fail(problem, err)
	}
	return C.PEERBUS_OK
}

//export go_peerbus_pools_publish
func go_peerbus_pools_publish(number C.int, peer *C.char, peerLength C.size_t, channel *C.char, channelLength C.size_t, contentType *C.char, contentTypeLength C.size_t, field C.int, data unsafe.Pointer, size C.size_t, timeoutMs C.int, problem *C.char) (code C.int) {
	p, err := lookUpPools(number)
	defer guardPools("peerbus_pools_publish", &code, problem)
	if err != nil {
		return fail(problem, err)
	}
	var a arguments
	id, topic := a.text("peer_id", peer, peerLength), a.text("channel", channel, channelLength)
	kind, content := a.text("content_type", contentType, contentTypeLength), a.content(p, field, data, size)
	call := newCallContext(p.ctx, a.timeout(timeoutMs))
	defer call.end()
	if a.err != nil {
		return fail(problem, a.err)
	}
	reached, err := p.set.Publish(call, id, topic, kind, content)
	if err != nil {
		return fail(problem, err)
	}
	return C.int(reached)
}

// maxMessage is the largest limits.message_bytes of the set's nodes.
func (p *poolSet) maxMessage() (most uint64) {
	for _, i := range p.instances {
		most = max(most, i.maxMessage())
	}
	return most
}

// content views the host's bytes as the content of a message; the set copies them into its envelope.
func (a *arguments) content(p *poolSet, field C.int, data unsafe.Pointer, size C.size_t) (content pool.Content) {
	if a.err != nil {
		return content
	}
	payload, err := bytesArgument(data, uint64(size), p.maxMessage())
	if err == nil {
		content, err = pool.ContentOfField(int(field), payload)
	}
	a.err = err
	return content
}

//export go_peerbus_pools_receive
func go_peerbus_pools_receive(number C.int, network *C.char, networkLength C.size_t, channel *C.char, channelLength C.size_t, maxMessages C.int, maxBytes C.size_t, timeoutMs C.int, out **C.peerbus_batch, problem *C.char) (code C.int) {
	p, err := lookUpPools(number)
	defer guardPools("peerbus_pools_receive", &code, problem)
	if err != nil {
		return fail(problem, err)
	}
	if out == nil {
		return fail(problem, fmt.Errorf("%w: out is NULL", node.ErrArgument))
	}
	most, err := countArgument("max_messages", maxMessages, C.PEERBUS_MAX_BATCH)
	if err != nil {
		return fail(problem, err)
	}
	var a arguments
	name, timeout := a.text("network", network, networkLength), a.timeout(timeoutMs)
	if a.err != nil {
		return fail(problem, a.err)
	}
	i, err := p.instanceOf(name)
	if err != nil {
		return fail(problem, err)
	}
	if err := p.set.Receivable(); err != nil {
		return fail(problem, err)
	}
	from, err := channelOrAll(channel, channelLength)
	if err != nil {
		return fail(problem, err)
	}
	call := newCallContext(p.ctx, timeout)
	defer call.end()
	count := i.receive(call, from, most, int64(maxBytes), confirmedByHandOver, out, problem)
	if count == 0 && p.ctx.Err() != nil {
		return fail(problem, pool.ErrClosed)
	}
	return count
}

// guardPools is guard for functions on a pool set: no node is to blame.
func guardPools(function string, code *C.int, problem *C.char) {
	if value := recover(); value != nil {
		failed(function, nil, value)
		*code = fail(problem, panicError(function, value))
	}
}
