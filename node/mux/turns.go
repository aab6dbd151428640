package mux

import (
	"net"
	"sync"
	"time"
)

const (
	// writeTimeout is how long the connection may take nothing before it fails ...
	writeTimeout = 30 * time.Second
	// ... and writeSlack how much less it may be, so that not every frame needs a new deadline.
	writeSlack = 10 * time.Second
	// maxOvertakes is how many small frames go before a large one that waits.
	maxOvertakes = 16
	// maxControl bounds the control frames that wait, all of them answers to the peer: who asks faster than it reads the
	// answers is cut off.
	maxControl = 64 << 10
)

// turns is the right to write, and what waits for it.
//
//	free --request--> held --release--> free, or held by the next: control frames, small, large
//
// Control frames have no owner that waits: whoever holds the right writes them first, and again before it lets go.
type turns struct {
	conn     net.Conn
	joined   joinedWriter
	deadline time.Time // of the connection's writes; the holder's
	head     []byte    // room for what goes before a payload; the holder's
	hurried  bool      // the deadline stands; the holder's

	state struct {
		sync.Mutex
		held     bool
		control  []byte
		small    []*turn
		large    []*turn
		overtook int // small ones in a row before the first large one
	}
}

// joinedWriter writes two parts as one, see corktls.
type joinedWriter interface {
	WriteJoined(head, body []byte) error
}

// A turn is a wait for the right to write; granted is closed when it has come.
type turn struct{ granted chan struct{} }

func newTurns(c net.Conn) *turns {
	t := &turns{conn: c}
	if joined, ok := c.(joinedWriter); ok {
		t.joined = joined
	} else {
		t.joined = copyingWriter{c}
	}
	return t
}

// request takes the right to write, or answers the turn to wait for.
func (t *turns) request(small bool) *turn {
	t.state.Lock()
	defer t.state.Unlock()
	if !t.state.held {
		t.state.held = true
		return nil
	}
	waiting := &turn{make(chan struct{})}
	if small {
		t.state.small = append(t.state.small, waiting)
	} else {
		t.state.large = append(t.state.large, waiting)
	}
	return waiting
}

// try takes the right to write if nobody has it and no control frame waits.
func (t *turns) try() bool {
	t.state.Lock()
	defer t.state.Unlock()
	free := !t.state.held
	t.state.held = true
	return free
}

// cancel gives up a turn, also one that has come in the same moment.
func (t *turns) cancel(waiting *turn) error {
	t.state.Lock()
	removed := remove(&t.state.small, waiting) || remove(&t.state.large, waiting)
	t.state.Unlock()
	if removed {
		return nil
	}
	return t.release()
}

func remove(list *[]*turn, waiting *turn) bool {
	for i, other := range *list {
		if other == waiting {
			*list = append((*list)[:i], (*list)[i+1:]...)
			return true
		}
	}
	return false
}

// release writes the control frames that came meanwhile and passes the right on. An error is that of the connection.
func (t *turns) release() error {
	for {
		t.state.Lock()
		if len(t.state.control) == 0 {
			t.passLocked()
			t.state.Unlock()
			return nil
		}
		control := t.takeControlLocked()
		t.state.Unlock()
		if err := t.send(control, nil); err != nil {
			t.drop()
			return err
		}
	}
}

// drop passes the right on without writing: the connection has failed, and so will the next.
func (t *turns) drop() {
	t.state.Lock()
	defer t.state.Unlock()
	t.state.control = nil
	t.passLocked()
}

func (t *turns) passLocked() {
	s := &t.state
	from := &s.small
	if len(s.small) == 0 || len(s.large) > 0 && s.overtook >= maxOvertakes {
		from = &s.large
	}
	if from == &s.small && len(s.large) > 0 {
		s.overtook++
	} else {
		s.overtook = 0
	}
	if len(*from) == 0 {
		s.held = false
		return
	}
	next := (*from)[0]
	(*from)[0] = nil
	*from = (*from)[1:]
	close(next.granted)
}

func (t *turns) takeControlLocked() []byte {
	control := t.state.control
	t.state.control = nil
	return control
}

// write writes a frame behind the waiting control frames and ends the turn.
func (t *turns) write(h header, payload []byte) error {
	t.state.Lock()
	t.head = append(t.head[:0], t.takeControlLocked()...)
	t.state.Unlock()
	t.head = h.appendTo(t.head)
	if err := t.send(t.head, payload); err != nil {
		t.drop()
		return err
	}
	return t.release()
}

// send is for the holder.
func (t *turns) send(head, body []byte) error {
	if now := time.Now(); !t.hurried && t.deadline.Sub(now) < writeTimeout-writeSlack {
		t.deadline = now.Add(writeTimeout)
		if err := t.conn.SetWriteDeadline(t.deadline); err != nil {
			return err
		}
	}
	if len(body) == 0 {
		_, err := t.conn.Write(head)
		return err
	}
	return t.joined.WriteJoined(head, body)
}

// post adds a control frame of ours. It answers whether nobody writes, so that the caller holds the right now.
func (t *turns) post(h header) (mine bool) {
	t.state.Lock()
	defer t.state.Unlock()
	return t.postLocked(h)
}

func (t *turns) postLocked(h header) (mine bool) {
	t.state.control = h.appendTo(t.state.control)
	mine = !t.state.held
	t.state.held = true
	return mine
}

// answer is post for what the peer asks for; it also answers whether there was room.
func (t *turns) answer(h header) (mine, fits bool) {
	t.state.Lock()
	defer t.state.Unlock()
	if len(t.state.control) >= maxControl {
		return false, false
	}
	return t.postLocked(h), true
}

// copyingWriter joins by copying, for connections that cannot do better.
type copyingWriter struct{ net.Conn }

var joinBuffers = sync.Pool{New: func() any { return new([]byte) }}

func (c copyingWriter) WriteJoined(head, body []byte) error {
	buffer := joinBuffers.Get().(*[]byte)
	*buffer = append(append((*buffer)[:0], head...), body...)
	_, err := c.Write(*buffer)
	joinBuffers.Put(buffer)
	return err
}
