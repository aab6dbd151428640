package mux

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
)

const patience = 20 * time.Second

// tcpPair makes two ends whose reads resume, so that readers lead.
func tcpPair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial("tcp", l.Addr().String()); err == nil {
		b, err = l.Accept()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close(); _ = b.Close() })
	return a, b
}

// plainConn hides that reads resume, so that the stand-in reads all the time.
type plainConn struct{ net.Conn }

func muxed(t testing.TB, c net.Conn, server bool) *Conn {
	t.Helper()
	m, err := Transport{}.NewConn(c, server, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m.(*Conn)
}

// onBoth runs a test with readers that lead and with those that follow, and over TLS, which lends.
func onBoth(t *testing.T, test func(t *testing.T, a, b *Conn)) {
	t.Run("lending", func(t *testing.T) {
		x, y := securedPair(t)
		test(t, muxed(t, x, false), muxed(t, y, true))
	})
	for name, plain := range map[string]bool{"leading": false, "following": true} {
		t.Run(name, func(t *testing.T) {
			x, y := tcpPair(t)
			if plain {
				x, y = plainConn{x}, plainConn{y}
			}
			test(t, muxed(t, x, false), muxed(t, y, true))
		})
	}
}

func open(t testing.TB, from, to *Conn) (near, far *Stream) {
	t.Helper()
	s, err := from.OpenStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := to.AcceptStream()
	if err != nil {
		t.Fatal(err)
	}
	return s.(*Stream), accepted.(*Stream)
}

func soon(t testing.TB, what string, done <-chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		buffer := make([]byte, 1<<20)
		t.Fatalf("%s did not happen\n%s", what, buffer[:runtime.Stack(buffer, true)])
		return nil
	}
}

func run(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return done
}

func readAll(s io.Reader, size int) ([]byte, error) {
	p := make([]byte, size)
	n, err := io.ReadFull(s, p)
	return p[:n], err
}

