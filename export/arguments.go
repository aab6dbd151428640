package main

// #include "shim.h"
import "C"

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/libp2p/go-libp2p/core/peer"

	"peerbus/node"
)

// textArgument copies a text argument; name is what errors call it.
func textArgument(name string, text *C.char, length C.size_t) (string, error) {
	switch {
	case text == nil:
		return "", fmt.Errorf("%w: %s is NULL", node.ErrArgument, name)
	case length > C.PEERBUS_MAX_TEXT:
		return "", fmt.Errorf("%w: %s is longer than %d bytes", node.ErrTooLarge, name, int(C.PEERBUS_MAX_TEXT))
	}
	copied := C.GoStringN(text, C.int(length))
	if !utf8.ValidString(copied) {
		return "", fmt.Errorf("%w: %s is not UTF-8", node.ErrArgument, name)
	}
	return copied, nil
}

// routeArgument is the direct channel of a message: the name of one that was sent on before is not copied again.
func (i *instance) routeArgument(channel *C.char, length C.size_t) (*node.Route, error) {
	if channel != nil && length <= C.PEERBUS_MAX_TEXT {
		if known := i.node.Routed(unsafe.String((*byte)(unsafe.Pointer(channel)), int(length))); known != nil {
			return known, nil
		}
	}
	name, err := textArgument("channel", channel, length)
	if err != nil {
		return nil, err
	}
	return i.node.Route(name)
}

func peerArgument(text *C.char, length C.size_t) (peer.ID, error) {
	id, err := textArgument("peerID", text, length)
	if err != nil {
		return "", err
	}
	decoded, err := peer.Decode(id)
	if err != nil {
		return "", fmt.Errorf("%w: %q is not a peer id: %v", node.ErrArgument, id, err)
	}
	return decoded, nil
}

func addressesArgument(text string) ([]string, error) {
	var addresses []string
	if err := json.Unmarshal([]byte(text), &addresses); err != nil {
		return nil, fmt.Errorf("%w: the addresses must be a JSON list of multiaddr texts: %v", node.ErrArgument, err)
	}
	return addresses, nil
}

func timeoutArgument(milliseconds C.int) (time.Duration, error) {
	if milliseconds < 0 || milliseconds > C.PEERBUS_MAX_TIMEOUT_MS {
		return 0, fmt.Errorf("%w: a timeout of %d ms; 0 .. %d are possible", node.ErrArgument, milliseconds, int(C.PEERBUS_MAX_TIMEOUT_MS))
	}
	return time.Duration(milliseconds) * time.Millisecond, nil
}

func countArgument(name string, count, most C.int) (int, error) {
	if count < 1 || count > most {
		return 0, fmt.Errorf("%w: %s is %d; 1 .. %d are possible", node.ErrArgument, name, count, most)
	}
	return int(count), nil
}

// bytesArgument views the host's bytes without copying; they are only valid during the call.
func bytesArgument(data unsafe.Pointer, size, most uint64) ([]byte, error) {
	switch {
	case size == 0:
		return nil, nil
	case data == nil:
		return nil, fmt.Errorf("%w: data is NULL with a size of %d", node.ErrArgument, size)
	case size > most:
		return nil, fmt.Errorf("%w: %d bytes, limits.message_bytes is %d", node.ErrTooLarge, size, most)
	}
	return unsafe.Slice((*byte)(data), size), nil
}

// callContext is the deadline of one call. Its timer starts when somebody waits for it, since most calls never do. One without
// time keeps no state, so that calls may share it.
type callContext struct {
	context.Context // of the node
	timeout         time.Duration
	waiting         context.Context
	cancel          context.CancelFunc
}

func newCallContext(parent context.Context, timeout time.Duration) *callContext {
	return &callContext{Context: parent, timeout: timeout}
}

// callContext is newCallContext for a call on this node.
func (i *instance) callContext(timeout time.Duration) *callContext {
	if timeout == 0 {
		return i.atOnce
	}
	return newCallContext(i.node.Context(), timeout)
}

var passed = make(chan struct{})

func init() { close(passed) }

func (c *callContext) Done() <-chan struct{} {
	if c.timeout == 0 {
		return passed
	}
	if c.waiting == nil {
		c.waiting, c.cancel = context.WithTimeout(c.Context, c.timeout)
	}
	return c.waiting.Done()
}

func (c *callContext) Err() error {
	switch {
	case c.timeout == 0:
		return context.DeadlineExceeded
	case c.waiting != nil:
		return c.waiting.Err()
	}
	return c.Context.Err()
}

func (c *callContext) Deadline() (time.Time, bool) {
	if c.timeout == 0 {
		return time.Now(), true
	}
	c.Done()
	return c.waiting.Deadline()
}

func (c *callContext) end() {
	if c.cancel != nil {
		c.cancel()
	}
}
