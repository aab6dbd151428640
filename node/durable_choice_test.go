package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"peerbus/node/store"
)

func chooseDurable(c *Channel, on bool) error {
	o := c.SendOptions()
	o.Durable = &on
	return c.Configure(o)
}

func mustChooseDurable(t *testing.T, c *Channel, on bool) {
	t.Helper()
	if err := chooseDurable(c, on); err != nil {
		t.Fatal(err)
	}
}

func expectKept(t *testing.T, n *Node, c *Channel, want bool) {
	t.Helper()
	info, err := n.ChannelInfo(c.Name())
	if err != nil || slices.Contains(info.Guarantees, "kept") != want {
		t.Errorf("kept should be %t: %+v, %v", want, info, err)
	}
}

// at puts the identity of a node into a directory that outlives it.
func at(dir string) func(*Options) {
	return func(o *Options) { o.Config.IdentityDir = dir }
}

func TestAChosenChannelIsDurableAndItsNeighbourIsNot(t *testing.T) {
	dir := t.TempDir()
	a, b := startNode(t, at(dir)), startNode(t)
	chosen, plain := openChannel(t, a, b, "chosen"), openChannel(t, a, b, "plain")
	if store.Exists(dir) {
		t.Error("a file without a durable channel")
	}
	mustChooseDurable(t, chosen, true)
	for i := 1; i <= 20; i++ { // the peer is not even known
		mustSend(t, chosen, fmt.Append(nil, i))
	}
	if _, err := plain.Send(within(t), []byte("x")); !errors.Is(err, ErrNotConnected) {
		t.Errorf("the ordinary channel took a message for a peer that nobody knows: %v", err)
	}
	expectKept(t, a, chosen, true)
	expectKept(t, a, plain, false)
	mustClose(t, a)
	expectLosses(t, a, directionOut, map[string]uint64{})

	again := startNode(t, at(dir)) // nobody asks it to be durable
	connect(t, again, b)
	expectInOrder(t, b, 1, 20)
	c := openChannel(t, again, b, "chosen")
	if id := mustSend(t, c, []byte("21")); id != 21 {
		t.Errorf("the ids do not go on: %d", id)
	}
	expectKept(t, again, c, true)
	if err := chooseDurable(c, false); !errors.Is(err, ErrArgument) {
		t.Errorf("a channel on disk was made ordinary: %v", err)
	}
	expectInOrder(t, b, 21, 1)
	mustReach(t, c, 21, DeliveryTaken)
}

func TestWithTheKeyAChannelMayBeOrdinary(t *testing.T) {
	a, b := startNode(t, durable(t.TempDir())), startNode(t)
	connect(t, a, b)
	c := openChannel(t, a, b, "~")
	mustChooseDurable(t, c, false)
	mustReach(t, c, mustSend(t, c, []byte("x")), DeliveryAccepted)
	expectKept(t, a, c, false)
	if err := chooseDurable(c, true); !errors.Is(err, ErrArgument) {
		t.Errorf("it was made durable after its first message: %v", err)
	}
}

func TestTheFirstMessageSettlesWhetherAChannelIsDurable(t *testing.T) {
	a, b := startPair(t)
	c := openChannel(t, a, b, "~")
	mustChooseDurable(t, c, true)
	mustChooseDurable(t, c, false)
	mustChooseDurable(t, c, true)
	if err := a.Send(within(t), c.Name(), []byte("1")); err != nil { // by name it is the same channel
		t.Fatal(err)
	}
	if err := chooseDurable(c, false); !errors.Is(err, ErrArgument) {
		t.Errorf("a channel with a message on disk was made ordinary: %v", err)
	}
	expectKept(t, a, c, true)
	expectInOrder(t, b, 1, 1)
}

// TestChoosingBesideSendersIsSafe: whoever is first, each message has the fate that the channel has then.
func TestChoosingBesideSendersIsSafe(t *testing.T) {
	a, b := startPair(t)
	for round := range 20 {
		c := openChannel(t, a, b, fmt.Sprint(round))
		var group sync.WaitGroup
		for range 2 {
			group.Go(func() {
				if _, err := c.Send(within(t), []byte("x")); err != nil {
					t.Error(err)
				}
			})
			group.Go(func() {
				if err := chooseDurable(c, true); err != nil && !errors.Is(err, ErrArgument) {
					t.Error(err)
				}
			})
			group.Go(func() {
				if err := chooseDurable(c, false); err != nil && !errors.Is(err, ErrArgument) {
					t.Error(err)
				}
			})
		}
		group.Wait()
		receive(t, b, 2)
		mustReach(t, c, 2, DeliveryTaken)
	}
}

func TestADamagedFileRefusesTheChoiceAndIsKept(t *testing.T) {
	dir := t.TempDir()
	a, b := startNode(t, at(dir)), startNode(t)
	file := filepath.Join(dir, store.FileName)
	if err := os.WriteFile(file, make([]byte, 5000), 0o600); err != nil {
		t.Fatal(err)
	}
	c := openChannel(t, a, b, "~")
	if err := chooseDurable(c, true); !errors.Is(err, ErrStore) {
		t.Errorf("choosing over a damaged file: %v", err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	mustChooseDurable(t, c, true)
	mustSend(t, c, []byte("x"))
}

func TestWithoutTheAcknowledgedProtocolNothingIsDurable(t *testing.T) {
	a, b := startNode(t, func(o *Options) { o.Config.Channel.Acknowledged = false }), startNode(t)
	if err := chooseDurable(openChannel(t, a, b, "~"), true); !errors.Is(err, ErrArgument) {
		t.Errorf("choosing: %v", err)
	}
}

func TestAChoiceAfterTheEndIsClosed(t *testing.T) {
	a, b := startPair(t)
	c := openChannel(t, a, b, "~")
	mustClose(t, a)
	if err := chooseDurable(c, true); !errors.Is(err, ErrClosed) {
		t.Errorf("choosing: %v", err)
	}
}