func TestEitherSideOpensAndEverythingArrivesInOrder(t *testing.T) {
	onBoth(t, func(t *testing.T, a, b *Conn) {
		for _, pair := range [][2]*Conn{{a, b}, {b, a}} {
			near, far := open(t, pair[0], pair[1])
			message := make([]byte, 3<<20+17) // many windows
			for i := range message {
				message[i] = byte(i * 7 >> 3)
			}
			done := run(func() error { _, err := near.Write(message); return err })
			got, err := readAll(far, len(message))
			if err != nil || !bytes.Equal(got, message) {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
			if err := soon(t, "the write", done); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestAHalfCloseIsEOFBehindTheDataAndTheOtherWayStaysOpen(t *testing.T) {
	onBoth(t, func(t *testing.T, a, b *Conn) {
		near, far := open(t, a, b)
		if _, err := near.Write([]byte("question")); err != nil {
			t.Fatal(err)
		}
		if err := near.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(far); err != nil || string(got) != "question" {
			t.Fatalf("%q, %v", got, err)
		}
		if _, err := near.Write([]byte("more")); err == nil {
			t.Error("a write after CloseWrite succeeded")
		}
		if _, err := far.Write([]byte("answer")); err != nil {
			t.Fatal(err)
		}
		if err := far.Close(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(near); err != nil || string(got) != "answer" {
			t.Fatalf("%q, %v", got, err)
		}
		_ = near.Close()
		forgotten(t, a, b)
	})
}

// forgotten waits until no side keeps a stream.
func forgotten(t *testing.T, conns ...*Conn) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; runtime.Gosched() {
		left := 0
		for _, c := range conns {
			c.state.Lock()
			left += len(c.state.streams) + c.state.incoming
			c.state.Unlock()
		}
		if left == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d streams are kept", left)
		}
	}
}

func TestCloseReadMakesThePeersWritesFailAndLosesNothingElse(t *testing.T) {
	onBoth(t, func(t *testing.T, a, b *Conn) {
		near, far := open(t, a, b)
		blocked := run(func() error { _, err := near.Write(make([]byte, 4*initialWindow)); return err })
		if err := far.CloseRead(); err != nil {
			t.Fatal(err)
		}
		var stopped *network.StreamError
		if err := soon(t, "the end of the write", blocked); !errors.As(err, &stopped) || !stopped.Remote {
			t.Errorf("the write ended with %v", err)
		}
		if _, err := far.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Errorf("a read after CloseRead answered %v", err)
		}
		if _, err := far.Write([]byte("still")); err != nil {
			t.Fatal(err)
		}
		if got, err := readAll(near, 5); err != nil || string(got) != "still" {
			t.Errorf("%q, %v", got, err)
		}
		_, _ = near.Close(), far.Close()
		forgotten(t, a, b)
	})
}

func TestAResetEndsBothSidesWithItsCode(t *testing.T) {
	onBoth(t, func(t *testing.T, a, b *Conn) {
		near, far := open(t, a, b)
		reading := run(func() error { _, err := near.Read(make([]byte, 1)); return err })
		writing := run(func() error { _, err := near.Write(make([]byte, 4*initialWindow)); return err })
		if err := far.ResetWithError(77); err != nil {
			t.Fatal(err)
		}
		for what, done := range map[string]<-chan error{"the read": reading, "the write": writing} {
			var reset *network.StreamError
			if err := soon(t, "the end of "+what, done); !errors.Is(err, network.ErrReset) || !errors.As(err, &reset) || reset.ErrorCode != 77 || !reset.Remote {
				t.Errorf("%s ended with %v", what, err)
			}
		}
		if _, err := far.Read(make([]byte, 1)); !errors.Is(err, network.ErrReset) {
			t.Errorf("the own side reads %v", err)
		}
		forgotten(t, a, b)
	})
}

func TestDeadlinesHoldAlsoForCallsInProgress(t *testing.T) {
	onBoth(t, func(t *testing.T, a, b *Conn) {
		near, far := open(t, a, b)
		_ = near.SetReadDeadline(time.Now().Add(time.Hour))
		reading := run(func() error { _, err := near.Read(make([]byte, 1)); return err })
		writing := run(func() error { _, err := near.Write(make([]byte, 4*initialWindow)); return err })
		_ = near.SetDeadline(time.Now().Add(20 * time.Millisecond))
		for what, done := range map[string]<-chan error{"the read": reading, "the write": writing} {
			if err := soon(t, "the end of "+what, done); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s ended with %v", what, err)
			}
		}
		_ = near.SetDeadline(time.Time{})
		if _, err := far.Write([]byte("late")); err != nil {
			t.Fatal(err)
		}
		if got, err := readAll(near, 4); err != nil || string(got) != "late" {
			t.Errorf("after the deadline: %q, %v", got, err)
		}
	})
}

func TestAStreamThatIsNotReadHoldsUpNoOther(t *testing.T) {
	onBoth(t, func(t *testing.T, a, b *Conn) {
		stuck, unread := open(t, a, b)
		blocked := run(func() error { _, err := stuck.Write(make([]byte, 8<<20)); return err })
		near, far := open(t, a, b)
		echo := run(func() error { _, err := io.Copy(far, far); return err })
		for i := range 200 {
			if _, err := near.Write([]byte{byte(i)}); err != nil {
				t.Fatal(err)
			}
			if got, err := readAll(near, 1); err != nil || got[0] != byte(i) {
				t.Fatal(got, err)
			}
		}
		unread.state.Lock()
		kept := unread.state.in.bytes
		unread.state.Unlock()
		if kept > initialWindow {
			t.Errorf("%d bytes are kept for a stream that nobody reads", kept)
		}
		_ = near.CloseWrite()
		if err := soon(t, "the echo's end", echo); err != nil {
			t.Error(err)
		}
		_ = stuck.Reset()
		if err := soon(t, "the stuck write's end", blocked); !errors.Is(err, network.ErrReset) {
			t.Error(err)
		}
	})
}

func TestAReaderThatStaysAwayHoldsUpNoOther(t *testing.T) {
	onBoth(t, func(t *testing.T, a, b *Conn) {
		busy, away := open(t, a, b)
		if _, err := busy.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := readAll(away, 1); err != nil { // it led, and does not come back
			t.Fatal(err)
		}
		near, far := open(t, a, b)
		waiting := run(func() error { _, err := readAll(far, 2<<20); return err })
		if _, err := near.Write(make([]byte, 2<<20)); err != nil {
			t.Fatal(err)
		}
		if err := soon(t, "the other stream's read", waiting); err != nil {
			t.Error(err)
		}
	})
}

func TestTheWatchIsRarerWhereReadersComeBackUntilOneDoesNot(t *testing.T) {
	c := &Conn{}
	c.state.failed = errClosed // nobody stands in
	pm := &c.pump
	pm.conn, pm.resumes, pm.watch, pm.state.trust = c, true, time.NewTimer(time.Hour), absence
	isRare := func() {
		t.Helper()
		for range 10 {
			for range 2 { // the watch is set after the first time
				pm.hold(nil)
				pm.letGo()
			}
			pm.look()
		}
		if pm.state.trust != longestAbsence {
			t.Fatalf("the watch looks every %v, want %v", pm.state.trust, longestAbsence)
		}
	}
	isRare()
	c.Away()
	if pm.state.trust != absence || !pm.state.watched {
		t.Fatalf("a reader has said that it stays away, and the watch looks after %v", pm.state.trust)
	}
	isRare()
	pm.look()
	if pm.state.trust != absence || !pm.state.held {
		t.Fatalf("nobody came back, and the watch looks after %v", pm.state.trust)
	}
}

func TestAReaderThatGetsNothingLeavesTheConnectionToABusyOne(t *testing.T) {
	x, y := tcpPair(t)
	a, b := muxed(t, x, false), muxed(t, y, true)
	idleNear, idleFar := open(t, a, b)
	busyNear, busyFar := open(t, a, b)
	readLoop := func(s *Stream) (arrived chan struct{}, end <-chan error) {
		arrived = make(chan struct{})
		return arrived, run(func() error {
			for {
				if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
					return err
				}
				arrived <- struct{}{}
			}
		})
	}
	// sendUntilItLeads sends until its reader reads the connection.
	sendUntilItLeads := func(near, far *Stream, arrived chan struct{}) {
		for began := time.Now(); ; {
			b.pump.state.Lock()
			leads := b.pump.state.leader == far
			b.pump.state.Unlock()
			if leads {
				return
			}
			if time.Since(began) > patience {
				t.Fatal("another reader stays between this one and the connection")
			}
			if _, err := near.Write([]byte{1}); err != nil {
				t.Fatal(err)
			}
			<-arrived
		}
	}
	idleArrived, idleEnd := readLoop(idleFar)
	sendUntilItLeads(idleNear, idleFar, idleArrived)
	busyArrived, busyEnd := readLoop(busyFar)
	sendUntilItLeads(busyNear, busyFar, busyArrived)
	if _, err := idleNear.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	<-idleArrived
	for near, end := range map[*Stream]<-chan error{idleNear: idleEnd, busyNear: busyEnd} {
		if err := errors.Join(near.CloseWrite(), soon(t, "the end", end)); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	}
}

func TestACloseTellsThePeerItsCodeBehindTheData(t *testing.T) {
	onBoth(t, func(t *testing.T, a, b *Conn) {
		near, far := open(t, a, b)
		if _, err := near.Write([]byte("last words")); err != nil {
			t.Fatal(err)
		}
		accepting := run(func() error { _, err := b.AcceptStream(); return err })
		if err := a.CloseWithError(99); err != nil {
			t.Fatal(err)
		}
		var closed *network.ConnError
		if err := soon(t, "the end of AcceptStream", accepting); !errors.As(err, &closed) || closed.ErrorCode != 99 || !closed.Remote {
			t.Errorf("AcceptStream ended with %v", err)
		}
		if got, err := readAll(far, 10); err != nil || string(got) != "last words" {
			t.Errorf("%q, %v", got, err)
		}
		if _, err := far.Read(make([]byte, 1)); !errors.Is(err, network.ErrReset) {
			t.Errorf("behind them: %v", err)
		}
		if _, err := near.Write([]byte("x")); !errors.As(err, &closed) || closed.Remote {
			t.Errorf("the closed side writes with %v", err)
		}
		if _, err := a.OpenStream(t.Context()); err == nil || !a.IsClosed() || !b.IsClosed() {
			t.Error("a closed connection opens streams")
		}
	})
}

func TestNothingRunsAfterClose(t *testing.T) {
	ours := func() string {
		buffer := make([]byte, 1<<20)
		return string(buffer[:runtime.Stack(buffer, true)])
	}
	x, y := tcpPair(t)
	a, b := muxed(t, x, false), muxed(t, y, true)
	near, far := open(t, a, b)
	_, _ = near.Write(make([]byte, 100))
	_, _ = readAll(far, 100)
	_, _ = a.Close(), b.Close()
	for deadline := time.Now().Add(patience); strings.Contains(ours(), "mux.(*Conn).spawn"); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal(ours())
		}
	}
}

