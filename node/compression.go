package node

import (
	"bytes"
	"context"
	"fmt"

	"peerbus/node/compression"
	"peerbus/node/session"
)

const (
	// defaultCompressAbove is the size from which messages are compressed, when they are (NEBULA-23).
	defaultCompressAbove = 1 << 10
	maxCompressAbove     = maxMessageBytes
)

// Compression is how messages are compressed before they are sent. A message travels with the first codec that its receiver
// takes; one that does not get smaller by an eighth travels as it is.
type Compression struct {
	Codecs []session.Codec // in order of preference; empty: none
	Above  int             // bytes from which a message is compressed
}

func (c Compression) wants(payload []byte) bool { return len(c.Codecs) > 0 && len(payload) >= c.Above }

// ParseCodec answers the codec of a name.
func ParseCodec(name string) (session.Codec, error) {
	for c, known := range codecNames {
		if name == known && session.Codec(c) != session.CodecNone {
			return session.Codec(c), nil
		}
	}
	return 0, fmt.Errorf("%w: codec %q; \"zstd\", \"lz4\" and \"gzip\" are possible", ErrArgument, name)
}

// codecOf reads an entry of channel.compression.
func codecOf(value any) (session.Codec, error) {
	name, err := textOf(value)
	if err != nil {
		return 0, err
	}
	return ParseCodec(clipText(name, maxShownValueBytes))
}

func setCompressAbove(c *Config, value any) error {
	bytes, err := integerOf(value, 0, maxCompressAbove)
	c.Channel.Compression.Above = int(bytes)
	return err
}

var codecNames = [...]string{session.CodecNone: "none", session.CodecZstd: "zstd", session.CodecLZ4: "lz4", session.CodecGzip: "gzip"}

// acceptedCodecs are what peers are told that they may use.
func (n *Node) acceptedCodecs() uint64 {
	if n.config.Channel.AcceptCompressed {
		return compression.Accepted
	}
	return 1 << session.CodecNone
}

// outMessage is a message on its way into a session.
type outMessage struct {
	payload []byte // as the program gave it
	packed  []byte // as the codec made it, in a buffer of frameBuffers; nil: it travels as it is
	codec   session.Codec
	loan    *loan // of the payload; nil: it is copied
}

// loan is the use of the host's memory beyond the call that brought it.
type loan struct {
	release func() // called once, when the memory is no more needed
	used    bool   // a session has it
}

// CompressedMessages counts what compression did to the messages of a channel.
type CompressedMessages struct {
	Messages        uint64 `json:"messages"`
	Bytes           uint64 `json:"bytes"` // of their payloads
	CompressedBytes uint64 `json:"compressed_bytes"`
}

// pack compresses a payload, holding no lock. drop gives its buffer back.
func (o *outbound) pack(ctx context.Context, c Compression, payload []byte) outMessage {
	m := outMessage{payload: payload}
	if !c.wants(payload) || o.isKept() { // what waits on disk may find a receiver that takes other codecs
		return m
	}
	codec := o.codecFor(ctx, c)
	if codec == session.CodecNone {
		return m
	}
	buffer := o.node.frames.get(compression.Bound(codec, len(payload)))
	packed, pays := compression.Pack(codec, buffer, payload)
	if !pays {
		o.node.frames.put(buffer)
		return m
	}
	m.packed, m.codec = packed, codec
	return m
}

func (o *outbound) drop(m outMessage) {
	if m.packed != nil {
		o.node.frames.put(m.packed)
	}
}

// codecFor answers the codec that the peer takes, or the preferred one as long as that is not known: then the message waits for
// the peer's answer, and is unpacked again should it be a refusal. What would find no room is not worth the work.
func (o *outbound) codecFor(ctx context.Context, c Compression) session.Codec {
	o.state.Lock()
	defer o.state.Unlock()
	s := &o.state
	switch {
	case s.link != nil, s.sender == nil && o.node.speaks(o.peer.id) == speaksChat:
		return session.CodecNone
	case s.sender == nil:
		return c.Codecs[0]
	case ctx.Err() != nil && s.sender.Full():
		return session.CodecNone
	}
	set, known := s.sender.Codecs()
	for _, codec := range c.Codecs {
		if !known || set&(1<<codec) != 0 {
			return codec
		}
	}
	return session.CodecNone
}

// fit makes the message travel as it is when the session's receiver has turned out not to take its codec.
func (m *outMessage) fit(s *session.Sender) {
	if set, known := s.Codecs(); known && set&(1<<m.codec) == 0 {
		m.packed, m.codec = nil, session.CodecNone
	}
}

// body is what travels.
func (m *outMessage) body() []byte {
	if m.packed != nil {
		return m.packed
	}
	return m.payload
}

func (m *outMessage) accept(s *session.Sender) (uint64, error) {
	if m.packed == nil {
		return s.Accept(session.Attributes{}, m.payload)
	}
	return s.AcceptPacked(session.Attributes{Codec: m.codec}, m.packed, len(m.payload))
}

func (m *outMessage) reserve(s *session.Sender) (*session.Reservation, error) {
	if m.packed == nil {
		return s.Reserve(session.Attributes{}, len(m.payload))
	}
	return s.ReservePacked(session.Attributes{Codec: m.codec}, len(m.packed), len(m.payload))
}

// countPackedLocked notes what compression did to a message that was accepted.
func (o *outbound) countPackedLocked(m outMessage) {
	if m.packed != nil {
		c := &o.state.compressed
		c.Messages, c.Bytes, c.CompressedBytes = c.Messages+1, c.Bytes+uint64(len(m.payload)), c.CompressedBytes+uint64(len(m.packed))
	}
}

// codecsOf names the codecs that the receiver of a session takes, but for none.
func codecsOf(s *session.Sender) []string {
	set, _ := s.Codecs()
	names := []string{}
	for c, name := range codecNames {
		if c != int(session.CodecNone) && set&(1<<c) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// putUnpacked writes a piece whose codecs the peer does not take: a process that takes fewer took the place of the one that the
// messages were compressed for.
func (o *outbound) putUnpacked(stream *outStream, piece session.Piece) error {
	return piece.Messages(func(a session.Attributes, payload []byte) error {
		if a.Codec != session.CodecNone {
			plain := o.node.unpackOwn(a.Codec, payload)
			defer freePayload(o.node.memory, plain)
			a.Codec, payload = session.CodecNone, plain
		}
		_, err := stream.Write(session.AppendMessageHead(nil, a, len(payload)))
		if err == nil && len(payload) > 0 {
			_, err = stream.Write(payload)
		}
		return err
	})
}

// unpackOwn unpacks what this node packed. freePayload gives the answer back.
func (n *Node) unpackOwn(c session.Codec, packed []byte) []byte {
	limit := n.config.Limits.MessageBytes
	claim, err := compression.Inspect(c, packed[:min(len(packed), compression.HeadBytes)], len(packed), limit)
	if err == nil {
		var payload []byte
		if payload, err = compression.Unpack(c, bytes.NewReader(packed), claim, limit, limit, payloadBuffers{n.memory}); err == nil {
			return payload
		}
	}
	panic(fmt.Errorf("a message that was compressed here cannot be unpacked: %w", err))
}

// payloadBuffers lends buffers that freePayload knows.
type payloadBuffers struct{ memory Memory }

func (b payloadBuffers) Get(size int) []byte {
	if size < LargePayload {
		return make([]byte, size)
	}
	return b.memory.Get(size)
}

func (b payloadBuffers) Put(buffer []byte) { freePayload(b.memory, buffer) }
