package webrtc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	pion "github.com/pion/webrtc/v4"
)

func TestFramesArriveWholeAndInOrder(t *testing.T) {
	a, b := open(t, ICEConfig{})
	sizes := []int{0, 1, 1000, chunkPiece - 6, chunkPiece - 5, chunkPiece, 300_000, 5}
	go func() {
		for i, size := range sizes {
			frame := frameOf("c", bytes.Repeat([]byte{byte(i)}, size))
			if n, err := a.Write(frame, "c", patience); n != len(frame) || err != nil {
				t.Errorf("wrote %d of %d bytes: %v", n, len(frame), err)
			}
		}
	}()
	r := &collector{}
	assembler := NewAssembler(r, 1<<20)
	buffer := make([]byte, MessageBytes)
	for i := 0; i < len(sizes); {
		n, err := b.Read(buffer)
		if err != nil {
			t.Fatal(err)
		}
		if f, ok := assembler.Add(buffer[:n], time.Now()); ok {
			if !bytes.Equal(f.Payload, bytes.Repeat([]byte{byte(i)}, sizes[i])) {
				t.Fatalf("frame %d arrived with %d bytes instead of %d", i, len(f.Payload), sizes[i])
			}
			i++
		}
	}
	if len(r.lost) > 0 {
		t.Errorf("lost %v", r.lost)
	}
}

func TestThePathIsTold(t *testing.T) {
	a, b := open(t, ICEConfig{})
	for _, s := range []*Session{a, b} {
		pair, ok := s.Pair()
		if !ok || pair.Relayed() || !strings.HasPrefix(pair.Local.Address, "127.0.0.1:") || !strings.HasPrefix(pair.Remote.Address, "127.0.0.1:") {
			t.Errorf("the path is %+v, %v", pair, ok)
		}
	}
}

func TestAFullBufferHoldsTheWriterAndItsDeadlineEndsIt(t *testing.T) {
	a, _ := open(t, ICEConfig{})
	frame := frameOf("c", make([]byte, 50_000))
	total := 0
	for {
		n, err := a.Write(frame, "c", 300*time.Millisecond)
		total += n
		if errors.Is(err, ErrTimeout) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if total > 8<<20 {
			t.Fatalf("%d bytes were taken although nobody reads", total)
		}
	}
	// At least the own buffer, which had no room for one frame more; at most the peer's receive window besides.
	if total <= sctpBuffer-len(frame) || total > 4*sctpBuffer {
		t.Errorf("%d bytes were taken", total)
	}
	if waiting := a.channel.BufferedAmount(); waiting > sctpBuffer {
		t.Errorf("%d bytes wait in SCTP, at most %d are allowed", waiting, sctpBuffer)
	}
	if got := a.Unacknowledged()["c"]; got == 0 || got > uint64(total/len(frame)) {
		t.Errorf("%d frames are unacknowledged of %d", got, total/len(frame))
	}
}

func TestAcknowledgedFramesAreForgotten(t *testing.T) {
	a, b := open(t, ICEConfig{})
	for range 100 {
		if _, err := a.Write(frameOf("c", make([]byte, 1000)), "c", patience); err != nil {
			t.Fatal(err)
		}
	}
	a.Drain(patience)
	if got := a.Unacknowledged(); len(got) > 0 {
		t.Errorf("%v are unacknowledged after draining", got)
	}
	a.Close()
	buffer := make([]byte, MessageBytes)
	for i := range 100 {
		if _, err := b.Read(buffer); err != nil {
			t.Fatalf("after %d frames: %v", i, err)
		}
	}
	if _, err := b.Read(buffer); !errors.Is(err, ErrPeerEnded) {
		t.Errorf("the end is %v", err)
	}
}

func TestCloseEndsEverythingOfBothSides(t *testing.T) {
	a, b := open(t, ICEConfig{})
	var group sync.WaitGroup
	for _, s := range []*Session{a, b} {
		group.Go(func() {
			if _, err := s.Read(make([]byte, MessageBytes)); !errors.Is(err, ErrEnded) {
				t.Errorf("reading ended with %v", err)
			}
		})
	}
	group.Go(func() {
		for {
			if _, err := b.Write(frameOf("c", make([]byte, 100_000)), "c", patience); err != nil {
				if !errors.Is(err, ErrEnded) {
					t.Errorf("writing ended with %v", err)
				}
				return
			}
		}
	})
	a.Close()
	group.Wait()
	<-b.Ended()
	b.Close()
	expectNoGoroutines(t)
	if n, err := a.Write(frameOf("c", []byte{1}), "c", patience); n != 0 || !errors.Is(err, ErrEnded) {
		t.Errorf("a closed session took %d bytes: %v", n, err)
	}
}

