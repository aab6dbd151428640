package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"peerbus/node/store"
	"peerbus/queue"
)

// crashMessages is what one run sends.
const crashMessages = 8

// crashRun is a sender, a receiver and the program of each. One of them crashes at one writing of its disk and starts again.
type crashRun struct {
	t        *testing.T
	dirs     [2]string
	nodes    [2]*Node // sender, receiver
	channel  *Channel
	programs sync.WaitGroup

	ledger struct {
		sync.Mutex
		entries   []string // in the order in which the program saw them first
		seen      map[string]bool
		confirmed map[string]bool
	}
}

const (
	crashSender = iota
	crashReceiver
)

// freeze stops the disk of a node at its at-th transaction, before or after that is written, until the end of the test or thaw.
// frozen is closed then. What is written later is on no disk that anybody reads.
func freeze(n *Node, at int, committed bool) (frozen chan struct{}, thaw func()) {
	frozen, over := make(chan struct{}), make(chan struct{})
	count := 0
	n.durables.store.Watch(func(now bool) error {
		if now == committed {
			count++
		}
		if count < at {
			return nil
		}
		if count == at && now == committed {
			count++
			close(frozen)
			<-over
		}
		return errFrozen
	})
	return frozen, sync.OnceFunc(func() { close(over) })
}

var errFrozen = errors.New("the process of this disk is gone")

// copyStore answers a directory with the same identity and store.
func copyStore(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	for _, name := range []string{"identity.key", store.FileName} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(to, name), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// send sends what is left, from the program's point of view: the store knows how far the process before came.
func (r *crashRun) send(c *Channel) {
	next := uint64(1)
	if info, err := c.node.ChannelInfo(c.Name()); err == nil {
		next = info.Last + 1
	}
	for ; next <= crashMessages; next++ {
		if _, err := c.Send(c.node.ctx, fmt.Append(nil, next)); err != nil {
			return
		}
	}
}

// receive takes, writes into the ledger and confirms, until its node ends.
func (r *crashRun) receive(n *Node) {
	for {
		got, err := n.queue.Receive(n.ctx, "", 3, 0)
		if err != nil {
			return
		}
		var list []Confirmation
		for _, m := range got {
			r.note(m)
			list = append(list, Confirmation{m.Channel, m.ID})
		}
		if _, err := n.Confirm(list); err == nil {
			r.ledger.Lock()
			for _, m := range got {
				r.ledger.confirmed[string(m.Data)] = true
			}
			r.ledger.Unlock()
		}
	}
}

func (r *crashRun) note(m queue.Message) {
	r.ledger.Lock()
	defer r.ledger.Unlock()
	entry := string(m.Data)
	switch {
	case r.ledger.confirmed[entry]:
		r.t.Errorf("message %s came again after its confirmation", entry)
	case r.ledger.seen[entry] && !m.Again:
		r.t.Errorf("message %s came again and is not marked", entry)
	case !r.ledger.seen[entry]:
		r.ledger.seen[entry] = true
		r.ledger.entries = append(r.ledger.entries, entry)
	}
}

func (r *crashRun) start(side int) {
	n := startNode(r.t, durable(r.dirs[side]))
	r.nodes[side] = n
	if side == crashReceiver {
		r.programs.Go(func() { r.receive(n) })
	}
}

func (r *crashRun) open() {
	r.channel = openChannel(r.t, r.nodes[crashSender], r.nodes[crashReceiver], "~")
}

// crash runs until the side crashes or everything is delivered, and answers whether it crashed.
func (r *crashRun) crash(side, at int, committed bool) bool {
	frozen, thaw := freeze(r.nodes[side], at, committed)
	defer thaw()
	r.open()
	connect(r.t, r.nodes[crashSender], r.nodes[crashReceiver])
	sent, c := make(chan struct{}), r.channel
	r.programs.Go(func() { defer close(sent); r.send(c) })
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(r.t.Context())
	go func() {
		defer close(done)
		<-sent
		_ = c.Await(ctx, crashMessages, DeliveryTaken)
	}()
	crashed := false
	select {
	case <-frozen:
		crashed = true
		dir := copyStore(r.t, r.dirs[side])
		thaw()
		mustClose(r.t, r.nodes[side])
		other, gone := r.nodes[1-side].host.Network(), r.nodes[side].id
		waitUntil(r.t, "the other side sees the end", func() bool { return len(other.ConnsToPeer(gone)) == 0 })
		r.dirs[side] = dir
		r.start(side)
	case <-done:
	}
	cancel()
	<-done
	return crashed
}

// finish goes on until everything is confirmed, and looks at the ledger.
func (r *crashRun) finish() {
	r.open()
	connect(r.t, r.nodes[crashSender], r.nodes[crashReceiver])
	r.send(r.channel)
	mustReach(r.t, r.channel, crashMessages, DeliveryTaken)
	for _, n := range r.nodes {
		expectLosses(r.t, n, directionIn, map[string]uint64{})
		expectLosses(r.t, n, directionOut, map[string]uint64{})
		mustClose(r.t, n)
	}
	r.programs.Wait()
	if got, want := fmt.Sprint(r.ledger.entries), "[1 2 3 4 5 6 7 8]"; got != want {
		r.t.Errorf("the ledger has %s", got)
	}
}

// Either process crashes at each writing of its disk, right before it and right after it, when nobody has heard of it yet.
func TestACrashAtAnyWritingLosesAndRepeatsNothing(t *testing.T) {
	for side, name := range []string{"sender", "receiver"} {
		for _, committed := range []bool{false, true} {
			for at, crashed := 1, true; crashed && at < 40; at++ {
				t.Run(fmt.Sprintf("%s/%v/%d", name, committed, at), func(t *testing.T) {
					r := &crashRun{t: t, dirs: [2]string{t.TempDir(), t.TempDir()}}
					r.ledger.seen, r.ledger.confirmed = map[string]bool{}, map[string]bool{}
					r.start(crashSender)
					r.start(crashReceiver)
					crashed = r.crash(side, at, committed)
					r.finish()
				})
			}
		}
	}
}
