//go:build !linux

package node

import (
	"context"
	"errors"
	"time"
)

// lapseTimer is for Linux, as lending is.
type lapseTimer struct{}

func newLapseTimer() (*lapseTimer, error)     { return nil, errors.ErrUnsupported }
func (*lapseTimer) set(time.Duration) error   { return errors.ErrUnsupported }
func (*lapseTimer) wait(context.Context) bool { return false }
func (*lapseTimer) close()                    {}