func TestASessionWithoutPeerEnds(t *testing.T) {
	t.Parallel()
	a, b := open(t, ICEConfig{})
	b.connection.SCTP().Transport().ICETransport().OnConnectionStateChange(func(pion.ICETransportState) {})
	// Stopping ICE alone tells the peer nothing, as when a machine loses its network.
	if err := b.connection.SCTP().Transport().ICETransport().Stop(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-a.Ended():
	case <-time.After(FailedTimeout + patience):
		t.Fatal("the session goes on without its peer")
	}
	if !errors.Is(a.Err(), ErrEnded) {
		t.Errorf("it ended with %v", a.Err())
	}
}

func TestARefusalIsAnError(t *testing.T) {
	for name, answer := range map[string]func(io.WriteCloser){
		"an error":      func(w io.WriteCloser) { _ = WriteSignal(w, Signal{Type: SignalError, Message: "not now"}) },
		"no answer":     func(w io.WriteCloser) { _ = w.Close() },
		"another offer": func(w io.WriteCloser) { _ = WriteSignal(w, Signal{Type: SignalOffer, SDP: minimalSDP}) },
		"a bad answer":  func(w io.WriteCloser) { _ = WriteSignal(w, Signal{Type: SignalAnswer, SDP: minimalSDP}) },
		"no section":    func(w io.WriteCloser) { _ = WriteSignal(w, Signal{Type: SignalAnswer, SDP: "v=0\r\n"}) },
	} {
		ours, theirs := pipe(t)
		go func() {
			if _, err := ReadSignal(theirs); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			answer(theirs)
		}()
		_, err := loopbackEngine().Offer(within(t), ICEConfig{}, ours)
		if !errors.Is(err, ErrRefused) && !errors.Is(err, ErrSignal) {
			t.Errorf("%s: %v", name, err)
		}
	}
	expectNoGoroutines(t)
}

func TestABadOfferIsAnsweredWithAnError(t *testing.T) {
	for _, sdp := range []string{"", "v=0\r\n", minimalSDP, strings.Repeat("m=application 9 x\r\n", 1000), "\x00\xff", "v=0\r\nm=application 9 \r\na=\r\n"} {
		ours, theirs := pipe(t)
		failed := make(chan error, 1)
		go func() {
			_, err := loopbackEngine().Answer(within(t), ICEConfig{}, theirs, Signal{Type: SignalOffer, SDP: sdp})
			failed <- err
		}()
		got, err := ReadSignal(ours)
		if err != nil || got.Type != SignalError || got.Message == "" {
			t.Errorf("%.40q: answered %+v, %v", sdp, got, err)
		}
		if err := <-failed; err == nil {
			t.Errorf("%.40q was taken", sdp)
		}
	}
	expectNoGoroutines(t)
}

func TestTheEndOfTheContextEndsAHandshake(t *testing.T) {
	ours, theirs := pipe(t)
	ctx, cancel := context.WithCancelCause(within(t))
	stop := context.AfterFunc(ctx, func() { ours.Close() })
	defer stop()
	reason := errors.New("enough")
	go func() {
		if _, err := ReadSignal(theirs); err != nil {
			t.Error(err)
		}
		cancel(reason)
	}()
	if _, err := loopbackEngine().Offer(ctx, ICEConfig{}, ours); err == nil {
		t.Error("an offer without answer succeeded")
	}
	expectNoGoroutines(t)
}

func TestAnOffererThatOpensNoChannelIsGivenUp(t *testing.T) {
	peer, err := pion.NewPeerConnection(pion.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	if _, err := peer.CreateDataChannel("another", nil); err != nil {
		t.Fatal(err)
	}
	offer, err := peer.CreateOffer(nil)
	if err != nil {
		t.Fatal(err)
	}
	gathered := pion.GatheringCompletePromise(peer)
	if err := peer.SetLocalDescription(offer); err != nil {
		t.Fatal(err)
	}
	<-gathered
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = loopbackEngine().Answer(ctx, ICEConfig{}, io.Discard, Signal{Type: SignalOffer, SDP: peer.LocalDescription().SDP})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the handshake ended with %v", err)
	}
}

// foreignChannels opens more data channels on the offerer's side of a session.
func TestForeignDataChannelsAreClosedAndManyEndTheSession(t *testing.T) {
	a, b := open(t, ICEConfig{})
	for i := range maxForeignChannels + 1 {
		if _, err := a.connection.CreateDataChannel(fmt.Sprint("foreign ", i), nil); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-b.Ended():
	case <-time.After(patience):
		t.Fatal("the session goes on")
	}
	if !errors.Is(b.Err(), ErrSignal) {
		t.Errorf("it ended with %v", b.Err())
	}
}

func TestAMessageAboveTheLimitEndsTheSession(t *testing.T) {
	a, b := open(t, ICEConfig{})
	// pion lets nobody send more than the peer announced, so the reader is given a smaller buffer than that.
	if _, err := a.channel.Write(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Read(make([]byte, 100)); !errors.Is(err, ErrEnded) || errors.Is(err, ErrPeerEnded) {
		t.Errorf("reading ended with %v", err)
	}
}
