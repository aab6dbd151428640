package node

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// A peer whose gater refuses us is connected for a moment at each try: such connections must not take the pauses away.
func TestANewConnectionEndsAPauseButNotTwoInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &outbound{node: &Node{ctx: t.Context()}, came: make(chan struct{}, 1)}
		var waited []time.Duration
		for range 4 {
			o.state.failures++
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
		if want := []time.Duration{0, 2 * firstRetry, 0, 8 * firstRetry}; !slices.Equal(waited, want) {
			t.Errorf("waited %v, want %v", waited, want)
		}
	})
}
