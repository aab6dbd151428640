package main

// #include "shim.h"
import "C"

import (
	"errors"
	"fmt"
	"sync"
	"time"
	"unsafe"

	"peerbus/node"
	"peerbus/queue"
)

//export go_peerbus_send
func go_peerbus_send(number C.int, channel *C.char, channelLength C.size_t, data unsafe.Pointer, size C.size_t, timeoutMs C.int, problem *C.char) (code C.int) {
	i, route, call, err := onRoute(number, channel, channelLength, timeoutMs)
	defer guard("peerbus_send", &i, &code, problem)
	if err != nil {
		return fail(problem, err)
	}
	defer call.end()
	payload, err := bytesArgument(data, uint64(size), i.maxMessage())
	if err != nil {
		return fail(problem, err)
	}
	if err := i.node.SendOn(call, route, payload); err != nil {
		return fail(problem, err)
	}
	return C.PEERBUS_OK
}

// onRoute finds the node and the direct channel of a send, and begins the call, which has to be ended.
func onRoute(number C.int, channel *C.char, channelLength C.size_t, timeoutMs C.int) (*instance, *node.Route, *callContext, error) {
	i, err := lookUp(number)
	if err != nil {
		return nil, nil, nil, err
	}
	timeout, err := timeoutArgument(timeoutMs)
	if err != nil {
		return i, nil, nil, err
	}
	route, err := i.routeArgument(channel, channelLength)
	if err != nil {
		return i, nil, nil, err
	}
	return i, route, i.callContext(timeout), nil
}

//export go_peerbus_publish
func go_peerbus_publish(number C.int, channel *C.char, channelLength C.size_t, data unsafe.Pointer, size C.size_t, timeoutMs C.int, problem *C.char) C.int {
	return onChannel("peerbus_publish", number, channel, channelLength, data, size, timeoutMs, problem, func(i *instance, c dataCall) (int, error) {
		published, err := i.node.Publish(c.context, c.channel, c.payload)
		return published.Peers, err
	})
}

//export go_peerbus_flush
func go_peerbus_flush(number C.int, channel *C.char, channelLength C.size_t, timeoutMs C.int, problem *C.char) C.int {
	return onChannel("peerbus_flush", number, channel, channelLength, nil, 0, timeoutMs, problem, func(i *instance, c dataCall) (int, error) {
		return 0, i.node.Flush(c.context, c.channel)
	})
}

// onChannel is onNode for data functions that work on one channel. f captures nothing, so it costs no memory.
func onChannel(function string, number C.int, channel *C.char, channelLength C.size_t, data unsafe.Pointer, size C.size_t, timeoutMs C.int, problem *C.char, f func(*instance, dataCall) (int, error)) (code C.int) {
	i, err := lookUp(number)
	defer guard(function, &i, &code, problem)
	if err != nil {
		return fail(problem, err)
	}
	call, err := i.dataCall(channel, channelLength, data, size, timeoutMs)
	if err != nil {
		return fail(problem, err)
	}
	defer call.context.end()
	answer, err := f(i, call)
	if err != nil {
		return fail(problem, err)
	}
	return C.int(answer)
}

// dataCall is the checked arguments of a publish or flush.
type dataCall struct {
	channel string
	payload []byte // the host's memory
	context *callContext
}

func (i *instance) dataCall(channel *C.char, channelLength C.size_t, data unsafe.Pointer, size C.size_t, timeoutMs C.int) (dataCall, error) {
	timeout, err := timeoutArgument(timeoutMs)
	if err != nil {
		return dataCall{}, err
	}
	name, err := textArgument("channel", channel, channelLength)
	if err != nil {
		return dataCall{}, err
	}
	payload, err := bytesArgument(data, uint64(size), i.maxMessage())
	if err != nil {
		return dataCall{}, err
	}
	return dataCall{name, payload, i.callContext(timeout)}, nil
}

// scratch lists carry messages from the queue to the batch.
var scratch = sync.Pool{New: func() any { return new([]queue.Message) }}

//export go_peerbus_receive
func go_peerbus_receive(number C.int, channel *C.char, channelLength C.size_t, maxMessages C.int, maxBytes C.size_t, timeoutMs C.int, bed *C.pb_bed, out **C.peerbus_batch, problem *C.char) (code C.int) {
	i, err := lookUp(number)
	defer guard("peerbus_receive", &i, &code, problem)
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
	name, timeout, err := receiveArguments(channel, channelLength, timeoutMs)
	if err != nil {
		return fail(problem, err)
	}
	return intake{i: i, channel: name, most: most, maxBytes: int64(maxBytes)}.within(timeout, bed, out, problem)
}

