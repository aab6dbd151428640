package main

// #include "shim.h"
import "C"

import (
	"context"
	"errors"
	"fmt"
	"unsafe"

	"peerbus/node"
	"peerbus/pool"
	"peerbus/queue"
)

// Failures of the border itself.
var (
	errNotInitialized = errors.New("not initialized")
	errNoNode         = errors.New("no node")
	errInUse          = errors.New("in use")
	errLimit          = errors.New("limit reached")
	errNoMemory       = errors.New("out of memory")
)

// codes maps errors to result codes, in one place. The first match counts: a specific error may wrap a general one.
var codes = []struct {
	err  error
	code C.int
}{
	{errNotInitialized, C.PEERBUS_NOT_INITIALIZED},
	{errNoNode, C.PEERBUS_NO_NODE},
	{errInUse, C.PEERBUS_IN_USE},
	{errLimit, C.PEERBUS_LIMIT},
	{errNoMemory, C.PEERBUS_NO_MEMORY},
	{node.ErrGuarded, C.PEERBUS_IN_USE},
	{pool.ErrNoPolicy, C.PEERBUS_INVALID_CONFIG},
	{pool.ErrKey, C.PEERBUS_INVALID_ARGUMENT},
	{pool.ErrFull, C.PEERBUS_REFUSED},
	{pool.ErrOtherPool, C.PEERBUS_REFUSED},
	{pool.ErrStale, C.PEERBUS_REFUSED},
	{pool.ErrNotPooled, C.PEERBUS_NOT_FOUND},
	{node.ErrInternal, C.PEERBUS_INTERNAL},
	{node.ErrIdentity, C.PEERBUS_IDENTITY},
	{node.ErrConfig, C.PEERBUS_INVALID_CONFIG},
	{node.ErrUnsupported, C.PEERBUS_UNSUPPORTED},
	{node.ErrLost, C.PEERBUS_LOST},
	{node.ErrStore, C.PEERBUS_STORE},
	{node.ErrClosed, C.PEERBUS_CLOSED},
	{queue.ErrClosed, C.PEERBUS_CLOSED},
	{node.ErrInterrupted, C.PEERBUS_INTERRUPTED},
	{queue.ErrInterrupted, C.PEERBUS_INTERRUPTED},
	{node.ErrCancelled, C.PEERBUS_CANCELLED},
	{node.ErrTimeout, C.PEERBUS_TIMEOUT},
	{context.DeadlineExceeded, C.PEERBUS_TIMEOUT},
	{node.ErrWouldBlock, C.PEERBUS_WOULD_BLOCK},
	{node.ErrTooLarge, C.PEERBUS_TOO_LARGE},
	{node.ErrArgument, C.PEERBUS_INVALID_ARGUMENT},
	{node.ErrNotConnected, C.PEERBUS_NOT_CONNECTED},
	{node.ErrPeerClosed, C.PEERBUS_PEER_CLOSED},
	{node.ErrRefused, C.PEERBUS_REFUSED},
	{node.ErrNotFound, C.PEERBUS_NOT_FOUND},
	{node.ErrUnreachable, C.PEERBUS_UNREACHABLE},
}

func codeOf(err error) C.int {
	for _, entry := range codes {
		if errors.Is(err, entry.err) {
			return entry.code
		}
	}
	return C.PEERBUS_INTERNAL
}

func codeName(code C.int) string { return C.GoString(C.peerbus_code_name(code)) }

// fail answers the code of an error and leaves its text where peerbus_last_error finds it.
func fail(problem *C.char, err error) C.int {
	space := unsafe.Slice((*byte)(unsafe.Pointer(problem)), C.PB_PROBLEM_BYTES)
	text := err.Error()
	n := copy(space[:len(space)-1], text)
	for n < len(text) && n > 0 && text[n]&0xC0 == 0x80 {
		n-- // do not cut a UTF-8 sequence
	}
	space[n] = 0
	return codeOf(err)
}

// panicError turns a recovered value into an error.
func panicError(where string, value any) error {
	return fmt.Errorf("%w: %s: %v; the log has the stacks", node.ErrInternal, where, value)
}
