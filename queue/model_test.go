package queue

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// model is the queue as one would write it without a thought for speed: no waiting, slices only.
type model struct {
	limits  Limits
	policy  map[string]Policy
	waiting map[string][]Message
	opener  map[string]string
	gap     map[string]uint64
	turns   []string // channels with messages; the first is next
	lost    map[Loss]uint64
}

func (m *model) usage(from string) (all, peer int64, places int) {
	for _, ms := range m.waiting {
		for _, x := range ms {
			all += int64(len(x.Data))
			if x.From == from {
				peer += int64(len(x.Data))
			}
		}
	}
	for _, opener := range m.opener {
		if opener == from {
			places++
		}
	}
	return all, peer, places
}

func (m *model) blocked(x Message) Reason {
	ms, size := m.waiting[x.Channel], int64(len(x.Data))
	var bytes int64
	for _, waiting := range ms {
		bytes += int64(len(waiting.Data))
	}
	all, peer, places := m.usage(x.From)
	_, open := m.opener[x.Channel]
	switch {
	case len(ms) >= m.limits.ChannelMessages || len(ms) > 0 && bytes+size > m.limits.ChannelBytes:
		return QueueFull
	case !open && (places >= m.limits.PeerChannels || len(m.opener) >= m.limits.Channels):
		return TooManyChannels
	case peer+size > m.limits.PeerBytes || all+size > m.limits.Bytes:
		return ByteBudget
	}
	return ""
}

func (m *model) lose(x Message, reason Reason) {
	m.lost[Loss{Channel: x.Channel, From: x.From, Reason: reason}]++
}

func (m *model) evict(channel string, reason Reason) {
	oldest := m.waiting[channel][0]
	m.lose(oldest, reason)
	m.waiting[channel] = m.waiting[channel][1:]
	if rest := m.waiting[channel]; len(rest) > 0 {
		rest[0].Gap += oldest.Gap + 1
	} else {
		m.gap[channel] += oldest.Gap + 1
	}
}

func (m *model) put(x Message) error {
	c, size := x.Channel, int64(len(x.Data))
	reason := m.blocked(x)
	if size > m.limits.PeerBytes || size > m.limits.Bytes {
		reason = ByteBudget
	} else if p := m.policy[c]; p == DropOldest || p == Latest {
		before := slices.Clone(m.waiting[c])
		m.waiting[c] = nil
		reason = m.blocked(x)
		m.waiting[c] = before
		if reason == "" {
			for len(m.waiting[c]) > 0 && (p == Latest || m.blocked(x) != "") {
				why := QueueFull
				if p == DropOldest {
					why = m.blocked(x)
				}
				m.evict(c, why)
			}
		}
	}
	if reason != "" {
		m.lose(x, reason)
		m.gap[c]++
		return ErrFull
	}
	x.Gap = m.gap[c]
	m.gap[c] = 0
	if _, open := m.opener[c]; !open {
		m.opener[c] = x.From
		m.turns = append(m.turns, c)
	}
	m.waiting[c] = append(slices.Clone(m.waiting[c]), x)
	return nil
}

func (m *model) pop(c string) Message {
	x := m.waiting[c][0]
	m.waiting[c] = m.waiting[c][1:]
	if len(m.waiting[c]) == 0 {
		delete(m.waiting, c)
		delete(m.opener, c)
		m.turns = slices.DeleteFunc(m.turns, func(turn string) bool { return turn == c })
	}
	return x
}

func (m *model) turn() Message {
	c := m.turns[0]
	x := m.pop(c)
	if m.waiting[c] != nil {
		m.turns = append(m.turns[1:], c)
	}
	return x
}

func (m *model) take(channel string, count int, bytes int64) (taken []Message) {
	for len(taken) < count {
		next := channel
		if channel == "" && len(m.turns) > 0 {
			next = m.turns[0]
		}
		if len(m.waiting[next]) == 0 {
			break
		}
		bytes -= int64(len(m.waiting[next][0].Data))
		if bytes < 0 && len(taken) > 0 {
			break
		}
		if channel == "" {
			taken = append(taken, m.turn())
		} else {
			taken = append(taken, m.pop(channel))
		}
	}
	return taken
}

