package queue

import (
	"strconv"
	"testing"
	"testing/synctest"
)

var three = Limits{ChannelMessages: 3}

func TestBlockWithoutWaitLosesTheNewMessage(t *testing.T) {
	f := newFixture(t, three, Block)
	f.put("p c 1", "p c 2", "p c 3")
	f.refuse("p c 4", "p c 5")
	f.takes("c", "1 2 3")
	f.put("p c 6", "p c 7")
	f.takes("c", "[2]6 7")
	f.loses("c", "p", QueueFull, 2)
	if f.freed["4"] != 1 || f.freed["5"] != 1 || len(f.freed) != 2 {
		t.Fatalf("freed %v, want 4 and 5 once", f.freed)
	}
}

func TestDropNewestShowsTheGapWhereTheMessagesWere(t *testing.T) {
	f := newFixture(t, three, DropNewest)
	f.put("p c 1", "p c 2", "p c 3")
	f.refuse("p c 4")
	f.Take(nil, "c", 1, 0)
	f.put("p c 5")
	f.takes("c", "2 3 [1]5")
	f.loses("c", "p", QueueFull, 1)
}

func TestDropOldestShowsTheGapOnTheOldestSurvivor(t *testing.T) {
	f := newFixture(t, three, DropOldest)
	f.put("p c 1", "q c 2", "p c 3", "p c 4", "p c 5")
	f.takes("c", "[2]3 4 5")
	f.loses("c", "p", QueueFull, 1)
	f.loses("c", "q", QueueFull, 1)
	f.put("p c 6")
	f.takes("c", "6")
}

func TestDropOldestAddsUpGapsOfMessagesThatItEvicts(t *testing.T) {
	f := newFixture(t, Limits{ChannelMessages: 1}, DropOldest)
	f.put("p c 1", "p c 2", "p c 3")
	f.takes("c", "[2]3")
}

func TestDropOldestEvictsByBytes(t *testing.T) {
	f := newFixture(t, Limits{ChannelBytes: 10}, DropOldest)
	f.put("p c 1234", "p c 56", "p c 7890", "p c abcdef")
	f.takes("c", "[2]7890 abcdef")
	f.put("p c 12345678901234567890")
	f.put("p c x")
	f.takes("c", "[1]x")
}

func TestDropOldestTakesItsPeersShareOnlyFromItsOwnChannel(t *testing.T) {
	f := newFixture(t, Limits{PeerBytes: 10}, DropOldest)
	f.put("p a 1234567", "p b 12")
	f.refuse("p b 123456")
	f.loses("b", "p", ByteBudget, 1)
	f.put("p b 12x")
	f.takes("a", "1234567")
	f.takes("b", "[2]12x")
	f.loses("b", "p", ByteBudget, 2)
}

func TestDropOldestEvictsForTheNodesBudget(t *testing.T) {
	f := newFixture(t, Limits{Bytes: 10}, DropOldest)
	f.put("p a 12345", "q b 12345", "q b 123")
	f.takes("", "12345 [1]123")
	f.loses("b", "q", ByteBudget, 1)
}

func TestLatestKeepsOnlyTheNewest(t *testing.T) {
	f := newFixture(t, three, Latest)
	f.put("p c 1", "p c 2", "p c 3", "p d x")
	f.takes("", "[2]3 x")
	f.put("p c 4")
	f.takes("c", "4")
	f.loses("c", "p", QueueFull, 2)
}

func TestLatestKeepsTheOldMessageIfTheNewOneCannotBeStored(t *testing.T) {
	f := newFixture(t, Limits{PeerBytes: 10}, Latest)
	f.put("p a 12345", "p b 1234")
	f.refuse("p b 123456")
	f.takes("b", "1234")
	f.put("p b x")
	f.takes("b", "[1]x")
}

func TestReplacingTheOnlyMessageIsNoTransition(t *testing.T) {
	f := newFixture(t, three, Latest)
	f.put("p c 1", "p c 2")
	f.wokeLike(true)
	f.takes("", "[1]2")
	f.wokeLike(true, false)
}

