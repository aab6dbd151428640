package session

import (
	"cmp"
	"fmt"
	"slices"
)

// MaxLedgerRuns bounds the runs of a Ledger, and so what its record on disk takes.
const MaxLedgerRuns = 4096

// A Ledger says which sequence numbers of a session are done with: confirmed by the application, dropped, or passed over.
type Ledger struct {
	Next uint64  // the first that is not done
	Done []Range `json:",omitempty"` // above Next, ascending, with gaps between them
}

// Has tells whether a number is done.
func (l *Ledger) Has(id uint64) bool {
	if id < l.Next {
		return true
	}
	_, found := l.find(id)
	return found
}

// find answers the first run that does not end before id, and whether it holds id.
func (l *Ledger) find(id uint64) (at int, found bool) {
	at, _ = slices.BinarySearchFunc(l.Done, id, func(r Range, id uint64) int { return cmp.Compare(r.Last, id) })
	return at, at < len(l.Done) && l.Done[at].First <= id
}

// Add notes that the numbers of a range are done.
func (l *Ledger) Add(r Range) {
	r.First = max(r.First, l.Next)
	if r.First > r.Last {
		return
	}
	at, _ := l.find(r.First - 1) // one that ends right before it, too
	end := at
	for ; end < len(l.Done) && l.Done[end].First <= r.Last+1; end++ {
		r = Range{min(r.First, l.Done[end].First), max(r.Last, l.Done[end].Last)}
	}
	if r.First == l.Next {
		l.Next = r.Last + 1
		l.Done = slices.Delete(l.Done, at, end)
		return
	}
	l.Done = slices.Replace(l.Done, at, end, r)
}

// Check tells whether it is one that Add can have made.
func (l *Ledger) Check() error {
	before := l.Next
	if before == 0 || before > MaxSequence || len(l.Done) > MaxLedgerRuns+1 {
		return fmt.Errorf("a ledger that begins at %d and has %d runs", before, len(l.Done))
	}
	for _, r := range l.Done {
		if r.First <= before || r.Last < r.First || r.Last >= MaxSequence {
			return fmt.Errorf("a ledger with the run %d to %d behind %d", r.First, r.Last, before)
		}
		before = r.Last + 1
	}
	return nil
}
