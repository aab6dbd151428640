package corktls

import (
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// awaitedBytes is what a wait for the network takes from the kernel when it ends: a lone small message.
const awaitedBytes = 4 << 10

// lent is the reading side of the network connection when nothing waits inside TLS: Read never does, and await waits without
// the locks of TLS, so that another goroutine may read meanwhile. Whoever has the right to read owns it, see Conn.Await.
type lent struct {
	raw     syscall.RawConn
	buffer  [awaitedBytes]byte
	waiting []byte // part of buffer that TLS has not read yet
	drained bool   // the kernel had nothing more when it was asked last
	err     error  // of the kernel; it comes again
}

func newLent(c any) *lent {
	if raw := rawOf(c); raw != nil {
		return &lent{raw: raw}
	}
	return nil
}

// Read answers ErrNothing instead of waiting.
func (l *lent) Read(p []byte) (n int, err error) {
	if len(l.waiting) == 0 && l.err == nil && !l.drained {
		if err := l.raw.Control(func(fd uintptr) { n = l.receive(fd, p) }); err != nil {
			return 0, err
		}
		if n > 0 {
			return n, nil
		}
	}
	if len(l.waiting) > 0 {
		n = copy(p, l.waiting)
		l.waiting = l.waiting[n:]
		return n, nil
	}
	if l.err != nil {
		return 0, l.err
	}
	return 0, ErrNothing
}

// receive takes what the kernel has.
func (l *lent) receive(fd uintptr, p []byte) int {
	for {
		n, err := unix.Read(int(fd), p)
		switch {
		case n > 0:
			l.drained = n < len(p)
			return n
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			l.drained = true
		case err != nil:
			l.err = os.NewSyscallError("read", err)
		default:
			l.err = io.EOF
		}
		return 0
	}
}

// look takes what a lone message needs, and answers whether there is anything to read for TLS.
func (l *lent) look(fd uintptr) bool {
	if len(l.waiting) == 0 && l.err == nil {
		l.waiting = l.buffer[:l.receive(fd, l.buffer[:])]
	}
	return len(l.waiting) > 0 || l.err != nil
}

func (l *lent) await(take func() bool, leave func()) error {
	return l.raw.Read(func(fd uintptr) bool {
		if !take() {
			return false
		}
		if l.look(fd) {
			return true
		}
		leave()
		return false
	})
}

func (l *lent) poll() bool {
	some := false
	return l.raw.Control(func(fd uintptr) { some = l.look(fd) }) == nil && some
}

// quiet has the kernel tell Go's poller when so many bytes wait.
func (l *lent) quiet(least int) (descriptor int, err error) {
	controlled := l.raw.Control(func(fd uintptr) {
		descriptor, err = int(fd), unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVLOWAT, least)
	})
	if controlled != nil {
		err = controlled
	}
	return descriptor, err
}
