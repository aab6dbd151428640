package node

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"peerbus/queue"
)

// lentMemory counts what it lends, and overwrites what it gets back.
type lentMemory struct {
	sync.Mutex
	out, most int
}

func (m *lentMemory) Get(size int) []byte {
	m.Lock()
	defer m.Unlock()
	m.out++
	m.most = max(m.most, m.out)
	return make([]byte, size)
}

func (m *lentMemory) Slab() []byte { return m.Get(SlabBytes) }

func (m *lentMemory) Put(buffer []byte) {
	m.Lock()
	defer m.Unlock()
	m.out--
	for i := range buffer {
		buffer[i] = 0xDD
	}
}

// landingFixture is a stream of numbered payloads whose landing hands over as the reader does.
type landingFixture struct {
	t       *testing.T
	memory  lentMemory
	landing landing
	pending []queue.Message
	stored  []queue.Message
	store   func(queue.Message) bool // nil: all
}

func newLandingFixture(t *testing.T, source io.Reader) *landingFixture {
	f := &landingFixture{t: t}
	f.landing = landing{memory: &f.memory, settle: f.settle, read: source.Read}
	f.landing.begin(nil)
	return f
}

func (f *landingFixture) settle() error {
	l := &f.landing
	l.hold(f.pending)
	for i := range f.pending {
		run := f.pending[i : i+1]
		if f.store != nil && !f.store(run[0]) {
			run[0].Free(f.memory.Put)
			continue
		}
		l.pack(run)
		l.keep(run)
		f.stored = append(f.stored, run[0])
	}
	f.pending = f.pending[:0]
	return nil
}

func (f *landingFixture) take(n int) {
	f.t.Helper()
	data, err := f.landing.take(n)
	if err != nil {
		f.t.Fatal(err)
	}
	f.pending = append(f.pending, queue.Message{Data: data, Slab: f.landing.slab})
}

func (f *landingFixture) free(messages int) {
	for i := range messages {
		f.stored[i].Free(f.memory.Put)
	}
	f.stored = f.stored[messages:]
}

// chunks answers a little at a time.
type chunks struct {
	source io.Reader
	random *rand.Rand
	most   int
}

func (c chunks) Read(p []byte) (int, error) {
	return c.source.Read(p[:min(len(p), 1+c.random.IntN(c.most))])
}

func TestPayloadsStayAsTheyArrivedUntilTheyAreFreed(t *testing.T) {
	for seed := range uint64(16) {
		random := rand.New(rand.NewPCG(seed, 7))
		sent := make([]byte, 3<<20)
		for i := range sent {
			sent[i] = byte(random.Uint32())
		}
		f := newLandingFixture(t, chunks{bytes.NewReader(sent), random, 1 + random.IntN(20<<10)})
		if seed%2 == 1 {
			f.store = func(queue.Message) bool { return random.IntN(10) == 0 }
		}
		largest := 1 + random.IntN(LargePayload-1)
		expected := 0
		for expected+largest+directRead < len(sent)-LargePayload {
			switch random.IntN(12) {
			case 0: // of no use
				n := 1 + random.IntN(100)
				if _, err := f.landing.peek(n); err != nil {
					t.Fatal(err)
				}
				f.landing.skip(n)
				expected += n
			case 1: // read elsewhere
				own := make([]byte, 1+random.IntN(2*directRead))
				if _, err := io.ReadFull(&f.landing, own); err != nil || !bytes.Equal(own, sent[expected:expected+len(own)]) {
					t.Fatal("seed", seed, "read differs at", expected, err)
				}
				expected += len(own)
			default:
				n := random.IntN(largest)
				f.take(n)
				if !bytes.Equal(f.pending[len(f.pending)-1].Data, sent[expected:expected+n]) {
					t.Fatal("seed", seed, "payload differs at", expected)
				}
				f.pending[len(f.pending)-1].ID = uint64(expected)
				expected += n
			}
			if len(f.stored) > 0 && random.IntN(4) == 0 {
				f.free(1 + random.IntN(len(f.stored)))
			}
			for _, m := range f.stored {
				if !bytes.Equal(m.Data, sent[m.ID:int(m.ID)+len(m.Data)]) {
					t.Fatal("seed", seed, "a stored payload was overwritten")
				}
			}
		}
		_ = f.settle()
		f.free(len(f.stored))
		f.landing.end()
		if f.memory.out != 0 {
			t.Fatalf("seed %d: %d slabs were not given back", seed, f.memory.out)
		}
	}
}

func TestMessagesThatAreTakenAtOnceShareOneSlabForEver(t *testing.T) {
	f := newLandingFixture(t, chunks{bytes.NewReader(make([]byte, 4<<20)), rand.New(rand.NewPCG(1, 2)), 2000})
	for range 1 << 10 {
		f.take(1000)
		_ = f.settle()
		f.free(1)
	}
	if f.memory.most > 2 {
		t.Errorf("%d slabs at a time for one message at a time", f.memory.most)
	}
}

func TestRefusedMessagesDoNotMakeAFewStoredOnesKeepMuchMemory(t *testing.T) {
	const size, every, count = 100, 500, 200_000
	f := newLandingFixture(t, bytes.NewReader(make([]byte, size*count)))
	n := 0
	f.store = func(queue.Message) bool { n++; return n%every == 0 }
	for range count {
		f.take(size)
	}
	_ = f.settle()
	// Each of the stored messages may keep maxWaste bytes besides its own.
	if most := len(f.stored)*(size+maxWaste)/(SlabBytes-leastRoom) + 2; f.memory.out > most {
		t.Errorf("%d stored messages of %d bytes keep %d slabs, at most %d are expected", len(f.stored), size, f.memory.out, most)
	}
}

func TestALentSlabIsNotWrittenAgain(t *testing.T) {
	f := newLandingFixture(t, chunks{bytes.NewReader(bytes.Repeat([]byte("abcdefgh"), 64<<10)), rand.New(rand.NewPCG(3, 4)), 5000})
	f.take(8)
	_ = f.settle()
	lent := f.stored[0].Data
	f.stored[0].Slab.Hold(1) // as the host's hold of the buffer: the memory stays
	f.stored[0].Slab.Lend()
	f.free(1)
	for range 20_000 {
		f.take(8)
		_ = f.settle()
		f.free(1)
	}
	if string(lent) != "abcdefgh" {
		t.Errorf("the host sees %q", lent)
	}
}

func TestTheEndOfAStreamInsideAPayloadIsAnError(t *testing.T) {
	f := newLandingFixture(t, bytes.NewReader(make([]byte, 10)))
	if _, err := f.landing.take(11); !errors.Is(err, io.EOF) {
		t.Errorf("the error is %v", err)
	}
	if rest, err := f.landing.take(10); err != nil || len(rest) != 10 {
		t.Errorf("what arrived is %d bytes, %v", len(rest), err)
	}
}

// silent answers neither bytes nor an error.
type silent struct{}

func (silent) Read([]byte) (int, error) { return 0, nil }

func TestAStreamThatAnswersNothingForEverIsAnError(t *testing.T) {
	f := newLandingFixture(t, silent{})
	if _, err := f.landing.peek(1); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("the error is %v", err)
	}
}
