package queue

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// bubble runs a test in fake time.
func bubble(t *testing.T, l Limits, test func(t *testing.T, f *fixture)) {
	t.Helper()
	bubbleWith(t, l, Block, test)
}

func bubbleWith(t *testing.T, l Limits, p Policy, test func(t *testing.T, f *fixture)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newFixture(t, l, p)) })
}

func pending(t *testing.T, ended <-chan error) {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-ended:
		t.Fatalf("put ended with %v, want it blocked", err)
	default:
	}
}

func ends(t *testing.T, ended <-chan error, want error) {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-ended:
		if err != want {
			t.Fatalf("put: got %v, want %v", err, want)
		}
	default:
		t.Fatalf("put is blocked, want %v", want)
	}
}

var forever = context.Background()

const forLong = time.Hour

func TestBlockedPutIsStoredWhenThereIsRoom(t *testing.T) {
	bubble(t, Limits{ChannelMessages: 1}, func(t *testing.T, f *fixture) {
		f.put("p c 1")
		blocked := f.putLater(forever, time.Second, "p c 2")
		pending(t, blocked)
		f.takes("", "1")
		ends(t, blocked, nil)
		f.takes("", "2")
		f.wokeLike(true, false)
		if s := f.Stats(); s.BlockedPuts != 0 || s.Received != 2 {
			t.Fatalf("stats: %+v", s)
		}
	})
}

func TestBlockedPutsAreServedInOrder(t *testing.T) {
	bubble(t, Limits{ChannelMessages: 2}, func(t *testing.T, f *fixture) {
		f.put("p c 1", "p c 2")
		a := f.putLater(forever, time.Second, "p c 3", "p c 4", "p c 5")
		pending(t, a)
		b := f.putLater(forever, time.Second, "q c 6")
		pending(t, b)
		f.takes("", "1 2")
		pending(t, b)
		f.takes("", "3 4")
		ends(t, a, nil)
		ends(t, b, nil)
		f.takes("", "5 6")
	})
}

func TestSmallMessageDoesNotOvertakeALargeOneThatWaitsForRoom(t *testing.T) {
	bubble(t, Limits{ChannelBytes: 10}, func(t *testing.T, f *fixture) {
		f.put("p c 12345678")
		large := f.putLater(forever, forLong, "p c abcdef")
		pending(t, large)
		small := f.putLater(forever, forLong, "q c x")
		pending(t, small)
		f.takes("", "12345678")
		f.takes("", "abcdef x")
	})
}

func TestExpiredWaitLosesTheMessageAndMakesTheChannelOverflow(t *testing.T) {
	bubble(t, Limits{ChannelMessages: 1}, func(t *testing.T, f *fixture) {
		f.put("p c 1")
		start := time.Now()
		blocked := f.putLater(forever, 30*time.Second, "p c 2", "p c 3", "p d x")
		if err := <-blocked; err != ErrFull {
			t.Fatalf("put: %v", err)
		}
		if waited := time.Since(start); waited != 30*time.Second {
			t.Fatalf("waited %v, want one wait of 30 s", waited)
		}
		f.loses("c", "p", QueueFull, 2)
		ends(t, f.putLater(forever, forLong, "p c 4"), ErrFull)
		f.takes("", "1 x")
		f.put("p c 5")
		again := f.putLater(forever, forLong, "p c 6")
		pending(t, again)
		f.takes("", "[3]5")
		ends(t, again, nil)
		f.takes("", "6")
	})
}

func TestEachMessageOfABatchHasItsOwnWait(t *testing.T) {
	bubble(t, Limits{ChannelMessages: 1}, func(t *testing.T, f *fixture) {
		f.put("p c 1")
		blocked := f.putLater(forever, 10*time.Second, "p c 2", "p c 3", "p c 4")
		for _, want := range []string{"1", "2", "3"} {
			time.Sleep(8 * time.Second)
			f.takes("", want)
		}
		ends(t, blocked, nil)
		f.takes("", "4")
	})
}

func TestGapOfAnExpiredPutIsShownBehindTheMessagesBeforeIt(t *testing.T) {
	bubble(t, Limits{ChannelMessages: 1}, func(t *testing.T, f *fixture) {
		f.put("p c 1")
		a := f.putLater(forever, 3*time.Second, "p c 2")
		pending(t, a)
		b := f.putLater(forever, 1*time.Second, "p c 3")
		pending(t, b)
		c := f.putLater(forever, 3*time.Second, "p c 4")
		pending(t, c)
		time.Sleep(time.Second)
		ends(t, b, ErrFull)
		f.takes("", "1")
		f.takes("", "2")
		f.takes("", "[1]4")
		ends(t, a, nil)
		ends(t, c, nil)
	})
}

