// Package pause sleeps for less than a millisecond, which Go's timers cannot: they wait in epoll, whose unit that is.
package pause

import (
	"time"

	"golang.org/x/sys/unix"
)

// For keeps its thread for as long.
func For(d time.Duration) {
	wait := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&wait, nil) // a signal only shortens it
}
