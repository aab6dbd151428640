package session

import "errors"

// firstID is where the ids of a sender begin.
func (w *world) firstID() uint64 {
	if w.can.shared && w.chance(70) {
		return 1 + w.rng.Uint64N(MaxSequence/2)
	}
	return 1
}

// publish does what the owner of a direct topic's session does.
func (w *world) publish() {
	switch n := w.rng.IntN(20); {
	case n < 12:
		w.acceptRun()
	case n < 15:
		w.skip()
	case n < 17:
		w.dropOldest()
	default:
		w.accept()
	}
}

// acceptRun takes several messages at once, encoded before or copied.
func (w *world) acceptRun() {
	next := message{w.epoch, w.sender.last + 1}
	payloads := [][]byte{next.content(w.size())}
	for FramesSize(payloads) < soloBytes && w.chance(80) {
		size := w.rng.IntN(3000)
		payloads = append(payloads, message{w.epoch, next.id + uint64(len(payloads))}.content(size))
	}
	largest := 0
	for _, payload := range payloads {
		largest = max(largest, len(payload))
	}
	err := w.sender.Fits(FramesSize(payloads), largest)
	switch {
	case errors.Is(err, ErrFull):
		if w.sender.Unsettled() == 0 && w.sender.Held() == 0 {
			w.t.Fatalf("an empty window is full: %v", err)
		}
		return
	case errors.Is(err, ErrTooLarge) && largest > MinMaxMessage && w.can.smallLimit:
		return
	case err != nil:
		w.t.Fatalf("fitting %d bytes: %v", largest, err)
	}
	w.take(payloads)
	for i, payload := range payloads {
		w.fates[message{w.epoch, next.id + uint64(i)}] = &fate{size: len(payload), plain: true}
	}
	if last := next.id + uint64(len(payloads)) - 1; w.sender.last != last {
		w.t.Fatalf("after %d messages from %d on the last id is %d", len(payloads), next.id, w.sender.last)
	}
}

func (w *world) take(payloads [][]byte) {
	if FramesSize(payloads) >= soloBytes || w.chance(50) {
		frames := NewFrames(payloads, w.lend, w.takeBack)
		defer frames.Release()
		if err := w.sender.AcceptFrames(frames); err != nil {
			w.t.Fatal(err)
		}
		return
	}
	for _, payload := range payloads {
		if err := w.sender.AcceptFitting(payload); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) skip() {
	before, next := w.sender.last, w.sender.last+w.rng.Uint64N(5)
	w.sender.Skip(next)
	if want := max(before, next-1); next > 0 && w.sender.last != want {
		w.t.Fatalf("the last id is %d, %d was skipped to", w.sender.last, next)
	}
}

func (w *world) dropOldest() {
	unsettled := w.sender.Unsettled()
	r, err := w.sender.DropOldest()
	switch {
	case errors.Is(err, ErrFull):
	case err != nil:
		w.t.Fatal(err)
	case w.sender.Unsettled() > unsettled:
		w.t.Fatalf("giving up %v made %d unsettled messages %d", r, unsettled, w.sender.Unsettled())
	default:
		for id := r.First; id <= r.Last; id++ {
			w.fate(id).givenUp = true
		}
	}
}
