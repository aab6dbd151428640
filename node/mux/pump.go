package mux

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"peerbus/node/corktls"
)

// absence is how long nobody need read the connection. The next message of a busy stream comes to its reader without a change
// of goroutine when the reader is back sooner; the other streams' messages wait that long, or twice, when it is not. To look after
// the readers costs the processor more than many a message, so where they have always come back it is done more rarely, up to
// longestAbsence, until one stays away or says that it will (Away).
const (
	absence        = time.Millisecond
	longestAbsence = 8 * absence
)

// yieldAfter is how often a leader may get nothing itself and wake other readers before it leaves the lead to them: idle streams
// have readers, too, and would stand between a busy one and the connection for ever.
const yieldAfter = 2

// pump is the right to read the connection, and the frame that is being read.
//
//	unattended --Read finds nothing buffered--> led by the reader --it has what it wanted, or others do--> unattended
//	     |                                                                                      ^
//	     +--nobody came for absence--> read by the stand-in, a goroutine --a waiting reader got something--+
//
// A reader that leads reads the payload straight into the host's buffer. Its deadline is the connection's; a change of its
// stream makes the connection's read end early. So leading needs a connection whose reads resume after their deadline; on
// others (Noise, WebSocket) the stand-in never lets go.
//
// On a connection that lends (corktls over TCP) the one who leads, or the stand-in, waits without what follows in the struct: use
// is the lock of that, and free while nothing comes. A Read that must not wait borrows it (lent.go).
type pump struct {
	conn    *Conn
	resumes bool
	lender  lender // nil: whoever reads waits in the network's Read
	use     sync.Mutex
	missed  atomic.Bool // the one who waits was woken while somebody borrowed

	state struct {
		sync.Mutex
		held     bool
		leader   *Stream       // nil: the stand-in
		deadline time.Time     // of the connection's reads
		released uint64        // how often it was let go
		watched  bool          // the watch is set
		seen     uint64        // released when it was
		trust    time.Duration // for how long it is set next
	}
	watch *time.Timer

	// What follows is for whoever has use.
	head     [headerBytes]byte
	headFill int
	left     int     // payload bytes of the frame that are still to come
	target   *Stream // whose they are; nil: nobody's
	scratch  [blockBytes]byte
	fresh    int  // bytes read since the last wait
	napping  bool // the kernel wakes nobody for what naps look for
	handed   bool // a stream got something that its reader waits for
}

// lead reads the connection for the stream. It answers bytes that it read into p, 0 if there is another reason to look at the
// stream, or -1 when somebody else reads and will wake the stream.
func (pm *pump) lead(s *Stream, p []byte) int {
	if !pm.resumes || !pm.hold(s) {
		return -1
	}
	defer pm.endLead(s)
	pm.use.Lock()
	defer pm.use.Unlock()
	for woken := 0; pm.prepare(s); {
		pm.handed = false
		n, err := pm.step(s, p)
		if err == corktls.ErrNothing {
			if pm.nap(len(p)) {
				continue
			}
			err = pm.await()
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			_ = pm.conn.fail(err)
		}
		if n > 0 {
			return n
		}
		if pm.handed {
			if woken++; woken == yieldAfter {
				return -1
			}
		}
	}
	return 0
}

func (pm *pump) hold(s *Stream) bool {
	pm.state.Lock()
	defer pm.state.Unlock()
	if pm.state.held {
		return false
	}
	pm.state.held, pm.state.leader = true, s
	return true
}

// endLead leaves the connection to the next reader, or to the stand-in when the stream brings nothing more: its reader will not
// be back.
func (pm *pump) endLead(s *Stream) {
	pm.letGo()
	if !s.isOpen() {
		pm.vacate()
	}
}

// vacate has the stand-in read unless somebody does.
func (pm *pump) vacate() {
	if pm.resumes && pm.hold(nil) {
		pm.conn.spawn(pm.standIn) // which fails when the connection is closed: then nobody needs the right any more
	}
}

func (pm *pump) letGo() {
	pm.state.Lock()
	defer pm.state.Unlock()
	pm.state.held, pm.state.leader = false, nil
	pm.state.released++
	if !pm.state.watched {
		pm.setWatchLocked()
	}
}

// setWatchLocked makes the stand-in look after a while whether anybody reads.
func (pm *pump) setWatchLocked() {
	pm.state.watched, pm.state.seen = true, pm.state.released
	pm.watch.Reset(pm.state.trust)
}

// away has the watch look soon, because the reader that has just led waits for something else.
func (pm *pump) away() {
	pm.state.Lock()
	defer pm.state.Unlock()
	if pm.resumes && !pm.state.held {
		pm.state.trust = absence
		pm.setWatchLocked()
	}
}

