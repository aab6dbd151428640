package node

import (
	"context"
	"errors"
	"sync"

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
	outboxes := h.node.topics.outboxes
	s, err := h.Host.NewStream(network.WithNoDial(ctx, "pubsub"), p, ids...)
	if err != nil {
		outboxes.ended(p) // pubsub forgets what it had queued
		return nil, err
	}
	stream := &topicStream{Stream: s, outboxes: outboxes, peer: p, ended: make(chan struct{})}
	outboxes.opened(p, stream)
	return stream, nil
}

// topicStream is written by pubsub, one whole RPC with its length prefix per Write. The peer writes nothing on it: the one
// Read that pubsub does returns when the peer has read everything and closed, or is gone.
type topicStream struct {
	network.Stream
	outboxes  *topicOutboxes
	peer      peer.ID
	writeLock sync.Mutex // a QUIC stream must not be half-closed during a write
	endOnce   sync.Once
	ended     chan struct{}
}

func (s *topicStream) Write(frame []byte) (int, error) {
	s.writeLock.Lock()
	defer s.writeLock.Unlock()
	n, err := s.Stream.Write(frame)
	if err == nil {
		s.outboxes.written(s.peer, frame)
	}
	return n, err
}

func (s *topicStream) Read(buffer []byte) (int, error) {
	n, err := s.Stream.Read(buffer)
	if err != nil {
		s.endOnce.Do(func() { close(s.ended) })
	}
	return n, err
}

// finish half-closes the stream and waits until the peer has read it.
func (s *topicStream) finish(ctx context.Context) {
	if !s.writeLock.TryLock() {
		return // a write that hangs: the end of the connection ends it
	}
	_ = s.CloseWrite()
	s.writeLock.Unlock()
	select {
	case <-s.ended:
	case <-ctx.Done():
	}
}

// Fields of pubsub's wire format: RPC.publish, and data and topic of a message.
const (
	fieldPublish = 2
	fieldData    = 2
	fieldTopic   = 4
)

// eachPublished visits the messages of a length-prefixed RPC, without decoding the rest of it.
func eachPublished(frame []byte, visit func(topic []byte, size int)) {
	rpc, n := protowire.ConsumeBytes(frame)
	if n < 0 {
		return
	}
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
