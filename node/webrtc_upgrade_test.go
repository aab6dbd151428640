package node

import (
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
)

// failing is a relayed pair whose first automatic attempt at WebRTC has failed, because a names a TURN server without an
// account; after the pause comes the next one.
func failing(t *testing.T, pause time.Duration) (a, b *Node) {
	t.Helper()
	a, b = startRelayed(t, time.Millisecond, func(o *Options) {
		o.Config.WebRTC.TURNServers = []TURNServer{{URLs: []string{"turn:127.0.0.1:9"}}}
		o.tune = func(n *Node) { n.webrtc.upgradeRetry = pause }
	})
	waitUntil(t, "an attempt has failed", func() bool { return a.webrtc.counted.failed.Load() > 0 })
	return a, b
}

// repair makes the next attempt succeed, and tells nobody.
func repair(n *Node) {
	n.webrtc.state.Lock()
	defer n.webrtc.state.Unlock()
	n.webrtc.state.ice.TURNServers = nil
}

func planOf(n, to *Node) *upgradePlan {
	n.webrtc.state.RLock()
	defer n.webrtc.state.RUnlock()
	return n.webrtc.state.waiting[to.id]
}

func TestAnAutomaticWebRTCConnectionThatFailedIsTriedAgain(t *testing.T) {
	a, b := failing(t, 5*time.Millisecond)
	waitUntil(t, "three attempts have failed", func() bool { return a.webrtc.counted.failed.Load() >= 3 })
	repair(a)
	repair(b)
	waitUntil(t, "the connection is direct", func() bool { return directTo(a, b) != nil })
	waitUntil(t, "nothing is planned", func() bool { return planOf(a, b) == nil })
}

func TestWhatMayHelpBeginsTheNextAttemptAtOnce(t *testing.T) {
	for what, happens := range map[string]func(*testing.T, *Node){
		"other ICE servers": func(t *testing.T, a *Node) {
			if err := a.UpdateICE([]byte(`{"turn_servers":[]}`)); err != nil {
				t.Error(err)
			}
		},
		"other addresses": func(t *testing.T, a *Node) {
			repair(a)
			emitter, err := a.host.EventBus().Emitter(new(event.EvtLocalAddressesUpdated))
			if err != nil {
				t.Fatal(err)
			}
			defer emitter.Close()
			if err := emitter.Emit(event.EvtLocalAddressesUpdated{}); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			a, b := failing(t, time.Hour)
			repair(b)
			happens(t, a)
			waitUntil(t, "the connection is direct", func() bool { return directTo(a, b) != nil })
		})
	}
}

func TestNoOtherAttemptComesWhenTheProgramWantsNoneOrThePeerIsGone(t *testing.T) {
	for what, happens := range map[string]func(t *testing.T, a, b *Node){
		"CloseWebRTC": func(_ *testing.T, a, b *Node) { a.CloseWebRTC(b.id) },
		"Disconnect": func(t *testing.T, a, b *Node) {
			if err := a.Disconnect(b.id); err != nil {
				t.Error(err)
			}
		},
		"the peer closes": func(t *testing.T, _, b *Node) {
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			a, b := failing(t, time.Hour)
			happens(t, a, b)
			waitUntil(t, "nothing is planned", func() bool { return planOf(a, b) == nil })
		})
	}
}

func TestANewRelayedConnectionBeginsAnewWithAPlanThatFailed(t *testing.T) {
	a, b := failing(t, time.Hour)
	failed := planOf(a, b)
	anew := a.webrtc.plan(b.id)
	if anew == nil {
		t.Fatal("there is no new plan")
	}
	select {
	case <-failed.needless:
	default:
		t.Error("the one that failed goes on")
	}
	if a.webrtc.plan(b.id) != nil {
		t.Error("a plan whose first attempt is to come was replaced")
	}
}

// TestTheFirstPunchThatFailsLetsWebRTCBeginWhenAServerIsNamed plans WebRTC for an hour later.
func TestTheFirstPunchThatFailsLetsWebRTCBeginWhenAServerIsNamed(t *testing.T) {
	a, b := startRelayed(t, time.Hour)
	waitUntil(t, "it is planned", func() bool { return planOf(a, b) != nil })
	planned := planOf(a, b)
	a.webrtc.punchFailed(b.id, false)
	if len(planned.now) > 0 {
		t.Error("it begins beside a punch that may succeed, without a server")
	}
	if err := a.UpdateICE([]byte(`{"stun_servers":["stun:127.0.0.1:9"]}`)); err != nil {
		t.Fatal(err)
	}
	if directTo(a, b) != nil || len(planned.now) > 0 {
		t.Error("it begins before any punch has failed")
	}
	a.webrtc.punchFailed(b.id, false)
	waitUntil(t, "the connection is direct", func() bool { return directTo(a, b) != nil })
}

func TestAPunchThatAWebRTCConnectionOvertakesIsRecordedAsThat(t *testing.T) {
	a, b := startRelayed(t, time.Hour)
	a.punches.state.Lock()
	a.punches.state.attempts[b.id] = 1
	a.punches.state.Unlock()
	if err := a.webrtc.conns.dial(within(t), b.id); err != nil {
		t.Fatal(err)
	}
	e := eventOf(t, a, EventHolePunch, map[string]any{"peer": b.id.String(), "direct": false})
	if e.Fields["reason"] != "a WebRTC connection came first" {
		t.Errorf("the reason is %v", e.Fields["reason"])
	}
}
