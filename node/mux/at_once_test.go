package mux

import (
	"errors"
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// roomyConn says of itself whether the kernel has room.
type roomyConn struct {
	net.Conn
	full atomic.Bool
}

func (c *roomyConn) Writable() bool { return !c.full.Load() }

func TestAWriteAtOnceTakesAllOrNothing(t *testing.T) {
	x, y := tcpPair(t)
	roomy := &roomyConn{Conn: x}
	a, b := muxed(t, roomy, false), muxed(t, y, true)
	near, far := open(t, a, b)
	_ = near.SetWriteDeadline(AtOnce)
	credit := func() int {
		near.state.Lock()
		defer near.state.Unlock()
		return near.state.credit
	}
	refused := func(what string, size int) {
		t.Helper()
		before := credit()
		if n, err := near.Write(make([]byte, size)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %d, %v", what, n, err)
		}
		if credit() != before {
			t.Errorf("%s cost %d bytes of credit", what, before-credit())
		}
	}
	refused("a large frame", smallFrame+1)
	roomy.full.Store(true)
	refused("a full kernel", 1)
	roomy.full.Store(false)
	for !a.turns.try() { // the connection's own ping may be on its way
		runtime.Gosched()
	}
	refused("another writer", 1)
	if err := a.turns.release(); err != nil {
		t.Fatal(err)
	}
	near.addCredit(-initialWindow)
	refused("no credit", 1)
	near.addCredit(initialWindow)
	for {
		n, err := near.Write([]byte("lone"))
		if n == 4 && err == nil {
			break
		} else if n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(n, err)
		}
	}
	if got, err := readAll(far, 4); err != nil || string(got) != "lone" {
		t.Errorf("%q, %v", got, err)
	}
	_ = near.SetWriteDeadline(time.Time{})
	if _, err := near.Write(make([]byte, smallFrame+1)); err != nil {
		t.Error(err)
	}
	_ = near.CloseWrite()
	_ = near.SetWriteDeadline(AtOnce)
	if _, err := near.Write([]byte("x")); err == nil {
		t.Error("a closed stream is written")
	}
}
