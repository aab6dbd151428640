//go:build !linux

package node

import "time"

func pause(d time.Duration) { time.Sleep(d) }