// receiveArguments checks what receive and wait have in common.
func receiveArguments(channel *C.char, channelLength C.size_t, timeoutMs C.int) (string, time.Duration, error) {
	timeout, err := timeoutArgument(timeoutMs)
	if err != nil {
		return "", 0, err
	}
	name, err := channelOrAll(channel, channelLength)
	return name, timeout, err
}

// channelOrAll is "", every channel, for NULL.
func channelOrAll(channel *C.char, channelLength C.size_t) (string, error) {
	if channel == nil {
		return "", nil
	}
	name, err := textArgument("channel", channel, channelLength)
	if err != nil {
		return "", err
	}
	return name, node.CheckChannel(name)
}

// endOfReceive is the answer of a receive or wait that found nothing: 0 when only its deadline passed.
func (i *instance) endOfReceive(err error, problem *C.char) C.int {
	switch {
	case errors.Is(err, queue.ErrClosed), errors.Is(err, queue.ErrInterrupted):
		return fail(problem, err)
	case i.node.Context().Err() != nil:
		return fail(problem, node.ErrClosed)
	}
	return 0
}

//export go_peerbus_wait
func go_peerbus_wait(number C.int, channel *C.char, channelLength C.size_t, timeoutMs C.int, bed *C.pb_bed, problem *C.char) (code C.int) {
	i, err := lookUp(number)
	defer guard("peerbus_wait", &i, &code, problem)
	if err != nil {
		return fail(problem, err)
	}
	name, timeout, err := receiveArguments(channel, channelLength, timeoutMs)
	if err != nil {
		return fail(problem, err)
	}
	return intake{i: i, channel: name}.within(timeout, bed, nil, problem)
}

// take waits until it has messages that a pool set, if there is one, lets through.
func (i *instance) take(call *callContext, list []queue.Message, channel string, most int, maxBytes int64) ([]queue.Message, error) {
	for {
		taken, err := i.node.Queue().ReceiveAppend(call, list, channel, most, maxBytes)
		if err != nil {
			return taken, err
		}
		if taken = i.node.Settle(taken); len(taken) > 0 {
			return taken, nil
		}
		list = taken
	}
}

// confirming says who confirms messages of durable channels.
type confirming bool

const (
	confirmedByHost     confirming = false
	confirmedByHandOver confirming = true
)

func (i *instance) receive(call *callContext, channel string, most int, maxBytes int64, who confirming, out **C.peerbus_batch, problem *C.char) C.int {
	list := scratch.Get().(*[]queue.Message)
	defer func() {
		clear(*list)
		*list = (*list)[:0]
		scratch.Put(list)
	}()
	taken, err := i.take(call, *list, channel, most, maxBytes)
	*list = taken
	if err != nil {
		return i.endOfReceive(err, problem)
	}
	layout := measureBatch(taken)
	batch := layout.write()
	if batch == nil {
		i.node.LoseTaken(taken)
		return fail(problem, fmt.Errorf("%w: %d messages are lost and counted", errNoMemory, len(taken)))
	}
	if who == confirmedByHandOver {
		i.node.ConfirmTaken(taken)
	}
	*out = &batch.public_part
	return C.int(len(taken))
}

//export go_peerbus_interrupt
func go_peerbus_interrupt(number C.int, problem *C.char) (code C.int) {
	i, err := lookUp(number)
	defer guard("peerbus_interrupt", &i, &code, problem)
	if err != nil {
		return fail(problem, err)
	}
	i.node.Queue().Interrupt()
	i.node.Events().Interrupt()
	return C.PEERBUS_OK
}

//export go_peerbus_set_policy
func go_peerbus_set_policy(number C.int, channel *C.char, channelLength C.size_t, policy C.int, problem *C.char) (code C.int) {
	i, err := lookUp(number)
	defer guard("peerbus_set_policy", &i, &code, problem)
	if err != nil {
		return fail(problem, err)
	}
	name, err := textArgument("channel", channel, channelLength)
	if err != nil {
		return fail(problem, err)
	}
	if policy < C.PEERBUS_BLOCK || policy > C.PEERBUS_LATEST {
		return fail(problem, fmt.Errorf("%w: policy %d; PEERBUS_BLOCK .. PEERBUS_LATEST exist", node.ErrArgument, policy))
	}
	if err := i.node.SetPolicy(name, queue.Policy(policy)); err != nil {
		return fail(problem, err)
	}
	return C.PEERBUS_OK
}
