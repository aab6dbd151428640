package corktls

import (
	"sync"

	"github.com/libp2p/go-libp2p/core/sec"
)

const (
	// recordBytes is the most that one TLS record carries.
	recordBytes = 16 << 10
	// maxOdd is what a record of its own may have before those that are full: above, copying costs more than the record.
	maxOdd = 2 << 10
)

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
	if err := c.together(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// WriteJoined sends head and body as Write would send both in one piece, and makes one record of what fits into one. Of more it
// copies maxOdd bytes at most, so that whoever has the body need not leave room before it. An error is that of Write.
func (c *Conn) WriteJoined(head, body []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	odd := len(body)
	if len(head)+len(body) > recordBytes {
		if odd %= recordBytes; len(head)+odd > maxOdd {
			odd = 0
		}
	}
	if odd == 0 {
		return c.together(head, body)
	}
	first := records.Get().(*[recordBytes]byte)
	defer records.Put(first)
	joined := append(append(first[:0], head...), body[:odd]...)
	if odd == len(body) {
		return c.writeAll(joined)
	}
	return c.together(joined, body[odd:])
}

func (c *Conn) writeAll(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	_, err := c.SecureConn.Write(p)
	return err
}

// together gathers the records of all parts.
func (c *Conn) together(parts ...[]byte) (err error) {
	size := 0
	for _, part := range parts {
		size += len(part)
	}
	c.cork.put(size)
	for i := 0; i < len(parts) && err == nil; i++ {
		err = c.writeAll(parts[i])
	}
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
