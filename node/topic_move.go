package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// TopicMoveProtocol opens the stream on which a pub/sub stream of another connection goes on. The one who accepts it writes one
// byte, topicMoveReady; from then on it is read after the end of the other stream.
const TopicMoveProtocol = "/peerbus/topic-move/1.0.0"

const (
	topicMoveReady = 1
	// topicMoveTimeout bounds opening such a stream and its answer.
	topicMoveTimeout = 10 * time.Second
	// topicWriteTimeout is how long pubsub lets a write take; it sets that on the stream it had before the move.
	topicWriteTimeout = 30 * time.Second
)

// Moving pub/sub from a relayed connection without limits to a direct one. Pubsub keeps the one stream that it writes to a peer,
// and the one that it reads: were they closed, it would drop what waits for the peer, forget the peer's subscriptions and its
// place in the mesh until both sides have announced themselves again, and give the peer up after four times. So the streams that
// it holds stay, and what carries them changes:
//
//	sender     open a stream of TopicMoveProtocol on the direct connection, wait for the byte; between two RPCs, half-close the
//	           relayed stream and write on the new one
//	receiver   keep the new stream as the successor of the one that pubsub reads, answer; read the relayed one to its end,
//	           then the successor
//
// Nothing is lost, repeated or reordered. No write waits for the move. Each side moves the stream that it writes, so it does not
// matter who sees the direct connection first. A relayed stream that breaks before its end was read ends the whole, as without
// a move: pubsub opens another one, and what it forgets is counted (topicOutboxes.ended, topic_restart.go).
//
//	relayed --direct connection--> asking --the byte--> direct, for the rest of the stream's life
//	   ^                             '--no answer: again after relayedLinger--.
//	   '----------------------------------------------------------------------'
//
// A peer that does not speak the protocol stays where it is: only it can move its own stream, and it does not. Diagnose names
// the relayed connections that are still held, and by what.

// topicMoves owns the streams that pubsub reads, by peer, and says which peer's streams are being moved.
type topicMoves struct {
	node  *Node
	state struct {
		sync.Mutex
		inbound map[peer.ID]*topicInbound // the newest of each
		asking  map[peer.ID]struct{}
		ended   map[peer.ID]time.Time // when pubsub's last stream to a peer ended, just now (topic_restart.go)
	}
}

func newTopicMoves(n *Node) *topicMoves {
	m := &topicMoves{node: n}
	m.state.inbound = map[peer.ID]*topicInbound{}
	m.state.asking = map[peer.ID]struct{}{}
	m.state.ended = map[peer.ID]time.Time{}
	return m
}

// serve gives pubsub's handler, which returns when the stream has ended, streams that go on after a move. libp2p keeps a stream
// in its connection until the handler has returned, hence the goroutine.
func (m *topicMoves) serve(handler network.StreamHandler) network.StreamHandler {
	return func(s network.Stream) {
		in := &topicInbound{Stream: s, left: make(chan struct{})}
		in.carried.by = s
		if !m.node.spawn("topic stream", func() { m.read(in, handler) }) {
			_ = s.Reset()
			return
		}
		<-in.left
	}
}

func (m *topicMoves) read(in *topicInbound, handler network.StreamHandler) {
	id := in.Conn().RemotePeer()
	m.state.Lock()
	m.state.inbound[id] = in
	m.state.Unlock()
	defer func() {
		in.end()
		in.leave()
		m.state.Lock()
		defer m.state.Unlock()
		if m.state.inbound[id] == in {
			delete(m.state.inbound, id)
		}
	}()
	handler(in)
}

// inboundOf answers the stream that pubsub reads of a peer; nil: none.
func (m *topicMoves) inboundOf(id peer.ID) *topicInbound {
	m.state.Lock()
	defer m.state.Unlock()
	return m.state.inbound[id]
}

// accept takes the successor of the stream that pubsub reads.
func (m *topicMoves) accept(s network.Stream) {
	in := m.inboundOf(s.Conn().RemotePeer())
	if in == nil || !in.adopt(s) {
		_ = s.Reset()
		return
	}
	_ = s.SetWriteDeadline(time.Now().Add(topicMoveTimeout))
	if _, err := s.Write([]byte{topicMoveReady}); err != nil {
		_ = s.Reset() // without the byte the peer never comes to it
	}
}