func (m *model) setPolicy(c string, p Policy) {
	m.policy[c] = p
	for p == Latest && len(m.waiting[c]) > 1 {
		m.evict(c, QueueFull)
	}
}

func describe(ms []Message) string {
	var all []string
	for _, m := range ms {
		all = append(all, fmt.Sprintf("%s/%s/%s/%d", m.From, m.Channel, m.Data, m.Gap))
	}
	return strings.Join(all, " ")
}

func TestQueueDoesWhatTheModelDoes(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		l := Limits{Channels: 1 + r.IntN(6), PeerChannels: 1 + r.IntN(4), ChannelMessages: 1 + r.IntN(6),
			ChannelBytes: 5 + r.Int64N(60), PeerBytes: 10 + r.Int64N(80), Bytes: 20 + r.Int64N(120)}
		m := &model{limits: l, policy: map[string]Policy{}, waiting: map[string][]Message{}, opener: map[string]string{},
			gap: map[string]uint64{}, lost: map[Loss]uint64{}}
		f := newFixture(t, l, Block)
		for step := range 700 {
			at := fmt.Sprintf("seed %d, step %d", seed, step)
			channel := string(rune('a' + r.IntN(8)))
			switch k := r.IntN(20); {
			case k < 13:
				x := Message{From: string(rune('p' + r.IntN(4))), Channel: channel, Data: fmt.Appendf(nil, "%0*d", r.IntN(16), step)}
				if got, want := f.Put(forever, x, 0), m.put(x); got != want {
					t.Fatalf("%s: put: got %v, want %v", at, got, want)
				}
			case k < 18:
				if k < 15 {
					channel = ""
				}
				count, bytes := 1+r.IntN(6), 1+r.Int64N(60)
				got, want := describe(f.Take(nil, channel, count, bytes)), describe(m.take(channel, count, bytes))
				if got != want {
					t.Fatalf("%s: take %q, %d, %d: got %s, want %s", at, channel, count, bytes, got, want)
				}
			case k < 19:
				p := Policy(r.IntN(4))
				f.SetPolicy(channel, p)
				m.setPolicy(channel, p)
			default:
				var want []Message
				for range len(m.turns) {
					want = append(want, m.turn())
				}
				if got, want := describe(f.TakeOldestOfEach(nil, 0)), describe(want); got != want {
					t.Fatalf("%s: oldest of each: got %s, want %s", at, got, want)
				}
			}
			f.check()
			if t.Failed() {
				t.Fatal(at)
			}
		}
		for loss, n := range m.lost {
			if f.lost[loss] != n {
				t.Fatalf("seed %d: %+v: got %d, want %d", seed, loss, f.lost[loss], n)
			}
		}
	}
}

// ledger is what readers saw.
type ledger struct {
	t    *testing.T
	mu   sync.Mutex
	last map[[2]string]int // the newest message of a peer on a channel
	gaps map[string]uint64 // sum by channel
}

func (l *ledger) read(ms []Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range ms {
		n, _ := strconv.Atoi(strings.TrimLeft(string(m.Data), "0"))
		key := [2]string{m.From, m.Channel}
		if n <= l.last[key] {
			l.t.Errorf("%v: message %d came after %d", key, n, l.last[key])
		}
		l.last[key] = n
		l.gaps[m.Channel] += m.Gap
	}
}

// settle compares the statistics with what was put and seen, once nobody uses the queue any more.
func (l *ledger) settle(f *fixture, put int) {
	f.check()
	s := f.Stats()
	var lost, freed uint64
	for _, n := range s.Lost {
		lost += n
	}
	for _, n := range f.freed {
		freed += uint64(n)
	}
	if s.Received != uint64(put) || s.Delivered+lost != s.Received || freed != lost || s.Messages != 0 || s.BlockedPuts != 0 {
		l.t.Errorf("%d put: %+v, %d freed", put, s, freed)
	}
	for _, ch := range s.ByChannel {
		if l.gaps[ch.Channel]+ch.Gap != ch.Lost {
			l.t.Errorf("%s: gaps of %d and %d to come, %d lost", ch.Channel, l.gaps[ch.Channel], ch.Gap, ch.Lost)
		}
	}
}

