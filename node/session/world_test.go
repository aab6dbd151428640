package session

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// world is two nodes and the streams between them, driven step by step from one seed. Bytes travel in pieces of any size,
// streams die at any byte, dead ones may still deliver what they carried, and either process may start anew.
type world struct {
	t   *testing.T
	rng *rand.Rand
	now time.Time
	can faults

	epoch  int // counts the sender's processes
	sender *Sender
	fates  map[message]*fate
	lent   map[*byte]int // buffers of the sender, by capacity
	loans  map[*byte]int // payloads of the sender, by what it holds of them
	filled []*Reservation
	writes []writing

	table *Table
	wires []*wire
	up    *wire // the sender's current stream

	arrived map[*Receiver]uint64 // the next id that a session's queue must see
}

type faults struct {
	cuts, receiverRestarts, senderRestarts, forgets, expiry, drops, smallLimit, early bool
	// shared: the sender carries encoded messages, begins at any number, and its owner skips numbers and gives messages up.
	shared bool
}

type message struct {
	epoch int
	id    uint64
}

type fate struct {
	size           int
	delivered      int
	plain          bool // without attributes
	dropped        bool
	givenUp        bool // by the sender's owner, before anything of it was sent
	accepted, lost bool
	certain        bool
	abandoned      bool // its sender's process is gone
}

// writing is a write that the transport has not finished.
type writing struct {
	Piece
	wire *wire
}

func (p Piece) all() []byte { return slices.Concat(p.Bytes, p.Rest) }

// wire is one stream. Its ends fail separately.
type wire struct {
	epoch      int
	generation uint64
	forth      []byte // written, not yet read
	back       []byte
	cut        bool // the sender's end is gone

	table    *Table
	stream   *Stream
	arrivals []arrival
	offered  []arrival // with the Turn in hand
	first    uint64
	dead     bool // the receiver's end is gone, but for what is offered
}

type arrival struct {
	attributes Attributes
	payload    []byte
}

const (
	testChannel      = "a::dm:b-x"
	testPeerSessions = 5
)

func newWorld(t *testing.T, seed uint64, can faults) *world {
	w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 1)), now: time.Unix(1000, 0), can: can}
	w.fates, w.lent, w.loans, w.arrived = map[message]*fate{}, map[*byte]int{}, map[*byte]int{}, map[*Receiver]uint64{}
	w.startReceiver()
	w.startSender()
	return w
}

func (w *world) chance(percent int) bool { return w.rng.IntN(100) < percent }

func (w *world) startReceiver() {
	limit := 1 << 20
	if w.can.smallLimit && w.chance(50) {
		limit = MinMaxMessage
	}
	w.table = NewTable(TableOptions{PeerSessions: testPeerSessions, Receiver: ReceiverOptions{
		Window: 1 + w.rng.IntN(1<<w.rng.IntN(20)), MaxMessage: limit, AckMessages: 1 + w.rng.IntN(20)}})
}

func (w *world) startSender() {
	w.epoch++
	w.up, w.writes, w.filled = nil, nil, nil
	clear(w.lent)
	clear(w.loans)
	w.sender = NewSender(SenderOptions{
		Channel: testChannel, Messages: 1 + w.rng.IntN(60), Bytes: 1 + w.rng.IntN(300<<10), MaxMessage: 1 << 20,
		ResumeWindow: time.Minute, ReportTaken: w.chance(50), Get: w.lend, Put: w.takeBack, First: w.firstID(),
	})
	if w.can.early && w.chance(70) {
		w.sender.Learn(w.table.Instance())
	}
}

func (w *world) lend(size int) []byte {
	buffer := make([]byte, max(size, 1))
	w.lent[&buffer[0]] = cap(buffer)
	return buffer
}

// takeBack spoils what is given back, so that a piece that uses it afterwards shows.
func (w *world) takeBack(buffer []byte) {
	buffer = buffer[:cap(buffer)]
	if w.lent[&buffer[0]] != cap(buffer) {
		w.t.Fatal("a buffer came back that is not lent")
	}
	delete(w.lent, &buffer[0])
	for i := range buffer {
		buffer[i] = 0xEE
	}
}

