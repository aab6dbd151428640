package session

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestCloseCodesDecideWhetherTheSessionGoesOn(t *testing.T) {
	for code := CloseCode(0); code < 9; code++ {
		p := newPair(t, SenderOptions{})
		p.accept("a")
		p.connect()
		p.write()
		out, _, err := p.receive(AppendClose(nil, Close{Code: code, Text: "why"}))
		if err != nil || !out.Ended {
			t.Fatalf("%+v, %v", out, err)
		}
		if code == CloseViolation || code == CloseRefused || code == CloseUnsupported {
			wantLost(t, out, Loss{Range{1, 1}, ReasonRefused, true})
			if _, err := p.sender.Accept(Attributes{}, nil); !errors.Is(err, ErrClosed) || !strings.Contains(err.Error(), "why") {
				t.Errorf("code %d: %v", code, err)
			}
			continue
		}
		wantLost(t, out)
		if _, next := p.sender.Tick(p.now); next.IsZero() {
			t.Errorf("code %d does not begin the resume window", code)
		}
		p.table.Release(p.stream, "peer", p.now)
		p.connect()
		p.pump()
		if len(p.got) != 1 {
			t.Errorf("code %d ended the session", code)
		}
	}
}

func TestLiesOfAReceiverEndTheSession(t *testing.T) {
	accept := func(born, next uint64) []byte {
		return AppendAccept(nil, Accept{Instance: ID{9}, Born: born, Next: next, MaxMessage: MinMaxMessage, Codecs: 1})
	}
	ack := func(accepted uint64) []byte { return AppendAck(nil, Ack{Accepted: accepted, Window: 1 << 20}) }
	lies := map[string][]byte{
		"a second ACCEPT":               accept(1, 4),
		"ACK beyond what was sent":      ack(8),
		"ACK that falls back":           append(ack(3), ack(2)...),
		"DROPPED beyond what was sent":  AppendDropped(nil, Dropped{First: 6, Count: 2}),
		"a frame that only senders use": AppendPosition(nil, 1),
		"a frame that is malformed":     {2, byte(TypeAck), 1},
		"a message":                     AppendMessage(nil, Attributes{}, []byte("x")),
		"an empty message":              AppendMessage(nil, Attributes{}, nil),
		"a frame of an unknown type":    {1, 7},
		"a length in a longer form":     {0x81, 0, byte(TypePing)},
		"a control frame too long":      {0x81, 0x20, byte(TypeAck)},
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			p := lied(t, accept(1, 1), ack(1))
			wantViolation(t, p, lie)
		})
	}
	first := map[string][]byte{
		"ACK before ACCEPT":                              ack(1),
		"DROPPED before ACCEPT":                          AppendDropped(nil, Dropped{First: 1, Count: 1}),
		"ACCEPT that falls back":                         accept(1, 2),
		"ACK beyond what ACCEPT expects":                 append(accept(1, 4), ack(5)...),
		"ACCEPT beyond what was sent":                    accept(1, 8),
		"ACCEPT of a new session that wants the settled": accept(2, 1),
		"ACCEPT from the future":                         accept(3, 3),
		"ACCEPT of a new session that expects the old":   accept(2, 5),
	}
	for name, lie := range first {
		t.Run(name, func(t *testing.T) {
			p := lied(t, accept(1, 1), ack(1))
			p.hear(ack(3))
			p.sender.StreamLost(p.generation, p.now)
			p.generation, _ = p.sender.OpenStream()
			wantViolation(t, p, lie)
		})
	}
}

// lied has sent six messages to a receiver of which only the answers exist.
func lied(t *testing.T, answers ...[]byte) *pair {
	p := newPair(t, SenderOptions{})
	p.accept("a", "b", "c", "d", "e", "f")
	p.generation, _ = p.sender.OpenStream()
	for _, answer := range answers {
		p.hear(answer)
	}
	p.write()
	return p
}

func wantViolation(t *testing.T, p *pair, b []byte) {
	t.Helper()
	unsettled := p.sender.Unsettled()
	var told uint64
	for {
		out, n, err := p.receive(b)
		for _, r := range out.Accepted {
			told += r.Len()
		}
		for _, loss := range out.Lost {
			told += loss.Len()
			if loss.Reason != ReasonViolation || !loss.InDoubt {
				t.Errorf("%+v", loss)
			}
		}
		if err == nil && n < len(b) {
			b = b[n:]
			continue
		}
		if !errors.Is(err, ErrViolation) || !out.Ended || told != unsettled {
			t.Errorf("%+v, %v; %d of %d fates told", out, err, told, unsettled)
		}
		break
	}
	if _, err := p.sender.Accept(Attributes{}, nil); !errors.Is(err, ErrClosed) || !errors.Is(err, ErrViolation) {
		t.Errorf("%v", err)
	}
}

