package session

import (
	"flag"
	"fmt"
	"testing"
	"time"
)

var worldSeeds = flag.Int("worlds", 300, "how many seeds the tests of whole sessions try")

func (w *world) step() {
	switch n := w.rng.IntN(1000); {
	case n < 250 && w.can.shared:
		w.publish()
	case n < 250:
		w.accept()
	case n < 300:
		w.fill()
	case n < 340:
		w.open()
	case n < 560:
		w.write()
	case n < 780:
		w.readSome()
	case n < 850:
		w.acknowledge()
	case n < 950:
		w.hear()
	case n < 965:
		w.sender.RequestAck()
	case n < 985:
		w.tick(time.Duration(w.rng.IntN(20)) * time.Millisecond)
	default:
		w.fault()
	}
	w.sweep()
	w.check()
}

func (w *world) fault() {
	switch n := w.rng.IntN(20); {
	case n < 12 && w.can.cuts:
		w.cut()
	case n == 12 && w.can.receiverRestarts:
		w.restartReceiver()
	case n == 13 && w.can.senderRestarts:
		w.restartSender()
	case n == 14 && w.can.forgets:
		w.cut()
		w.forget()
	case n == 15 && w.can.expiry:
		w.cut()
		w.tick(0)
		w.tick(time.Minute)
	}
}

// settleAll lets everything work until nothing waits.
func (w *world) settleAll() {
	for range 200000 {
		if w.sender.Unsettled() == 0 && len(w.filled) == 0 && len(w.writes) == 0 {
			return
		}
		w.open()
		w.fill()
		w.write()
		w.readSome()
		w.tick(time.Millisecond)
		w.acknowledge()
		w.hear()
		w.sweep()
		w.check()
	}
	w.t.Fatalf("%d messages stay unsettled: %+v, stream %+v", w.sender.Unsettled(), w.sender.Progress(), w.sender.stream)
}

func (w *world) judge() (losses int) {
	if w.sender.Held() != 0 {
		w.t.Errorf("%d bytes are held for nothing", w.sender.Held())
	}
	for m, f := range w.fates {
		switch {
		case f.abandoned:
		case f.accepted && f.delivered == 1 && !f.lost:
		case f.givenUp && f.delivered == 0 && !f.accepted && !f.lost:
		case f.lost && !f.accepted && (f.delivered == 0 || !f.certain && f.delivered == 1):
			losses++
		default:
			w.t.Errorf("message %v: %+v", m, *f)
		}
	}
	return losses
}

func runWorlds(t *testing.T, can faults, lossless bool) {
	for seed := range *worldSeeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorld(t, uint64(seed), can)
			for range 1500 {
				w.step()
			}
			w.settleAll()
			if losses := w.judge(); lossless && losses > 0 {
				t.Errorf("%d messages are lost without a reason", losses)
			}
		})
	}
}

func TestEveryMessageArrivesOnceAndInOrderWhateverHappensToStreams(t *testing.T) {
	runWorlds(t, faults{cuts: true, early: true}, true)
}

func TestTheSenderLearnsExactlyWhichMessagesTheQueueDropped(t *testing.T) {
	runWorlds(t, faults{cuts: true, drops: true}, false)
}

func TestNoMessageIsLostUntoldOrDoubledWhenEverythingFails(t *testing.T) {
	runWorlds(t, faults{true, true, true, true, true, true, true, true, false}, false)
}

func TestSharedMessagesArriveOnceInOrderAndNothingThatWasGivenUp(t *testing.T) {
	runWorlds(t, faults{cuts: true, early: true, shared: true}, true)
}

func TestNoSharedMessageIsLostUntoldOrDoubledWhenEverythingFails(t *testing.T) {
	runWorlds(t, faults{true, true, true, true, true, true, true, true, true}, false)
}
