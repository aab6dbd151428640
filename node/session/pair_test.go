package session

import (
	"testing"
	"time"
)

// pair is a sender and a receiver's table that talk without a network in between.
type pair struct {
	t          *testing.T
	now        time.Time
	sender     *Sender
	table      *Table
	generation uint64
	stream     *Stream
	fenced     *Stream // by the newest stream
	got        []string
	gaps       []uint64
	drop       map[string]bool // what the queue does not take
}

func newPair(t *testing.T, o SenderOptions) *pair {
	o.Channel = testChannel
	return &pair{t: t, now: time.Unix(1000, 0), sender: NewSender(o), table: NewTable(TableOptions{}), drop: map[string]bool{}}
}

func (p *pair) accept(texts ...string) {
	p.t.Helper()
	for _, text := range texts {
		if _, err := p.sender.Accept(Attributes{}, []byte(text)); err != nil {
			p.t.Fatal(err)
		}
	}
}

// hello opens a stream up to the receiver's answer, which it returns.
func (p *pair) hello() []byte {
	p.t.Helper()
	var hello []byte
	p.generation, hello = p.sender.OpenStream()
	f, _, err := decode(hello, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	opened, err := p.table.Open("peer", f.fields.(Open), p.now)
	if err != nil {
		p.t.Fatal(err)
	}
	p.stream, p.fenced = opened.Stream, opened.Fenced
	return p.stream.Receiver().AppendAck(opened.AppendAccept(nil), p.generation)
}

func (p *pair) connect() Outcome {
	p.t.Helper()
	return p.hear(p.hello())
}

// hear gives the sender what the receiver wrote.
func (p *pair) hear(b []byte) (sum Outcome) {
	p.t.Helper()
	for len(b) > 0 {
		out, n, err := p.receive(b)
		if err != nil {
			p.t.Fatal(err)
		}
		sum.Accepted = append(sum.Accepted, out.Accepted...)
		sum.Lost = append(sum.Lost, out.Lost...)
		sum.Restarted = sum.Restarted || out.Restarted
		sum.Room = sum.Room || out.Room
		if out.Untaken.First != 0 {
			sum.Untaken = out.Untaken
		}
		if out.Taken.First != 0 {
			sum.Taken = out.Taken
		}
		b = b[n:]
	}
	return sum
}

func (p *pair) receive(b []byte) (Outcome, int, error) {
	p.t.Helper()
	h, n, err := ParseHead(b, NoMessages)
	if err != nil {
		return p.sender.Violated(p.generation, err, Outcome{}), 0, err
	}
	out, err := p.sender.Receive(p.generation, h, b[n:n+h.Size])
	if (h.Type == TypeAccept || h.Type == TypeAck) && err == nil && !out.Sending {
		p.t.Error("an answer may always allow to send, and the outcome does not say so")
	}
	return out, n + h.Size, err
}

// write answers what the sender writes now.
func (p *pair) write() (written []byte) {
	for piece, ok := p.sender.NextPiece(p.generation); ok; piece, ok = p.sender.NextPiece(p.generation) {
		written = append(written, piece.all()...)
		p.sender.Done(piece, true)
	}
	return written
}

// read gives the receiver what the sender wrote.
func (p *pair) read(b []byte) {
	p.t.Helper()
	r := p.stream.Receiver()
	for len(b) > 0 {
		h, n, err := ParseHead(b, p.stream.MaxMessage())
		if err != nil {
			p.t.Fatal(err)
		}
		rest := b[n : n+h.Size]
		b = b[n+h.Size:]
		if !h.IsData() {
			control, err := p.stream.Take(h, rest)
			if err != nil {
				p.t.Fatal(err)
			}
			if control == ControlReposition {
				gap, err := r.Reposition(p.stream)
				if err != nil {
					p.t.Fatal(err)
				}
				p.gaps = append(p.gaps, gap)
			}
			continue
		}
		keep, err := p.stream.Admit(h)
		if err != nil {
			p.t.Fatal(err)
		}
		if keep {
			p.stream.Count(h.Size)
			p.settle(string(rest))
		}
	}
}

func (p *pair) settle(text string) {
	p.t.Helper()
	r := p.stream.Receiver()
	batch, err := r.Offer(p.stream)
	if err != nil {
		p.t.Fatal(err)
	}
	switch {
	case batch.Fresh == 0:
	case p.drop[text]:
		err = r.Drop(1, DropQueueFull, p.now)
	default:
		p.got = append(p.got, text)
		err = r.Settle(1, p.now)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *pair) pump() { p.t.Helper(); p.read(p.write()) }

func (p *pair) ack() Outcome {
	p.t.Helper()
	return p.hear(p.stream.Receiver().AppendAck(nil, p.generation))
}

// lose ends the stream on both sides.
func (p *pair) lose() {
	p.sender.StreamLost(p.generation, p.now)
	p.table.Release(p.stream, "peer", p.now)
}
