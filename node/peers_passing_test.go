package node

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// endingConn is a connection as far as the peer table looks at it when it ends.
type endingConn struct {
	network.Conn
	id     peer.ID
	opened time.Time
}

func (c *endingConn) RemotePeer() peer.ID { return c.id }
func (c *endingConn) Stat() network.ConnStats {
	return network.ConnStats{Stats: network.Stats{Direction: network.DirInbound, Opened: c.opened}}
}
func (c *endingConn) RemoteMultiaddr() ma.Multiaddr { return ma.StringCast("/ip4/127.0.0.1/tcp/1") }

// live is a connection of that age now, on which the peer is listed.
func live(t *testing.T, n *Node, id peer.ID, age time.Duration) *endingConn {
	t.Helper()
	n.peers.state.Lock()
	defer n.peers.state.Unlock()
	entry := n.peers.state.byID[id]
	if entry == nil {
		t.Fatal("the peer is not in the table")
	}
	c := &endingConn{id: id, opened: time.Now().Add(-age)}
	entry.returned()
	entry.connections[c] = struct{}{}
	return c
}

func inTable(n *Node, id peer.ID) bool {
	n.peers.state.Lock()
	defer n.peers.state.Unlock()
	return n.peers.state.byID[id] != nil
}

func TestAConnectionInPassingIsNoReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := offlineNode(t, somePeer)
		id := mustID(t, anotherPeer)
		n.peers.state.byID[id] = &peerEntry{application: true, connections: map[network.Conn]struct{}{}}
		n.peers.lastEnded(live(t, n, id, time.Hour))
		for range 3 { // tries every 3 s, each refused at once
			time.Sleep(3 * time.Second)
			n.peers.lastEnded(live(t, n, id, time.Millisecond))
		}
		if !inTable(n, id) {
			t.Fatal("gone before the grace has passed")
		}
		time.Sleep(2 * time.Second)
		if synctest.Wait(); inTable(n, id) {
			t.Error("still listed 11 s after the last connection that was one")
		}
	})
}

func TestAReturnBeginsTheGraceAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := offlineNode(t, somePeer)
		id := mustID(t, anotherPeer)
		n.peers.state.byID[id] = &peerEntry{application: true, connections: map[network.Conn]struct{}{}}
		n.peers.lastEnded(live(t, n, id, time.Hour))
		time.Sleep(9 * time.Second)
		long := live(t, n, id, passing)
		short := live(t, n, id, 0)
		n.peers.lastEnded(long)
		n.peers.lastEnded(short)
		time.Sleep(9 * time.Second)
		if synctest.Wait(); !inTable(n, id) {
			t.Error("a peer that had returned was given up with the grace of its earlier loss")
		}
		n.peers.close()
	})
}
