package session

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func wantLost(t *testing.T, out Outcome, want ...Loss) {
	t.Helper()
	if len(out.Lost) != len(want) || len(want) > 0 && !reflect.DeepEqual(out.Lost, want) {
		t.Errorf("lost %+v, want %+v", out.Lost, want)
	}
}

func TestAResumedStreamBringsOnlyWhatDidNotArrive(t *testing.T) {
	p := newPair(t, SenderOptions{})
	p.accept("a", "b", "c")
	p.connect()
	position := p.write()
	p.read(position[:len(position)-3]) // the transport swallows the last message
	p.lose()
	p.accept("d")
	if out := p.connect(); !reflect.DeepEqual(out.Accepted, []Range{{1, 2}}) || out.Restarted {
		t.Errorf("%+v", out)
	}
	want := AppendMessage(AppendMessage(AppendPosition(nil, 3), Attributes{}, []byte("c")), Attributes{}, []byte("d"))
	if again := p.write(); !bytes.Equal(again, want) {
		t.Errorf("written again: % x, want % x", again, want)
	} else {
		p.read(again)
	}
	if out := p.ack(); !reflect.DeepEqual(out.Accepted, []Range{{3, 4}}) || strings.Join(p.got, "") != "abcd" {
		t.Errorf("%+v, got %q", out, p.got)
	}
}

func TestTheResumeWindowEndsWithAnExactReport(t *testing.T) {
	p := newPair(t, SenderOptions{ResumeWindow: time.Minute})
	p.accept("a", "b")
	p.connect()
	p.pump()
	p.lose()
	p.accept("c", "d")
	if out, next := p.sender.Tick(p.now.Add(59 * time.Second)); len(out.Lost) > 0 || !next.Equal(p.now.Add(time.Minute)) {
		t.Fatalf("%+v, next %v", out, next)
	}
	out, next := p.sender.Tick(p.now.Add(time.Minute))
	wantLost(t, out, Loss{Range{1, 2}, ReasonExpired, true}, Loss{Range{3, 4}, ReasonExpired, false})
	if !next.IsZero() || p.sender.Held() != 0 {
		t.Errorf("next %v, %d bytes held", next, p.sender.Held())
	}
	p.accept("e")
	if out := p.connect(); len(out.Accepted)+len(out.Lost) > 0 {
		t.Errorf("told again: %+v", out)
	}
	p.pump()
	if p.got[len(p.got)-1] != "e" || p.gaps[1] != 2 {
		t.Errorf("got %q, gaps %d", p.got, p.gaps)
	}
	if out := p.ack(); !reflect.DeepEqual(out.Accepted, []Range{{5, 5}}) {
		t.Errorf("%+v", out)
	}
}

func TestTheResumeWindowIsTwoMinutesAndAtMostTen(t *testing.T) {
	for window, want := range map[time.Duration]time.Duration{0: 2 * time.Minute, time.Hour: 10 * time.Minute} {
		p := newPair(t, SenderOptions{ResumeWindow: window})
		p.accept("a")
		if _, next := p.sender.Tick(p.now); !next.Equal(p.now.Add(want)) {
			t.Errorf("next %v", next)
		}
	}
}

func TestTheResumeWindowBeginsWithTheFirstMessageThatWaits(t *testing.T) {
	p := newPair(t, SenderOptions{ResumeWindow: time.Minute})
	p.connect()
	p.lose()
	if _, next := p.sender.Tick(p.now.Add(time.Hour)); !next.IsZero() {
		t.Errorf("nothing waits, but a tick is asked for %v", next)
	}
	p.accept("a")
	_, next := p.sender.Tick(p.now.Add(2 * time.Hour))
	if want := p.now.Add(2*time.Hour + time.Minute); !next.Equal(want) {
		t.Errorf("next %v, want %v", next, want)
	}
	p.connect()
	if _, next := p.sender.Tick(p.now.Add(9 * time.Hour)); !next.IsZero() {
		t.Errorf("connected, but a tick is asked for %v", next)
	}
}