// leaveRelay moves what pubsub writes to a peer from a relayed connection to a direct one, if there are both.
func (m *topicMoves) leaveRelay(id peer.ID) {
	stream := m.node.topics.outboxes.streamOf(id)
	if stream == nil || !stream.relayed() || !m.begin(id) {
		return
	}
	defer m.end(id)
	m.node.awaitIdentify(m.node.ctx, id)
	c := m.node.punches.directConn(id)
	if c == nil || !m.speaks(id) {
		return
	}
	ctx, cancel := context.WithTimeout(m.node.ctx, topicMoveTimeout)
	defer cancel()
	next, err := askTopicMove(ctx, c)
	if err == nil {
		err = stream.moveTo(next)
	}
	if err != nil {
		m.node.log.Info("topics stay on the relayed connection for now", "peer", id, "reason", err)
		return
	}
	m.node.events.Push(EventTopicsMoved, map[string]any{"peer": id.String(), "address": c.RemoteMultiaddr().String()})
}

// speaks tells whether identify has heard that the peer speaks the protocol.
func (m *topicMoves) speaks(id peer.ID) bool {
	spoken, err := m.node.host.Peerstore().SupportsProtocols(id, TopicMoveProtocol)
	return err == nil && slices.Contains(spoken, TopicMoveProtocol)
}

func (m *topicMoves) begin(id peer.ID) bool {
	m.state.Lock()
	defer m.state.Unlock()
	if _, asking := m.state.asking[id]; asking {
		return false
	}
	m.state.asking[id] = struct{}{}
	return true
}

func (m *topicMoves) end(id peer.ID) {
	m.state.Lock()
	defer m.state.Unlock()
	delete(m.state.asking, id)
}

// askTopicMove opens a stream that the peer will read after the end of the one before.
func askTopicMove(ctx context.Context, c network.Conn) (network.Stream, error) {
	s, err := streamOn(ctx, c, TopicMoveProtocol)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	var answer [1]byte
	_, err = io.ReadFull(s, answer[:])
	if !stop() && err == nil {
		err = contextError(ctx, "moving a topic stream")
	}
	if err == nil && answer[0] != topicMoveReady {
		err = fmt.Errorf("%w: the peer answered %d to a moved topic stream", ErrPeerClosed, answer[0])
	}
	if err != nil {
		_ = s.Reset()
		return nil, err
	}
	return s, nil
}

// topicInbound is read by pubsub. The embedded stream is the first one; it tells peer and protocol.
type topicInbound struct {
	network.Stream
	left     chan struct{} // closed when the first one is not read any more
	leftOnce sync.Once
	carried  struct {
		sync.Mutex
		by   network.Stream // that is read
		next network.Stream // its successor; nil: none
		over bool
	}
}

// adopt keeps a stream as the successor; a later one replaces it. It answers false when this stream is no longer relayed, or over.
func (in *topicInbound) adopt(next network.Stream) bool {
	in.carried.Lock()
	c := &in.carried
	if c.over || !isRelayed(c.by.Conn().RemoteMultiaddr()) || isRelayed(next.Conn().RemoteMultiaddr()) {
		in.carried.Unlock()
		return false
	}
	before := c.next
	c.next = next
	in.carried.Unlock()
	if before != nil {
		_ = before.Reset()
	}
	return true
}

func (in *topicInbound) Read(buffer []byte) (int, error) {
	for {
		in.carried.Lock()
		by := in.carried.by
		in.carried.Unlock()
		n, err := by.Read(buffer)
		if n > 0 || err == nil {
			return n, nil // an error comes again
		}
		if !errors.Is(err, io.EOF) || !in.advance() {
			return 0, err
		}
	}
}

// advance goes on to the successor. Without one the stream is over.
func (in *topicInbound) advance() bool {
	in.carried.Lock()
	c := &in.carried
	ended, next := c.by, c.next
	if c.over || next == nil {
		c.over = true
		in.carried.Unlock()
		return false
	}
	c.by, c.next = next, nil
	in.carried.Unlock()
	_ = ended.Close() // tells the sender that everything was read
	in.leave()
	return true
}

func (in *topicInbound) leave() { in.leftOnce.Do(func() { close(in.left) }) }

// end lets no successor come, and answers what has to be closed or reset.
func (in *topicInbound) end() (by network.Stream) {
	in.carried.Lock()
	by, next := in.carried.by, in.carried.next
	in.carried.over, in.carried.next = true, nil
	in.carried.Unlock()
	if next != nil {
		_ = next.Reset()
	}
	return by
}

func (in *topicInbound) Close() error { return in.end().Close() }
func (in *topicInbound) Reset() error { return in.end().Reset() }
