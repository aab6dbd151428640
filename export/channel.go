package main

// #include "shim.h"
import "C"

import (
	"fmt"
	"sync"
	"unsafe"

	"peerbus/node"
)

const (
	// maxChannelHandles bounds the open handles of one node.
	maxChannelHandles = 1 << 20
	// maxSendBatch bounds the messages of one call.
	maxSendBatch = C.PEERBUS_MAX_BATCH
)

// channelHandles are the open channel handles of one node. Numbers are not used twice.
type channelHandles struct {
	sync.RWMutex
	open map[C.int]*node.Channel
	last C.int
}

func (h *channelHandles) add(c *node.Channel) (C.int, error) {
	h.Lock()
	defer h.Unlock()
	if len(h.open) >= maxChannelHandles || h.last == 1<<31-1 {
		return 0, fmt.Errorf("%w: %d channel handles are open", errLimit, len(h.open))
	}
	if h.open == nil {
		h.open = map[C.int]*node.Channel{}
	}
	h.last++
	h.open[h.last] = c
	return h.last, nil
}

func (h *channelHandles) find(number C.int) (*node.Channel, error) {
	h.RLock()
	defer h.RUnlock()
	if c := h.open[number]; c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("%w: no channel handle %d is open", node.ErrArgument, number)
}

func (h *channelHandles) take(number C.int) (*node.Channel, error) {
	h.Lock()
	defer h.Unlock()
	c := h.open[number]
	if c == nil {
		return nil, fmt.Errorf("%w: no channel handle %d is open", node.ErrArgument, number)
	}
	delete(h.open, number)
	return c, nil
}

//export go_peerbus_channel_open
func go_peerbus_channel_open(number C.int, channel *C.char, channelLength C.size_t, events C.int, problem *C.char) (code C.int) {
	i, err := lookUp(number)
	defer guard("peerbus_channel_open", &i, &code, problem)
	if err != nil {
		return fail(problem, err)
	}
	name, err := textArgument("channel", channel, channelLength)
	if err != nil {
		return fail(problem, err)
	}
	options, err := deliveryEvents(events)
	if err != nil {
		return fail(problem, err)
	}
	opened, err := i.node.OpenChannel(name, options)
	if err != nil {
		return fail(problem, err)
	}
	handle, err := i.channels.add(opened)
	if err != nil {
		opened.Close()
		return fail(problem, err)
	}
	return handle
}

// deliveryEvents reads the sum of 1 << state.
func deliveryEvents(events C.int) (o node.ChannelOptions, err error) {
	const known = 1<<node.DeliveryQueued | 1<<node.DeliverySent | 1<<node.DeliveryAccepted | 1<<node.DeliveryTaken
	if events&^known != 0 {
		return o, fmt.Errorf("%w: events %d; a sum of 1 << PEERBUS_QUEUED, PEERBUS_SENT, PEERBUS_ACCEPTED and PEERBUS_TAKEN is possible", node.ErrArgument, events)
	}
	return node.ChannelOptions{Events: node.DeliveryStates(events)}, nil
}

// onHandle looks up a node, one of its channel handles and the time that a call has.
func onHandle(number, handle, timeoutMs C.int) (i *instance, c *node.Channel, call *callContext, err error) {
	if i, err = lookUp(number); err != nil {
		return i, nil, nil, err
	}
	timeout, err := timeoutArgument(timeoutMs)
	if err != nil {
		return i, nil, nil, err
	}
	if c, err = i.channels.find(handle); err != nil {
		return i, nil, nil, err
	}
	return i, c, i.callContext(timeout), nil
}

//export go_peerbus_channel_send
func go_peerbus_channel_send(number, handle C.int, data unsafe.Pointer, size C.size_t, timeoutMs C.int, id *C.uint64_t, problem *C.char) (code C.int) {
	i, c, call, err := onHandle(number, handle, timeoutMs)
	defer guard("peerbus_channel_send", &i, &code, problem)
	if err != nil {
		return fail(problem, err)
	}
	defer call.end()
	payload, err := bytesArgument(data, uint64(size), i.maxMessage())
	if err != nil {
		return fail(problem, err)
	}
	sent, err := c.Send(call, payload)
	if err != nil {
		return fail(problem, err)
	}
	if id != nil {
		*id = C.uint64_t(sent)
	}
	return C.PEERBUS_OK
}

