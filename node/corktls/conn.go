package corktls

import (
	"sync"

	"github.com/libp2p/go-libp2p/core/sec"
)

// recordBytes is the most that one TLS record carries.
const recordBytes = 16 << 10

// Conn is a TLS connection whose Write makes few system calls.
type Conn struct {
	sec.SecureConn
	cork *cork
	// writing is held during a write, so that none returns while its records wait for the flush of another.
	writing sync.Mutex
	prober  *prober // of the network connection; nil if it cannot be asked
}

// Writable tells whether the kernel has room for a record, so that writing one would not wait. false may mean that nobody
// knows.
func (c *Conn) Writable() bool {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.prober != nil && c.prober.room()
}

// Write sends p. With an error it answers 0, see the package.
func (c *Conn) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if len(p) <= recordBytes {
		return c.SecureConn.Write(p)
	}
	if err := c.together(func() error { return c.writeAll(p) }); err != nil {
		return 0, err
	}
	return len(p), nil
}

// WriteJoined sends head and body as Write would send both in one piece, without copying more than one record of them. An
// error is that of Write.
func (c *Conn) WriteJoined(head, body []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	first := records.Get().(*[recordBytes]byte)
	defer records.Put(first)
	joined := append(first[:0], head[:min(len(head), recordBytes)]...)
	head = head[len(joined):]
	if len(head) == 0 {
		more := min(len(body), recordBytes-len(joined))
		joined, body = append(joined, body[:more]...), body[more:]
	}
	if len(head) == 0 && len(body) == 0 {
		return c.writeAll(joined)
	}
	return c.together(func() error {
		for _, part := range [][]byte{joined, head, body} {
			if err := c.writeAll(part); err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *Conn) writeAll(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	_, err := c.SecureConn.Write(p)
	return err
}

// together gathers the records that write makes.
func (c *Conn) together(write func() error) error {
	c.cork.put()
	err := write()
	if pulled := c.cork.pull(); err == nil {
		err = pulled
	}
	return err
}

// Close ends a write in progress. TLS closes the network connection before its goodbye while one of its own writes runs, so
// that a peer that does not read cannot hold it up; the same goes for a flush.
func (c *Conn) Close() error {
	if c.cork.flushing.Load() {
		_ = c.cork.Conn.Close()
	}
	return c.SecureConn.Close()
}

// ReadsResume tells whether a read that ended at its deadline lost nothing, so that the next one goes on where it was. That
// holds for TLS over TCP, not over WebSocket.
func (c *Conn) ReadsResume() bool { return c.cork.RemoteAddr().Network() == "tcp" }
