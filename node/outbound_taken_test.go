package node

import (
	"errors"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
)

// loseConnections ends what connects two nodes, as a network that breaks: neither node disconnects the other.
func loseConnections(a, b *Node) {
	for _, c := range a.host.Network().ConnsToPeer(b.id) {
		_ = c.Close()
	}
}

func TestWhoWaitsUntilAMessageIsTakenHearsItAfterALostConnection(t *testing.T) {
	a, b := startPair(t)
	c := openChannel(t, a, b, "~")
	id := mustSend(t, c, []byte("late"))
	mustReach(t, c, id, DeliveryAccepted)
	waits := make(chan error, 1)
	go func() { waits <- c.Await(within(t), id, DeliveryTaken) }()
	loseConnections(a, b)
	waitUntil(t, "the sender asks again", func() bool { return a.host.Network().Connectedness(b.id) == network.Connected })
	receive(t, b, 1)
	if err := <-waits; err != nil {
		t.Error(err)
	}
}

func TestWhoWaitsUntilAMessageIsTakenHearsThatItsOwnNodeIsClosed(t *testing.T) {
	a, b := startPair(t)
	c := openChannel(t, a, b, "~")
	id := mustSend(t, c, []byte("nobody takes it"))
	mustReach(t, c, id, DeliveryAccepted)
	waits := make(chan error, 1)
	go func() { waits <- c.Await(within(t), id, DeliveryTaken) }()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-waits; !errors.Is(err, ErrClosed) {
		t.Errorf("it says %v", err)
	}
}

func TestAHandleThatAskedHearsThatAMessageIsTakenAfterALostConnection(t *testing.T) {
	a, b := startPair(t)
	c := openChannel(t, a, b, "~", DeliveryTaken)
	id := mustSend(t, c, []byte("late"))
	mustReach(t, c, id, DeliveryAccepted)
	loseConnections(a, b)
	receive(t, b, 1)
	eventOf(t, a, "delivery", map[string]any{"state": "taken", "last": id})
}

func TestWhoBeginsToWaitAfterTheConnectionWasLostHearsItToo(t *testing.T) {
	a, b := startPair(t)
	c := openChannel(t, a, b, "~")
	id := mustSend(t, c, []byte("late"))
	mustReach(t, c, id, DeliveryAccepted)
	loseConnections(a, b)
	waitUntil(t, "the connection is over", func() bool { return a.host.Network().Connectedness(b.id) != network.Connected })
	receive(t, b, 1)
	mustReach(t, c, id, DeliveryTaken)
}

func TestWhoWaitsUntilAMessageIsTakenLearnsThatNobodyKnowsWhenThePeerStaysAway(t *testing.T) {
	a, b := startPair(t, func(o *Options) { o.Config.Channel.ResumeWindow = 1e9 })
	c := openChannel(t, a, b, "~")
	id := mustSend(t, c, []byte("late"))
	mustReach(t, c, id, DeliveryAccepted)
	if err := b.host.Close(); err != nil { // without a farewell
		t.Fatal(err)
	}
	if err := c.Await(within(t), id, DeliveryTaken); !errors.Is(err, ErrLost) {
		t.Errorf("awaiting: %v, want it lost", err)
	}
	mustReach(t, c, id, DeliveryAccepted)
}