func TestEveryLostStreamBeginsAResumeWindowOfItsOwn(t *testing.T) {
	p := newPair(t, SenderOptions{ResumeWindow: time.Minute})
	p.accept("a")
	p.sender.Tick(p.now)
	for range 5 {
		p.now = p.now.Add(40 * time.Second)
		p.connect()
		p.now = p.now.Add(40 * time.Second)
		p.lose()
		out, next := p.sender.Tick(p.now)
		wantLost(t, out)
		if want := p.now.Add(time.Minute); !next.Equal(want) {
			t.Errorf("next %v, want %v", next, want)
		}
	}
}

func TestBuffersGrowWithABurstAndShrinkAfterIt(t *testing.T) {
	var sizes []int
	p := newPair(t, SenderOptions{Get: func(size int) []byte {
		sizes = append(sizes, size)
		return make([]byte, 0, size)
	}})
	p.connect()
	for range 2 {
		for range 2000 {
			p.accept(strings.Repeat("x", 100))
		}
		for p.sender.Unsettled() > 0 {
			p.pump()
			p.ack()
		}
	}
	burst := []int{4 << 10, 16 << 10, 64 << 10, 64 << 10, 64 << 10}
	if want := append(burst, burst...); !reflect.DeepEqual(sizes, want) {
		t.Errorf("buffers of %d bytes", sizes)
	}
}

func TestTheByteBoundIsExact(t *testing.T) {
	payload := make([]byte, soloBytes-len(AppendMessageHead(nil, Attributes{}, soloBytes-4)))
	s := NewSender(SenderOptions{Channel: "c", Bytes: 2 * soloBytes})
	for want := range 3 {
		if _, err := s.Accept(Attributes{}, payload); (err == nil) != (want < 2) || err != nil && !errors.Is(err, ErrFull) {
			t.Errorf("message %d: %v", want, err)
		}
	}
	if s.Held() != 2*soloBytes {
		t.Errorf("%d bytes held", s.Held())
	}
}

func TestARestartOfTheReceiverIsReported(t *testing.T) {
	p := newPair(t, SenderOptions{ReportTaken: true})
	p.accept("a", "b", "c")
	p.connect()
	p.pump()
	p.stream.Receiver().Taken(2, p.now)
	if out := p.ack(); out.Taken != (Range{1, 1}) {
		t.Errorf("taken %+v", out.Taken)
	}
	p.accept("d")
	p.write()
	p.accept("e")
	p.lose()
	p.table = NewTable(TableOptions{})
	out := p.connect()
	wantLost(t, out, Loss{Range{4, 4}, ReasonRestarted, true})
	if !out.Restarted || out.Untaken != (Range{2, 3}) {
		t.Errorf("%+v", out)
	}
	p.pump()
	if strings.Join(p.got, "") != "abce" || p.gaps[1] != 0 {
		t.Errorf("got %q, gaps %d", p.got, p.gaps)
	}
	p.stream.Receiver().Taken(6, p.now)
	if out := p.ack(); !reflect.DeepEqual(out.Accepted, []Range{{5, 5}}) || out.Taken != (Range{5, 5}) {
		t.Errorf("%+v", out)
	}
}

func TestAForgottenSessionIsReported(t *testing.T) {
	p := newPair(t, SenderOptions{})
	p.accept("a")
	p.connect()
	p.pump()
	p.lose()
	p.table.Sweep(p.now.Add(DefaultKeep))
	out := p.connect()
	wantLost(t, out, Loss{Range{1, 1}, ReasonForgotten, true})
	if out.Restarted {
		t.Error("the receiver did not restart")
	}
}

func TestAFirstStreamThatNeverArrivedLosesNothing(t *testing.T) {
	p := newPair(t, SenderOptions{})
	p.sender.Learn(p.table.Instance())
	p.accept("a")
	p.generation, _ = p.sender.OpenStream()
	if early := p.write(); len(early) == 0 {
		t.Fatal("no early data")
	}
	p.sender.StreamLost(p.generation, p.now)
	wantLost(t, p.connect())
	p.pump()
	p.ack()
	if strings.Join(p.got, "") != "a" || p.sender.Unsettled() != 0 {
		t.Errorf("got %q", p.got)
	}
}

