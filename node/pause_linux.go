package node

import (
	"time"

	"golang.org/x/sys/unix"
)

// pause sleeps for less than a millisecond, which Go's timers cannot: they wait in epoll, whose unit that is.
func pause(d time.Duration) {
	wait := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&wait, nil) // a signal only shortens it
}
