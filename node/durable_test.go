package node

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"peerbus/queue"
)

// durable makes the channels of a node durable, in an identity directory that outlives it.
func durable(dir string) func(*Options) {
	return func(o *Options) {
		o.Config.Channel.Durable = true
		o.Config.IdentityDir = dir
	}
}

func mustClose(t *testing.T, n *Node) {
	t.Helper()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
}

func expectInOrder(t *testing.T, n *Node, first, count int) {
	t.Helper()
	for i, m := range receive(t, n, count) {
		if want := fmt.Sprint(first + i); string(m.Data) != want || m.ID != uint64(first+i) {
			t.Fatalf("message %d is %q with id %d", first+i, m.Data, m.ID)
		}
	}
	if left := n.queue.Take(nil, "", 0, 0); len(left) > 0 {
		t.Fatalf("%d messages too many, the first one %q", len(left), left[0].Data)
	}
}

func TestADurableMessageForAnOfflinePeerOutlivesItsProcess(t *testing.T) {
	dir := t.TempDir()
	a, b := startNode(t, durable(dir)), startNode(t)
	c := openChannel(t, a, b, "~")
	for i := 1; i <= 20; i++ {
		if id := mustSend(t, c, fmt.Append(nil, i)); id != uint64(i) {
			t.Fatalf("message %d has the id %d", i, id)
		}
	}
	mustClose(t, a)
	expectLosses(t, a, directionOut, map[string]uint64{})

	again := startNode(t, durable(dir))
	c = openChannel(t, again, b, "~")
	if id := mustSend(t, c, []byte("21")); id != 21 {
		t.Fatalf("the ids do not go on: %d", id)
	}
	connect(t, again, b)
	expectInOrder(t, b, 1, 21)
	mustReach(t, c, 21, DeliveryTaken)
}

func TestADurableSessionGoesOnInTheNextProcess(t *testing.T) {
	dir := t.TempDir()
	b := startNode(t)
	next := 1
	for range 5 {
		a := startNode(t, durable(dir))
		c := openChannel(t, a, b, "~")
		connect(t, a, b)
		for range 50 {
			mustSend(t, c, fmt.Append(nil, next))
			next++
		}
		mustClose(t, a)
	}
	last := startNode(t, durable(dir))
	connect(t, last, b)
	expectInOrder(t, b, 1, next-1)
	events, _ := b.events.Pop(atOnce(), 4096)
	if slices.ContainsFunc(events, func(e Event) bool { return e.Type == EventSenderRestarted }) {
		t.Error("the receiver took the session for a new one")
	}
}

func TestAReceiverThatKeepsNothingSaysSo(t *testing.T) {
	b := startNode(t)
	d := startNode(t, durable(t.TempDir()))
	connect(t, d, b)
	c := openChannel(t, d, b, "~")
	mustReach(t, c, mustSend(t, c, []byte("1")), DeliveryAccepted)
	eventOf(t, d, EventChannelDurable, map[string]any{"channel": c.Name(), "receiver": false})
	info, err := d.ChannelInfo(c.Name())
	if err != nil || !slices.Contains(info.Guarantees, "kept") || slices.Contains(info.Guarantees, "durable") {
		t.Errorf("info %+v, %v", info, err)
	}
}

func TestAFullOutboxIsBackPressureAndGivesRoomAgain(t *testing.T) {
	small := func(o *Options) { o.Config.Limits.OutboxBytes = 4096 }
	a, b := startNode(t, durable(t.TempDir()), small), startNode(t)
	c := openChannel(t, a, b, "~")
	taken := 0
	for {
		_, err := c.Send(atOnce(), fmt.Append(nil, taken+1))
		if errors.Is(err, ErrWouldBlock) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if taken++; taken > 4096 {
			t.Fatal("the outbox has no bound")
		}
	}
	connect(t, a, b)
	eventOf(t, a, EventWritable, map[string]any{"channel": c.Name()})
	mustSend(t, c, fmt.Append(nil, taken+1))
	expectInOrder(t, b, 1, taken+1)
}

func TestWhatIsDeliveredWhileTheDiskIsWrittenLeavesItAfterwards(t *testing.T) {
	a, b := startNode(t, durable(t.TempDir())), startNode(t)
	connect(t, a, b)
	c := openChannel(t, a, b, "~")
	mustReach(t, c, mustSend(t, c, []byte("1")), DeliveryAccepted)
	k := c.out.kept
	empty := func() bool {
		room := &k.durables.room.state
		room.Lock()
		defer room.Unlock()
		return room.used == 0
	}
	waitUntil(t, "the disk holds nothing", empty)
	c.out.state.Lock()
	k.pruning = true // as while the removal of the first message is written
	c.out.state.Unlock()
	mustReach(t, c, mustSend(t, c, []byte("2")), DeliveryAccepted)
	if empty() {
		t.Fatal("two removals at once")
	}
	(&keptPrune{out: c.out, settled: 1}).done(nil)
	waitUntil(t, "the disk holds nothing", empty)
}

