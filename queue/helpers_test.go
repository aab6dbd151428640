package queue

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// fixture is a queue whose callbacks are recorded.
type fixture struct {
	*Queue
	t  *testing.T
	mu sync.Mutex
	// lost counts what Lost was told; freed holds the Data that Free was given, by content.
	lost  map[Loss]uint64
	freed map[string]int
	wakes []bool
}

func newFixture(t *testing.T, l Limits, p Policy) *fixture {
	f := &fixture{t: t, lost: make(map[Loss]uint64), freed: make(map[string]int)}
	f.Queue = New(Options{
		Limits: l,
		Policy: func(string) Policy { return p },
		Lost: func(loss Loss) {
			f.mu.Lock()
			defer f.mu.Unlock()
			count := loss.Count
			loss.Count = 0
			f.lost[loss] += count
		},
		Free: func(data []byte) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.freed[string(data)]++
		},
		Wake: func(readable bool) { f.wakes = append(f.wakes, readable) },
	})
	t.Cleanup(func() { f.check() })
	return f
}

// message parses "peer channel data".
func message(text string) Message {
	fields := strings.SplitN(text, " ", 3)
	return Message{From: fields[0], Channel: fields[1], Data: []byte(fields[2])}
}

func messages(texts ...string) (ms []Message) {
	for _, text := range texts {
		ms = append(ms, message(text))
	}
	return ms
}

// put stores messages that must fit at once.
func (f *fixture) put(texts ...string) {
	f.t.Helper()
	for _, text := range texts {
		if err := f.Put(context.Background(), message(text), 0); err != nil {
			f.t.Fatalf("put %q: %v", text, err)
		}
	}
}

// refuse puts messages that must be lost at once.
func (f *fixture) refuse(texts ...string) {
	f.t.Helper()
	for _, text := range texts {
		if err := f.Put(context.Background(), message(text), 0); err != ErrFull {
			f.t.Fatalf("put %q: got %v, want ErrFull", text, err)
		}
	}
}

// putLater puts in the background; the error comes when the call ends.
func (f *fixture) putLater(ctx context.Context, maxWait time.Duration, texts ...string) <-chan error {
	ended := make(chan error, 1)
	go func() { ended <- f.PutBatch(ctx, messages(texts...), maxWait) }()
	return ended
}

func data(ms []Message) string {
	var words []string
	for _, m := range ms {
		word := string(m.Data)
		if m.Gap > 0 {
			word = fmt.Sprintf("[%d]%s", m.Gap, word)
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

// takes expects all that waits, with "[n]" before a message that shows a gap of n.
func (f *fixture) takes(channel, want string) {
	f.t.Helper()
	if got := data(f.Take(nil, channel, 0, 0)); got != want {
		f.t.Fatalf("take %q: got %q, want %q", channel, got, want)
	}
}

// loses expects what Lost was told of a channel and peer.
func (f *fixture) loses(channel, from string, reason Reason, want uint64) {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if got := f.lost[Loss{Channel: channel, From: from, Reason: reason}]; got != want {
		f.t.Fatalf("%s from %s on %s: got %d, want %d; all losses: %v", reason, from, channel, got, want, f.lost)
	}
}

// check compares every derived figure with what the queue holds.
func (f *fixture) check() {
	f.t.Helper()
	s := f.Stats()
	var lost uint64
	for reason, n := range s.Lost {
		lost += n
		var told uint64
		for loss, count := range f.lost {
			if loss.Reason == reason {
				told += count
			}
		}
		if told != n {
			f.t.Errorf("%s: %d counted, %d told", reason, n, told)
		}
	}
	if s.Received != s.Delivered+uint64(s.Messages)+lost {
		f.t.Errorf("received %d is not delivered %d + waiting %d + lost %d", s.Received, s.Delivered, s.Messages, lost)
	}
	f.Queue.mu.Lock()
	defer f.Queue.mu.Unlock()
	f.checkBudgetsLocked()
}

func (f *fixture) checkBudgetsLocked() {
	f.t.Helper()
	q := f.Queue
	peerBytes, places, refs := map[*peer]int64{}, map[*peer]int64{}, map[*peer]int{}
	var sum int64
	count, waiting, blocked := 0, 0, 0
	for name, ch := range q.mu.channels {
		var bytes int64
		for i := range ch.n {
			s := ch.at(i)
			bytes += int64(len(s.Data))
			peerBytes[s.peer] += int64(len(s.Data))
			refs[s.peer]++
		}
		for k := ch.waiters.first; k != nil; k = k.next {
			refs[k.owner.peer]++
			blocked++
		}
		if (ch.opener != nil) != (ch.n > 0) || ch.room.used != bytes || ch.n > q.limits.ChannelMessages || ch.n > 1 && bytes > q.limits.ChannelBytes {
			f.t.Errorf("channel %s: %d messages, %d bytes counted, %d held, opener %v", name, ch.n, ch.room.used, bytes, ch.opener)
		}
		home := &q.mu.idle
		if ch.n > 0 {
			home = &q.mu.waiting
			places[ch.opener]++
			refs[ch.opener]++
			waiting++
		} else if ch.waiters.n > 0 {
			home = &q.mu.blocked
		}
		if ch.place.in != home {
			f.t.Errorf("channel %s with %d messages and %d blocked Puts is in the wrong list", name, ch.n, ch.waiters.n)
		}
		count += ch.n
		sum += bytes
	}
	for name, p := range q.mu.peers {
		if p.name != name || p.bytes.used != peerBytes[p] || p.places.used != places[p] || p.refs != refs[p] ||
			p.bytes.used > p.bytes.limit || p.places.used > p.places.limit {
			f.t.Errorf("peer %s: %+v, want bytes %d, places %d, refs %d", name, p, peerBytes[p], places[p], refs[p])
		}
		delete(refs, p)
	}
	if len(refs) > 0 || count != q.mu.messages || sum != q.mu.bytes.used || sum > q.limits.Bytes ||
		waiting != q.mu.waiting.n || int64(waiting) != q.mu.places.used || waiting > q.limits.Channels || blocked != q.mu.blockedPuts {
		f.t.Errorf("node: messages %d of %d, bytes %d of %d, channels %d of %d, blocked %d of %d, peers without record %d",
			q.mu.messages, count, q.mu.bytes.used, sum, q.mu.places.used, waiting, q.mu.blockedPuts, blocked, len(refs))
	}
	if q.mu.idle.n > maxIdleChannels || len(q.mu.released)+len(q.mu.dirty) > 0 || q.mu.after != nil {
		f.t.Error("the last call left work behind")
	}
}

func (f *fixture) wokeLike(want ...bool) {
	f.t.Helper()
	if !slices.Equal(f.wakes, want) {
		f.t.Fatalf("wakes: got %v, want %v", f.wakes, want)
	}
}
