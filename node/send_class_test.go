package node

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func withClass(t *testing.T, c *Channel, class SendClass) *Channel {
	t.Helper()
	o := c.SendOptions()
	o.Class = class
	mustConfigure(t, c, o)
	return c
}

func mustConfigure(t *testing.T, c *Channel, o SendOptions) {
	t.Helper()
	if err := c.Configure(o); err != nil {
		t.Fatal(err)
	}
}

func (u *urgency) waiting() bool {
	u.state.Lock()
	defer u.state.Unlock()
	return u.state.over != nil
}

func TestOthersYieldUntilTheControlMessageIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &urgency{}
		claim := u.claim()
		began := time.Now()
		go func() {
			time.Sleep(yieldTime / 5)
			u.release(claim)
		}()
		u.yield(t.Context().Done())
		if waited := time.Since(began); waited != yieldTime/5 {
			t.Errorf("they yielded for %s", waited)
		}
		u.yield(t.Context().Done())
		if waited := time.Since(began); waited != yieldTime/5 {
			t.Errorf("they yield without a claim")
		}
	})
}

func TestOthersYieldForALimitedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &urgency{}
		u.claim()
		began := time.Now()
		u.yield(t.Context().Done())
		if waited := time.Since(began); waited != yieldTime {
			t.Errorf("they yielded for %s", waited)
		}
		u.yield(t.Context().Done())
		if waited := time.Since(began); waited != yieldTime {
			t.Error("a claim that is over holds them up")
		}
	})
}

func TestTheEndOfAnOldClaimDoesNotEndANewOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &urgency{}
		old := u.claim()
		time.Sleep(time.Millisecond)
		u.claim()
		u.release(old)
		began := time.Now()
		u.yield(t.Context().Done())
		if time.Since(began) == 0 {
			t.Error("nobody yields")
		}
	})
}

func TestAControlMessageOvertakesWhatYields(t *testing.T) {
	a, b := startPair(t)
	control := withClass(t, openChannel(t, a, b, "control"), ClassControl)
	bulk := withClass(t, openChannel(t, a, b, "bulk"), ClassBulk)
	normal := openChannel(t, a, b, "normal")
	for _, c := range []*Channel{control, bulk, normal} {
		mustReach(t, c, mustSend(t, c, []byte("first")), DeliveryTaken-1)
	}
	receive(t, b, 3)
	peer := a.outbounds.ofPeer(b.id)
	until := time.Now().Add(time.Hour).UnixNano()
	peer.urgency.until.Store(until) // a claim that does not end by itself
	mustSend(t, bulk, make([]byte, 3<<20))
	waitUntil(t, "bulk yields", func() bool { return peer.urgency.waiting() })
	mustSend(t, normal, []byte("normal"))
	mustSend(t, control, []byte("control"))
	if got := receive(t, b, 1)[0]; string(got.Data) != "control" {
		t.Errorf("%d bytes on %s came before the control message", len(got.Data), got.Channel)
	}
	peer.urgency.release(until)
	receive(t, b, 2)
}

func TestALargeControlMessageClaimsTheWayAndGivesItBack(t *testing.T) {
	a, b := startPair(t)
	control := withClass(t, openChannel(t, a, b, "control"), ClassControl)
	mustReach(t, control, mustSend(t, control, []byte("first")), DeliveryAccepted)
	id := mustSend(t, control, make([]byte, 8<<20))
	mustReach(t, control, id, DeliveryAccepted)
	urgency := &a.outbounds.ofPeer(b.id).urgency
	waitUntil(t, "the claim is given back", func() bool { return urgency.until.Load() == 0 })
	receive(t, b, 2)
}

func TestBulkWaitsForATurnAndTheOthersDoNot(t *testing.T) {
	a, b := startPair(t, limits(func(l *Limits) { l.BulkSends = 1 }))
	bulk := withClass(t, openChannel(t, a, b, "bulk"), ClassBulk)
	normal := openChannel(t, a, b, "normal")
	turn, err := a.bulk.take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a.bulk.state.Lock()
	turn.progressed = time.Now().Add(time.Hour) // it does not lapse
	a.bulk.state.Unlock()
	mustSend(t, bulk, make([]byte, 3<<20))
	waitUntil(t, "bulk waits", func() bool {
		a.bulk.state.Lock()
		defer a.bulk.state.Unlock()
		return len(a.bulk.state.waiting) == 1
	})
	mustSend(t, normal, []byte("normal"))
	if got := receive(t, b, 1)[0]; string(got.Data) != "normal" {
		t.Errorf("%d bytes on %s came first", len(got.Data), got.Channel)
	}
	turn.give()
	if got := receive(t, b, 1)[0]; len(got.Data) != 3<<20 {
		t.Errorf("%d bytes came", len(got.Data))
	}
}