func TestLossesBeforeABlockedPutAreShownOnItAndThoseBehindItAfter(t *testing.T) {
	bubble(t, Limits{ChannelMessages: 1}, func(t *testing.T, f *fixture) {
		f.put("p c 1")
		f.refuse("p c 2", "p c 3")
		blocked := f.putLater(forever, forLong, "p c 4")
		pending(t, blocked)
		f.refuse("p c 5")
		f.takes("", "1")
		f.takes("", "[2]4")
		ends(t, blocked, nil)
		f.put("p c 6")
		f.takes("", "[1]6")
	})
}

func TestExpiryOfTheFirstLetsASmallerOneIn(t *testing.T) {
	bubble(t, Limits{ChannelBytes: 10}, func(t *testing.T, f *fixture) {
		f.put("p c 12345678")
		large := f.putLater(forever, time.Second, "p c abcdef")
		pending(t, large)
		small := f.putLater(forever, forLong, "p c x")
		pending(t, small)
		time.Sleep(time.Second)
		ends(t, large, ErrFull)
		ends(t, small, nil)
		f.takes("", "12345678 [1]x")
	})
}

func TestEndedContextLosesWhatDoesNotFit(t *testing.T) {
	bubble(t, Limits{ChannelMessages: 1}, func(t *testing.T, f *fixture) {
		f.put("p c 1")
		ctx, cancel := context.WithCancel(forever)
		blocked := f.putLater(ctx, forLong, "p c 2", "p c 3", "p d x")
		pending(t, blocked)
		cancel()
		ends(t, blocked, context.Canceled)
		f.loses("c", "p", QueueFull, 2)
		ends(t, f.putLater(ctx, forLong, "p e y"), nil)
		f.takes("", "1 x y")
		f.put("p c 4")
		f.takes("", "[2]4")
	})
}

func TestBlockedPutHoldsUpNoOtherChannelAndNoOtherPeer(t *testing.T) {
	bubble(t, Limits{ChannelMessages: 5, PeerBytes: 10}, func(t *testing.T, f *fixture) {
		f.put("p a 123456789")
		blocked := f.putLater(forever, forLong, "p b xy")
		pending(t, blocked)
		own := f.putLater(forever, forLong, "p b z")
		pending(t, own)
		f.put("q b 1", "q c 2", "p d 3", "q b 4")
		f.takes("b", "1 4")
		pending(t, blocked)
		f.takes("a", "123456789")
		ends(t, blocked, nil)
		ends(t, own, nil)
		f.takes("b", "xy z")
	})
}

func TestPutBehindABlockedPeerOvertakesIt(t *testing.T) {
	bubble(t, Limits{ChannelMessages: 2, PeerBytes: 10}, func(t *testing.T, f *fixture) {
		f.put("p a 123456789", "q b 1", "q b 2")
		p := f.putLater(forever, forLong, "p b xy")
		pending(t, p)
		q := f.putLater(forever, forLong, "q b 3")
		pending(t, q)
		f.takes("b", "1 2")
		pending(t, p)
		ends(t, q, nil)
		f.takes("", "123456789 3")
		ends(t, p, nil)
		f.takes("", "xy")
	})
}

func TestExpiredWaitForThePeersShareIsAByteBudgetLoss(t *testing.T) {
	bubble(t, Limits{PeerBytes: 10}, func(t *testing.T, f *fixture) {
		f.put("p a 123456789")
		ends(t, f.putLater(forever, 0, "p b xy"), ErrFull)
		blocked := f.putLater(forever, time.Second, "p b xy")
		time.Sleep(time.Second)
		ends(t, blocked, ErrFull)
		f.loses("b", "p", ByteBudget, 2)
		ends(t, f.putLater(forever, time.Second, "p b xy"), ErrFull)
		f.put("p b z")
		ends(t, f.putLater(forever, time.Second, "p b xy"), ErrFull)
		f.takes("b", "[3]z")
		f.takes("a", "123456789")
		f.put("p b xy")
		f.takes("b", "[1]xy")
	})
}