func TestAForgetfulReceiverPutsEarlyDataInDoubt(t *testing.T) {
	p := newPair(t, SenderOptions{})
	p.table = NewTable(TableOptions{PeerSessions: 1})
	p.sender.Learn(p.table.Instance())
	p.accept("a")
	p.hello()
	p.pump() // the answer gets lost, the message does not
	p.lose()
	other := newPair(t, SenderOptions{})
	other.table = p.table
	other.connect()
	other.lose()
	wantLost(t, p.connect(), Loss{Range{1, 1}, ReasonForgotten, true})
}

func TestAForgetfulReceiverTakesNoEarlyData(t *testing.T) {
	p := newPair(t, SenderOptions{})
	p.table = NewTable(TableOptions{PeerSessions: 1})
	for range 2 {
		other := newPair(t, SenderOptions{})
		other.table = p.table
		other.connect()
		other.lose()
	}
	p.sender.Learn(p.table.Instance())
	p.accept("a")
	answer := p.hello()
	if p.pump(); len(p.got) > 0 {
		t.Errorf("got %q", p.got)
	}
	wantLost(t, p.hear(answer))
	p.pump()
	if out := p.ack(); strings.Join(p.got, "") != "a" || len(out.Accepted) != 1 {
		t.Errorf("got %q, %+v", p.got, out)
	}
}

func TestEarlyDataIsDiscardedByAnotherInstance(t *testing.T) {
	p := newPair(t, SenderOptions{})
	p.sender.Learn(NewID())
	p.accept("a")
	answer := p.hello()
	p.pump()
	if len(p.got) > 0 {
		t.Fatalf("got %q", p.got)
	}
	if out := p.hear(answer); out.Restarted || len(out.Lost) > 0 {
		t.Errorf("%+v", out)
	}
	if p.sender.exposed != 0 {
		t.Error("what was discarded counts as in doubt")
	}
	p.pump()
	if out := p.ack(); strings.Join(p.got, "") != "a" || len(out.Accepted) != 1 {
		t.Errorf("got %q, %+v", p.got, out)
	}
}

func TestEarlyDataStaysBelowWhatEveryReceiverTakes(t *testing.T) {
	p := newPair(t, SenderOptions{})
	p.sender.Learn(p.table.Instance())
	p.accept(strings.Repeat("x", MinMaxMessage+1))
	answer := p.hello()
	if early := p.write(); len(early) > 0 {
		t.Errorf("%d bytes of early data", len(early))
	}
	p.hear(answer)
	p.pump()
	if len(p.got) != 1 {
		t.Error("the message did not follow")
	}
}

