package webrtc

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func loopbackEngine() *Engine {
	return NewEngine(Options{Log: slog.New(slog.DiscardHandler), Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}})
}

// pipe is a signalling stream.
func pipe(t testing.TB) (net.Conn, net.Conn) {
	a, b := net.Pipe()
	t.Cleanup(func() { a.Close(); b.Close() })
	deadline := time.Now().Add(patience)
	_ = a.SetDeadline(deadline)
	_ = b.SetDeadline(deadline)
	return a, b
}

// shake runs both sides of a handshake.
func shake(t testing.TB, offerer, answerer *Engine, c ICEConfig) (offering, answering *Session, errs [2]error) {
	t.Helper()
	ours, theirs := pipe(t)
	ctx := within(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		offer, err := ReadSignal(theirs)
		if err == nil {
			answering, err = answerer.Answer(ctx, c, theirs, offer)
		}
		errs[1] = err
	}()
	offering, errs[0] = offerer.Offer(ctx, c, ours)
	<-done
	return offering, answering, errs
}

// open is a pair of sessions on loopback, closed at the end of the test.
func open(t testing.TB, c ICEConfig) (a, b *Session) {
	t.Helper()
	a, b, errs := shake(t, loopbackEngine(), loopbackEngine(), c)
	if errs != [2]error{} {
		t.Fatal(errs)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// expectNoGoroutines waits until none of pion or of this package is left.
func expectNoGoroutines(t testing.TB) {
	t.Helper()
	buffer := make([]byte, 8<<20)
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		var left []string
		for _, stack := range strings.Split(string(buffer[:runtime.Stack(buffer, true)]), "\n\n") {
			if strings.Contains(stack, "pion/") && !strings.Contains(stack, "testing.tRunner") {
				left = append(left, stack)
			}
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("goroutines are left:\n%s", strings.Join(left, "\n\n"))
		}
	}
}
