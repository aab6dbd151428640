package node

import (
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
)

func announcing(addrs ...string) func(*testing.T, *Options) {
	return func(t *testing.T, o *Options) { o.Config.AnnounceAddrs = addrsOf(t, addrs...) }
}

func offersPunches(n *Node) bool {
	return slices.Contains(n.host.Mux().Protocols(), holepunch.Protocol)
}

func TestHolePunchingBeginsWithAPublicAddressAndEndsWithTheNode(t *testing.T) {
	n := startNode(t, punching, func(o *Options) { announcing("/ip4/11.0.0.9/tcp/1")(t, o) })
	waitUntil(t, "DCUtR is offered", func() bool { return offersPunches(n) })
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n.punches.service.poke()
	if !n.punches.service.state.closed {
		t.Error("it goes on after the node")
	}
}

func TestHolePunchingIsOffWhereItIsOfNoUse(t *testing.T) {
	public := func(o *Options) { announcing("/ip4/11.0.0.9/tcp/1")(t, o) }
	for name, n := range map[string]*Node{
		"no public address": startNode(t, punching),
		"switched off":      startNode(t, public),
		"public anyway":     startNode(t, punching, public, func(o *Options) { o.Config.Network.ForcePublic = true }),
	} {
		n.punches.service.poke()
		if offersPunches(n) {
			t.Errorf("%s: DCUtR is offered", name)
		}
	}
}

func TestWaitingForAPunchEndsWithTheRelayedConnectionAndWithTheNode(t *testing.T) {
	for name, end := range map[string]func(a, b *Node) error{
		"connection": func(a, b *Node) error { return relayedConnOf(t, b, a.id).Close() },
		"node":       func(_, b *Node) error { return b.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			a, b, _ := relayedPair(t)
			c := relayedConnOf(t, b, a.id)
			done := make(chan string, 1)
			go func() { done <- b.punches.service.punch(c) }()
			if err := end(a, b); err != nil {
				t.Fatal(err)
			}
			b.punches.service.poke()
			select {
			case <-done:
			case <-time.After(20 * time.Second):
				t.Fatal("it waits on")
			}
		})
	}
}