func TestAMessageAboveTheReceiversLimitIsReportedAtOnce(t *testing.T) {
	p := newPair(t, SenderOptions{})
	p.table = NewTable(TableOptions{Receiver: ReceiverOptions{MaxMessage: MinMaxMessage}})
	p.accept("a", strings.Repeat("x", MinMaxMessage+1), "b", strings.Repeat("y", MinMaxMessage))
	wantLost(t, p.connect(), Loss{Range{2, 2}, ReasonTooLarge, false})
	p.pump()
	if out := p.ack(); !reflect.DeepEqual(out.Accepted, []Range{{1, 1}, {3, 4}}) || len(p.got) != 3 {
		t.Errorf("%+v, %d arrived", out, len(p.got))
	}
	if _, err := p.sender.Accept(Attributes{}, make([]byte, MinMaxMessage+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("the sender goes on taking too large messages: %v", err)
	}
	p.accept(strings.Repeat("z", MinMaxMessage))
	alone := newPair(t, SenderOptions{})
	alone.table = p.table
	alone.accept(strings.Repeat("x", MinMaxMessage+1))
	out := alone.connect()
	wantLost(t, out, Loss{Range{1, 1}, ReasonTooLarge, false})
	if !out.Room || alone.sender.Unsettled() != 0 || alone.sender.Held() != 0 {
		t.Errorf("%d messages and %d bytes wait for an acknowledgement that cannot come", alone.sender.Unsettled(), alone.sender.Held())
	}
}

func TestDroppedMessagesAreNamedEvenWhenTheReportIsLost(t *testing.T) {
	p := newPair(t, SenderOptions{})
	p.drop["b"], p.drop["d"], p.drop["e"] = true, true, true
	p.accept("a", "b", "c", "d", "e")
	p.connect()
	p.pump()
	p.stream.Receiver().AppendAck(nil, p.generation) // lost with the stream
	p.lose()
	out := p.connect()
	wantLost(t, out, Loss{Range{2, 2}, "peer_queue_full", false}, Loss{Range{4, 5}, "peer_queue_full", false})
	if !reflect.DeepEqual(out.Accepted, []Range{{1, 1}, {3, 3}}) {
		t.Errorf("accepted %+v", out.Accepted)
	}
	p.lose()
	if out := p.connect(); len(out.Lost)+len(out.Accepted) > 0 {
		t.Errorf("told again: %+v", out)
	}
}

func TestTheWindowHoldsBackWhatTheReceiverDidNotGrant(t *testing.T) {
	p := newPair(t, SenderOptions{})
	p.connect()
	p.stream.Receiver().SetWindow(0)
	p.ack()
	p.accept("a")
	if written := p.write(); len(written) > 0 {
		t.Errorf("% x written into a closed window", written)
	}
	p.stream.Receiver().SetWindow(20 << 10)
	p.ack()
	for range 3 {
		p.accept(strings.Repeat("x", soloBytes))
	}
	first := p.write()
	if len(first) < soloBytes || len(first) > 3*soloBytes {
		t.Errorf("%d bytes in a window of 20 KiB", len(first))
	}
	p.read(first)
	p.ack()
	p.pump()
	if len(p.got) != 4 {
		t.Errorf("%d messages arrived", len(p.got))
	}
}

func TestAFullWindowRefusesAndAnAcknowledgementMakesRoom(t *testing.T) {
	p := newPair(t, SenderOptions{Messages: 2})
	p.accept("a", "b")
	if _, err := p.sender.Accept(Attributes{}, nil); !errors.Is(err, ErrFull) {
		t.Errorf("%v", err)
	}
	p.connect()
	p.pump()
	out, _, err := p.receive(p.stream.Receiver().AppendAck(nil, p.generation))
	if err != nil || !out.Room {
		t.Errorf("%+v, %v", out, err)
	}
	p.accept("c")
	bytes := newPair(t, SenderOptions{Bytes: 100 << 10})
	bytes.accept(strings.Repeat("x", 60<<10))
	if _, err := bytes.sender.Accept(Attributes{}, make([]byte, 60<<10)); !errors.Is(err, ErrFull) {
		t.Errorf("%v", err)
	}
	bytes.accept("small")
}

func TestAReservationHoldsBackLaterMessages(t *testing.T) {
	p := newPair(t, SenderOptions{})
	p.connect()
	r, err := p.sender.Reserve(Attributes{}, 3)
	if err != nil || len(r.Payload) != 3 {
		t.Fatalf("%+v, %v", r, err)
	}
	p.accept("b")
	p.pump()
	if len(p.got) > 0 {
		t.Fatalf("got %q", p.got)
	}
	copy(r.Payload, "aaa")
	p.sender.Fill(r)
	p.pump()
	if strings.Join(p.got, "") != "aaab" {
		t.Errorf("got %q", p.got)
	}
}

func TestAPieceInAWritersHandsKeepsItsBytes(t *testing.T) {
	var returned int
	p := newPair(t, SenderOptions{Put: func(b []byte) { returned += cap(b) }})
	p.accept("a")
	p.connect()
	p.read(AppendPosition(nil, 1))
	p.sender.NextPiece(p.generation) // POSITION
	piece, _ := p.sender.NextPiece(p.generation)
	p.read(piece.Bytes)
	if p.ack(); p.sender.Unsettled() != 0 || returned != 0 || p.sender.Held() == 0 {
		t.Errorf("%d bytes returned while the writer holds them", returned)
	}
	p.sender.Done(piece, true)
	if returned == 0 || p.sender.Held() != 0 || p.sender.Progress() != (Progress{1, 1, 1, 0}) {
		t.Errorf("%d bytes returned, %d held, %+v", returned, p.sender.Held(), p.sender.Progress())
	}
}

func TestAPingFollowsTheMessagesBeforeIt(t *testing.T) {
	p := newPair(t, SenderOptions{})
	p.connect()
	p.accept("a")
	p.sender.RequestAck()
	written := p.write()
	want := append(AppendMessage(AppendPosition(nil, 1), Attributes{}, []byte("a")), 1, byte(TypePing))
	if !bytes.Equal(written, want) {
		t.Errorf("% x", written)
	}
	p.read(written)
	if due, _ := p.stream.Receiver().AckDue(p.now); !due {
		t.Error("a ping is not answered at once")
	}
}

func TestFinishWaitsForTheLastFateAndLeavesATombstone(t *testing.T) {
	p := newPair(t, SenderOptions{})
	if p.hello(); p.sender.Finish() {
		t.Error("finished before ACCEPT")
	}
	p.lose()
	p.accept("a")
	p.connect()
	p.pump()
	if p.sender.Finish() {
		t.Error("finished with an unsettled message")
	}
	p.ack()
	if !p.sender.Finish() || p.sender.Finish() {
		t.Error("not finished, or finished twice")
	}
	p.pump()
	p.table.Release(p.stream, "peer", p.now)
	if _, err := p.sender.Accept(Attributes{}, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("%v", err)
	}
	late := Open{Session: p.sender.Session(), Instance: p.table.Instance(), Generation: 1, Oldest: 1, Early: true, Channel: testChannel}
	if _, err := p.table.Open("peer", late, p.now); !errors.Is(err, ErrFenced) {
		t.Errorf("a delayed first stream: %v", err)
	}
	late.Generation, late.Early = 9, false
	if _, err := p.table.Open("peer", late, p.now); !errors.Is(err, ErrViolation) {
		t.Errorf("going on after FINISH: %v", err)
	}
}

func TestWithdrawGivesBackWhatWasNeverOnAStream(t *testing.T) {
	s := NewSender(SenderOptions{Channel: testChannel})
	large := strings.Repeat("x", soloBytes)
	for _, text := range []string{"one", large, ""} {
		if _, err := s.Accept(Attributes{}, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	reserved, err := s.Reserve(Attributes{}, 4)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Withdraw(); ok {
		t.Fatal("withdrew a message that is still being copied")
	}
	copy(reserved.Payload, "four")
	s.Fill(reserved)
	got, ok := s.Withdraw()
	if !ok || len(got) != 4 || string(got[1].Payload) != large || len(got[2].Payload) != 0 || string(got[3].Payload) != "four" {
		t.Fatalf("withdrew %d messages, %v", len(got), ok)
	}
	if s.Err() == nil || s.Held() != 0 || s.Unsettled() != 0 {
		t.Fatalf("the sender is not over: %v, %d bytes, %d messages", s.Err(), s.Held(), s.Unsettled())
	}
}

func TestWithdrawIsTooLateAfterAStream(t *testing.T) {
	s := NewSender(SenderOptions{Channel: testChannel})
	s.OpenStream()
	if _, ok := s.Withdraw(); ok {
		t.Fatal("withdrew although a stream was opened")
	}
}

func TestQueuedIsWhatNoStreamHasTaken(t *testing.T) {
	p := newPair(t, SenderOptions{})
	wantQueued := func(when string, want int64) {
		t.Helper()
		if got := p.sender.Queued(); got != want {
			t.Errorf("%s %d bytes wait, want %d", when, got, want)
		}
	}
	wantQueued("at first", 0)
	p.connect()
	p.accept("one", "two")
	wantQueued("after two messages", int64(2*FrameSize(Attributes{}, 3)))
	p.pump()
	wantQueued("after they were written", 0)
	p.accept("three")
	wantQueued("after a third one", int64(FrameSize(Attributes{}, 5)))
}
