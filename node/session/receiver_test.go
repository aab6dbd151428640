package session

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

func testOpen(session byte, generation uint64) Open {
	return Open{Session: ID{session}, Generation: generation, Oldest: 1, AckMessages: 4, AckBytes: 1 << 20, Channel: testChannel}
}

func mustOpen(t *testing.T, table *Table, peer string, open Open, now time.Time) Opened {
	t.Helper()
	opened, err := table.Open(peer, open, now)
	if err != nil {
		t.Fatal(err)
	}
	return opened
}

func TestTheNewestStreamFencesTheOthers(t *testing.T) {
	p := newPair(t, SenderOptions{})
	p.accept("a", "b")
	p.connect()
	written := p.write()
	old, r := p.stream, p.stream.Receiver()
	if _, err := old.Take(Head{Type: TypePosition}, []byte{1}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Reposition(old); err != nil {
		t.Fatal(err)
	}
	old.Count(1)
	p.connect()
	if p.fenced != old {
		t.Error("the new stream does not name the one that it fences")
	}
	if batch, err := r.Offer(old); !errors.Is(err, ErrFenced) || batch.Fresh != 0 || batch.Duplicates != 1 {
		t.Errorf("%+v, %v", batch, err)
	}
	if _, err := r.Reposition(old); !errors.Is(err, ErrFenced) {
		t.Errorf("%v", err)
	}
	if b := r.AppendAck(nil, old.Generation()); len(b) > 0 {
		t.Errorf("a fenced stream says % x", b)
	}
	p.table.Release(old, "peer", p.now)
	if _, err := p.table.Open("peer", Open{Session: r.Session(), Generation: 1, Oldest: 1, Channel: testChannel}, p.now); !errors.Is(err, ErrFenced) {
		t.Errorf("an old stream took over: %v", err)
	}
	p.pump()
	if p.ack(); strings.Join(p.got, "") != "ab" || p.sender.Unsettled() != 0 {
		t.Errorf("got %q of % x", p.got, written)
	}
}

func TestAStreamWithTheGenerationOfAnotherIsFenced(t *testing.T) {
	table, now := NewTable(TableOptions{}), time.Unix(1, 0)
	mustOpen(t, table, "peer", testOpen(1, 3), now)
	for _, generation := range []uint64{3, 2} {
		if _, err := table.Open("peer", testOpen(1, generation), now); !errors.Is(err, ErrFenced) {
			t.Errorf("generation %d after 3: %v", generation, err)
		}
	}
}

// Our sender begins where the receiver expects it. Others may begin with their oldest message.
func TestMessagesThatComeAgainAreDiscarded(t *testing.T) {
	table, now := NewTable(TableOptions{}), time.Unix(1, 0)
	offer := func(st *Stream, count int) Batch {
		t.Helper()
		if _, err := st.Take(Head{Type: TypePosition}, []byte{1}); err != nil {
			t.Fatal(err)
		}
		if gap, err := st.Receiver().Reposition(st); err != nil || gap != 0 {
			t.Fatalf("gap %d, %v", gap, err)
		}
		for range count {
			st.Count(1)
		}
		batch, err := st.Receiver().Offer(st)
		if err == nil {
			err = st.Receiver().Settle(batch.Fresh, now)
		}
		if err != nil {
			t.Fatal(err)
		}
		return batch
	}
	first := mustOpen(t, table, "peer", testOpen(1, 1), now).Stream
	if got := offer(first, 3); got != (Batch{First: 1, Fresh: 3}) {
		t.Errorf("at first %+v", got)
	}
	second := mustOpen(t, table, "peer", testOpen(1, 2), now).Stream
	if got := offer(second, 5); got != (Batch{First: 4, Duplicates: 3, Fresh: 2}) {
		t.Errorf("then %+v", got)
	}
	third := mustOpen(t, table, "peer", testOpen(1, 3), now).Stream
	if got := offer(third, 4); got != (Batch{First: 6, Duplicates: 4}) {
		t.Errorf("and at last %+v", got)
	}
}

func TestStreamsInTheWrongOrderAreViolations(t *testing.T) {
	data, position := Head{Type: TypeData}, Head{Type: TypePosition}
	flowing := func() *Stream {
		st := mustOpen(t, NewTable(TableOptions{}), "peer", testOpen(1, 1), time.Unix(1, 0)).Stream
		if _, err := st.Take(position, []byte{5}); err != nil {
			t.Fatal(err)
		}
		return st
	}
	steps := map[string]func() error{
		"a message without a position": func() error {
			_, err := mustOpen(t, NewTable(TableOptions{}), "peer", testOpen(1, 1), time.Unix(1, 0)).Admit(data)
			return err
		},
		"a position that falls back": func() error { _, err := flowing().Take(position, []byte{4}); return err },
		"a codec that nobody offered": func() error {
			_, err := flowing().Admit(Head{Type: TypeExtended, Attributes: Attributes{Codec: CodecGzip}})
			return err
		},
		"a message after FINISH": func() error {
			st := flowing()
			if control, err := st.Take(Head{Type: TypeFinish}, nil); err != nil || control != ControlFinish {
				return err
			}
			_, err := st.Admit(data)
			return err
		},
		"a ping after FINISH": func() error {
			st := flowing()
			if _, err := st.Take(Head{Type: TypeFinish}, nil); err != nil {
				return err
			}
			_, err := st.Take(Head{Type: TypePing}, nil)
			return err
		},
		"an acknowledgement from a sender": func() error { _, err := flowing().Take(Head{Type: TypeAck}, []byte{1, 1, 1}); return err },
		"a second OPEN":                    func() error { _, err := flowing().Take(Head{Type: TypeOpen}, nil); return err },
		"a sequence number above 2^62": func() error {
			st := flowing()
			st.position = MaxSequence
			_, err := st.Admit(data)
			return err
		},
	}
	for name, step := range steps {
		t.Run(name, func(t *testing.T) {
			if err := step(); !errors.Is(err, ErrViolation) || errors.Is(err, ErrUnsettled) {
				t.Errorf("%v", err)
			}
		})
	}
	st := flowing()
	if control, err := st.Take(Head{Type: 200}, []byte("x")); control != ControlNone || err != nil {
		t.Errorf("a frame of a later version: %v, %v", control, err)
	}
}

func TestCallsOutOfOrderAreRefused(t *testing.T) {
	st := mustOpen(t, NewTable(TableOptions{}), "peer", testOpen(1, 1), time.Unix(1, 0)).Stream
	r := st.Receiver()
	take := func(sequence byte) error { _, err := st.Take(Head{Type: TypePosition}, []byte{sequence}); return err }
	if err := take(3); err != nil {
		t.Fatal(err)
	}
	st.Count(1)
	if _, err := r.Offer(st); !errors.Is(err, ErrUnsettled) {
		t.Errorf("Offer without Reposition: %v", err)
	}
	st.Count(1)
	if err := take(9); !errors.Is(err, ErrUnsettled) {
		t.Errorf("Take with counted messages: %v", err)
	}
	if _, err := r.Reposition(st); !errors.Is(err, ErrUnsettled) {
		t.Errorf("Reposition with counted messages: %v", err)
	}
	st = mustOpen(t, NewTable(TableOptions{}), "peer", testOpen(1, 1), time.Unix(1, 0)).Stream
	r = st.Receiver()
	if err := take(1); err != nil {
		t.Fatal(err)
	}
	st.Count(1)
	if batch, err := r.Offer(st); err != nil || batch != (Batch{First: 1, Fresh: 1}) {
		t.Fatalf("%+v, %v", batch, err)
	}
	st.Count(1)
	if _, err := r.Offer(st); !errors.Is(err, ErrUnsettled) {
		t.Errorf("Offer with pending messages: %v", err)
	}
	if err := r.Settle(0, time.Unix(1, 0)); err != nil {
		t.Errorf("settling nothing: %v", err)
	}
	if err := r.Settle(2, time.Unix(1, 0)); !errors.Is(err, ErrUnsettled) {
		t.Errorf("settling more than was offered: %v", err)
	}
	if err := r.Drop(2, DropQueueFull, time.Unix(1, 0)); !errors.Is(err, ErrUnsettled) || len(r.state.drops) > 0 {
		t.Errorf("dropping more than was offered: %v", err)
	}
}

func TestAcknowledgementsAreDueByCountBytesOrTime(t *testing.T) {
	now := time.Unix(1, 0)
	open := testOpen(1, 1)
	open.AckBytes = 1000
	st := mustOpen(t, NewTable(TableOptions{}), "peer", open, now).Stream
	r := st.Receiver()
	if _, err := st.Take(Head{Type: TypePosition}, []byte{1}); err != nil {
		t.Fatal(err)
	}
	settle := func(count, bytes int) {
		for range count {
			st.Count(bytes)
		}
		if _, err := r.Offer(st); err != nil {
			t.Fatal(err)
		}
		if err := r.Settle(count, now); err != nil {
			t.Fatal(err)
		}
	}
	want := func(due bool, at time.Time) {
		t.Helper()
		if gotDue, gotAt := r.AckDue(now); gotDue != due || !gotAt.Equal(at) {
			t.Errorf("due %v at %v, want %v at %v", gotDue, gotAt, due, at)
		}
	}
	want(true, now) // a new stream is answered at once
	r.AppendAck(nil, 1)
	want(false, time.Time{})
	settle(3, 1)
	want(false, now.Add(DefaultAckDelay))
	settle(1, 1)
	want(true, now)
	r.AppendAck(nil, 1)
	settle(1, 999)
	want(false, now.Add(DefaultAckDelay))
	now = now.Add(DefaultAckDelay)
	want(true, now)
	r.AppendAck(nil, 1)
	settle(2, 500)
	want(true, now)
	r.AppendAck(nil, 1)
	r.SetWindow(400)
	want(true, now)
	if b := r.AppendAck(nil, 1); !bytes.Equal(b, AppendAck(nil, Ack{Accepted: 8, Window: 400})) {
		t.Errorf("% x", b)
	}
	settle(1, 100)
	want(true, now) // a quarter of the window
	r.detach(st)
	want(false, time.Time{})
}

func TestOnlyTheFirstMessageAndTheOneThatMakesAnAcknowledgementDueSignal(t *testing.T) {
	now := time.Unix(1, 0)
	open := testOpen(1, 1)
	open.AckMessages, open.ReportTaken = 6, true
	st := mustOpen(t, NewTable(TableOptions{}), "peer", open, now).Stream
	r := st.Receiver()
	signalled := func() bool {
		select {
		case <-r.Due:
			return true
		default:
			return false
		}
	}
	expect := func(what string, want bool) {
		t.Helper()
		if got := signalled(); got != want {
			t.Errorf("%s: signalled %v, want %v", what, got, want)
		}
	}
	settle := func() {
		t.Helper()
		st.Count(1)
		if _, err := r.Offer(st); err != nil {
			t.Fatal(err)
		}
		if err := r.Settle(1, now); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := st.Take(Head{Type: TypePosition}, []byte{1}); err != nil {
		t.Fatal(err)
	}
	r.AppendAck(nil, 1)
	signalled() // whatever the opening left
	settle()
	expect("the first message, whose acknowledgement has a time now", true)
	settle()
	r.Taken(2, now)
	settle()
	r.Taken(3, now)
	expect("messages in between", false)
	settle()
	expect("the one that makes it due", true)
	r.AppendAck(nil, 1)
	r.Taken(5, now)
	expect("the first one taken after an acknowledgement", true)
	r.AppendAck(nil, 1)
	if _, err := st.Take(Head{Type: TypePing}, nil); err != nil {
		t.Fatal(err)
	}
	expect("a PING", true)
	r.AppendAck(nil, 1)
	r.SetWindow(1 << 20)
	expect("another window", true)
}

func TestTakenIsAcknowledgedOnlyWhenAskedFor(t *testing.T) {
	p := newPair(t, SenderOptions{})
	p.accept("a")
	p.connect()
	p.pump()
	p.ack()
	p.stream.Receiver().Taken(2, p.now)
	if due, at := p.stream.Receiver().AckDue(p.now); due || !at.IsZero() || p.stream.Receiver().ReportsTaken() {
		t.Errorf("due %v at %v", due, at)
	}
	p = newPair(t, SenderOptions{ReportTaken: true})
	p.accept("a")
	p.connect()
	p.pump()
	p.ack()
	p.stream.Receiver().Taken(99, p.now) // no more than was accepted
	if due, at := p.stream.Receiver().AckDue(p.now); due || !at.Equal(p.now.Add(DefaultAckDelay)) {
		t.Errorf("due %v at %v", due, at)
	}
	if out := p.ack(); out.Taken != (Range{1, 1}) {
		t.Errorf("%+v", out)
	}
	if out := p.ack(); out.Taken != (Range{}) {
		t.Errorf("told again: %+v", out)
	}
}

func TestAcknowledgementsOfABusyExchangeFollowAClockUntilItPauses(t *testing.T) {
	p := newPair(t, SenderOptions{})
	p.connect()
	r := p.stream.Receiver()
	r.AppendAck(nil, p.stream.Generation())
	for len(r.Due) > 0 {
		<-r.Due
	}
	arrive := func(messages int) {
		t.Helper()
		for range messages {
			p.accept("a")
		}
		p.pump()
	}
	at := func(after time.Duration) time.Time { return p.now.Add(after) }
	want := func(due bool, when time.Time) {
		t.Helper()
		if gotDue, gotAt := r.AckDue(p.now); gotDue != due || !gotAt.Equal(when) {
			t.Errorf("due %v at %v, want %v at %v", gotDue, gotAt, due, when)
		}
	}
	arrive(busyMessages - 1)
	p.now = at(DefaultAckDelay)
	arrive(1)
	want(true, p.now)
	r.AppendAck(nil, p.stream.Generation())
	for len(r.Due) > 0 {
		<-r.Due
	}
	clock := at(busyDelays * DefaultAckDelay)
	want(false, clock) // before any message came
	arrive(busyMessages)
	if len(r.Due) > 0 {
		t.Error("a message set the clock anew")
	}
	want(false, clock)
	p.now = clock // the last message came long ago
	want(true, clock)
	r.AppendAck(nil, p.stream.Generation())
	want(false, time.Time{})
	arrive(1)
	if len(r.Due) == 0 {
		t.Error("nobody was told when to acknowledge")
	}
	want(false, at(DefaultAckDelay))
}

func TestTheClockOfAcknowledgementsStopsWhenNothingComes(t *testing.T) {
	a := ackState{maxMessages: 1024, delay: DefaultAckDelay, busy: true}
	now := time.Unix(100, 0)
	if due, at := a.timed(now); due || !at.Equal(now.Add(busyDelays*DefaultAckDelay)) {
		t.Error(due, at)
	}
	if due, at := a.timed(now.Add(busyDelays * DefaultAckDelay)); due || !at.IsZero() || !a.note(1, now) {
		t.Error(due, at)
	}
}

func TestDropReportsAreBoundedAndTurnIntoDoubt(t *testing.T) {
	p := newPair(t, SenderOptions{})
	var lost, doubt, accepted uint64
	for i := range 4 * maxDrops {
		text := fmt.Sprint(i)
		p.drop[text] = i%2 == 0
		p.accept(text)
	}
	p.connect()
	p.pump()
	r := p.stream.Receiver()
	if due, _ := r.AckDue(p.now); !due || len(r.state.drops) != maxDrops {
		t.Errorf("due %v, %d drops", due, len(r.state.drops))
	}
	out := p.ack()
	for _, loss := range out.Lost {
		lost += loss.Len()
		if loss.InDoubt {
			doubt += loss.Len()
		}
	}
	for _, r := range out.Accepted {
		accepted += r.Len()
	}
	if lost+accepted != 4*maxDrops || lost-doubt != maxDrops-1 || doubt != 2*maxDrops+1 {
		t.Errorf("%d lost, %d of them in doubt, %d accepted", lost, doubt, accepted)
	}
	for i := range 3 {
		text := fmt.Sprint("later", i)
		p.drop[text] = i != 1
		p.accept(text)
	}
	p.pump()
	wantLost(t, p.ack(), Loss{Range{4*maxDrops + 1, 4*maxDrops + 1}, "peer_queue_full", false}, Loss{Range{4*maxDrops + 3, 4*maxDrops + 3}, "peer_queue_full", false})
	p.lose()
	p.connect()
	if len(r.state.drops) > 0 {
		t.Errorf("%d drops are kept although the sender knows them", len(r.state.drops))
	}
}

func TestReaderAcknowledgerAndHostWorkAtTheSameTime(t *testing.T) {
	const messages = 2000
	table := NewTable(TableOptions{})
	open := testOpen(1, 1)
	open.ReportTaken = true
	st := mustOpen(t, table, "peer", open, time.Unix(1, 0)).Stream
	r := st.Receiver()
	if _, err := st.Take(Head{Type: TypePosition}, []byte{1}); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	group.Go(func() {
		for range messages {
			st.Count(1)
			if _, err := r.Offer(st); err != nil {
				t.Error(err)
			}
			if err := r.Settle(1, time.Unix(1, 0)); err != nil {
				t.Error(err)
			}
		}
	})
	group.Go(func() {
		for i := range uint64(messages) {
			r.Taken(i+1, time.Unix(1, 0))
		}
	})
	group.Go(func() {
		for range messages {
			r.AckDue(time.Unix(1, 0))
			r.AppendAck(nil, 1)
			table.Sweep(time.Unix(1, 0))
		}
	})
	group.Wait()
	r.Taken(messages+1, time.Unix(1, 0))
	want := AppendAck(nil, Ack{Accepted: messages + 1, Taken: messages + 1, Window: DefaultWindow})
	if b := r.AppendAck(nil, 1); !bytes.Equal(b, want) {
		t.Errorf("% x, want % x", b, want)
	}
}

func TestTakenMayBeQuickerThanSettle(t *testing.T) {
	p := newPair(t, SenderOptions{ReportTaken: true})
	p.connect()
	p.accept("a")
	r := p.stream.Receiver()
	head, n, err := ParseHead(AppendMessage(nil, Attributes{}, []byte("a")), 10)
	if err != nil || n == 0 {
		t.Fatal(err)
	}
	p.write()
	if _, err := p.stream.Take(Head{Type: TypePosition, Size: 1}, []byte{1}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Reposition(p.stream); err != nil {
		t.Fatal(err)
	}
	if keep, err := p.stream.Admit(head); !keep || err != nil {
		t.Fatal(keep, err)
	}
	p.stream.Count(1)
	if _, err := r.Offer(p.stream); err != nil {
		t.Fatal(err)
	}
	r.Taken(2, p.now) // the application was told of the message before the reader came back from the queue
	if err := r.Settle(1, p.now); err != nil {
		t.Fatal(err)
	}
	if out := p.ack(); out.Taken != (Range{1, 1}) {
		t.Errorf("the sender heard %+v", out)
	}
}
