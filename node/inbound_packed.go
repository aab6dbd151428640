package node

import (
	"io"

	"peerbus/node/compression"
	"peerbus/node/session"
)

// refusal says why a message does not get into the queue. The zero value: it does.
type refusal struct {
	reason string
	drop   session.DropReason
}

// undecodable is a payload that is not what its codec writes, or too large: the channel goes on behind it.
var undecodable = refusal{lossDecodeError, session.DropDecodeError}

// packedSource is the compressed payload of one message as it comes. It tells an error of the stream from the end of the payload.
type packedSource struct {
	source io.Reader
	left   int
	err    error
}

func (s *packedSource) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	n, err := s.source.Read(p[:min(len(p), s.left)])
	s.left -= n
	if err != nil && s.left > 0 {
		s.err = unexpected(err)
		return n, s.err
	}
	return n, nil
}

// unpack reads a compressed payload straight from the stream. An error is one of the stream; a payload that is damaged or grows
// beyond the limit is read to its end and refused.
func (r *inReader) unpack(head session.Head) ([]byte, refusal, error) {
	seen, err := r.landing.peek(min(head.Size, compression.HeadBytes))
	if err != nil {
		return nil, refusal{}, err
	}
	source := &packedSource{source: r.watch(head.Size).reader(&r.landing), left: head.Size}
	limit := r.stream.MaxMessage()
	var payload []byte
	claim, wrong := compression.Inspect(head.Codec, seen, head.Size, limit)
	if wrong == nil {
		if claim.Memory() >= LargePayload {
			if err := r.reserve(int64(claim.Memory())); err != nil {
				return nil, refusal{}, err
			}
		}
		first := int(max(firstPayloadBuffer, r.spent))
		payload, wrong = compression.Unpack(head.Codec, source, claim, first, limit, payloadBuffers{r.node.memory})
	}
	switch {
	case source.err != nil:
		return nil, refusal{}, source.err
	case wrong == nil:
		return payload, refusal{}, nil
	}
	r.node.log.Warn("a compressed message cannot be unpacked", "peer", r.from, "channel", r.name, "codec", head.Codec, "reason", wrong)
	_, err = io.CopyN(io.Discard, &r.landing, int64(source.left))
	return nil, undecodable, err
}
