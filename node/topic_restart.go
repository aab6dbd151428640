package node

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// topicRestartDelay is how long pubsub's next stream to a peer waits after the end of the one before. What the other side hears of
// the two may come by different connections, so it is more than these differ in their delay.
const topicRestartDelay = 500 * time.Millisecond

// When pubsub's stream to a peer ends while the peer stays connected, pubsub forgets what the peer subscribes to and opens
// another stream, on which it announces itself. But the peer, whose own stream lives, announces nothing: no message would reach it
// until it connects anew. So the stream that is read ends with the one that is written:
//
//	A: stream to B ends; forgets B's subscriptions, resets the stream from B, pauses, opens another, announces
//	B:    the stream to A ends; forgets A's subscriptions; the stream from A has ended already; pauses, opens another, announces
//
// The pause lets the announcement of each come after the other has forgotten. A stream that came before that, because one side
// noticed the end of a connection sooner, is one whose announcement was forgotten, and ends likewise. Only peers of this library
// pause, and open another stream whenever one ends, so only with them it is done.

// forgotten runs on pubsub's event loop, after pubsub forgot a peer.
func (m *topicMoves) forgotten(id peer.ID) {
	if m.node.ctx.Err() != nil || m.node.host.Network().Connectedness(id) != network.Connected {
		return
	}
	now := time.Now()
	m.state.Lock()
	defer m.state.Unlock()
	for other, ended := range m.state.ended {
		if now.Sub(ended) > topicRestartDelay {
			delete(m.state.ended, other)
		}
	}
	m.state.ended[id] = now
	in := m.state.inbound[id]
	if in == nil || !m.speaks(id) {
		return
	}
	m.node.spawn("restarting topics", func() { _ = in.Reset() })
}

// pause delays pubsub's next stream to a peer that it has just forgotten.
func (m *topicMoves) pause(ctx context.Context, id peer.ID) {
	m.state.Lock()
	ended, recently := m.state.ended[id]
	delete(m.state.ended, id)
	m.state.Unlock()
	if !recently {
		return
	}
	timer := time.NewTimer(time.Until(ended.Add(topicRestartDelay)))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