// loan lends a payload, which is spoilt when it comes back.
func (w *world) loan(m message, size int) (uint64, error) {
	payload := m.content(size)
	id, err := w.sender.Lend(m.attributes(), payload, func() {
		if w.loans[&payload[0]] == 0 {
			w.t.Fatal("a payload came back twice")
		}
		delete(w.loans, &payload[0])
		clear(payload)
	})
	if err == nil {
		w.loans[&payload[0]] = FrameSize(m.attributes(), size) - lentHead
	}
	return id, err
}

// content is what a message carries: everything about it follows from its name.
func (m message) content(size int) []byte {
	payload := make([]byte, size)
	for i := range payload {
		payload[i] = byte(uint64(i)*7 + m.id*13 + uint64(m.epoch)*101)
	}
	return payload
}

func (m message) attributes() Attributes {
	if m.id%3 == 0 {
		return Attributes{Class: ClassBulk, HopLimit: uint8(m.id)}
	}
	return Attributes{}
}

// some is how much of n bytes is there by now.
func (w *world) some(n int) int {
	if w.chance(50) {
		return n
	}
	return w.rng.IntN(n + 1)
}

func (w *world) size() int {
	switch w.rng.IntN(12) {
	case 0:
		return 0
	case 1:
		return 15000 + w.rng.IntN(3000)
	case 2:
		return 60000 + w.rng.IntN(20000)
	case 3, 4:
		return w.rng.IntN(8000)
	}
	return w.rng.IntN(300)
}

func (w *world) accept() {
	next := message{w.epoch, w.sender.last + 1}
	size := w.size()
	var id uint64
	var err error
	if w.chance(20) {
		var r *Reservation
		if r, err = w.sender.Reserve(next.attributes(), size); err == nil {
			id = r.ID
			w.filled = append(w.filled, r)
		}
	} else if size >= MinLent && w.chance(40) {
		id, err = w.loan(next, size)
	} else {
		id, err = w.sender.Accept(next.attributes(), next.content(size))
	}
	switch {
	case errors.Is(err, ErrFull):
		if w.sender.Unsettled() == 0 && w.sender.Held() == 0 {
			w.t.Fatalf("an empty window is full: %v", err)
		}
	case errors.Is(err, ErrTooLarge) && size > MinMaxMessage && w.can.smallLimit:
	case err != nil:
		w.t.Fatalf("accepting %d bytes: %v", size, err)
	case id != next.id:
		w.t.Fatalf("message %d got id %d", next.id, id)
	default:
		w.fates[next] = &fate{size: size}
	}
}

func (w *world) fill() {
	if len(w.filled) == 0 {
		return
	}
	i := w.rng.IntN(len(w.filled))
	r := w.filled[i]
	w.filled = append(w.filled[:i], w.filled[i+1:]...)
	copy(r.Payload, message{w.epoch, r.ID}.content(len(r.Payload)))
	w.sender.Fill(r)
}

func (w *world) open() {
	if w.up != nil {
		return
	}
	generation, hello := w.sender.OpenStream()
	w.up = &wire{epoch: w.epoch, generation: generation, forth: hello}
	w.wires = append(w.wires, w.up)
}

// write lets the transport begin or finish a write.
func (w *world) write() {
	if w.up == nil || len(w.writes) > 0 {
		w.finishWrites()
		return
	}
	if piece, ok := w.sender.NextPiece(w.up.generation); ok {
		w.writes = append(w.writes, writing{piece, w.up})
	}
}

func (w *world) finishWrites() {
	for _, write := range w.writes {
		if !write.wire.cut {
			write.wire.forth = append(write.wire.forth, write.all()...)
		}
		w.sender.Done(write.Piece, !write.wire.cut)
	}
	w.writes = nil
}

// cut ends the sender's current stream. What it carried may still arrive.
func (w *world) cut() {
	if w.up == nil {
		return
	}
	wire := w.up
	for _, write := range w.writes { // a part of a write in progress got through; the writer keeps its hands on the buffer
		if write.wire == wire {
			wire.forth = append(wire.forth, write.all()[:w.rng.IntN(write.Size()+1)]...)
		}
	}
	wire.cut = true
	wire.forth = wire.forth[:w.rng.IntN(len(wire.forth)+1)]
	if w.chance(50) {
		wire.forth = nil
	}
	w.up = nil
	w.sender.StreamLost(wire.generation, w.now)
}

