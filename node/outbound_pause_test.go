package node

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestANewConnectionEndsPausesButAfterManyFailuresNotTwoInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &outbound{node: &Node{ctx: t.Context()}, came: make(chan struct{}, 1)}
		var waited []time.Duration
		for _, failures := range []int{1, 2, eagerRetries + 1, eagerRetries + 2, eagerRetries + 3} {
			o.state.failures = failures
			select {
			case o.came <- struct{}{}:
			default:
			}
			start := time.Now()
			if !o.pause() {
				t.Fatal("the node is open, and the pause says that it closes")
			}
			waited = append(waited, time.Since(start))
		}
		if want := []time.Duration{0, 0, lastRetry, 0, lastRetry}; !slices.Equal(waited, want) {
			t.Errorf("waited %v, want %v", waited, want)
		}
	})
}
