package mux

import (
	"os"
	"time"

	"peerbus/node/corktls"
	"peerbus/node/pause"
)

// maxBorrowed is how many pieces somebody who does not wait reads for others.
const maxBorrowed = 64

const (
	// quietBytes is how much must wait for the kernel to wake the reader while somebody attends.
	quietBytes = 16 << 10
	// napFrom is how much must have come without a wait, and how much the reader must want more, for a nap to be worth it. A
	// connection that brings less in the time of a nap has none.
	napFrom = 64 << 10
	napTime = 50 * time.Microsecond
	// napBytes is how much must wait for the kernel to wake anybody between naps.
	napBytes = 512 << 10
)

// lender is a connection that is waited for without reading it: see corktls.Conn.
type lender interface {
	Lend() bool
	Await(take func() bool, leave func()) error
	Poll() bool
	Quiet(least int) (descriptor int, err error)
}

// await waits for the network and gives use up meanwhile.
func (pm *pump) await() error {
	pm.fresh = 0
	if pm.napping {
		pm.napping = false
		_, _ = pm.lender.Quiet(1) // a connection that is closed wakes those who wait anyway
	}
	pm.use.Unlock()
	err := pm.lender.Await(pm.takeBack, pm.use.Unlock)
	if err != nil {
		pm.use.Lock()
	}
	return err
}

// nap waits for more of a large message that comes fast, without being woken for each piece of it: waking a thread that sleeps in
// the kernel's poller costs both processes as much as a piece does. It answers whether something has come.
func (pm *pump) nap(missing int) bool {
	if pm.fresh < napFrom || missing < napFrom {
		return false
	}
	if !pm.napping {
		_, err := pm.lender.Quiet(napBytes)
		pm.napping = err == nil
	}
	pm.fresh = 0
	pause.For(napTime)
	return pm.lender.Poll()
}

// takeBack notes that the wait was over before it looks whether somebody borrows: who does looks at the note when done.
func (pm *pump) takeBack() bool {
	pm.missed.Store(true)
	if !pm.use.TryLock() {
		return false
	}
	pm.missed.Store(false)
	return true
}

// borrow reads what the network has, without waiting and at most until the stream has something to read, while the one who leads
// waits: into p, unless something came for the stream before. It answers whether the network has had no more.
func (pm *pump) borrow(s *Stream, p []byte) (n int, drained bool) {
	if pm.lender == nil || !pm.use.TryLock() {
		return 0, true
	}
	defer pm.resume()
	defer pm.use.Unlock()
	for range maxBorrowed {
		if wants, _ := s.wantsMore(); !wants {
			return 0, false // what is in the inbox goes before what the network has
		}
		n, err := pm.step(s, p)
		switch {
		case err == corktls.ErrNothing:
			if !pm.lender.Poll() {
				return n, true
			}
		case err != nil:
			_ = pm.conn.fail(err)
			return n, true
		}
		if n > 0 {
			return n, false
		}
	}
	return 0, false
}

// resume ends the wait of the one who leads if it was woken in vain, or has got what it waits for.
func (pm *pump) resume() {
	missed := pm.missed.Swap(false)
	pm.state.Lock()
	defer pm.state.Unlock()
	if leader := pm.state.leader; leader != nil && !missed {
		wants, _ := leader.wantsMore()
		missed = !wants
	}
	if missed && pm.state.held {
		pm.setDeadlineLocked(time.Unix(1, 0))
	}
}

// Lends tells whether Attend works.
func (c *Conn) Lends() bool { return c.pump.lender != nil }

// Attend makes a lone message wake nobody, because the caller looks for it: at the descriptor, which is not to be read, and by
// Reads at once. It answers false where that cannot be. Leave must follow.
func (c *Conn) Attend() (descriptor int, ok bool) {
	if c.pump.lender == nil {
		return 0, false
	}
	descriptor, err := c.pump.lender.Quiet(quietBytes)
	return descriptor, err == nil
}

// Leave ends Attend.
func (c *Conn) Leave() { _, _ = c.pump.lender.Quiet(1) } // a connection that is closed wakes those who wait anyway

// Away says that the reader that has had something last waits for something else than the connection, so that others get their
// messages sooner.
func (c *Conn) Away() { c.pump.away() }

// readAtOnce reads what is there.
func (s *Stream) readAtOnce(p []byte) (int, error) {
	n, _, err := s.take(p)
	if n > 0 || err != nil {
		return n, err
	}
	n, drained := s.conn.pump.borrow(s, p)
	s.state.Lock()
	s.state.undrained = !drained
	s.state.Unlock()
	if n > 0 {
		s.took(n)
		return n, nil
	}
	if n, _, err = s.take(p); n > 0 || err != nil {
		return n, err
	}
	return 0, os.ErrDeadlineExceeded
}

// setAtOnce begins or ends the reads at once. What these left must not wait for more to come.
func (s *Stream) setAtOnce(on bool) {
	s.state.Lock()
	undrained := s.state.undrained
	s.state.atOnce, s.state.undrained = on, false
	s.state.Unlock()
	if undrained {
		s.conn.pump.missed.Store(true)
		s.conn.pump.resume()
	}
}

// await returns when a Read has something to return with.
func (s *Stream) await() {
	for {
		wants, deadline := s.wantsMore()
		if !wants {
			return
		}
		if s.conn.pump.lead(s, nil) < 0 {
			s.follow(deadline)
		}
	}
}
