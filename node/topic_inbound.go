package node

import (
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// SetStreamHandler gives pubsub inbound streams that count what it refuses without a word: an RPC that is too large, whose stream
// it resets.
func (h topicHost) SetStreamHandler(id protocol.ID, handle network.StreamHandler) {
	most := uint64(h.node.config.Limits.MessageBytes + topicOverhead)
	h.Host.SetStreamHandler(id, func(s network.Stream) {
		handle(&topicInbound{Stream: s, node: h.node, most: most})
	})
}

// topicInbound is read by pubsub and follows the length prefixes of the RPCs.
type topicInbound struct {
	network.Stream
	node *Node
	most uint64 // bytes of an RPC

	left   uint64 // bytes of the present RPC that were not read yet
	prefix uint64 // as far as it was read
	shift  uint
	broken bool // pubsub resets the stream
}

func (s *topicInbound) Read(buffer []byte) (int, error) {
	n, err := s.Stream.Read(buffer)
	s.follow(buffer[:n])
	return n, err
}

func (s *topicInbound) follow(data []byte) {
	for len(data) > 0 && !s.broken {
		if s.left > 0 {
			skipped := min(s.left, uint64(len(data)))
			s.left -= skipped
			data = data[skipped:]
			continue
		}
		s.takePrefix(data[0])
		data = data[1:]
	}
}

// takePrefix takes one byte of an unsigned varint.
func (s *topicInbound) takePrefix(b byte) {
	const longest = 63
	s.prefix |= uint64(b&0x7F) << s.shift
	if b >= 0x80 && s.shift < longest {
		s.shift += 7
		return
	}
	if s.prefix > s.most || b >= 0x80 {
		s.broken = true
		s.node.losses.add(directionIn, lossOversize, "", s.Conn().RemotePeer().String(), 1)
	}
	s.left, s.prefix, s.shift = s.prefix, 0, 0
}
