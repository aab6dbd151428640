package node

import (
	"bytes"
	"errors"
	"sync/atomic"
	"testing"

	"peerbus/node/session"
)

// lentPayload counts how often a payload came back.
type lentPayload struct {
	bytes    []byte
	returned atomic.Int64
	back     chan struct{}
}

func newLentPayload(size int) *lentPayload {
	l := &lentPayload{bytes: make([]byte, size), back: make(chan struct{}, 1)}
	for i := range l.bytes {
		l.bytes[i] = byte(i * 31)
	}
	return l
}

func (l *lentPayload) release() {
	l.returned.Add(1)
	select {
	case l.back <- struct{}{}:
	default:
	}
}

func (l *lentPayload) expectReturn(t *testing.T) {
	t.Helper()
	select {
	case <-l.back:
	case <-within(t).Done():
		t.Fatal("a lent payload did not come back")
	}
	if n := l.returned.Load(); n != 1 {
		t.Fatalf("a payload came back %d times", n)
	}
}

func TestALentPayloadArrivesAndComesBack(t *testing.T) {
	a, b := startPair(t)
	large := newLentPayload(3*lentFrom + 5)
	if err := a.SendLent(within(t), directChannel(a.ID(), b.ID(), "~"), large.bytes, large.release); err != nil {
		t.Fatal(err)
	}
	if m := receive(t, b, 1)[0]; !bytes.Equal(m.Data, large.bytes) {
		t.Errorf("%d bytes arrived, which are not those that were sent", len(m.Data))
	}
	large.expectReturn(t)
}

func TestALentPayloadIsUsedUntilItIsAcknowledged(t *testing.T) {
	a := startNode(t)
	b := startNode(t)
	a.host.Peerstore().AddAddrs(b.ID(), addrsOf(t, "/ip4/127.0.0.1/tcp/1"), 1<<40) // nobody answers there
	a.host.Peerstore().SetProtocols(b.ID(), session.Protocol)
	c, err := a.OpenChannel(directChannel(a.ID(), b.ID(), "~"), ChannelOptions{})
	if err != nil {
		t.Fatal(err)
	}
	large := newLentPayload(lentFrom)
	if _, err := c.SendLent(within(t), large.bytes, large.release); err != nil {
		t.Fatal(err)
	}
	if large.returned.Load() != 0 {
		t.Error("it came back before its peer was there")
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if large.returned.Load() != 1 {
		t.Errorf("after the end of the node it has come back %d times", large.returned.Load())
	}
}

func TestWhatIsNotWorthALoanComesBackAtOnce(t *testing.T) {
	a, b := startPair(t)
	small := newLentPayload(lentFrom - 1)
	c := openChannel(t, a, b, "~")
	if _, err := c.SendLent(within(t), small.bytes, small.release); err != nil {
		t.Fatal(err)
	}
	if small.returned.Load() != 1 {
		t.Error("it was copied and did not come back")
	}
}

func TestARefusedLoanDoesNotComeBack(t *testing.T) {
	a, b := startPair(t, limits(func(l *Limits) { l.MessageBytes = lentFrom }))
	large := newLentPayload(lentFrom)
	if err := a.SendLent(within(t), directChannel(a.ID(), b.ID(), "~"), large.bytes, large.release); !errors.Is(err, ErrTooLarge) {
		t.Fatal(err)
	}
	if large.returned.Load() != 0 {
		t.Error("it came back although it was not taken")
	}
}

func TestALoanOnChatComesBackWhenItIsCopied(t *testing.T) {
	a, b := startPair(t, overChat)
	large := newLentPayload(lentFrom)
	if err := a.SendLent(within(t), directChannel(a.ID(), b.ID(), "~"), large.bytes, large.release); err != nil {
		t.Fatal(err)
	}
	large.expectReturn(t)
	receive(t, b, 1)
}

func TestALoneMessageDoesNotCutOffTheLentOneBeforeIt(t *testing.T) {
	a, b := startPair(t)
	c := openChannel(t, a, b, "~")
	for range 20 {
		large := newLentPayload(lentFrom)
		if _, err := c.SendLent(within(t), large.bytes, large.release); err != nil {
			t.Fatal(err)
		}
		mustReach(t, c, mustSend(t, c, []byte("lone")), DeliveryAccepted)
		if got := receive(t, b, 2); !bytes.Equal(got[0].Data, large.bytes) || string(got[1].Data) != "lone" {
			t.Fatalf("%d and %d bytes arrived", len(got[0].Data), len(got[1].Data))
		}
		large.expectReturn(t)
	}
}
