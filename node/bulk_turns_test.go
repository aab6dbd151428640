package node

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func mustTake(t *testing.T, b *bulkTurns) *bulkTurn {
	t.Helper()
	turn, err := b.take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return turn
}

// takeLater takes a turn in another goroutine.
func takeLater(t *testing.T, b *bulkTurns) <-chan *bulkTurn {
	taken := make(chan *bulkTurn, 1)
	go func() {
		if turn, err := b.take(t.Context()); err == nil {
			taken <- turn
		}
	}()
	synctest.Wait()
	return taken
}

func expectWaiting(t *testing.T, taken <-chan *bulkTurn) {
	t.Helper()
	synctest.Wait()
	select {
	case <-taken:
		t.Fatal("a turn above the limit was given")
	default:
	}
}

func TestBulkTurnsAreGivenUpToTheLimitInTheOrderOfWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bulkTurns{limit: 2}
		one, two := mustTake(t, b), mustTake(t, b)
		three, four := takeLater(t, b), takeLater(t, b)
		expectWaiting(t, three)
		two.give()
		third := <-three
		expectWaiting(t, four)
		one.give()
		(<-four).give()
		third.give()
		if len(b.state.held) != 0 || len(b.state.waiting) != 0 {
			t.Errorf("%d are held, %d wait", len(b.state.held), len(b.state.waiting))
		}
	})
}

func TestABulkMessageThatMakesProgressKeepsItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bulkTurns{limit: 1}
		turn := mustTake(t, b)
		other := takeLater(t, b)
		for range 10 {
			time.Sleep(bulkPatience * 9 / 10)
			if err := turn.progress(t.Context()); err != nil {
				t.Fatal(err)
			}
			expectWaiting(t, other)
		}
		turn.give()
		(<-other).give()
	})
}

func TestAStalledBulkMessageLosesItsTurnAndWaitsForAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bulkTurns{limit: 1}
		stalled := mustTake(t, b)
		began := time.Now()
		other := mustTake(t, b)
		if waited := time.Since(began); waited != bulkPatience {
			t.Errorf("it counted for %s", waited)
		}
		goesOn := make(chan error)
		go func() { goesOn <- stalled.progress(t.Context()) }()
		time.Sleep(bulkPatience / 2)
		synctest.Wait()
		select {
		case <-goesOn:
			t.Error("two go on at a time")
		default:
		}
		other.give()
		if err := <-goesOn; err != nil {
			t.Error(err)
		}
		stalled.give()
	})
}

func TestStalledBulkMessagesLapseOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bulkTurns{limit: 5}
		for range 5 {
			mustTake(t, b)
		}
		began := time.Now()
		for range 20 { // none of them ever makes progress
			mustTake(t, b)
		}
		if waited := time.Since(began); waited != 4*bulkPatience {
			t.Errorf("20 messages waited for %s", waited)
		}
	})
}

func TestTheWaitForABulkTurnEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bulkTurns{limit: 1}
		turn := mustTake(t, b)
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(ErrClosed)
		if _, err := b.take(ctx); !errors.Is(err, ErrClosed) {
			t.Errorf("the wait ended with %v", err)
		}
		turn.give()
		mustTake(t, b).give()
	})
}
