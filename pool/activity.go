package pool

import (
	"math"
	"sync/atomic"
	"time"

	"peerbus/node/envelope"
)

// activity remembers when a message was last sent or received, on the monotonic clock.
type activity struct {
	start time.Time
	last  atomic.Int64 // nanoseconds since start, plus one; 0: never
}

func (a *activity) mark() { a.last.Store(int64(time.Since(a.start)) + 1) }

// markSent leaves statistics out (POOL-34).
func (a *activity) markSent(contentType string) {
	switch contentType {
	case envelope.TypeStatsUpdate, envelope.TypeStatsRequest, envelope.TypeStatsResponse:
	default:
		a.mark()
	}
}

// PassedTimeSinceLastCommunication is how long ago the set last sent or received; before the first message the longest
// duration there is.
func (s *Set) PassedTimeSinceLastCommunication() time.Duration {
	last := s.activity.last.Load()
	if last == 0 {
		return math.MaxInt64
	}
	return max(time.Since(s.activity.start)-time.Duration(last-1), 0)
}
