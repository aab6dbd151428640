package node

import (
	"context"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lapseTimer is a timer of the kernel. To set one of Go's would wake a thread each time: the one that waits for the first timer.
type lapseTimer struct {
	file *os.File
	raw  syscall.RawConn
}

func newLapseTimer() (*lapseTimer, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	file := os.NewFile(uintptr(fd), "lapses")
	raw, err := file.SyscallConn()
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return &lapseTimer{file, raw}, nil
}

// set makes wait return after d. What was set before is forgotten.
func (t *lapseTimer) set(d time.Duration) (err error) {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
	if controlled := t.raw.Control(func(fd uintptr) { err = unix.TimerfdSettime(int(fd), 0, &spec, nil) }); controlled != nil {
		return controlled
	}
	return err
}

// wait answers false when the context has ended.
func (t *lapseTimer) wait(ctx context.Context) bool {
	stop := context.AfterFunc(ctx, func() { _ = t.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var expirations [8]byte
	_, err := t.file.Read(expirations[:])
	return err == nil
}

func (t *lapseTimer) close() { _ = t.file.Close() }
