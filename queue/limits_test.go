package queue

import (
	"strconv"
	"testing"
)

func TestZeroLimitsAreTheDefaults(t *testing.T) {
	got := Limits{}.withDefaults()
	want := Limits{Channels: 100, PeerChannels: 50, ChannelMessages: 50, ChannelBytes: 32 << 20, PeerBytes: 64 << 20, Bytes: 256 << 20}
	if got != want {
		t.Fatalf("got %+v, want %+v", got, want)
	}
	if got := (Limits{Channels: 1}).withDefaults().PeerChannels; got != 1 {
		t.Fatalf("one channel in all leaves %d for a peer", got)
	}
}

func TestOneMessageAlwaysFitsAnEmptyChannel(t *testing.T) {
	f := newFixture(t, Limits{ChannelBytes: 1, PeerBytes: 10}, Block)
	f.put("p c 1234567890")
	f.refuse("q c x")
	f.takes("", "1234567890")
	f.put("q c x")
	f.takes("", "[1]x")
}

func TestMessageLargerThanABudgetIsLostAtOnceUnderEveryPolicy(t *testing.T) {
	for _, l := range []Limits{{PeerBytes: 5}, {Bytes: 5}} {
		for _, policy := range []Policy{Block, DropOldest, DropNewest, Latest} {
			bubbleWith(t, l, policy, func(t *testing.T, f *fixture) {
				f.put("p c 1")
				ends(t, f.putLater(forever, forLong, "p c 123456"), ErrFull)
				f.loses("c", "p", ByteBudget, 1)
				f.takes("", "1")
			})
		}
	}
}

func TestOnlyChannelsWithMessagesCount(t *testing.T) {
	f := newFixture(t, Limits{Channels: 2, PeerChannels: 2}, Block)
	for i := range 10 {
		f.put("p " + strconv.Itoa(i) + " x")
		f.takes("", "x")
	}
	f.put("p a 1", "p b 2")
	f.refuse("q c 3")
	f.loses("c", "q", TooManyChannels, 1)
	f.put("q b 4")
	f.takes("a", "1")
	f.put("q c 5")
	f.takes("", "2 [1]5 4")
}

func TestQuotaOfAPeerLeavesChannelsToOthers(t *testing.T) {
	for _, policy := range []Policy{Block, DropOldest, DropNewest, Latest} {
		f := newFixture(t, Limits{Channels: 4, PeerChannels: 2}, policy)
		f.put("p a 1", "p b 2")
		f.refuse("p c 3")
		f.loses("c", "p", TooManyChannels, 1)
		f.put("q c 4", "p c 5")
		f.Take(nil, "", 0, 0)
	}
}

func TestIdleRecordsAreBoundedAndForgottenGapsCounted(t *testing.T) {
	f := newFixture(t, Limits{Channels: 1}, Block)
	f.put("p first x")
	f.refuse("p lost x", "p lost y")
	for i := range maxIdleChannels {
		f.refuse("p " + strconv.Itoa(i) + " x")
	}
	s := f.Stats()
	if s.GapsForgotten != 2 || len(f.Queue.mu.channels) != maxIdleChannels+1 {
		t.Fatalf("%d gaps forgotten, %d records", s.GapsForgotten, len(f.Queue.mu.channels))
	}
	if len(s.ByChannel) != maxChannelStats || s.ByChannel[0].Channel != "first" || s.ByChannel[0].Messages != 1 {
		t.Fatalf("%d channels in the statistics, first %+v", len(s.ByChannel), s.ByChannel[0])
	}
	if s.Lost[TooManyChannels] != maxIdleChannels+2 {
		t.Fatalf("lost %v", s.Lost)
	}
}

func TestRingsOfIdleChannelsAreBounded(t *testing.T) {
	f := newFixture(t, Limits{ChannelMessages: 2 * maxSpareSlots, Channels: 10}, Block)
	for channel := range 5 {
		for range maxSpareSlots/2 + 1 {
			f.put("p " + strconv.Itoa(channel) + " x")
		}
	}
	f.Take(nil, "", 0, 0)
	sum := 0
	for _, ring := range f.Queue.mu.spareRings {
		sum += len(ring)
	}
	if sum != f.Queue.mu.spareSlots || sum > maxSpareSlots || sum == 0 {
		t.Fatalf("%d spare slots, %d counted", sum, f.Queue.mu.spareSlots)
	}
}
