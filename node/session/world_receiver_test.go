package session

import "errors"

// readSome lets the receiver read what has arrived on one of the wires, dead ones included.
func (w *world) readSome() {
	if len(w.wires) == 0 {
		return
	}
	wire := w.wires[w.rng.IntN(len(w.wires))]
	if wire.dead || len(wire.offered) > 0 {
		w.settleSome(wire)
		return
	}
	visible := wire.forth[:w.some(len(wire.forth))]
	for len(visible) > 0 {
		n := w.readFrame(wire, visible)
		if n == 0 {
			break
		}
		visible = visible[n:]
		wire.forth = wire.forth[n:]
	}
	w.offer(wire)
	if wire.cut && !wire.dead && (len(wire.forth) == 0 || w.chance(5)) {
		w.endWire(wire)
	}
}

// readFrame answers how long the frame was, 0 when it cannot be taken now.
func (w *world) readFrame(wire *wire, b []byte) int {
	limit := 1 << 20
	if wire.stream != nil {
		limit = wire.stream.MaxMessage()
	}
	h, n, err := ParseHead(b, limit)
	if err != nil {
		w.t.Fatalf("the sender wrote % x: %v", b[:min(len(b), 40)], err)
	}
	if n == 0 || len(b) < n+h.Size {
		return 0
	}
	rest := b[n : n+h.Size]
	switch {
	case wire.stream == nil:
		w.openWire(wire, rest)
	case h.IsData():
		keep, err := wire.stream.Admit(h)
		if err != nil {
			w.t.Fatalf("admitting %+v: %v", h, err)
		}
		if keep {
			wire.stream.Count(h.Size)
			wire.arrivals = append(wire.arrivals, arrival{h.Attributes, append([]byte(nil), rest...)})
		}
	default:
		if !w.control(wire, h, rest) {
			return 0
		}
	}
	if wire.dead {
		return 0
	}
	return n + h.Size
}

func (w *world) openWire(wire *wire, rest []byte) {
	open, err := ParseOpen(rest)
	if err != nil {
		w.t.Fatal(err)
	}
	opened, err := w.table.Open("peer", open, w.now)
	if errors.Is(err, ErrFenced) {
		wire.back = AppendClose(wire.back, Close{Code: CloseFenced})
		wire.dead = true
		return
	}
	if err != nil {
		w.t.Fatal(err)
	}
	wire.stream, wire.table = opened.Stream, w.table
	wire.back = opened.Receiver().AppendAck(opened.AppendAccept(wire.back), open.Generation)
}

// control takes a control frame once everything before it is settled.
func (w *world) control(wire *wire, h Head, rest []byte) bool {
	if len(wire.arrivals) > 0 {
		w.offer(wire)
	}
	if wire.dead || len(wire.offered) > 0 || len(wire.arrivals) > 0 || !w.takeTurn(wire) {
		return false
	}
	defer w.endTurn(wire)
	control, err := wire.stream.Take(h, rest)
	if err != nil {
		w.t.Fatalf("taking %+v: %v", h, err)
	}
	r := wire.stream.Receiver()
	switch control {
	case ControlReposition:
		gap, err := r.Reposition(wire.stream)
		if errors.Is(err, ErrFenced) {
			w.endWire(wire)
			return false
		}
		if err != nil {
			w.t.Fatal(err)
		}
		if w.arrived[r] != 0 {
			w.arrived[r] += gap
		}
	case ControlFinish:
		w.endWire(wire)
	}
	return true
}

func (w *world) takeTurn(wire *wire) bool {
	select {
	case wire.stream.Receiver().Turn <- struct{}{}:
		return true
	default:
		return false
	}
}

func (w *world) endTurn(wire *wire) { <-wire.stream.Receiver().Turn }

func (w *world) offer(wire *wire) {
	if len(wire.arrivals) == 0 || !w.takeTurn(wire) {
		return
	}
	batch, err := wire.stream.Receiver().Offer(wire.stream)
	if errors.Is(err, ErrFenced) {
		w.endTurn(wire)
		w.endWire(wire)
		return
	}
	if err != nil || batch.Duplicates+batch.Fresh != len(wire.arrivals) {
		w.t.Fatalf("offered %d: %+v, %v", len(wire.arrivals), batch, err)
	}
	wire.first, wire.offered, wire.arrivals = batch.First, wire.arrivals[batch.Duplicates:], nil
	if len(wire.offered) == 0 {
		w.endTurn(wire)
	}
}

// settleSome lets the queue take or drop some of what was offered; the wire may be dead by now, its reader is not.
func (w *world) settleSome(wire *wire) {
	if len(wire.offered) == 0 {
		return
	}
	r := wire.stream.Receiver()
	count := 1 + w.rng.IntN(len(wire.offered))
	drop := w.can.drops && w.chance(20)
	for i, a := range wire.offered[:count] {
		id := wire.first + uint64(i)
		if drop {
			w.inOrder(wire, id)
			w.fates[message{wire.epoch, id}].dropped = true
		} else {
			w.deliver(wire, id, a)
		}
	}
	var err error
	if drop {
		err = r.Drop(count, DropQueueFull, w.now)
	} else {
		err = r.Settle(count, w.now)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	wire.first += uint64(count)
	wire.offered = wire.offered[count:]
	if len(wire.offered) == 0 {
		w.endTurn(wire)
	}
	if w.chance(30) {
		r.Taken(wire.first, w.now)
	}
}

// acknowledge lets the receiver's nodes write what is due, or now and then what is not.
func (w *world) acknowledge() {
	for _, wire := range w.wires {
		if wire.stream == nil || wire.dead {
			continue
		}
		if due, _ := wire.stream.Receiver().AckDue(w.now); due || w.chance(10) {
			wire.back = wire.stream.Receiver().AppendAck(wire.back, wire.generation)
		}
	}
}

func (w *world) endWire(wire *wire) {
	wire.dead = true
	if wire.stream != nil {
		wire.table.Release(wire.stream, "peer", w.now)
	}
}

// sweep removes wires that nobody holds any more.
func (w *world) sweep() {
	kept := w.wires[:0]
	for _, wire := range w.wires {
		if !wire.dead || len(wire.offered) > 0 || wire == w.up {
			kept = append(kept, wire)
		}
	}
	w.wires = kept
}

func (w *world) restartReceiver() {
	for _, wire := range w.wires {
		wire.dead, wire.offered = true, nil
	}
	w.cut()
	w.startReceiver()
}

func (w *world) restartSender() {
	w.cut()
	for m, f := range w.fates {
		if m.epoch == w.epoch && !f.accepted && !f.lost {
			f.abandoned = true
		}
	}
	w.startSender()
}

// forget makes the receiver forget the sender's session, by way of the bound on a peer's sessions.
func (w *world) forget() {
	for _, wire := range w.wires {
		if wire.cut && !wire.dead && wire.stream != nil {
			w.endWire(wire)
		}
	}
	for range testPeerSessions {
		opened, err := w.table.Open("peer", Open{Session: NewID(), Generation: 1, Oldest: 1, Channel: testChannel}, w.now)
		if err != nil {
			w.t.Fatal(err)
		}
		w.table.Release(opened.Stream, "peer", w.now)
	}
}