func TestBlockedPutWaitsForTheNodesBudget(t *testing.T) {
	bubble(t, Limits{Bytes: 10}, func(t *testing.T, f *fixture) {
		f.put("p a 12345678", "q b x")
		large := f.putLater(forever, forLong, "r c abcde")
		pending(t, large)
		small := f.putLater(forever, forLong, "s d fghi")
		pending(t, small)
		f.takes("b", "x")
		pending(t, small)
		f.takes("a", "12345678")
		ends(t, large, nil)
		ends(t, small, nil)
		f.takes("", "abcde fghi")
	})
}

func TestBlockedPutWaitsForAPlaceForItsChannel(t *testing.T) {
	bubble(t, Limits{Channels: 2, PeerChannels: 1}, func(t *testing.T, f *fixture) {
		f.put("p a 1", "q b 2")
		third := f.putLater(forever, forLong, "r c 3")
		pending(t, third)
		own := f.putLater(forever, 5*time.Second, "p d 4")
		pending(t, own)
		f.takes("b", "2")
		ends(t, third, nil)
		pending(t, own)
		time.Sleep(5 * time.Second)
		ends(t, own, ErrFull)
		f.loses("d", "p", TooManyChannels, 1)
		f.takes("", "1 3")
		f.put("p d 5")
		f.takes("", "[1]5")
	})
}

func TestBlockedPutGetsThePlaceThatItsPeerGivesBack(t *testing.T) {
	bubble(t, Limits{PeerChannels: 1}, func(t *testing.T, f *fixture) {
		f.put("p a 1")
		blocked := f.putLater(forever, forLong, "p b 2")
		pending(t, blocked)
		f.takes("a", "1")
		ends(t, blocked, nil)
		f.takes("b", "2")
	})
}

func TestChannelOpenedByAnotherPeerNeedsNoPlaceAnyMore(t *testing.T) {
	bubble(t, Limits{PeerChannels: 1}, func(t *testing.T, f *fixture) {
		f.put("p a 1")
		blocked := f.putLater(forever, forLong, "p b 2")
		pending(t, blocked)
		f.put("q b 3")
		ends(t, blocked, nil)
		f.takes("b", "3 2")
	})
}

func TestLongRunThatIsBlockedKeepsItsOrder(t *testing.T) {
	bubble(t, Limits{ChannelMessages: 7}, func(t *testing.T, f *fixture) {
		const total = 3*maxWaitingRun + 5
		ms := make([]Message, total)
		for i := range ms {
			ms[i] = Message{From: "p", Channel: "c", Data: []byte{byte(i)}}
		}
		ended := make(chan error, 1)
		go func() { ended <- f.PutBatch(forever, ms, time.Second) }()
		for next := 0; next < total; {
			taken, err := f.Receive(forever, "", 0, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range taken {
				if m.Data[0] != byte(next) || m.Gap != 0 {
					t.Fatalf("message %d has data %d, gap %d", next, m.Data[0], m.Gap)
				}
				next++
			}
		}
		ends(t, ended, nil)
	})
}

func TestTooLargeMessageInABlockedBatchIsLostInItsPlace(t *testing.T) {
	bubble(t, Limits{ChannelMessages: 2, PeerBytes: 5}, func(t *testing.T, f *fixture) {
		f.put("p c 1", "p c 2")
		blocked := f.putLater(forever, forLong, "p c 3", "p c 123456", "p c 4")
		pending(t, blocked)
		f.takes("", "1 2")
		ends(t, blocked, ErrFull)
		f.takes("", "3 [1]4")
		f.loses("c", "p", ByteBudget, 1)
	})
}

func TestCloseEndsBlockedPuts(t *testing.T) {
	bubble(t, Limits{ChannelMessages: 1}, func(t *testing.T, f *fixture) {
		f.put("p c 1")
		blocked := f.putLater(forever, forLong, "p c 2", "p c 3", "p d 4")
		pending(t, blocked)
		f.Close()
		f.Close()
		ends(t, blocked, ErrClosed)
		f.loses("c", "p", NodeClosed, 3)
		f.loses("d", "p", NodeClosed, 1)
		if err := f.Put(forever, message("p c 5"), 0); err != ErrClosed {
			t.Fatalf("put after close: %v", err)
		}
		f.loses("c", "p", NodeClosed, 4)
		if len(f.freed) != 5 || f.Len() != 0 || f.Bytes() != 0 {
			t.Fatalf("freed %v, %d messages and %d bytes wait", f.freed, f.Len(), f.Bytes())
		}
		f.wokeLike(true)
	})
}
