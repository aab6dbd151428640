package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"google.golang.org/protobuf/encoding/protowire"
)

// topicHost gives pubsub streams that report what was written. It keeps pubsub from dialling: a stream to a peer that was just
// disconnected must not bring it back, and peers that others name are dialled only with network.peer_exchange.
type topicHost struct {
	host.Host
	node *Node
}

var errNoPeerExchange = errors.New("network.peer_exchange is off")

func (h topicHost) Connect(ctx context.Context, info peer.AddrInfo) error {
	if !h.node.config.Network.PeerExchange || h.node.gate.refused(info.ID) {
		return errNoPeerExchange
	}
	return h.Host.Connect(ctx, info)
}

func (h topicHost) NewStream(ctx context.Context, p peer.ID, ids ...protocol.ID) (network.Stream, error) {
	h.node.topics.moves.pause(ctx, p)
	outboxes := h.node.topics.outboxes
	s, err := h.Host.NewStream(network.WithNoDial(ctx, "pubsub"), p, ids...)
	if err != nil {
		outboxes.ended(p) // pubsub forgets what it had queued
		return nil, err
	}
	stream := &topicStream{Stream: s, outboxes: outboxes, peer: p, ended: make(chan struct{})}
	stream.carried.by = s
	outboxes.opened(p, stream)
	return stream, nil
}

const (
	// rpcBurst is how many RPCs must follow each other, each within rpcBurstGap, before the next ones wait for company.
	rpcBurst    = 8
	rpcBurstGap = 2 * time.Millisecond
	// longRPCBurst is what counts at most, so that a burst is over after a few pauses; rpcBurstPause is how long one may be, for a
	// publisher that is off its processor.
	longRPCBurst  = 4 * rpcBurst
	rpcBurstPause = 20 * time.Millisecond
	// rpcGatherBytes is what a burst has at least before it is written, or else it waits for rpcGatherTime.
	rpcGatherBytes = 16 << 10
	rpcGatherTime  = time.Millisecond
)

// rpcPace tells RPCs or publications of a burst from lone ones.
type rpcPace struct {
	last time.Time
	fast int // in a row that followed fast
}

// burst notes one, and tells whether it is part of a burst, in which each follows within the gap.
func (p *rpcPace) burst(now time.Time, gap time.Duration) bool {
	switch paused := now.Sub(p.last); {
	case paused <= gap:
		p.fast = min(p.fast+1, longRPCBurst)
	case paused <= rpcBurstPause:
		p.fast /= 2
	default:
		p.fast = 0
	}
	p.last = now
	return p.fast >= rpcBurst
}

// topicStream is written by pubsub, one whole RPC with its length prefix per Write. A lone one leaves at once; those of a burst leave
// together, because each write costs a record, a system call, and a wake-up of the peer. The peer writes nothing on it: the one
// Read that pubsub does returns when the peer has read everything and closed, or is gone. The embedded stream is the first one,
// which tells peer and protocol; what carries the RPCs may change once, from a relayed connection to a direct one (topic_move.go).
type topicStream struct {
	network.Stream
	outboxes *topicOutboxes
	peer     peer.ID
	endOnce  sync.Once
	ended    chan struct{}

	out struct {
		sync.Mutex        // also during a write: a QUIC stream must not be half-closed then
		waiting    []byte // whole RPCs
		due        bool   // flush will come
		pace       rpcPace
		err        error // of the write that failed
	}

	carried struct { // taken inside of out
		sync.Mutex
		by     network.Stream
		before network.Stream // half-closed, the peer has yet to read the rest; nil: none
		over   bool           // ended or reset: nothing else may carry it
	}
}

func (s *topicStream) Write(frame []byte) (int, error) {
	s.out.Lock()
	defer s.out.Unlock()
	gathers := s.out.pace.burst(time.Now(), rpcBurstGap) && len(s.out.waiting)+len(frame) < rpcGatherBytes
	if !gathers && len(s.out.waiting) == 0 {
		return len(frame), s.putLocked(frame)
	}
	s.out.waiting = append(s.out.waiting, frame...)
	if !gathers {
		return len(frame), s.flushLocked()
	}
	if !s.out.due {
		s.out.due = true
		time.AfterFunc(rpcGatherTime, func() { s.outboxes.node.run("topic burst", s.flush) })
	}
	return len(frame), s.out.err
}

// flush ends the wait of what was gathered.
func (s *topicStream) flush() {
	s.out.Lock()
	defer s.out.Unlock()
	s.out.due = false
	if s.flushLocked() != nil {
		_ = s.Reset() // tells pubsub
	}
}

func (s *topicStream) flushLocked() error {
	if len(s.out.waiting) == 0 {
		return s.out.err
	}
	err := s.putLocked(s.out.waiting)
	s.out.waiting = s.out.waiting[:0]
	return err
}

