package main

// #include "shim.h"
//
// static void pb_release(void (*release)(void *), void *context) { release(context); }
import "C"

import (
	"fmt"
	"unsafe"

	"peerbus/node"
)

//export go_peerbus_send_lent
func go_peerbus_send_lent(number C.int, channel *C.char, channelLength C.size_t, lent *C.peerbus_loan, timeoutMs C.int, problem *C.char) (code C.int) {
	i, route, call, err := onRoute(number, channel, channelLength, timeoutMs)
	defer guard("peerbus_send_lent", &i, &code, problem)
	if err != nil {
		return fail(problem, err)
	}
	defer call.end()
	payload, release, err := i.loanArgument(lent)
	if err != nil {
		return fail(problem, err)
	}
	if err := i.node.SendLentOn(call, route, payload, release); err != nil {
		return fail(problem, err)
	}
	return C.PEERBUS_OK
}

//export go_peerbus_channel_send_lent
func go_peerbus_channel_send_lent(number, handle C.int, lent *C.peerbus_loan, timeoutMs C.int, id *C.uint64_t, problem *C.char) (code C.int) {
	i, c, call, err := onHandle(number, handle, timeoutMs)
	defer guard("peerbus_channel_send_lent", &i, &code, problem)
	if err != nil {
		return fail(problem, err)
	}
	defer call.end()
	payload, release, err := i.loanArgument(lent)
	if err != nil {
		return fail(problem, err)
	}
	sent, err := c.SendLent(call, payload, release)
	if err != nil {
		return fail(problem, err)
	}
	if id != nil {
		*id = C.uint64_t(sent)
	}
	return C.PEERBUS_OK
}

//export go_peerbus_channel_send_batch_lent
func go_peerbus_channel_send_batch_lent(number, handle C.int, loans *C.peerbus_loan, count, timeoutMs C.int, first *C.uint64_t, problem *C.char) (code C.int) {
	i, c, call, err := onHandle(number, handle, timeoutMs)
	defer guard("peerbus_channel_send_batch_lent", &i, &code, problem)
	if err != nil {
		return fail(problem, err)
	}
	defer call.end()
	payloads, releases, err := i.loansArgument(loans, count)
	if err != nil {
		return fail(problem, err)
	}
	id, taken, err := c.SendBatchLent(call, payloads, releases)
	if err != nil {
		return fail(problem, err)
	}
	if first != nil {
		*first = C.uint64_t(id)
	}
	return C.int(taken)
}

// loansArgument answers payloads and what gives them back, nil for one that is not lent, or for all if none is.
func (i *instance) loansArgument(loans *C.peerbus_loan, count C.int) ([][]byte, []func(), error) {
	most, err := countArgument("count", count, maxSendBatch)
	if err != nil {
		return nil, nil, err
	}
	if loans == nil {
		return nil, nil, fmt.Errorf("%w: loans is NULL", node.ErrArgument)
	}
	payloads := make([][]byte, most)
	var releases []func()
	for k, lent := range unsafe.Slice(loans, most) {
		if payloads[k], err = bytesArgument(lent.data, uint64(lent.size), i.maxMessage()); err != nil {
			return nil, nil, fmt.Errorf("loan %d: %w", k, err)
		}
		if lent.release == nil {
			continue
		}
		if releases == nil {
			releases = make([]func(), most)
		}
		releases[k] = releaseOf(lent)
	}
	return payloads, releases, nil
}

// loanArgument answers the lent payload and what gives it back.
func (i *instance) loanArgument(lent *C.peerbus_loan) ([]byte, func(), error) {
	if lent == nil || lent.release == nil {
		return nil, nil, fmt.Errorf("%w: a loan and its release must not be NULL", node.ErrArgument)
	}
	payload, err := bytesArgument(lent.data, uint64(lent.size), i.maxMessage())
	return payload, releaseOf(*lent), err
}

func releaseOf(lent C.peerbus_loan) func() {
	release, context := lent.release, lent.context
	return func() { C.pb_release(release, context) }
}
