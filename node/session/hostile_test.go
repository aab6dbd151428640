package session

import (
	"errors"
	"testing"
	"time"
)

// FuzzSenderAgainstReceiver lets a hostile receiver answer whatever it wants: the sender keeps its bounds and tells every
// fate once.
func FuzzSenderAgainstReceiver(f *testing.F) {
	instance := NewID()
	answer := AppendAck(AppendAccept(nil, Accept{Instance: instance, Born: 1, Next: 1, MaxMessage: MinMaxMessage, Codecs: 1}), Ack{Accepted: 1, Window: 100})
	f.Add(AppendAck(answer, Ack{Accepted: 3, Taken: 2, Window: 9}))
	f.Add(AppendAck(AppendDropped(answer, Dropped{First: 1, Count: 2, Reason: DropQueueFull}), Ack{Accepted: 4, Window: 9}))
	f.Add(AppendClose(answer, Close{Code: CloseRefused}))
	f.Add(AppendClose(AppendAck(answer, Ack{Accepted: MaxSequence}), Close{Code: CloseFenced}))
	f.Fuzz(func(t *testing.T, b []byte) {
		v := victim{t: t, told: map[uint64]bool{}, sender: NewSender(SenderOptions{Channel: "c", Messages: 8, ReportTaken: true})}
		for n := v.hear(b); n > 0; n = v.hear(b) {
			b = b[n:]
		}
		v.learn(v.sender.Close())
		if uint64(len(v.told)) != v.sender.last || v.sender.Held() != 0 {
			t.Errorf("%d fates of %d messages, %d bytes held", len(v.told), v.sender.last, v.sender.Held())
		}
	})
}

// FuzzReceiverAgainstSender lets a hostile sender write whatever it wants.
func FuzzReceiverAgainstSender(f *testing.F) {
	open := AppendOpen(nil, Open{Session: ID{1}, Generation: 1, Oldest: 1, Channel: "c"})
	f.Add(AppendMessage(AppendPosition(open, 1), Attributes{}, []byte("a")), uint8(3))
	f.Add(AppendPosition(AppendMessage(AppendPosition(open, 1), Attributes{}, nil), MaxSequence), uint8(1))
	f.Add(append(open, AppendOpen(nil, Open{Session: ID{1}, Generation: 2, Oldest: 1, Channel: "c"})...), uint8(0))
	f.Fuzz(func(t *testing.T, b []byte, drops uint8) {
		table := NewTable(TableOptions{PeerSessions: 2, Instance: ID{7}})
		hostile := hostileReader{t: t, table: table, drops: drops}
		for len(b) > 0 {
			h, n, err := ParseHead(b, 1<<20)
			if err != nil || n == 0 || n+h.Size > len(b) || !hostile.take(h, b[n:n+h.Size]) {
				break
			}
			b = b[n+h.Size:]
		}
		if table.Len() > 2 {
			t.Errorf("%d sessions of one peer", table.Len())
		}
	})
}

// victim is a sender that sends what it can and believes what it is answered.
type victim struct {
	t          *testing.T
	sender     *Sender
	generation uint64
	told       map[uint64]bool
}

// hear answers the length of the frame that b begins with, 0 when it was the last.
func (v *victim) hear(b []byte) int {
	v.send()
	h, n, err := ParseHead(b, 0)
	if err != nil || n == 0 || n+h.Size > len(b) {
		return 0
	}
	out, err := v.sender.Receive(v.generation, h, b[n:n+h.Size])
	v.learn(out)
	if err != nil {
		return 0
	}
	return n + h.Size
}

func (v *victim) send() {
	for {
		if _, err := v.sender.Accept(Attributes{}, []byte("abc")); err != nil {
			break
		}
	}
	if !v.sender.stream.attached {
		v.generation, _ = v.sender.OpenStream()
	}
	for piece, ok := v.sender.NextPiece(v.generation); ok; piece, ok = v.sender.NextPiece(v.generation) {
		v.sender.Done(piece, true)
	}
}

func (v *victim) learn(out Outcome) {
	ranges := out.Accepted
	for _, loss := range out.Lost {
		ranges = append(ranges, loss.Range)
	}
	for _, r := range ranges {
		for id := r.First; id <= r.Last; id++ {
			if v.told[id] || id == 0 || id > v.sender.last {
				v.t.Fatalf("the fate of %d is told twice or too early", id)
			}
			v.told[id] = true
		}
	}
}

// hostileReader reads what a fuzzer wrote as a careful node would, and checks what the receiver makes of it.
type hostileReader struct {
	t      *testing.T
	table  *Table
	stream *Stream
	drops  uint8
	next   uint64
}

var hostileNow = time.Unix(1, 0)

func (r *hostileReader) take(h Head, fields []byte) bool {
	if h.Type == TypeOpen {
		return r.open(fields)
	}
	if r.stream == nil {
		return false
	}
	if h.IsData() {
		keep, err := r.stream.Admit(h)
		if err != nil {
			return false
		}
		if keep {
			r.stream.Count(h.Size)
			r.settle()
		}
		return true
	}
	control, err := r.stream.Take(h, fields)
	if err != nil {
		return false
	}
	if control == ControlReposition {
		gap, err := r.stream.Receiver().Reposition(r.stream)
		if err != nil || gap > MaxSequence {
			r.t.Errorf("gap %d, %v", gap, err)
		}
	}
	return true
}

func (r *hostileReader) open(fields []byte) bool {
	open, err := ParseOpen(fields)
	if err != nil {
		return false
	}
	opened, err := r.table.Open("peer", open, hostileNow)
	if err != nil {
		return errors.Is(err, ErrFenced)
	}
	if r.stream != nil {
		r.table.Release(r.stream, "peer", hostileNow)
	}
	if r.stream == nil || r.stream.Receiver() != opened.Receiver() {
		r.next = 0
	}
	r.stream = opened.Stream
	return true
}

func (r *hostileReader) settle() {
	receiver := r.stream.Receiver()
	batch, err := receiver.Offer(r.stream)
	if err != nil || batch.Fresh+batch.Duplicates != 1 || batch.Fresh == 1 && batch.First < r.next {
		r.t.Fatalf("%+v, %v; %d is next", batch, err, r.next)
	}
	if batch.Fresh == 0 {
		return
	}
	r.next = batch.First + 1
	if r.drops&(1<<(batch.First%8)) != 0 {
		err = receiver.Drop(1, DropQueueFull, hostileNow)
	} else {
		err = receiver.Settle(1, hostileNow)
	}
	if err != nil || len(receiver.state.drops) > maxDrops {
		r.t.Errorf("%d drops, %v", len(receiver.state.drops), err)
	}
}