func TestAConnectionThatTakesNothingIsClosedAtOnce(t *testing.T) {
	x, _ := tcpPair(t) // nobody reads the other end
	a := muxed(t, x, false)
	s, err := a.OpenStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.(*Stream).addCredit(64 << 20)
	blocked := run(func() error { _, err := s.Write(make([]byte, 64<<20)); return err })
	for { // until the kernel takes no more
		a.turns.state.Lock()
		held := a.turns.state.held
		a.turns.state.Unlock()
		if held {
			break
		}
		runtime.Gosched()
	}
	closing := run(a.Close)
	_ = soon(t, "Close", closing)
	if err := soon(t, "the write's end", blocked); err == nil {
		t.Error("a write to nobody succeeded")
	}
}

// TestRandomUseOfManyStreams: whatever the streams do to each other, each carries exactly its bytes.
func TestRandomUseOfManyStreams(t *testing.T) {
	onBoth(t, func(t *testing.T, a, b *Conn) {
		const streams = 24
		go func() {
			for {
				s, err := b.AcceptStream()
				if err != nil {
					return
				}
				go func() { _, _ = io.Copy(s, s); _ = s.Close() }()
			}
		}()
		var group sync.WaitGroup
		for i := range streams {
			group.Go(func() {
				random := rand.New(rand.NewPCG(uint64(i), 7))
				s, err := a.OpenStream(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				message := make([]byte, random.IntN(1<<uint(8+i%14)))
				for k := range message {
					message[k] = byte(random.Uint32())
				}
				group.Go(func() {
					for rest := message; len(rest) > 0; {
						n := min(len(rest), 1+random.IntN(200_000))
						if _, err := s.Write(rest[:n]); err != nil {
							t.Error(err)
							return
						}
						rest = rest[n:]
					}
					_ = s.CloseWrite()
				})
				_ = s.SetReadDeadline(time.Now().Add(patience))
				got, err := io.ReadAll(s)
				if err != nil || !bytes.Equal(got, message) {
					t.Errorf("stream %d: %d of %d bytes, %v", i, len(got), len(message), err)
				}
				_ = s.Close()
			})
		}
		group.Wait()
		forgotten(t, a, b)
	})
}