func TestTooManyDropReportsWithoutAnAcknowledgementAreAViolation(t *testing.T) {
	p := newPair(t, SenderOptions{Messages: 3000})
	for range 3000 {
		p.accept("")
	}
	p.connect()
	p.write()
	p.sender.options.Messages = 0
	for i := range maxDropsBetweenAcks {
		if _, _, err := p.receive(AppendDropped(nil, Dropped{First: uint64(2*i + 1), Count: 1})); err != nil {
			t.Fatalf("report %d: %v", i, err)
		}
	}
	if _, _, err := p.receive(AppendDropped(nil, Dropped{First: 2999, Count: 1})); !errors.Is(err, ErrViolation) {
		t.Errorf("%v", err)
	}
}

func TestADropReportThatOverlapsAnotherLossCountsOnce(t *testing.T) {
	p := newPair(t, SenderOptions{})
	p.table = NewTable(TableOptions{Receiver: ReceiverOptions{MaxMessage: MinMaxMessage}})
	p.accept("a", strings.Repeat("x", MinMaxMessage+1), "b", "c")
	p.connect()
	p.write()
	p.hear(AppendDropped(nil, Dropped{First: 3, Count: 1, Reason: DropByteBudget}))
	p.hear(AppendDropped(nil, Dropped{First: 1, Count: 4, Reason: DropQueueFull}))
	out := p.hear(AppendAck(nil, Ack{Accepted: 5, Window: 1}))
	p.hear(AppendDropped(nil, Dropped{First: 4, Count: 1, Reason: DropQueueFull}))
	if len(p.sender.losses) > 0 {
		t.Errorf("%+v is kept of a settled message", p.sender.losses)
	}
	if len(out.Accepted) > 0 {
		t.Errorf("accepted %+v", out.Accepted)
	}
	wantLost(t, out, Loss{Range{1, 1}, "peer_queue_full", false}, Loss{Range{3, 3}, "peer_byte_budget", false}, Loss{Range{4, 4}, "peer_queue_full", false})
}

func TestWhatAReplacedStreamSaysIsIgnored(t *testing.T) {
	p := newPair(t, SenderOptions{})
	p.accept("a")
	p.connect()
	p.pump()
	old, stale := p.generation, p.stream.Receiver().AppendAck(nil, p.generation)
	p.generation, _ = p.sender.OpenStream()
	h, n, _ := ParseHead(stale, 0)
	if out, err := p.sender.Receive(old, h, stale[n:]); err != nil || !reflect.DeepEqual(out, Outcome{}) {
		t.Errorf("%+v, %v", out, err)
	}
	if _, ok := p.sender.NextPiece(old); ok {
		t.Error("a replaced stream is written")
	}
}

func TestADropReportWithoutItsAcknowledgementIsForgottenWithTheStream(t *testing.T) {
	p := newPair(t, SenderOptions{})
	p.accept("a", "b")
	p.connect()
	p.pump()
	p.hear(AppendDropped(nil, Dropped{First: 2, Count: 1, Reason: DropQueueFull}))
	p.lose()
	out := p.connect() // with an ACK of both
	wantLost(t, out)
	if !reflect.DeepEqual(out.Accepted, []Range{{1, 2}}) {
		t.Errorf("accepted %+v", out.Accepted)
	}
}

func TestAMessageThatBecomesTooLargeIsInDoubtOnlyIfAStreamHadIt(t *testing.T) {
	p := newPair(t, SenderOptions{})
	large := strings.Repeat("x", MinMaxMessage+1)
	p.accept("a", large)
	p.connect()
	p.write() // both are on their way when the stream ends
	p.accept(large)
	p.lose()
	p.sender.OpenStream()
	p.generation = p.sender.generation
	accept := AppendAccept(nil, Accept{Instance: p.table.Instance(), Born: 1, Next: 1, MaxMessage: MinMaxMessage, Codecs: 1})
	wantLost(t, p.hear(accept), Loss{Range{2, 2}, ReasonTooLarge, true}, Loss{Range{3, 3}, ReasonTooLarge, false})
}
