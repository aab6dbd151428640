package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"peerbus/node/store"
	"peerbus/queue"
)

// pairOfDurables is a sender and a receiver, and the directory of each.
type pairOfDurables struct {
	a, b       *Node
	aDir, bDir string
	c          *Channel
}

func startDurables(t *testing.T, change ...func(*Options)) *pairOfDurables {
	t.Helper()
	p := &pairOfDurables{aDir: t.TempDir(), bDir: t.TempDir()}
	p.a = startNode(t, durable(p.aDir))
	p.b = startNode(t, append(change, durable(p.bDir))...)
	p.meet(t)
	return p
}

// meet connects them and opens the channel, after a start of either.
func (p *pairOfDurables) meet(t *testing.T) {
	t.Helper()
	connect(t, p.a, p.b)
	p.c = openChannel(t, p.a, p.b, "~")
}

func (p *pairOfDurables) send(t *testing.T, first, last int) {
	t.Helper()
	for i := first; i <= last; i++ {
		mustSend(t, p.c, fmt.Append(nil, i))
	}
}

func removeStore(t *testing.T, dir string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, store.FileName)); err != nil {
		t.Fatal(err)
	}
}

func TestAReceiverThatLostItsFileMakesWhatItHadInDoubt(t *testing.T) {
	p := startDurables(t)
	p.send(t, 1, 5)
	for _, m := range receive(t, p.b, 3) {
		mustConfirm(t, p.b, m)
	}
	mustReach(t, p.c, 3, DeliveryTaken)
	receive(t, p.b, 2)
	mustClose(t, p.b)
	removeStore(t, p.bDir)
	p.b = startNode(t, durable(p.bDir))
	p.meet(t)
	eventOf(t, p.a, EventDelivery, map[string]any{"state": "lost", "first": uint64(4), "last": uint64(5), "in_doubt": true})
	p.send(t, 6, 6)
	confirmAll(t, p.b, 6, 1)
	mustReach(t, p.c, 6, DeliveryTaken)
}

func TestASenderThatLostItsFileBeginsAnewAndIdsDoNotComeTwice(t *testing.T) {
	p := startDurables(t)
	p.send(t, 1, 3)
	old := receive(t, p.b, 3)
	mustConfirm(t, p.b, old[0])
	mustReach(t, p.c, 1, DeliveryTaken)
	mustClose(t, p.a)
	removeStore(t, p.aDir)
	p.a = startNode(t, durable(p.aDir))
	p.meet(t)
	p.send(t, 1, 2)
	eventOf(t, p.b, EventSenderRestarted, map[string]any{"channel": p.c.Name()})
	for i, m := range receive(t, p.b, 2) {
		if m.ID != uint64(4+i) || string(m.Data) != fmt.Sprint(1+i) {
			t.Errorf("message %q has the id %d", m.Data, m.ID)
		}
		mustConfirm(t, p.b, old[1+i]) // of the sender before: it says nothing about these
		if err := p.c.Await(atOnce(), uint64(1+i), DeliveryTaken); err == nil {
			t.Error("a confirmation of another message was taken for this one")
		}
		mustConfirm(t, p.b, m)
		mustReach(t, p.c, uint64(1+i), DeliveryTaken)
	}
}

func TestAFullDiskIsAnErrorOfTheConfirmationAndHoldsTheSender(t *testing.T) {
	p := startDurables(t, limits(func(l *Limits) { l.ChannelMessages = 4 * seenAhead }))
	p.send(t, 1, 1)
	m := receive(t, p.b, 1)[0]
	var full atomic.Bool
	full.Store(true)
	p.b.durables.store.Watch(func(committed bool) error {
		if full.Load() && !committed {
			return fmt.Errorf("writing: %w", syscall.ENOSPC)
		}
		return nil
	})
	list := []Confirmation{{m.Channel, m.ID}}
	if _, err := p.b.Confirm(list); !errors.Is(err, ErrStore) || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v", err)
	}
	p.send(t, 2, 2+seenAhead) // more than the disk knows that they may be handed over
	eventOf(t, p.b, EventStoreFailed, map[string]any{"channel": m.Channel, "what": "receiving"})
	full.Store(false)
	if _, err := p.b.Confirm(list); err != nil {
		t.Fatal(err)
	}
	confirmAll(t, p.b, 2, 1+seenAhead)
	mustReach(t, p.c, 2+seenAhead, DeliveryTaken)
}

func TestOnlyMessagesThatCameCanBeConfirmed(t *testing.T) {
	p := startDurables(t)
	p.send(t, 1, 1)
	m := receive(t, p.b, 1)[0]
	for _, id := range []uint64{0, 2, 1 << 63} {
		if _, err := p.b.Confirm([]Confirmation{{m.Channel, 1}, {m.Channel, id}}); !errors.Is(err, ErrArgument) {
			t.Errorf("confirming %d: %v", id, err)
		}
	}
	if err := p.c.Await(atOnce(), 1, DeliveryTaken); err == nil {
		t.Error("a refused call confirmed something")
	}
	mustConfirm(t, p.b, m)
	mustConfirm(t, p.b, m)
}

func TestWithoutADurableSenderThereIsNothingToConfirm(t *testing.T) {
	a, b := startNode(t), startNode(t, durable(t.TempDir()))
	connect(t, a, b)
	c := openChannel(t, a, b, "~")
	mustReach(t, c, mustSend(t, c, []byte("1")), DeliveryAccepted)
	m := receive(t, b, 1)[0]
	if count, err := b.Confirm([]Confirmation{{m.Channel, m.ID}}); count != 0 || err != nil {
		t.Errorf("%d, %v", count, err)
	}
	mustReach(t, c, 1, DeliveryTaken)
}

// What the program's own policy evicts is lost, counted, and does not come again.
func TestEvictedMessagesAreDoneWith(t *testing.T) {
	p := startDurables(t)
	if err := p.b.SetPolicy(p.c.Name(), queue.Latest); err != nil {
		t.Fatal(err)
	}
	p.send(t, 1, 5)
	mustReach(t, p.c, 4, DeliveryTaken)
	mustClose(t, p.b)
	p.b = startNode(t, durable(p.bDir))
	p.meet(t)
	confirmAll(t, p.b, 5, 1)
	mustReach(t, p.c, 5, DeliveryTaken)
}

func TestUnconfirmedMessagesHoldTheSender(t *testing.T) {
	p := startDurables(t)
	const size, count = 256 << 10, 40
	for range count {
		mustSend(t, p.c, make([]byte, size))
	}
	taken := 0
	for taken*size < 4<<20 { // the window
		taken += len(receive(t, p.b, 1))
	}
	if info, err := p.a.ChannelInfo(p.c.Name()); err != nil || info.Waiting != count {
		t.Fatalf("%+v, %v", info, err)
	}
	for id := uint64(1); id <= count; id++ {
		if int(id) > taken {
			taken += len(receive(t, p.b, 1))
		}
		mustConfirm(t, p.b, queue.Message{Channel: p.c.Name(), ID: id})
	}
	mustReach(t, p.c, count, DeliveryTaken)
}

// A hand-over whose host cannot confirm is the confirmation.
func TestWhatIsHandedOverForGoodIsConfirmed(t *testing.T) {
	p := startDurables(t)
	p.send(t, 1, 3)
	p.b.ConfirmTaken(receive(t, p.b, 3))
	mustReach(t, p.c, 3, DeliveryTaken)
}
