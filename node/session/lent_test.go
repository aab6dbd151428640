package session

import (
	"bytes"
	"errors"
	"slices"
	"testing"
)

func lentPayload(size int) []byte {
	payload := make([]byte, size)
	for i := range payload {
		payload[i] = byte(i * 7)
	}
	return payload
}

func TestALentPayloadTravelsLikeACopiedOne(t *testing.T) {
	for _, size := range []int{MinLent, MinMaxMessage, 1 << 20} {
		p := newPair(t, SenderOptions{Bytes: 2 << 20})
		p.connect()
		payload, released := lentPayload(size), 0
		if _, err := p.sender.Lend(Attributes{}, payload, func() { released++ }); err != nil {
			t.Fatal(err)
		}
		p.accept("behind it")
		want := AppendMessage(AppendMessage(nil, Attributes{}, payload), Attributes{}, []byte("behind it"))
		if written := p.write(); !bytes.HasSuffix(written, want) {
			t.Fatalf("%d bytes were written, which are not the frames of both messages", len(written))
		} else {
			p.read(written)
		}
		if released != 0 {
			t.Fatal("released before it was acknowledged")
		}
		p.hear(p.stream.Receiver().AppendAck(nil, p.generation))
		if released != 1 || p.sender.Held() != 0 {
			t.Errorf("released %d times, %d bytes are held", released, p.sender.Held())
		}
	}
}

func TestALentPayloadIsReleasedOnceHoweverTheSessionEnds(t *testing.T) {
	var released int
	lend := func(s *Sender) {
		released = 0
		if _, err := s.Lend(Attributes{}, lentPayload(MinMaxMessage), func() { released++ }); err != nil {
			t.Fatal(err)
		}
	}
	s := NewSender(SenderOptions{Channel: testChannel})
	lend(s)
	if messages, ok := s.Withdraw(); !ok || len(messages) != 1 || !slices.Equal(messages[0].Payload, lentPayload(MinMaxMessage)) || released != 1 {
		t.Errorf("withdrawn: %d messages, %v, released %d times", len(messages), ok, released)
	}
	s = NewSender(SenderOptions{Channel: testChannel})
	lend(s)
	if s.Close(); released != 1 {
		t.Errorf("closed: released %d times", released)
	}
	p := newPair(t, SenderOptions{})
	p.connect()
	lend(p.sender)
	piece := pieces(p.sender, p.generation)[0]
	if p.sender.Close(); released != 0 {
		t.Error("closed while it is written: released")
	}
	if p.sender.Done(piece, false); released != 1 {
		t.Errorf("written after the end: released %d times", released)
	}
}

func TestAPayloadThatFindsNoRoomIsNotLent(t *testing.T) {
	s := NewSender(SenderOptions{Channel: testChannel, Bytes: MinMaxMessage})
	never := func() { t.Error("released") }
	if _, err := s.Accept(Attributes{}, []byte("in the way")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Lend(Attributes{}, lentPayload(MinMaxMessage), never); !errors.Is(err, ErrFull) {
		t.Error(err)
	}
	if _, err := s.Lend(Attributes{}, lentPayload(s.maxMessage+1), never); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	s.Close()
	if _, err := s.Lend(Attributes{}, lentPayload(MinLent), never); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}