func (w *world) check() {
	held := 0
	for _, lent := range []map[*byte]int{w.lent, w.loans} {
		for _, bytes := range lent {
			held += bytes
		}
	}
	if held != w.sender.Held() {
		w.t.Fatalf("the sender says that it holds %d bytes, %d are lent", w.sender.Held(), held)
	}
	if w.can.shared {
		return // Skip takes numbers, and a run of messages may exceed the bounds by what Fits says
	}
	if most := w.sender.options.Bytes; held > most && len(w.lent) > 1 {
		w.t.Fatalf("%d bytes in %d buffers, %d are allowed", held, len(w.lent), most)
	}
	if w.sender.Unsettled() > uint64(w.sender.options.Messages) {
		w.t.Fatalf("%d messages are unsettled, %d are allowed", w.sender.Unsettled(), w.sender.options.Messages)
	}
}

// learn checks what the sender is told against what happened.
func (w *world) learn(out Outcome) {
	for _, r := range out.Accepted {
		for id := r.First; id <= r.Last; id++ {
			f := w.fate(id)
			f.accepted = true
			if f.delivered != 1 {
				w.t.Fatalf("message %d counts as accepted and was delivered %d times", id, f.delivered)
			}
		}
	}
	for _, loss := range out.Lost {
		for id := loss.First; id <= loss.Last; id++ {
			f := w.fate(id)
			f.lost, f.certain = true, !loss.InDoubt
			if f.certain && f.delivered > 0 {
				w.t.Fatalf("message %d was delivered and counts as lost: %+v", id, loss)
			}
			if loss.Reason == "peer_queue_full" && !f.dropped {
				w.t.Fatalf("message %d counts as dropped and was not: %+v", id, loss)
			}
		}
	}
}

// fate is that of a message of the present sender, which must be told it only once.
func (w *world) fate(id uint64) *fate {
	f := w.fates[message{w.epoch, id}]
	if f == nil || f.accepted || f.lost || f.givenUp {
		w.t.Fatalf("the fate of message %d is told twice, or it was never accepted: %+v", id, f)
	}
	return f
}

func (w *world) tick(d time.Duration) {
	w.now = w.now.Add(d)
	out, next := w.sender.Tick(w.now)
	w.learn(out)
	if !next.IsZero() && !next.After(w.now) {
		w.t.Fatalf("at %s the next tick is asked for %s", w.now, next)
	}
	if len(out.Lost) > 0 && !w.can.expiry {
		w.t.Fatalf("expired too early: %+v", out.Lost)
	}
}

// hear lets the sender read from its stream.
func (w *world) hear() {
	wire := w.up
	if wire == nil {
		return
	}
	visible := wire.back[:w.some(len(wire.back))]
	for len(visible) > 0 {
		h, n, err := ParseHead(visible, 0)
		if err != nil {
			w.t.Fatalf("the receiver wrote % x: %v", visible, err)
		}
		if n == 0 || len(visible) < n+h.Size {
			break
		}
		out, err := w.sender.Receive(wire.generation, h, visible[n:n+h.Size])
		if err != nil {
			w.t.Fatalf("the sender refuses %+v % x: %v", h, visible[n:n+h.Size], err)
		}
		w.learn(out)
		visible = visible[n+h.Size:]
		wire.back = wire.back[n+h.Size:]
		if out.Ended {
			w.cut()
			return
		}
	}
}

func (w *world) deliver(wire *wire, id uint64, a arrival) {
	m := message{wire.epoch, id}
	f := w.fates[m]
	if f == nil {
		w.t.Fatalf("message %d of nobody arrived", id)
	}
	if f.certain || f.delivered > 0 || f.dropped || f.givenUp {
		w.t.Fatalf("message %d arrived once too often: %+v", id, *f)
	}
	want := m.attributes()
	if f.plain {
		want = Attributes{}
	}
	if a.attributes != want || !bytes.Equal(a.payload, m.content(f.size)) {
		w.t.Fatalf("message %d arrived with other content", id)
	}
	w.inOrder(wire, id)
	f.delivered++
}

func (w *world) inOrder(wire *wire, id uint64) {
	at := wire.stream.Receiver()
	if want := w.arrived[at]; want != 0 && id != want {
		w.t.Fatalf("message %d arrived, %d is next", id, want)
	}
	w.arrived[at] = id + 1
}
