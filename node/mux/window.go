package mux

import (
	"time"

	"github.com/libp2p/go-libp2p/core/network"
)

// growthPriority is that of windows beyond the first: they are the first to be refused when memory runs short.
const growthPriority = network.ReservationPriorityMedium

// window is what the peer may send on one stream. It doubles while the host reads half of it within growthTrips round trips:
// then the window, not the host, is what limits the peer.
type window struct {
	size  int
	left  int // what the peer may still send
	read  int // what the host has read since the last grant
	since time.Time
}

const growthTrips = 4

func newWindow() window { return window{size: initialWindow, left: initialWindow, since: time.Now()} }

// receive notes n bytes and answers whether the peer was allowed to send them.
func (w *window) receive(n int) bool {
	w.left -= n
	return w.left >= 0
}

// take notes that the host has read n bytes and answers what to grant the peer: nothing until it is half of the window.
func (w *window) take(n int, trip time.Duration, span memorySpan) (grant int) {
	w.read += n
	if w.read < w.size/2 {
		return 0
	}
	now := time.Now()
	grant, w.read = w.read, 0
	if w.size < maxWindow && now.Sub(w.since) < growthTrips*trip && span.ReserveMemory(w.size, growthPriority) == nil {
		grant += w.size
		w.size *= 2
	}
	w.since = now
	w.left += grant
	return grant
}

// memorySpan is where a stream's window is reserved, and given back all at once.
type memorySpan interface {
	ReserveMemory(size int, priority uint8) error
	Done()
}

type noSpan struct{}

func (noSpan) ReserveMemory(int, uint8) error { return nil }
func (noSpan) Done()                          {}

// reserveStream reserves the first window of a stream.
func reserveStream(scope network.PeerScope) (memorySpan, error) {
	if scope == nil {
		return noSpan{}, nil
	}
	span, err := scope.BeginSpan()
	if err != nil {
		return nil, err
	}
	if err := span.ReserveMemory(initialWindow, network.ReservationPriorityAlways); err != nil {
		span.Done()
		return nil, err
	}
	return span, nil
}
