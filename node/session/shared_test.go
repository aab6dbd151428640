package session

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func texts(of ...string) (payloads [][]byte) {
	for _, text := range of {
		payloads = append(payloads, []byte(text))
	}
	return payloads
}

func frames(of ...string) *Frames {
	get := func(size int) []byte { return make([]byte, size) }
	return NewFrames(texts(of...), get, func([]byte) {})
}

func (p *pair) acceptFrames(of ...string) {
	p.t.Helper()
	f := frames(of...)
	defer f.Release()
	if err := p.sender.AcceptFrames(f); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pair) expectGot(want string, gaps ...uint64) {
	p.t.Helper()
	var seen []uint64
	for _, gap := range p.gaps {
		if gap > 0 {
			seen = append(seen, gap)
		}
	}
	if got := strings.Join(p.got, ""); got != want || !reflect.DeepEqual(seen, gaps) {
		p.t.Errorf("got %q with gaps %d, want %q with %d", got, seen, want, gaps)
	}
}

func TestFramesGoBackWhenTheLastSenderHasThemAcknowledged(t *testing.T) {
	returned := 0
	f := NewFrames(texts("a", "b"), func(size int) []byte { return make([]byte, size) }, func([]byte) { returned++ })
	pairs := []*pair{newPair(t, SenderOptions{}), newPair(t, SenderOptions{First: 1000})}
	for _, p := range pairs {
		if err := p.sender.AcceptFrames(f); err != nil {
			t.Fatal(err)
		}
	}
	f.Release()
	for i, p := range pairs {
		if returned > 0 {
			t.Fatalf("the buffer came back with %d senders left", len(pairs)-i)
		}
		p.connect()
		p.pump()
		p.ack()
		p.expectGot("ab")
		if p.sender.Held() != 0 {
			t.Errorf("%d bytes held", p.sender.Held())
		}
	}
	if returned != 1 {
		t.Errorf("the buffer came back %d times", returned)
	}
}

func TestFramesComeBetweenCopiedMessagesAndAreResumedInTheMiddle(t *testing.T) {
	p := newPair(t, SenderOptions{First: 7})
	p.accept("a")
	p.acceptFrames("b", "c", "d")
	p.accept("e")
	p.connect()
	written := p.write()
	p.read(written[:len(written)-len(AppendMessage(AppendMessage(nil, Attributes{}, []byte("d")), Attributes{}, []byte("e")))])
	p.lose()
	if out := p.connect(); !reflect.DeepEqual(out.Accepted, []Range{{7, 9}}) {
		t.Errorf("%+v", out)
	}
	p.pump()
	p.expectGot("abcde")
	if out := p.ack(); !reflect.DeepEqual(out.Accepted, []Range{{10, 11}}) || p.sender.Held() != 0 {
		t.Errorf("%+v, %d bytes held", out, p.sender.Held())
	}
}

func TestSkippedNumbersAreAGapAndNobodysLoss(t *testing.T) {
	p := newPair(t, SenderOptions{First: 100})
	p.connect()
	p.accept("a")
	p.sender.Skip(104)
	p.sender.Skip(103) // is behind
	p.acceptFrames("b")
	p.pump()
	p.expectGot("ab", 3)
	out := p.ack()
	if !reflect.DeepEqual(out.Accepted, []Range{{100, 100}, {104, 104}}) || len(out.Lost) > 0 || p.sender.Unsettled() != 0 {
		t.Errorf("%+v, %d unsettled", out, p.sender.Unsettled())
	}
}

func TestDropOldestGivesUpTheOldestBufferThatIsNotOnItsWay(t *testing.T) {
	p := newPair(t, SenderOptions{})
	p.connect()
	p.acceptFrames("a", "b")
	p.write() // is lost
	p.acceptFrames("c", "d")
	p.acceptFrames("e")
	dropped, err := p.sender.DropOldest()
	if err != nil || dropped != (Range{3, 4}) {
		t.Fatalf("dropped %v, %v", dropped, err)
	}
	p.lose()
	p.connect()
	p.pump()
	p.expectGot("abe", 2)
	if out := p.ack(); !reflect.DeepEqual(out.Accepted, []Range{{1, 2}, {5, 5}}) || len(out.Lost) > 0 || p.sender.Held() != 0 {
		t.Errorf("%+v, %d bytes held", out, p.sender.Held())
	}
}

func TestDropOldestKeepsWhatWentToAStream(t *testing.T) {
	p := newPair(t, SenderOptions{})
	p.connect()
	p.acceptFrames("a")
	piece, _ := p.sender.NextPiece(p.generation) // POSITION
	p.sender.Done(piece, true)
	piece, _ = p.sender.NextPiece(p.generation)
	if dropped, err := p.sender.DropOldest(); !errors.Is(err, ErrFull) {
		t.Errorf("dropped %v, %v", dropped, err)
	}
	p.sender.Done(piece, false)
	if dropped, err := p.sender.DropOldest(); !errors.Is(err, ErrFull) {
		t.Errorf("dropped %v, which a stream may have brought: %v", dropped, err)
	}
}

func TestAGapEndsEarlyData(t *testing.T) {
	p := newPair(t, SenderOptions{})
	p.sender.Learn(p.table.Instance())
	p.accept("a")
	answer := p.hello()
	p.sender.Skip(5)
	p.accept("b")
	early := p.write()
	if !bytes.Equal(early, AppendMessage(nil, Attributes{}, []byte("a"))) {
		t.Errorf("early data: % x", early)
	}
	p.read(early)
	p.hear(answer)
	p.pump()
	p.expectGot("ab", 3)
}

func TestFitsSaysWhatAcceptWouldSay(t *testing.T) {
	p := newPair(t, SenderOptions{Messages: 3, Bytes: 100, MaxMessage: 200})
	expect := func(bytes, largest int, want error) {
		t.Helper()
		if err := p.sender.Fits(bytes, largest); !errors.Is(err, want) {
			t.Errorf("%d bytes, the largest payload %d: %v, want %v", bytes, largest, err, want)
		}
	}
	expect(1000, 200, nil) // alone
	expect(1000, 201, ErrTooLarge)
	p.acceptFrames("a", "b")
	expect(100, 10, ErrFull)
	expect(90, 10, nil)
	p.acceptFrames("c")
	expect(10, 10, ErrFull) // three messages wait
	p.sender.Close()
	expect(10, 10, ErrClosed)
	if err := fmt.Sprint(p.sender.AcceptFrames(frames("x")), p.sender.AcceptFitting(nil)); !strings.Contains(err, "closed") {
		t.Error(err)
	}
}
