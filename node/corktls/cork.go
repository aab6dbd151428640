package corktls

import (
	"net"
	"sync"
	"sync/atomic"
)

const (
	// corkBytes is how much of a large write is given to the kernel at once: records in number so that the receiver works on one
	// half while the sender encrypts the next.
	corkBytes = 4 * (recordBytes + recordOverhead)
	// roundBytes is a write that is given to the kernel as a whole: little more than corkBytes, so that it leaves no small rest.
	roundBytes = 5 * recordBytes
	// bufferBytes has room for the records of one more.
	bufferBytes = roundBytes + 6*recordOverhead
	// recordOverhead is more than a record is longer than what it carries.
	recordOverhead = 64
)

var (
	buffers = sync.Pool{New: func() any { return new([bufferBytes]byte) }}
	records = sync.Pool{New: func() any { return new([recordBytes]byte) }}
)

// cork is the network connection under TLS. While the cork is in, it gathers what TLS writes; otherwise it does nothing.
//
//	out --put--> in --buffer full--> in, flushed --pull--> out, flushed
//
// TLS writes from any goroutine (alerts, key updates), always through the lock, so that the order is that of its records.
type cork struct {
	net.Conn
	flushing atomic.Bool
	lent     *lent // the reading side after Conn.Lend, else nil
	state    struct {
		sync.Mutex
		in     bool
		most   int // that is gathered
		buffer *[bufferBytes]byte
		filled int
		err    error // of the first flush that failed
	}
}

func newCork(c net.Conn) *cork { return &cork{Conn: c} }

// Read is TLS reading.
func (c *cork) Read(p []byte) (int, error) {
	if c.lent != nil {
		return c.lent.Read(p)
	}
	return c.Conn.Read(p)
}

// put begins to gather what carries so many bytes.
func (c *cork) put(size int) {
	c.state.Lock()
	defer c.state.Unlock()
	c.state.in, c.state.most = true, corkBytes
	if size <= roundBytes {
		c.state.most = bufferBytes
	}
	c.state.buffer = buffers.Get().(*[bufferBytes]byte)
}

// pull gives what was gathered to the kernel.
func (c *cork) pull() error {
	c.state.Lock()
	defer c.state.Unlock()
	err := c.flushLocked()
	buffers.Put(c.state.buffer)
	c.state.in, c.state.buffer, c.state.filled = false, nil, 0
	return err
}

// Write is TLS writing a record. The lock is held while the kernel takes it: it is what keeps records in order, and SetDeadline
// and Close end the wait without it.
func (c *cork) Write(record []byte) (int, error) {
	c.state.Lock()
	defer c.state.Unlock()
	s := &c.state
	if s.err != nil {
		return 0, s.err
	}
	if s.in && len(record) > s.most-s.filled {
		if err := c.flushLocked(); err != nil {
			return 0, err
		}
	}
	if !s.in || len(record) > s.most {
		return c.sendLocked(record)
	}
	s.filled += copy(s.buffer[s.filled:], record)
	return len(record), nil
}

func (c *cork) flushLocked() error {
	s := &c.state
	if s.err != nil || s.filled == 0 {
		return s.err
	}
	_, err := c.sendLocked(s.buffer[:s.filled])
	s.filled = 0
	return err
}

// sendLocked remembers a failure: what follows would not be TLS any more.
func (c *cork) sendLocked(p []byte) (int, error) {
	c.flushing.Store(true)
	n, err := c.Conn.Write(p)
	c.flushing.Store(false)
	c.state.err = err
	return n, err
}
