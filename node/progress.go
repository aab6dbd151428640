package node

import (
	"io"
	"time"

	"peerbus/node/session"
)

const (
	// progressFrom is the size from which the progress of a message is told ...
	progressFrom = 1 << 20
	// ... and progressPeriod how often at most.
	progressPeriod = 100 * time.Millisecond
)

// progress tells how much of one large message has passed. The nil progress tells nothing.
type progress struct {
	events *Events
	fields map[string]any
	id     uint64
	done   int
	total  int
	next   time.Time // not before
}

func newProgress(events *Events, direction, channel, peer string, id uint64, total int) *progress {
	return &progress{
		events: events, id: id, total: total, next: time.Now().Add(progressPeriod),
		fields: map[string]any{"direction": direction, "channel": channel, "peer": peer},
	}
}

// add notes that so many more bytes have passed. The end of a message is told by the message, or by its delivery.
func (p *progress) add(bytes int) {
	if p == nil || bytes == 0 {
		return
	}
	p.done += bytes
	now := time.Now()
	if now.Before(p.next) || p.done >= p.total {
		return
	}
	p.next = now.Add(progressPeriod)
	fields := map[string]any{"id": p.id, "bytes": p.done, "total": p.total}
	for name, value := range p.fields {
		fields[name] = value
	}
	p.events.Push(EventProgress, fields)
}

// reader watches what is read.
func (p *progress) reader(source io.Reader) io.Reader {
	if p == nil {
		return source
	}
	return watchedReader{source, p}
}

type watchedReader struct {
	source   io.Reader
	progress *progress
}

func (r watchedReader) Read(b []byte) (int, error) {
	n, err := r.source.Read(b)
	r.progress.add(n)
	return n, err
}

// progressOf watches a piece that is about to be written, if that is one large message and its channel wants it.
func (o *outbound) progressOf(piece session.Piece) *progress {
	if piece.Size() < progressFrom || piece.Control() {
		return nil
	}
	o.state.Lock()
	wanted := o.state.progress || o.state.handles == 0 && o.node.config.Channel.Progress
	id := piece.Last() + o.state.base
	o.state.Unlock()
	if !wanted {
		return nil
	}
	return newProgress(o.node.events, directionOut, o.name, o.peer.id.String(), id, piece.Size())
}

// watch makes the progress of a message that is about to be read be told, if it is large and the node wants that.
func (r *inReader) watch(size int) *progress {
	if size < progressFrom || !r.node.config.Channel.Progress {
		return nil
	}
	return newProgress(r.node.events, directionIn, r.name, r.from, r.stream.Next(), size)
}
