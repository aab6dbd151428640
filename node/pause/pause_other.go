//go:build !linux

package pause

import "time"

// For may take longer.
func For(d time.Duration) { time.Sleep(d) }
