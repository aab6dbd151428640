package session

import (
	"testing"
	"time"
)

const benchPayload = 100

func BenchmarkEncode100(b *testing.B) {
	payload := make([]byte, benchPayload)
	buffer := make([]byte, 0, chunkBytes)
	b.ReportAllocs()
	for b.Loop() {
		if len(buffer)+FrameSize(Attributes{}, benchPayload) > cap(buffer) {
			buffer = buffer[:0]
		}
		buffer = AppendMessage(buffer, Attributes{}, payload)
	}
}

func BenchmarkParse100(b *testing.B) {
	frame := AppendMessage(nil, Attributes{}, make([]byte, benchPayload))
	b.ReportAllocs()
	for b.Loop() {
		if h, n, err := ParseHead(frame, 1<<20); err != nil || n+h.Size != len(frame) {
			b.Fatal(h, n, err)
		}
	}
}

// BenchmarkChannel100 moves messages from Accept to the receive queue's door and the acknowledgements back: everything but
// the network and the queue.
func BenchmarkChannel100(b *testing.B) {
	payload := make([]byte, benchPayload)
	s := NewSender(SenderOptions{Channel: "c", Messages: 1 << 20, Bytes: 64 << 20})
	table := NewTable(TableOptions{Instance: ID{1}})
	generation, hello := s.OpenStream()
	f, _, _ := decode(hello, 0)
	opened, err := table.Open("peer", f.fields.(Open), time.Unix(1, 0))
	if err != nil {
		b.Fatal(err)
	}
	flow := benchFlow{b: b, sender: s, generation: generation, stream: opened.Stream}
	flow.hear(opened.AppendAccept(nil))
	b.ReportAllocs()
	b.SetBytes(benchPayload)
	for b.Loop() {
		if _, err := s.Accept(Attributes{}, payload); err != nil {
			b.Fatal(err)
		}
		if s.Unsettled() >= 600 {
			flow.move()
		}
	}
	flow.move()
	if s.Unsettled() > 0 {
		b.Fatalf("%d messages are not acknowledged", s.Unsettled())
	}
}

type benchFlow struct {
	b          *testing.B
	sender     *Sender
	generation uint64
	stream     *Stream
	last       []byte
}

func (f *benchFlow) hear(frames []byte) {
	for len(frames) > 0 {
		h, n, err := ParseHead(frames, 0)
		if err == nil {
			_, err = f.sender.Receive(f.generation, h, frames[n:n+h.Size])
		}
		if err != nil {
			f.b.Fatal(err)
		}
		frames = frames[n+h.Size:]
	}
}

func (f *benchFlow) move() {
	for piece, ok := f.sender.NextPiece(f.generation); ok; piece, ok = f.sender.NextPiece(f.generation) {
		f.read(piece.Bytes)
		f.sender.Done(piece, true)
		f.hear(f.stream.Receiver().AppendAck(nil, f.generation))
	}
}

func (f *benchFlow) read(frames []byte) {
	r := f.stream.Receiver()
	count := 0
	for len(frames) > 0 {
		h, n, err := ParseHead(frames, f.stream.MaxMessage())
		if err != nil {
			f.b.Fatal(err)
		}
		rest := frames[n : n+h.Size]
		frames = frames[n+h.Size:]
		if !h.IsData() {
			_, taken := f.stream.Take(h, rest)
			if _, err := r.Reposition(f.stream); taken != nil || err != nil {
				f.b.Fatal(taken, err)
			}
			continue
		}
		if _, err := f.stream.Admit(h); err != nil {
			f.b.Fatal(err)
		}
		f.last = append(make([]byte, 0, h.Size), rest...)
		f.stream.Count(h.Size)
		count++
	}
	if _, err := r.Offer(f.stream); err != nil {
		f.b.Fatal(err)
	}
	if err := r.Settle(count, time.Unix(1, 0)); err != nil {
		f.b.Fatal(err)
	}
}
