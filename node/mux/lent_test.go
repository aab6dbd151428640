package mux

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"peerbus/node/corktls"
)

func securedPair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	x, y := tcpPair(t)
	var ids [2]peer.ID
	var sides [2]*corktls.Transport
	for i := range sides {
		key, _, err := crypto.GenerateEd25519Key(rand.Reader)
		if err == nil {
			ids[i], err = peer.IDFromPrivateKey(key)
		}
		if err == nil {
			sides[i], err = corktls.New(corktls.ID, key, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	inbound := run(func() (err error) {
		b, err = sides[1].SecureInbound(t.Context(), y, "")
		return err
	})
	a, err := sides[0].SecureOutbound(t.Context(), x, ids[1])
	if accepted := soon(t, "the handshake", inbound); err != nil || accepted != nil {
		t.Fatal(err, accepted)
	}
	return a, b
}

func TestAReadWithoutRoomWaitsForSomethingToReadOrItsEnd(t *testing.T) {
	onBoth(t, func(t *testing.T, a, b *Conn) {
		near, far := open(t, a, b)
		waiting := run(func() error { _, err := far.Read(nil); return err })
		select {
		case <-waiting:
			t.Fatal("there is nothing to read")
		case <-time.After(5 * time.Millisecond):
		}
		_, _ = near.Write([]byte("some"))
		if err := soon(t, "the arrival", waiting); err != nil {
			t.Fatal(err)
		}
		if got, err := readAll(far, 4); err != nil || string(got) != "some" {
			t.Fatalf("%q, %v", got, err)
		}
		for what, end := range map[string]func(){
			"a deadline": func() { _ = far.SetReadDeadline(time.Now()) },
			"the end":    func() { _ = near.CloseWrite() },
			"a reset":    func() { _ = near.Reset() },
		} {
			near, far = open(t, a, b)
			waiting = run(func() error { _, err := far.Read(nil); return err })
			end()
			if err := soon(t, what, waiting); err != nil {
				t.Error(what, err)
			}
			if n, err := far.Read(make([]byte, 1)); err == nil {
				t.Errorf("after %s %d bytes were read", what, n)
			}
		}
	})
}

func TestAReadAtOnceTakesWhatIsThereOrNothing(t *testing.T) {
	x, y := securedPair(t)
	a, b := muxed(t, x, false), muxed(t, y, true)
	near, far := open(t, a, b)
	waiting := run(func() error { _, err := far.Read(nil); return err })
	_ = far.SetReadDeadline(AtOnce)
	buffer := make([]byte, 64)
	if n, err := far.Read(buffer); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(n, err)
	}
	if _, ok := b.Attend(); !ok {
		t.Fatal("TLS over TCP does not lend")
	}
	_, _ = near.Write([]byte("lone"))
	got := []byte(nil)
	for end := time.Now().Add(patience); len(got) < 4 && time.Now().Before(end); {
		n, err := far.Read(buffer)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		got = append(got, buffer[:n]...)
	}
	if string(got) != "lone" {
		t.Fatalf("%q", got)
	}
	_, _ = near.Write([]byte("next"))
	b.Leave() // tells the one who waits what came meanwhile
	if err := soon(t, "the one who waits", waiting); err != nil {
		t.Fatal(err)
	}
	_ = far.SetReadDeadline(Patient)
	if got, err := readAll(far, 4); err != nil || string(got) != "next" {
		t.Fatalf("%q, %v", got, err)
	}
}

// TestNothingIsLostBetweenOneWhoWaitsAndOneWhoLooks: two goroutines share a stream, another stream of the connection is read
// all the time, and every byte arrives in its place.
func TestNothingIsLostBetweenOneWhoWaitsAndOneWhoLooks(t *testing.T) {
	x, y := securedPair(t)
	a, b := muxed(t, x, false), muxed(t, y, true)
	near, far := open(t, a, b)
	const rounds = 1500
	var sent, got bytes.Buffer
	otherNear, otherFar := open(t, a, b)
	other := run(func() error { // a stream that somebody else reads
		_, err := io.Copy(otherFar, otherFar)
		_ = otherFar.CloseWrite()
		return err
	})

	var reading sync.Mutex
	take := func() (over bool) {
		reading.Lock()
		defer reading.Unlock()
		_ = far.SetReadDeadline(AtOnce)
		defer func() { _ = far.SetReadDeadline(Patient) }()
		for buffer := make([]byte, 1000); ; {
			n, err := far.Read(buffer)
			got.Write(buffer[:n])
			if err != nil {
				return !errors.Is(err, os.ErrDeadlineExceeded)
			}
		}
	}
	waiter := run(func() error {
		for !take() {
			if _, err := far.Read(nil); err != nil {
				return err
			}
		}
		return nil
	})
	ended := make(chan struct{})
	looker := run(func() error {
		for over := false; !over; {
			select {
			case <-ended:
				return nil
			default:
			}
			_, ok := b.Attend()
			for k := 0; k < 20 && !over; k++ {
				over = take()
			}
			if ok {
				b.Leave()
			}
		}
		return nil
	})

	answer := make([]byte, 3)
	for k := range rounds {
		message := bytes.Repeat([]byte{byte(k)}, 1+k*k%3000)
		sent.Write(message)
		if _, err := near.Write(message); err != nil {
			t.Fatal(err)
		}
		if k%10 == 0 { // and wait until the other stream has answered
			_, _ = otherNear.Write([]byte("abc"))
			_ = otherNear.SetReadDeadline(time.Now().Add(patience))
			if _, err := io.ReadFull(otherNear, answer); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = near.CloseWrite()
	_ = otherNear.CloseWrite()
	for what, done := range map[string]<-chan error{"the one who waits": waiter, "the other stream": other} {
		if err := soon(t, what, done); err != nil {
			t.Fatal(what, err)
		}
	}
	close(ended)
	if err := soon(t, "the one who looks", looker); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(sent.Bytes(), got.Bytes()) {
		t.Errorf("%d bytes were sent, %d arrived, or others", sent.Len(), got.Len())
	}
}

func TestNothingIsLeftOfAConnectionThatEndsWhileSomebodyLooks(t *testing.T) {
	x, y := securedPair(t)
	a, b := muxed(t, x, false), muxed(t, y, true)
	_, far := open(t, a, b)
	waiting := run(func() error { _, err := far.Read(nil); return err })
	_, _ = b.Attend()
	_ = far.SetReadDeadline(AtOnce)
	looking := run(func() error {
		for {
			if _, err := far.Read(make([]byte, 9)); !errors.Is(err, os.ErrDeadlineExceeded) {
				return err
			}
		}
	})
	_ = a.Close()
	if err := soon(t, "the one who looks", looking); err == nil {
		t.Error("a closed connection can be read")
	}
	if err := soon(t, "the one who waits", waiting); err != nil {
		t.Error(err)
	}
	b.Leave()
	if err := soon(t, "the end", run(b.Close)); err != nil {
		t.Error(err)
	}
}

func TestABorrowerLeavesTheNetworkAloneWhileTheInboxHasWhatCameBefore(t *testing.T) {
	x, y := securedPair(t)
	a, b := muxed(t, x, false), muxed(t, y, true)
	near, far := open(t, a, b)
	otherNear, otherFar := open(t, a, b)
	_, _ = near.Write([]byte("first"))
	_, _ = otherNear.Write([]byte("x"))
	if _, err := readAll(otherFar, 1); err != nil { // its reader put the first part into the inbox of the other stream
		t.Fatal(err)
	}
	b.pump.use.Lock() // nobody else reads
	_, _ = near.Write([]byte("second"))
	for end := time.Now().Add(patience); !b.pump.lender.Poll() && time.Now().Before(end); {
	}
	b.pump.use.Unlock()
	buffer := make([]byte, 64)
	if n, _ := b.pump.borrow(far, buffer); n != 0 {
		t.Fatalf("%q was read before what had come already", buffer[:n])
	}
	b.pump.missed.Store(true) // as the end of reads at once does, for what the network has
	b.pump.resume()
	if got, err := readAll(far, 11); err != nil || string(got) != "firstsecond" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestAReaderThatNapsIsWokenAgainWhenLessComes(t *testing.T) {
	onBoth(t, func(t *testing.T, a, b *Conn) {
		near, far := open(t, a, b)
		sent := make([]byte, 8<<20)
		_, _ = rand.Read(sent)
		quick := len(sent) - 3
		written := run(func() error {
			_, err := near.Write(sent[:quick])
			return err
		})
		got := make([]byte, len(sent))
		read := run(func() error { _, err := io.ReadFull(far, got); return err })
		if err := soon(t, "the quick part", written); err != nil {
			t.Fatal(err)
		}
		for _, late := range sent[quick:] {
			time.Sleep(5 * time.Millisecond) // longer than the reader naps
			_, _ = near.Write([]byte{late})
		}
		if err := soon(t, "the rest", read); err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("what was read is not what was written, %v", err)
		}
	})
}