func (s *topicStream) putLocked(frames []byte) error {
	if s.out.err != nil {
		return s.out.err
	}
	if _, s.out.err = s.carrier().Write(frames); s.out.err == nil {
		s.outboxes.written(s.peer, frames)
	}
	return s.out.err
}

// Close lets what was gathered leave.
func (s *topicStream) Close() error {
	s.out.Lock()
	defer s.out.Unlock()
	return errors.Join(s.flushLocked(), s.carrier().Close())
}

func (s *topicStream) carrier() network.Stream {
	s.carried.Lock()
	defer s.carried.Unlock()
	return s.carried.by
}

func (s *topicStream) relayed() bool { return isRelayed(s.carrier().Conn().RemoteMultiaddr()) }

// moveTo lets another stream carry what is written from now on. When it fails, next is reset and nothing has changed.
func (s *topicStream) moveTo(next network.Stream) error {
	s.out.Lock()
	defer s.out.Unlock()
	err := s.flushLocked()
	if err == nil {
		err = s.carryLocked(next)
	}
	if err != nil {
		_ = next.Reset()
		return err
	}
	_ = s.carried.before.CloseWrite() // fails when the connection is gone, which the peer sees, too
	return nil
}

func (s *topicStream) carryLocked(next network.Stream) error {
	s.carried.Lock()
	defer s.carried.Unlock()
	if s.carried.over {
		return fmt.Errorf("%w: the topic stream has ended", ErrPeerClosed)
	}
	if err := next.SetWriteDeadline(time.Now().Add(topicWriteTimeout)); err != nil {
		return err
	}
	s.carried.before, s.carried.by = s.carried.by, next
	return nil
}

func (s *topicStream) Read(buffer []byte) (int, error) {
	for {
		s.carried.Lock()
		by := s.carried.by
		if s.carried.before != nil {
			by = s.carried.before
		}
		s.carried.Unlock()
		n, err := by.Read(buffer)
		if err == nil || s.endOf(by) {
			return n, err
		}
		_ = by.Close()
	}
}

// endOf notes that the peer has ended a stream. It answers whether that was the last one.
func (s *topicStream) endOf(ended network.Stream) bool {
	s.carried.Lock()
	defer s.carried.Unlock()
	if ended != s.carried.by {
		s.carried.before = nil
		return false
	}
	s.carried.over = true
	s.endOnce.Do(func() { close(s.ended) })
	return true
}

func (s *topicStream) Reset() error {
	s.carried.Lock()
	by, before := s.carried.by, s.carried.before
	s.carried.over = true
	s.carried.Unlock()
	if before != nil {
		_ = before.Reset()
	}
	return by.Reset()
}

func (s *topicStream) CloseWrite() error { return s.carrier().CloseWrite() }

func (s *topicStream) SetWriteDeadline(t time.Time) error { return s.carrier().SetWriteDeadline(t) }

// finish half-closes the stream and waits until the peer has read it.
func (s *topicStream) finish(ctx context.Context) {
	if !s.out.TryLock() {
		return // a write that hangs: the end of the connection ends it
	}
	_ = s.flushLocked()
	_ = s.CloseWrite()
	s.out.Unlock()
	select {
	case <-s.ended:
	case <-ctx.Done():
	}
}

// Fields of pubsub's wire format: RPC.publish, and data, number and topic of a message.
const (
	fieldPublish = 2
	fieldData    = 2
	fieldSeqno   = 3
	fieldTopic   = 4
)

// eachPublished visits the messages of length-prefixed RPCs, without decoding the rest of them.
func eachPublished(frames []byte, visit func(topic []byte, size int)) {
	for len(frames) > 0 {
		rpc, n := protowire.ConsumeBytes(frames)
		if n < 0 {
			return
		}
		frames = frames[n:]
		eachPublishedOf(rpc, visit)
	}
}

func eachPublishedOf(rpc []byte, visit func(topic []byte, size int)) {
	eachBytesField(rpc, func(number protowire.Number, message []byte) {
		if number != fieldPublish {
			return
		}
		var topic []byte
		size := 0
		eachBytesField(message, func(number protowire.Number, value []byte) {
			switch number {
			case fieldData:
				size = len(value)
			case fieldTopic:
				topic = value
			}
		})
		visit(topic, size)
	})
}

// eachBytesField visits the length-delimited fields of a protobuf message. It stops at what is malformed.
func eachBytesField(message []byte, visit func(protowire.Number, []byte)) {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return
		}
		message = message[n:]
		if kind == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(message)
			visit(number, value)
		}
		if n = protowire.ConsumeFieldValue(number, kind, message); n < 0 {
			return
		}
		message = message[n:]
	}
}