func TestSetPolicySticksToTheName(t *testing.T) {
	f := newFixture(t, three, Block)
	f.SetPolicy("c", DropOldest)
	for i := range maxIdleChannels + 1 {
		f.put("p c 1")
		f.takes("", "1")
		f.put("p " + strconv.Itoa(i) + " x")
		f.takes("", "x")
	}
	f.put("p c 1", "p c 2", "p c 3", "p c 4")
	f.takes("c", "[1]2 3 4")
}

func TestSetPolicyLatestDropsAllButTheNewest(t *testing.T) {
	f := newFixture(t, three, Block)
	f.put("p c 1", "p c 2", "p c 3")
	f.SetPolicy("c", Latest)
	f.takes("c", "[2]3")
	f.loses("c", "p", QueueFull, 2)
}

func TestPolicySettingsAreBounded(t *testing.T) {
	f := newFixture(t, three, DropNewest)
	f.SetPolicy("c", DropOldest)
	f.put("p c 1", "p c 2", "p c 3")
	for i := range maxPolicies {
		f.SetPolicy(strconv.Itoa(i), Latest)
	}
	f.refuse("p c 4")
	if n := len(f.Queue.mu.settings); n != maxPolicies {
		t.Fatalf("%d settings, want %d", n, maxPolicies)
	}
}

func TestSetPolicyLetsBlockedPutsGoOn(t *testing.T) {
	for _, c := range []struct {
		policy    Policy
		err       error
		takes     string
		queueFull uint64
	}{
		{DropOldest, nil, "[2]3 4 5", 2},
		{DropNewest, ErrFull, "1 2 3", 2},
		{Latest, nil, "[4]5", 4},
	} {
		t.Run(c.policy.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, three, Block)
				f.put("p c 1", "p c 2", "p c 3")
				blocked := f.putLater(forever, forLong, "p c 4", "p c 5")
				synctest.Wait()
				f.SetPolicy("c", c.policy)
				if err := <-blocked; err != c.err {
					t.Fatalf("blocked put: got %v, want %v", err, c.err)
				}
				f.takes("c", c.takes)
				f.loses("c", "p", QueueFull, c.queueFull)
			})
		})
	}
}

func TestSetPolicyKeepsTheGapsInTheirPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, three, Block)
		f.put("p c 1", "p c 2", "p c 3")
		f.refuse("p c 4")
		blocked := f.putLater(forever, forLong, "p c 5")
		pending(t, blocked)
		f.refuse("p c 6", "p c 7")
		f.SetPolicy("c", DropOldest)
		ends(t, blocked, nil)
		f.takes("c", "[1]2 3 [1]5")
		f.put("p c 8")
		f.takes("c", "[2]8")
	})
}

func TestSetPolicyRefusesAPutThatWaitedForAPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Limits{Channels: 1}, Block)
		f.put("p a 1")
		blocked := f.putLater(forever, forLong, "p b 2")
		pending(t, blocked)
		if s := f.Stats(); len(s.ByChannel) != 2 || s.ByChannel[1].BlockedPuts != 1 {
			t.Fatalf("statistics: %+v", s)
		}
		f.SetPolicy("b", DropNewest)
		ends(t, blocked, ErrFull)
		f.loses("b", "p", TooManyChannels, 1)
		f.check()
		f.takes("", "1")
		f.put("p b 3")
		f.takes("", "[1]3")
	})
}

func TestPoliciesHaveNames(t *testing.T) {
	for _, p := range []Policy{Block, DropOldest, DropNewest, Latest} {
		if parsed, err := ParsePolicy(p.String()); err != nil || parsed != p {
			t.Errorf("%v: parsed as %v, %v", p, parsed, err)
		}
	}
	if _, err := ParsePolicy("drop"); err == nil {
		t.Error("an unknown name was accepted")
	}
	if got := Policy(9).String(); got != "Policy(9)" {
		t.Errorf("unknown policy is called %q", got)
	}
}
