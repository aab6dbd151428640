package main

import "golang.org/x/sys/unix"

// signal is a level: its descriptor is readable while it is set.
type signal struct{ fd int }

func newSignal() (*signal, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, err
	}
	return &signal{fd}, nil
}

func (s *signal) readEnd() int { return s.fd }

// set cannot fail: the counter never exceeds one, and reading an unset one only answers EAGAIN.
func (s *signal) set(on bool) {
	word := [8]byte{1}
	if on {
		_, _ = unix.Write(s.fd, word[:])
	} else {
		_, _ = unix.Read(s.fd, word[:])
	}
}

func (s *signal) close() error { return unix.Close(s.fd) }
