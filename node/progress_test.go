package node

import (
	"bytes"
	"io"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

func TestProgressIsToldOncePerPeriodAndNotAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events := NewEvents(100, nil)
		p := newProgress(events, directionOut, "channel", "peer", 7, 100)
		for range 100 {
			time.Sleep(progressPeriod / 4)
			p.add(1)
		}
		told, _ := events.Pop(atOnceContext, 100)
		if len(told) != 24 {
			t.Fatalf("%d events for 100 steps in 25 periods", len(told))
		}
		for i, e := range told {
			if e.Type != EventProgress || !hasFields(e, map[string]any{"direction": "out", "id": uint64(7), "bytes": 4 * (i + 1), "total": 100}) {
				t.Errorf("event %d is %+v", i, e)
			}
		}
	})
}

func TestNoProgressCostsNothingAndTellsNothing(t *testing.T) {
	var p *progress
	p.add(1)
	source := bytes.NewReader(nil)
	if p.reader(source) != io.Reader(source) {
		t.Error("reading is wrapped")
	}
}

func TestWhatIsReadIsProgress(t *testing.T) {
	events := NewEvents(10, nil)
	p := newProgress(events, directionIn, "channel", "peer", 1, 10)
	p.next = time.Time{}
	if err := iotest.TestReader(p.reader(bytes.NewReader([]byte("0123456789"))), []byte("0123456789")); err != nil {
		t.Error(err)
	}
}
