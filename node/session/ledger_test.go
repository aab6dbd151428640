package session

import (
	"math/rand/v2"
	"testing"
)

// A ledger knows what a set of the same numbers knows, in as few runs as there are, and every state of it passes its own check.
func TestALedgerIsASetOfNumbers(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 4))
		first := 1 + random.Uint64N(5)
		l, done := Ledger{Next: first}, map[uint64]bool{}
		for range 60 {
			r := Range{First: random.Uint64N(80), Last: 0}
			r.Last = r.First + random.Uint64N(1+random.Uint64N(12))
			l.Add(r)
			for id := r.First; id <= r.Last; id++ {
				done[id] = true
			}
			expectSet(t, &l, first, done)
		}
	}
}

func expectSet(t *testing.T, l *Ledger, first uint64, done map[uint64]bool) {
	t.Helper()
	runs, next := 0, first
	for done[next] {
		next++
	}
	for id := next; id < 100; id++ {
		if done[id] && !done[id-1] {
			runs++
		}
	}
	if l.Next != next || len(l.Done) != runs {
		t.Fatalf("%+v, want next %d and %d runs", l, next, runs)
	}
	for id := range uint64(100) {
		if want := done[id] || id < first; l.Has(id) != want {
			t.Fatalf("%d: %v, want %v: %+v", id, l.Has(id), want, l)
		}
	}
	if err := l.Check(); err != nil {
		t.Fatal(err)
	}
}
