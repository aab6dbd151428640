package node

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"time"
)

// overBoth listens on QUIC, which is dialled first, and on TCP.
func overBoth(t *testing.T) func(*Options) {
	return func(o *Options) {
		o.Config.ListenAddrs = addrsOf(t, "/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0")
	}
}

func overQUIC(t *testing.T) func(*Options) {
	return func(o *Options) { o.Config.ListenAddrs = addrsOf(t, "/ip4/127.0.0.1/udp/0/quic-v1") }
}

// connectOverQUIC connects by QUIC alone: of several transports that are dialled the fastest wins, which is not always QUIC. Each
// side learns the other's address of TCP by identify.
func connectOverQUIC(t *testing.T, from, to *Node) {
	t.Helper()
	over := slices.DeleteFunc(to.Addresses(), func(addr string) bool { return !strings.Contains(addr, "/quic-v1") })
	if _, err := from.Connect(within(t), over); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "both list each other", func() bool { return lists(from, to.id) && lists(to, from.id) })
}

// sendNumbered sends count messages and waits until they are accepted.
func sendNumbered(t *testing.T, c *Channel, first, count int) {
	t.Helper()
	var id uint64
	for i := first; i < first+count; i++ {
		payload := make([]byte, 100_000)
		binary.BigEndian.PutUint64(payload, uint64(i))
		var err error
		if id, err = c.Send(within(t), payload); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Await(within(t), id, DeliveryAccepted); err != nil {
		t.Fatal(err)
	}
}

func way(t *testing.T, c *Channel) string {
	t.Helper()
	info, err := c.node.ChannelInfo(c.Name())
	if err != nil {
		t.Fatal(err)
	}
	return info.Address
}

func TestBulkMovesToTCPBesideQUICAndNothingElseDoes(t *testing.T) {
	one, other := startNode(t, overBoth(t)), startNode(t, overBoth(t))
	connectOverQUIC(t, one, other)
	normal, bulk := openChannel(t, one, other, "normal"), openChannel(t, one, other, "bulk")
	sendNumbered(t, normal, 0, 1)
	sendNumbered(t, bulk, 0, 10)
	if a, b := way(t, normal), way(t, bulk); !strings.Contains(a, "quic") || !strings.Contains(b, "quic") {
		t.Fatalf("normal goes by %s, what is to be bulk by %s", a, b)
	}
	withClass(t, bulk, ClassBulk)
	sent := 10
	waitUntil(t, "bulk goes by TCP", func() bool {
		sendNumbered(t, bulk, sent, 1)
		sent++
		return strings.Contains(way(t, bulk), "/tcp/")
	})
	later := withClass(t, openChannel(t, one, other, "later"), ClassBulk)
	sendNumbered(t, later, 0, 1)
	sendNumbered(t, normal, 1, 1)
	if a, b := way(t, normal), way(t, later); !strings.Contains(a, "quic") || !strings.Contains(b, "/tcp/") {
		t.Errorf("normal goes by %s, another bulk channel by %s", a, b)
	}
	if n := len(one.host.Network().ConnsToPeer(other.id)); n != 2 {
		t.Errorf("%d connections", n)
	}
	for want := range sent {
		got, err := other.queue.Receive(within(t), bulk.Name(), 1, 0)
		if err != nil || len(got) != 1 || binary.BigEndian.Uint64(got[0].Data) != uint64(want) || got[0].Gap != 0 {
			t.Fatalf("instead of message %d came %d, %v", want, len(got), err)
		}
	}
}

func TestBulkStaysOnQUICUnlessBothListenOnTCP(t *testing.T) {
	for name, pair := range map[string][2]func(*Options){
		"the peer does not":  {overBoth(t), overQUIC(t)},
		"this node does not": {overQUIC(t), overBoth(t)},
	} {
		t.Run(name, func(t *testing.T) {
			one, other := startNode(t, pair[0]), startNode(t, pair[1])
			connectOverQUIC(t, one, other)
			bulk := withClass(t, openChannel(t, one, other, "bulk"), ClassBulk)
			sendNumbered(t, bulk, 0, 3)
			one.openBulkWay(other.id) // another attempt, whose end is known
			sendNumbered(t, bulk, 3, 3)
			if got := way(t, bulk); !strings.Contains(got, "quic") || len(one.host.Network().ConnsToPeer(other.id)) != 1 {
				t.Errorf("bulk goes by %s", got)
			}
		})
	}
}

func TestNobodyAsksForTCPWhereTheConfigurationDoesNotWantIt(t *testing.T) {
	withoutTCP := func(o *Options) { o.Config.Network.BulkTCP = false }
	one, other := startNode(t, overBoth(t), withoutTCP), startNode(t, overBoth(t), withoutTCP)
	connectOverQUIC(t, one, other)
	bulk := withClass(t, openChannel(t, one, other, "bulk"), ClassBulk)
	sendNumbered(t, bulk, 0, 3)
	if got := way(t, bulk); !strings.Contains(got, "quic") || !bulk.out.peer.claimBulkWay(time.Now()) {
		t.Errorf("bulk goes by %s, or somebody tried", got)
	}
}
