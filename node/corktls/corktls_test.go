package corktls

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
)

const patience = 20 * time.Second

// countingConn counts the writes that reach the network, and can be told to fail.
type countingConn struct {
	net.Conn
	writes atomic.Int64
	fail   atomic.Pointer[error]
}

func (c *countingConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	if err := c.fail.Load(); err != nil {
		return len(p) / 2, *err
	}
	return c.Conn.Write(p)
}

type side struct {
	id        peer.ID
	transport sec.SecureTransport
}

func newSide(t *testing.T, stock bool) side {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	var transport sec.SecureTransport
	if stock {
		transport, err = libp2ptls.New(ID, key, nil)
	} else {
		transport, err = New(ID, key, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return side{id, transport}
}

// connect makes a secured pair over TCP; network is the dialler's connection below TLS.
func connect(t *testing.T, dialler, listener side) (a, b sec.SecureConn, network *countingConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	network = &countingConn{Conn: raw}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var group sync.WaitGroup
	var inboundErr error
	group.Go(func() { b, inboundErr = listener.transport.SecureInbound(ctx, accepted, "") })
	a, err = dialler.transport.SecureOutbound(ctx, network, listener.id)
	group.Wait()
	if err != nil || inboundErr != nil {
		t.Fatal(err, inboundErr)
	}
	t.Cleanup(func() { _ = a.Close(); _ = b.Close() })
	if b.RemotePeer() != dialler.id || a.RemotePeer() != listener.id {
		t.Fatal("the sides do not know each other")
	}
	return a, b, network
}

func noise(t *testing.T, size int) []byte {
	t.Helper()
	p := make([]byte, size)
	if _, err := rand.Read(p); err != nil {
		t.Fatal(err)
	}
	return p
}

// expect reads from c while write runs and compares.
func expect(t *testing.T, c io.Reader, want []byte, write func() error) {
	t.Helper()
	failed := make(chan error, 1)
	go func() { failed <- write() }()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("%d bytes arrived altered", len(want))
	}
}

var sizes = []int{1, 100, recordBytes - 1, recordBytes, recordBytes + 1, corkBytes, 4*recordBytes + 1, 1 << 20, 5<<20 + 7}

func TestStockPeersUnderstandEitherSide(t *testing.T) {
	for _, stock := range []struct{ dialler, listener bool }{{false, false}, {true, false}, {false, true}} {
		t.Run(fmt.Sprintf("stock dialler %v, stock listener %v", stock.dialler, stock.listener), func(t *testing.T) {
			a, b, _ := connect(t, newSide(t, stock.dialler), newSide(t, stock.listener))
			for _, size := range sizes {
				message := noise(t, size)
				expect(t, b, message, func() error { _, err := a.Write(message); return err })
				expect(t, a, message, func() error { _, err := b.Write(message); return err })
			}
		})
	}
}

func TestJoinedPartsArriveAsOne(t *testing.T) {
	a, b, _ := connect(t, newSide(t, false), newSide(t, false))
	for _, head := range []int{0, 12, recordBytes, recordBytes + 5} {
		for _, body := range append(sizes, 0, recordBytes-12, recordBytes+maxOdd-12, recordBytes+maxOdd-11, roundBytes) {
			h, p := noise(t, head), noise(t, body)
			expect(t, b, append(bytes.Clone(h), p...), func() error { return a.(*Conn).WriteJoined(h, p) })
		}
	}
}

func TestALargeWriteIsFewSystemCallsAndASmallOneIsOne(t *testing.T) {
	a, b, network := connect(t, newSide(t, false), newSide(t, false))
	warm := make([]byte, 4<<20) // TLS begins with small records
	expect(t, b, warm, func() error { _, err := a.Write(warm); return err })
	for _, c := range []struct{ size, most int }{{1, 1}, {recordBytes, 1}, {recordBytes + 1, 1}, {4 * recordBytes, 1}, {roundBytes, 1}, {roundBytes + 1, 2}, {1 << 20, 17}} {
		message := noise(t, c.size)
		for name, write := range map[string]func() error{
			"Write":       func() error { _, err := a.Write(message); return err },
			"WriteJoined": func() error { return a.(*Conn).WriteJoined(message[:min(12, c.size)], message[min(12, c.size):]) },
		} {
			before := network.writes.Load()
			expect(t, b, message, write)
			if made := network.writes.Load() - before; made > int64(c.most) {
				t.Errorf("%s of %d bytes took %d writes, at most %d are needed", name, c.size, made, c.most)
			}
		}
	}
}

func TestManyWritersAndAlertsDoNotMixTheirRecords(t *testing.T) {
	a, b, _ := connect(t, newSide(t, false), newSide(t, true))
	const writers, each, size = 8, 40, 40_000
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for i := range each {
				length := size
				if i%2 == 0 {
					length = 50
				}
				message := bytes.Repeat([]byte{byte(w)}, length)
				if _, err := a.Write(message); err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() { group.Wait(); _ = a.Close() }()
	var total int
	counts, p := [writers]int{}, make([]byte, 64<<10)
	for {
		n, err := b.Read(p)
		for _, value := range p[:n] {
			counts[value]++
		}
		total += n
		if err == io.EOF { // the alert that ends the connection came behind all records
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for w, count := range counts {
		if want := each / 2 * (size + 50); count != want {
			t.Errorf("writer %d: %d bytes of %d arrived", w, count, want)
		}
	}
}

func TestAFailedFlushIsAnErrorForGood(t *testing.T) {
	for _, size := range []int{recordBytes + 1, 1 << 20} {
		a, _, network := connect(t, newSide(t, false), newSide(t, false))
		broken := errors.New("the cable is cut")
		network.fail.Store(&broken)
		if n, err := a.Write(noise(t, size)); n != 0 || !errors.Is(err, broken) {
			t.Errorf("a write of %d bytes answered %d, %v", size, n, err)
		}
		network.fail.Store(nil) // half of a record is on the wire: nothing may follow it
		for _, next := range []int{1, size} {
			if n, err := a.Write(noise(t, next)); n != 0 || err == nil {
				t.Errorf("after the failure a write of %d bytes answered %d, %v", next, n, err)
			}
		}
	}
}

func TestAWriteEndsAtItsDeadlineAndWithClose(t *testing.T) {
	for name, end := range map[string]func(sec.SecureConn){
		"deadline": func(c sec.SecureConn) { _ = c.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)) },
		"close":    func(c sec.SecureConn) { _ = c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			a, _, _ := connect(t, newSide(t, false), newSide(t, false))
			blocked := make(chan error, 1)
			started := make(chan struct{})
			go func() {
				p := make([]byte, 1<<20)
				for i := 0; ; i++ { // nobody reads
					if i == 1 {
						close(started)
					}
					if _, err := a.Write(p); err != nil {
						blocked <- err
						return
					}
				}
			}()
			<-started
			end(a)
			select {
			case err := <-blocked:
				if name == "deadline" && !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error(err)
				}
			case <-time.After(patience):
				t.Fatal("the write did not end")
			}
		})
	}
}