func TestBulkLeavesRoomForTheOthers(t *testing.T) {
	const limit = 8 << 20
	a, b := startPair(t, limits(func(l *Limits) {
		l.MessageBytes, l.SendBytes, l.ChannelSendBytes, l.ChannelMessages = 2<<20, limit, limit, 1
	}))
	payload := make([]byte, 1<<20)
	fill := func(c *Channel) (taken int) {
		mustReach(t, c, mustSend(t, c, []byte("it fills the queue")), DeliveryAccepted)
		for {
			if _, err := c.Send(atOnce(), payload); errors.Is(err, ErrWouldBlock) {
				return taken
			} else if err != nil {
				t.Fatal(err)
			}
			taken++
		}
	}
	bulk := fill(withClass(t, openChannel(t, a, b, "bulk"), ClassBulk))
	if bulk == 0 || bulk*len(payload) > limit*3/4 {
		t.Errorf("bulk took %d MiB of %d", bulk, limit>>20)
	}
	peer := a.outbounds.ofPeer(b.id)
	if held := peer.bulk.Load(); held == 0 || held > bulkShare(limit) {
		t.Errorf("%d bytes are counted as bulk", held)
	}
	if normal := fill(openChannel(t, a, b, "normal")); normal == 0 {
		t.Error("nothing is left for the others")
	}
	other := withClass(t, openChannel(t, a, b, "other bulk"), ClassBulk)
	mustSend(t, other, payload) // holds nothing yet
	if _, err := other.Send(atOnce(), payload); !errors.Is(err, ErrWouldBlock) {
		t.Errorf("more bulk: %v", err)
	}
	for _, c := range []*Channel{other} { // what waits counts as what its channel is
		withClass(t, c, ClassNormal)
		withClass(t, c, ClassBulk)
	}
	a.outbounds.disconnect(b.id, ErrClosed, 0)
	if peer.bulk.Load() != 0 || peer.held.Load() != 0 {
		t.Errorf("%d bytes stay counted, %d of them bulk", peer.held.Load(), peer.bulk.Load())
	}
}

func TestHandlesShareTheClassAndAFirstHandleBeginsAnew(t *testing.T) {
	a, b := startPair(t)
	name := directChannel(a.id, b.id, "~")
	one, err := a.OpenChannel(name, ChannelOptions{})
	if err != nil {
		t.Fatal(err)
	}
	two := openChannel(t, a, b, "~")
	withClass(t, one, ClassBulk)
	if got := two.SendOptions().Class; got != ClassBulk {
		t.Errorf("the other handle says %s", got)
	}
	one.Close()
	two.Close()
	three := openChannel(t, a, b, "~")
	if got := three.SendOptions().Class; got != ClassNormal {
		t.Errorf("a first handle begins as %s", got)
	}
	two.out.hold(ChannelOptions{}) // for the Close of openChannel
}

func TestSendOptionsAreRead(t *testing.T) {
	base := SendOptions{Compression: Compression{Above: 1024}}
	got, err := ParseSendOptions(`{"class":"bulk","compression":["lz4"],"progress":true,"durable":false}`, base)
	if err != nil || got.Class != ClassBulk || len(got.Compression.Codecs) != 1 || got.Compression.Above != 1024 || !got.Progress ||
		got.Durable == nil || *got.Durable {
		t.Errorf("read %+v, %v", got, err)
	}
	for _, text := range []string{``, `{`, `[]`, `{"klass":"bulk"}`, `{"class":"fast"}`, `{"class":1}`, `{"compression":"zstd"}`,
		`{"compression":["brotli"]}`, `{"compress_above":-1}`, `{"progress":1}`, `{"durable":"yes"}`, `{"class":"bulk","class":"bulk"}`, `{} {}`} {
		if got, err := ParseSendOptions(text, base); !errors.Is(err, ErrArgument) {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
}