//export go_peerbus_channel_send_batch
func go_peerbus_channel_send_batch(number, handle C.int, slices *C.peerbus_slice, count, timeoutMs C.int, first *C.uint64_t, problem *C.char) (code C.int) {
	i, c, call, err := onHandle(number, handle, timeoutMs)
	defer guard("peerbus_channel_send_batch", &i, &code, problem)
	if err != nil {
		return fail(problem, err)
	}
	defer call.end()
	payloads, err := i.slicesArgument(slices, count)
	if err != nil {
		return fail(problem, err)
	}
	id, taken, err := c.SendBatch(call, payloads)
	if err != nil {
		return fail(problem, err)
	}
	if first != nil {
		*first = C.uint64_t(id)
	}
	return C.int(taken)
}

func (i *instance) slicesArgument(slices *C.peerbus_slice, count C.int) ([][]byte, error) {
	most, err := countArgument("count", count, maxSendBatch)
	if err != nil {
		return nil, err
	}
	if slices == nil {
		return nil, fmt.Errorf("%w: slices is NULL", node.ErrArgument)
	}
	payloads := make([][]byte, most)
	for k, s := range unsafe.Slice(slices, most) {
		if payloads[k], err = bytesArgument(unsafe.Pointer(s.data), uint64(s.size), i.maxMessage()); err != nil {
			return nil, fmt.Errorf("slice %d: %w", k, err)
		}
	}
	return payloads, nil
}

//export go_peerbus_channel_wait
func go_peerbus_channel_wait(number, handle C.int, id C.uint64_t, state, timeoutMs C.int, problem *C.char) (code C.int) {
	i, c, call, err := onHandle(number, handle, timeoutMs)
	defer guard("peerbus_channel_wait", &i, &code, problem)
	if err != nil {
		return fail(problem, err)
	}
	defer call.end()
	if state < C.PEERBUS_QUEUED || state > C.PEERBUS_TAKEN {
		return fail(problem, fmt.Errorf("%w: state %d; PEERBUS_QUEUED .. PEERBUS_TAKEN can be waited for", node.ErrArgument, state))
	}
	if err := c.Await(call, uint64(id), node.DeliveryState(state)); err != nil {
		return fail(problem, err)
	}
	return C.PEERBUS_OK
}

//export go_peerbus_channel_configure
func go_peerbus_channel_configure(number, handle C.int, text *C.char, length C.size_t, problem *C.char) (code C.int) {
	i, err := lookUp(number)
	defer guard("peerbus_channel_configure", &i, &code, problem)
	if err != nil {
		return fail(problem, err)
	}
	c, err := i.channels.find(handle)
	if err != nil {
		return fail(problem, err)
	}
	given, err := textArgument("options", text, length)
	if err != nil {
		return fail(problem, err)
	}
	options, err := node.ParseSendOptions(given, c.SendOptions())
	if err != nil {
		return fail(problem, err)
	}
	if err := c.Configure(options); err != nil {
		return fail(problem, err)
	}
	return C.PEERBUS_OK
}

//export go_peerbus_channel_close
func go_peerbus_channel_close(number, handle C.int, problem *C.char) (code C.int) {
	i, err := lookUp(number)
	defer guard("peerbus_channel_close", &i, &code, problem)
	if err != nil {
		return fail(problem, err)
	}
	c, err := i.channels.take(handle)
	if err != nil {
		return fail(problem, err)
	}
	c.Close()
	return C.PEERBUS_OK
}

//export go_GetChannelInfo
func go_GetChannelInfo(number C.int, channel *C.char, channelLength C.size_t) *C.char {
	return onNode("GetChannelInfo", number, func(i *instance) (any, error) {
		name, err := textArgument("channel", channel, channelLength)
		if err != nil {
			return nil, err
		}
		return i.node.ChannelInfo(name)
	})
}
