package node

import (
	"fmt"
	"testing"
)

func TestMoreChannelsThanStreamsTakeTurns(t *testing.T) {
	a, b := startPair(t, limits(func(l *Limits) { l.ChannelStreams, l.ChannelSessions = 4, 64 }))
	const channels = 12
	for round := range 3 {
		for i := range channels {
			c := openChannel(t, a, b, fmt.Sprint(i))
			mustReach(t, c, mustSend(t, c, number(i, round, 0)), DeliveryAccepted)
		}
	}
	expectOrder(t, receive(t, b, 3*channels), channels, 3)
	waitUntil(t, "no more streams than allowed are open", func() bool {
		p := a.outbounds.ofPeer(b.id)
		p.state.Lock()
		defer p.state.Unlock()
		return p.state.streams <= 4
	})
}

func TestManyHeldChannelsLeaveRoomForOneWithoutAHandle(t *testing.T) {
	a, b := startPair(t)
	for i := range maxIdleOutbounds {
		openChannel(t, a, b, fmt.Sprint(i))
	}
	// This one is idle until it has the message, and is the only one that could be forgotten.
	if err := a.Send(within(t), directChannel(a.id, b.id, "~"), []byte("x")); err != nil {
		t.Fatal(err)
	}
	openChannel(t, a, b, "held")
	receive(t, b, 1)
}

func TestAForgottenChannelIsSentOnAgain(t *testing.T) {
	a, b := startPair(t)
	channel := directChannel(a.id, b.id, "~")
	for round := range 2 {
		if err := a.Send(within(t), channel, number(0, round, 8)); err != nil {
			t.Fatal(err)
		}
		receive(t, b, 1)
		o := a.outbounds.find(channel)
		waitUntil(t, "the idle channel is forgotten", func() bool {
			o.finishIdle(0)
			a.outbounds.state.Lock()
			defer a.outbounds.state.Unlock()
			a.outbounds.forgetIdleLocked(o.peer, nil)
			return a.outbounds.state.byName[channel] == nil
		})
	}
}

func TestChannelsTakeTurnsWithFewStreams(t *testing.T) {
	a, b := startPair(t, limits(func(l *Limits) { l.ChannelStreams, l.ChannelSessions = 4, 1024 }))
	var channels []*Channel
	for i := range 200 {
		c := openChannel(t, a, b, fmt.Sprint("turn", i))
		mustSend(t, c, []byte("one message each, all at once"))
		channels = append(channels, c)
	}
	receive(t, b, len(channels))
	for _, c := range channels {
		mustReach(t, c, 1, DeliveryAccepted)
	}
}

func TestMoreChannelsThanQUICHasStreamsTakeTurns(t *testing.T) {
	a, b := startPair(t, overQUIC(t), limits(func(l *Limits) { l.Channels, l.PeerChannels = 1024, 1024 }))
	const channels = 260
	for i := range channels {
		mustSend(t, openChannel(t, a, b, fmt.Sprint("turn", i)), []byte("x"))
	}
	receive(t, b, channels)
}
