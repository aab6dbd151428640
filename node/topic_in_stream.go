package node

import (
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// SetStreamHandler counts the RPCs over which pubsub gives a peer's stream up, without a word to its tracer.
func (h topicHost) SetStreamHandler(id protocol.ID, handler network.StreamHandler) {
	h.Host.SetStreamHandler(id, h.node.topics.moves.serve(func(raw network.Stream) {
		s := &topicInStream{Stream: raw}
		handler(s)
		if s.failed || h.node.ctx.Err() != nil {
			return
		}
		reason := lossBadFrame
		if s.rest > 0 {
			reason = lossOversize
		}
		h.node.losses.add(directionIn, reason, "", raw.Conn().RemotePeer().String(), 1)
	}))
}

// topicInStream is read by pubsub on the goroutine of its handler: the length of an RPC byte by byte, then the RPC.
type topicInStream struct {
	network.Stream
	failed bool   // the end came from the stream
	rest   uint64 // of the RPC that has begun
	length uint64 // as far as it is read
	bits   int
}

func (s *topicInStream) Read(buffer []byte) (int, error) {
	n, err := s.Stream.Read(buffer)
	s.failed = s.failed || err != nil
	s.follow(buffer[:n])
	return n, err
}

func (s *topicInStream) follow(read []byte) {
	if s.rest > 0 {
		s.rest -= min(s.rest, uint64(len(read)))
		return
	}
	for _, b := range read {
		s.length |= uint64(b&0x7f) << s.bits
		if s.bits += 7; b < 0x80 {
			s.rest, s.length, s.bits = s.length, 0, 0
		}
	}
}