func TestAConnectionKnowsWhetherTheKernelHasRoom(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	p := newProber(raw)
	if p == nil {
		t.Skip("sockets cannot be asked here")
	}
	if !p.room() {
		t.Error("a fresh socket has no room")
	}
	for end := time.Now().Add(patience); p.room(); { // nobody reads, but the other end's kernel takes a while to fill
		_ = raw.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		_, _ = raw.Write(make([]byte, 1<<20))
		if time.Now().After(end) {
			t.Fatal("a full socket has room")
		}
	}
	_ = raw.Close()
	if p.room() {
		t.Error("a closed socket has room")
	}
	if newProber(&countingConn{}) != nil {
		t.Error("a connection without a descriptor can be asked")
	}
}

func TestAReadGoesOnAfterItsDeadline(t *testing.T) {
	a, b, network := connect(t, newSide(t, false), newSide(t, false))
	if !a.(*Conn).ReadsResume() {
		t.Error("TLS over TCP does not claim it")
	}
	message := noise(t, 3*recordBytes)
	half := make(chan struct{})
	go func() {
		for _, part := range [][]byte{message[:100], message[100:]} {
			if _, err := a.Write(part); err != nil {
				t.Error(err)
			}
			<-half
		}
	}()
	got, timeouts := make([]byte, 0, len(message)), 0
	for len(got) < len(message) {
		_ = b.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		n, err := b.Read(got[len(got):cap(got)])
		got = got[:len(got)+n]
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if timeouts++; timeouts == 3 {
				close(half)
			}
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got, message) || timeouts < 3 {
		t.Errorf("%d bytes after %d deadlines, intact: %v", len(got), timeouts, bytes.Equal(got, message))
	}
	_ = network
}
