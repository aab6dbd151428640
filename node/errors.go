package node

import "errors"

// The failures that callers tell apart. Every error that leaves this package wraps one of them (or ErrConfig,
// ErrIdentity); export/ maps them to codes in one place.
var (
	ErrArgument     = errors.New("invalid argument")
	ErrClosed       = errors.New("node closed")
	ErrNotConnected = errors.New("not connected")
	ErrUnreachable  = errors.New("unreachable")
	ErrTimeout      = errors.New("deadline passed")
	ErrCancelled    = errors.New("cancelled")
	ErrWouldBlock   = errors.New("no room")
	ErrTooLarge     = errors.New("too large")
	ErrPeerClosed   = errors.New("peer closed")
	ErrRefused      = errors.New("refused")
	ErrNotFound     = errors.New("not found")
	ErrUnsupported  = errors.New("not supported")
	ErrInterrupted  = errors.New("interrupted")
	ErrInternal     = errors.New("internal error")
)