var channels = []string{"a", "b", "c", "d", "e", "f"}

// exercise runs writers against readers. Each writer is a peer; each reader has a channel to itself, so that the order in which
// it writes down is the order of the hand-over.
type exercise struct {
	*fixture
	ledger
	seed      uint64
	perWriter int
	pause     func(*rand.Rand)
}

func newExercise(t *testing.T, seed uint64, pause func(*rand.Rand)) *exercise {
	r := rand.New(rand.NewPCG(seed, 2))
	l := Limits{Channels: 2 + r.IntN(5), PeerChannels: 1 + r.IntN(4), ChannelMessages: 1 + r.IntN(8),
		ChannelBytes: 10 + r.Int64N(100), PeerBytes: 32 + r.Int64N(100), Bytes: 64 + r.Int64N(300)}
	return &exercise{fixture: newFixture(t, l, Block), seed: seed, perWriter: 300, pause: pause,
		ledger: ledger{t: t, last: map[[2]string]int{}, gaps: map[string]uint64{}}}
}

func (e *exercise) write(writer int) {
	r := rand.New(rand.NewPCG(e.seed, uint64(writer)))
	for next := 1; next <= e.perWriter; {
		var batch []Message
		for range min(1+r.IntN(12), e.perWriter+1-next) {
			batch = append(batch, Message{From: fmt.Sprint("peer", writer), Channel: channels[r.IntN(len(channels))],
				Data: fmt.Appendf(nil, "%0*d", 1+r.IntN(30), next)})
			next++
		}
		_ = e.PutBatch(forever, batch, time.Duration(r.IntN(3))*time.Millisecond)
		e.pause(r)
	}
}

func (e *exercise) readUntil(ctx context.Context, channel string) {
	r := rand.New(rand.NewPCG(e.seed, uint64(len(channel))))
	for ctx.Err() == nil {
		ms, err := e.Receive(ctx, channel, 1+r.IntN(20), 100)
		e.read(ms)
		if err == ErrClosed {
			return
		}
		e.SetPolicy(channels[r.IntN(len(channels))], []Policy{Block, Block, DropOldest, DropNewest, Latest}[r.IntN(5)])
		if r.IntN(8) == 0 {
			e.Interrupt()
		}
		e.pause(r)
	}
}

func (e *exercise) run(writers int, readers []string, during func()) {
	ctx, cancel := context.WithCancel(forever)
	var writing, reading sync.WaitGroup
	for w := range writers {
		writing.Go(func() { e.write(w) })
	}
	for _, channel := range readers {
		reading.Go(func() { e.readUntil(ctx, channel) })
	}
	during()
	writing.Wait()
	cancel()
	reading.Wait()
	e.read(e.Take(nil, "", 0, 0))
	e.settle(e.fixture, writers*e.perWriter)
}

func TestNothingIsLostUncountedWhilePutsWait(t *testing.T) {
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			e := newExercise(t, seed, func(r *rand.Rand) { time.Sleep(time.Duration(r.IntN(4)) * time.Millisecond) })
			e.run(6, []string{""}, func() {})
			if e.Stats().Delivered == 0 {
				t.Error("nothing was delivered")
			}
		})
	}
}

func TestNothingIsLostUncountedUnderConcurrency(t *testing.T) {
	for seed := range uint64(8) {
		e := newExercise(t, seed, func(*rand.Rand) {})
		e.perWriter = 1500
		e.run(8, channels, func() {})
	}
}

func TestCloseInTheMiddleCountsEveryMessage(t *testing.T) {
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			e := newExercise(t, seed, func(r *rand.Rand) { time.Sleep(time.Duration(r.IntN(4)) * time.Millisecond) })
			e.run(6, []string{""}, func() {
				time.Sleep(20 * time.Millisecond)
				e.Close()
			})
			if e.Stats().Lost[NodeClosed] == 0 {
				t.Error("nothing was lost to the close")
			}
		})
	}
}