// look is the watch: it has the stand-in read if nobody did all the time.
func (pm *pump) look() {
	if pm.isDeserted() {
		pm.vacate()
	}
}

// isDeserted tells whether no reader came back since the watch was set; it is set anew where one did and left again.
func (pm *pump) isDeserted() bool {
	pm.state.Lock()
	defer pm.state.Unlock()
	pm.state.watched = false
	if !pm.state.held && pm.state.released == pm.state.seen {
		pm.state.trust = absence
		return true
	}
	pm.state.trust = min(2*pm.state.trust, longestAbsence)
	if !pm.state.held {
		pm.setWatchLocked()
	}
	return false
}

// standIn reads until a waiting reader got something, which then leads.
func (pm *pump) standIn() {
	pm.use.Lock()
	defer pm.use.Unlock()
	for {
		pm.handed = false
		pm.clearDeadline()
		_, err := pm.step(nil, nil)
		if err == corktls.ErrNothing {
			err = pm.await()
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			_ = pm.conn.fail(err)
			return // nobody needs the right any more
		}
		if pm.handed && pm.resumes {
			pm.letGo()
			return
		}
	}
}

// clearDeadline removes a deadline that has passed. One that has not may stay: it only makes the stand-in look again.
func (pm *pump) clearDeadline() {
	pm.state.Lock()
	defer pm.state.Unlock()
	if d := pm.state.deadline; !d.IsZero() && !time.Now().Before(d) {
		pm.setDeadlineLocked(time.Time{})
	}
}

func (pm *pump) setDeadlineLocked(t time.Time) {
	pm.state.deadline = t
	_ = pm.conn.network.SetReadDeadline(t) // fails when the connection is closed, as the read will
}

// prepare makes the next read of the connection end in time for the stream, and answers whether there is reason to read.
// Deadlines move on with every read; an earlier one that stays costs less than setting it each time.
func (pm *pump) prepare(s *Stream) bool {
	pm.state.Lock()
	defer pm.state.Unlock()
	wants, until := s.wantsMore()
	if !wants {
		return false
	}
	set := pm.state.deadline
	if !set.IsZero() && !time.Now().Before(set) || !until.IsZero() && (set.IsZero() || set.After(until)) {
		pm.setDeadlineLocked(until)
	}
	return true
}

// gone is kick for a stream that is read no more: its reader may have led, and others rely on that it comes back.
func (pm *pump) gone(s *Stream) {
	pm.kick(s)
	pm.vacate()
}

// kick ends the read of a stream that leads, after a change that it must see.
func (pm *pump) kick(s *Stream) {
	pm.state.Lock()
	defer pm.state.Unlock()
	if pm.state.leader == s {
		pm.setDeadlineLocked(time.Unix(1, 0))
	}
}

// step reads the connection once or, when a header and its payload are there, twice. It answers the bytes that it put into
// the leader's p.
func (pm *pump) step(leader *Stream, p []byte) (int, error) {
	if pm.left == 0 {
		n, err := pm.read(pm.head[pm.headFill:])
		if pm.headFill += n; pm.headFill < headerBytes {
			return 0, err
		}
		pm.headFill = 0
		if err := pm.begin(); err != nil || pm.left == 0 {
			return 0, err
		}
	}
	if pm.target != nil && pm.target == leader && len(p) > 0 {
		n, err := pm.read(p[:min(len(p), pm.left)])
		pm.left -= n
		return n, err
	}
	return 0, pm.deliver()
}

func (pm *pump) read(p []byte) (int, error) {
	n, err := pm.conn.network.Read(p)
	if n > 0 {
		pm.fresh += n
		pm.conn.heard.Add(1)
		return n, nil // the error, if any, comes again
	}
	return n, err
}

// begin handles a header.
func (pm *pump) begin() error {
	h, err := parseHeader(pm.head)
	if err != nil {
		return err
	}
	if h.kind == frameData {
		pm.left = int(h.value)
		pm.target, err = pm.conn.receiverOf(h)
		return err
	}
	return pm.conn.handle(h)
}

// deliver reads payload into the inbox of its stream, or nowhere.
func (pm *pump) deliver() error {
	room := pm.scratch[:]
	if pm.target != nil {
		if room = pm.target.room(); room == nil {
			room, pm.target = pm.scratch[:], nil
		}
	}
	n, err := pm.read(room[:min(len(room), pm.left)])
	pm.left -= n
	if pm.target != nil && pm.target.filled(n) {
		pm.handed = true
	}
	return err
}
