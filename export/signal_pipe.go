//go:build !linux

package main

import (
	"errors"
	"syscall"
)

// signal is a level: its descriptor is readable while it is set.
type signal struct{ ends [2]int }

func newSignal() (*signal, error) {
	s := new(signal)
	if err := syscall.Pipe(s.ends[:]); err != nil {
		return nil, err
	}
	for _, end := range s.ends {
		syscall.CloseOnExec(end)
		if err := syscall.SetNonblock(end, true); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	return s, nil
}

func (s *signal) readEnd() int { return s.ends[0] }

// set cannot fail: the pipe never holds more than one byte, and reading an empty one only answers EAGAIN.
func (s *signal) set(on bool) {
	one := [1]byte{1}
	if on {
		_, _ = syscall.Write(s.ends[1], one[:])
	} else {
		_, _ = syscall.Read(s.ends[0], one[:])
	}
}

func (s *signal) close() error {
	return errors.Join(syscall.Close(s.ends[0]), syscall.Close(s.ends[1]))
}