func TestABacklogLargerThanTheWindowIsFedFromTheDisk(t *testing.T) {
	dir := t.TempDir()
	small := limits(func(l *Limits) { l.ChannelSendBytes = 64 << 10; l.SendMessages = 100 })
	a, b := startNode(t, durable(dir), small), startNode(t)
	c := openChannel(t, a, b, "~")
	payloads := make([][]byte, 5000)
	for i := range payloads {
		payloads[i] = fmt.Append(nil, i+1)
	}
	for sent := 0; sent < len(payloads); {
		_, taken, err := c.SendBatch(within(t), payloads[sent:])
		if err != nil {
			t.Fatal(err)
		}
		sent += taken
	}
	connect(t, a, b)
	expectInOrder(t, b, 1, len(payloads))
	mustReach(t, c, uint64(len(payloads)), DeliveryAccepted)
	if err := a.Flush(within(t), c.Name()); err != nil {
		t.Error(err)
	}
}

func TestADisconnectedDurableChannelGoesOnWithTheNextConnection(t *testing.T) {
	a, b := startNode(t, durable(t.TempDir())), startNode(t)
	connect(t, a, b)
	c := openChannel(t, a, b, "~")
	mustReach(t, c, mustSend(t, c, []byte("1")), DeliveryAccepted)
	if err := a.Disconnect(b.id); err != nil {
		t.Fatal(err)
	}
	mustSend(t, c, []byte("2"))
	connect(t, a, b)
	expectInOrder(t, b, 1, 2)
}

func TestAStoreInUseRefusesTheNode(t *testing.T) {
	dir := t.TempDir()
	startNode(t, durable(dir))
	o := Options{Config: quietConfig(dir), Version: "test"}
	o.Config.Channel.Durable = true
	o.Config.ListenAddrs = addrsOf(t, "/ip4/127.0.0.1/tcp/0")
	if _, err := New(t.Context(), o); !errors.Is(err, ErrStore) {
		t.Fatalf("got %v", err)
	}
}

// confirmAll takes count messages, in order from first on, and confirms them.
func confirmAll(t *testing.T, n *Node, first, count int) {
	t.Helper()
	for i, m := range receive(t, n, count) {
		if want := fmt.Sprint(first + i); string(m.Data) != want || m.ID != uint64(first+i) {
			t.Fatalf("message %d is %q with id %d", first+i, m.Data, m.ID)
		}
		mustConfirm(t, n, m)
	}
}

func mustConfirm(t *testing.T, n *Node, m queue.Message) {
	t.Helper()
	if count, err := n.Confirm([]Confirmation{{m.Channel, m.ID}}); count != 1 || err != nil {
		t.Fatalf("confirming %d: %d, %v", m.ID, count, err)
	}
}

func TestAMessageIsTakenOnceItIsConfirmed(t *testing.T) {
	a, b := startNode(t, durable(t.TempDir())), startNode(t, durable(t.TempDir()))
	connect(t, a, b)
	c := openChannel(t, a, b, "~")
	id := mustSend(t, c, []byte("1"))
	eventOf(t, a, EventChannelDurable, map[string]any{"channel": c.Name(), "receiver": true})
	m := receive(t, b, 1)[0]
	if err := c.Await(atOnce(), id, DeliveryAccepted); err == nil {
		t.Fatal("accepted without a confirmation")
	}
	mustConfirm(t, b, m)
	mustReach(t, c, id, DeliveryTaken)
	if info, err := a.ChannelInfo(c.Name()); err != nil || !slices.Contains(info.Guarantees, "durable") {
		t.Errorf("info %+v, %v", info, err)
	}
}

func TestWhatWasNotConfirmedComesAgainAfterARestart(t *testing.T) {
	dir := t.TempDir()
	a, b := startNode(t, durable(t.TempDir())), startNode(t, durable(dir))
	connect(t, a, b)
	c := openChannel(t, a, b, "~")
	for i := 1; i <= 10; i++ {
		mustSend(t, c, fmt.Append(nil, i))
	}
	got := receive(t, b, 8)
	for _, i := range []int{0, 1, 4, 6} {
		mustConfirm(t, b, got[i])
	}
	mustReach(t, c, 2, DeliveryTaken)
	mustClose(t, b)
	expectLosses(t, b, directionIn, map[string]uint64{})

	b = startNode(t, durable(dir))
	connect(t, a, b)
	for _, m := range receive(t, b, 6) {
		if want := m.ID <= 8; m.Again != want {
			t.Errorf("message %d: marked %v, want %v", m.ID, m.Again, want)
		}
		if !slices.Contains([]uint64{3, 4, 6, 8, 9, 10}, m.ID) || string(m.Data) != fmt.Sprint(m.ID) {
			t.Errorf("message %d is %q", m.ID, m.Data)
		}
		mustConfirm(t, b, m)
	}
	mustReach(t, c, 10, DeliveryTaken)
	mustSend(t, c, []byte("11"))
	confirmAll(t, b, 11, 1)
	expectLosses(t, a, directionOut, map[string]uint64{})
}
