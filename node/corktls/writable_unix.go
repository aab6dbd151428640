//go:build unix

package corktls

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// prober asks the kernel whether a socket has room.
type prober struct {
	raw   syscall.RawConn
	poll  func(fd uintptr)
	ready bool
}

// rawOf is the socket of a connection, nil if it has none.
func rawOf(c any) syscall.RawConn {
	owner, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := owner.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

func newProber(c any) *prober {
	raw := rawOf(c)
	if raw == nil {
		return nil
	}
	p := &prober{raw: raw}
	p.poll = func(fd uintptr) {
		one := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		n, err := unix.Poll(one[:], 0)
		p.ready = err == nil && n == 1 && one[0].Revents == unix.POLLOUT
	}
	return p
}

// room is not for use by two at a time.
func (p *prober) room() bool {
	p.ready = false
	return p.raw.Control(p.poll) == nil && p.ready
}
