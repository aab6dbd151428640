package session

import (
	"errors"
	"fmt"
)

var (
	// ErrViolation: the peer broke the protocol. The stream gets CLOSE with CloseViolation and is reset.
	ErrViolation = errors.New("channel protocol violation")
	// ErrUnsupported: a frame needs an extension that this version does not know; it is an ErrViolation too.
	ErrUnsupported = fmt.Errorf("%w: unsupported", ErrViolation)
	// ErrTooLarge: a message above the limit; for a received one it is joined with ErrViolation.
	ErrTooLarge = errors.New("message too large")
	// ErrFull: the sender's window is used up; wait for an acknowledgement.
	ErrFull = errors.New("send window full")
	// ErrFenced: a newer stream of the same session has taken over; what this one still brings is discarded.
	ErrFenced = errors.New("a newer stream of the session has taken over")
	// ErrClosed: the sender is closed.
	ErrClosed = errors.New("channel sender closed")
	// ErrTooManySessions: the table is full of sessions whose streams are open.
	ErrTooManySessions = errors.New("too many channel sessions")
	// ErrUnsettled: the caller broke the order of calls: messages that were offered are not settled yet.
	ErrUnsettled = errors.New("offered messages are not settled yet")
)

func violation(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrViolation, fmt.Sprintf(format, args...))
}

func unsupported(extension uint64) error {
	return fmt.Errorf("%w: extension %d must be understood", ErrUnsupported, extension)
}
