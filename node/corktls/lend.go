package corktls

import "errors"

// ErrNothing is what Read answers after Lend when nothing has come: wait for more with Await.
var ErrNothing error = nothing{}

// nothing is an error after which TLS goes on.
type nothing struct{}

func (nothing) Error() string   { return "nothing has come yet" }
func (nothing) Timeout() bool   { return true }
func (nothing) Temporary() bool { return true }

// Lend makes Read never wait from now on, so that whoever waits for the connection, by Await, does not keep others from reading
// it. It answers false, and changes nothing, where that cannot be: on anything but TCP, and on other systems than Linux. To be
// called before the first Read.
func (c *Conn) Lend() bool {
	if !c.ReadsResume() {
		return false
	}
	c.cork.lent = newLent(c.cork.Conn)
	return c.cork.lent != nil
}

// Await waits, as long as the read deadline allows, until something has come for Read. The caller has given the right to read
// up: take asks for it back, once and again, which may fail, since another may be reading, and leave gives it up. When Await
// answers nil, its last take has succeeded and was not followed by leave; with an error the caller does not have the right. A
// take that failed was perhaps for something that nobody will see: then make the wait end by a read deadline.
func (c *Conn) Await(take func() bool, leave func()) error { return c.cork.lent.await(take, leave) }

// Poll is Await for one who has the right to read and does not want to wait. It tells whether something has come.
func (c *Conn) Poll() bool { return c.cork.lent.poll() }

// Quiet makes the kernel wake nobody who awaits less than so many bytes; somebody looks by Poll meanwhile, or at the socket, which
// it answers. With 1 everybody is told again, of what has come, too.
func (c *Conn) Quiet(least int) (descriptor int, err error) {
	if c.cork.lent == nil {
		return 0, errors.ErrUnsupported
	}
	return c.cork.lent.quiet(least)
}
