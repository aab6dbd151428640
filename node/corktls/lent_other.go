//go:build !linux

package corktls

import "errors"

type lent struct{}

func newLent(any) *lent { return nil }

func (*lent) Read([]byte) (int, error)        { return 0, ErrNothing }
func (*lent) await(func() bool, func()) error { return errors.ErrUnsupported }
func (*lent) poll() bool                      { return false }
func (*lent) quiet(int) (int, error)          { return 0, errors.ErrUnsupported }
