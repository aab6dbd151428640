package node

import (
	"context"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"peerbus/node/mux"
	"peerbus/node/session"
	"peerbus/queue"
)

// lentBytes is the most that a message may have for its reader to expect another small one.
const lentBytes = 4 << 10

// lending lets a thread of the host, which would wait for the next message anyway, decode it in the place of the reader's goroutine:
// no thread is woken for it then.
//
//	the goroutine's --nothing has come behind a small message--> lent --a thread looks--> borrowed --> lent
//	       ^                                                      |
//	       +------ something came, or the borrower left work -----+
//
// Who has it owns everything of the inReader. A borrower never waits: what would make it wait it leaves to the goroutine.
type lending struct {
	mine sync.Mutex
	conn *mux.Conn // nil: never lent
	next bool      // the last message was small

	left   bool            // there is work for the goroutine
	rest   []queue.Message // part of it: offered, not delivered yet; the receiver's Turn is held
	failed error           // why the stream ends
}

func (l *lending) prepare(c network.Conn, durable bool) {
	if durable || c.ConnState().StreamMultiplexer != mux.ID {
		return
	}
	if conn := (*mux.Conn)(nil); c.As(&conn) && conn.Lends() {
		l.conn = conn
	}
}

// lend waits for the next frame and lends the reader meanwhile.
func (r *inReader) lend() error {
	l := &r.lent
	if l.conn == nil || !l.next || r.landing.buffered() > 0 || !r.node.attention.wanted.Load() {
		return nil
	}
	if err := r.handOver(); err != nil {
		return err
	}
	if err := r.setDeadline(); err != nil {
		return err
	}
	r.node.attention.reader.Store(r)
	l.mine.Unlock()
	_, _ = r.Stream.Read(nil) // what ends it comes again to the read that follows
	l.mine.Lock()
	if !l.left {
		return nil
	}
	l.left = false
	if l.failed != nil {
		return l.failed
	}
	r.limited = true // by look
	if err := r.setDeadline(); err != nil {
		return err
	}
	return r.handOver() // what the borrower could not deliver goes before what it did not decode
}

// look decodes what has come, if the reader is lent.
func (r *inReader) look() {
	l := &r.lent
	if !l.mine.TryLock() {
		return
	}
	defer l.mine.Unlock()
	if l.left || r.SetReadDeadline(mux.AtOnce) != nil {
		return
	}
	done := r.serve()
	_ = r.SetReadDeadline(mux.Patient) // fails with the stream, as the goroutine's read will
	if !done {
		l.left = true
		_ = r.SetReadDeadline(time.Unix(1, 0))
	}
}

// serve answers whether all that has come is in the queue.
func (r *inReader) serve() bool {
	for {
		if _, err := r.landing.peek(1); err != nil {
			return err == errStalled
		}
		for len(r.pending) < inBatchMessages/2 && r.smallMessageWaits() {
			if err := r.frame(); err != nil {
				r.lent.failed = err
				return false
			}
		}
		if len(r.pending) == 0 || !r.handOverAtOnce() {
			return false
		}
	}
}

func (r *inReader) smallMessageWaits() bool {
	seen, _ := r.landing.peek(min(r.landing.buffered(), session.MaxHead))
	head, n, err := session.ParseHead(seen, r.stream.MaxMessage())
	return err == nil && n > 0 && head.IsData() && head.Codec == session.CodecNone && head.Size <= lentBytes && n+head.Size <= r.landing.buffered()
}

// handOverAtOnce is handOver that does not wait. It answers false when handOver has to do the rest.
func (r *inReader) handOverAtOnce() bool {
	select {
	case r.receiver.Turn <- struct{}{}:
	default:
		return false
	}
	r.landing.hold(r.pending)
	fresh, err := r.offerInTurn()
	if err == nil {
		fresh, err = r.deliver(atOnceContext, fresh)
		if err == context.Canceled && len(fresh) > 0 {
			r.lent.rest = fresh
			return false
		}
		<-r.receiver.Turn
	}
	r.lent.failed = r.handedOver(fresh, err)
	return r.lent.failed == nil
}
