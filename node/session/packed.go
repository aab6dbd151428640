package session

import (
	"bytes"
	"slices"
)

// Codecs is the set that the receiver takes, bit n for codec n, once it has answered; before that known is false.
func (s *Sender) Codecs() (set uint64, known bool) { return s.codecs, s.codecs != 0 }

// Full tells whether nothing more fits at present, however small.
func (s *Sender) Full() bool {
	return s.Unsettled() >= uint64(s.options.Messages) || s.window.held >= s.options.Bytes
}

// AcceptPacked is Accept for a payload that a codec made of size bytes. A message that its receiver may find too large, unpacked,
// gets a chunk of its own, so that it can be given up alone.
func (s *Sender) AcceptPacked(a Attributes, packed []byte, size int) (uint64, error) {
	if size <= MinMaxMessage && FrameSize(a, len(packed)) < soloBytes {
		id, err := s.Accept(a, packed)
		if err == nil {
			s.window.tail().codecs |= 1 << a.Codec
		}
		return id, err
	}
	r, err := s.ReservePacked(a, len(packed), size)
	if err != nil {
		return 0, err
	}
	copy(r.Payload, packed)
	s.Fill(r)
	return r.ID, nil
}

// ReservePacked is Reserve for such a payload.
func (s *Sender) ReservePacked(a Attributes, packed, size int) (*Reservation, error) {
	if err := s.checkSize(size); err != nil {
		return nil, err
	}
	r, err := s.Reserve(a, packed)
	if err == nil {
		r.chunk.codecs, r.chunk.unpacked = 1<<a.Codec, size
	}
	return r, err
}

// Withdrawn is a message that can take another way.
type Withdrawn struct {
	Codec   Codec
	Payload []byte
}

// Messages calls each with the messages of a piece, in order, until it answers an error.
func (p Piece) Messages(each func(Attributes, []byte) error) error {
	return forMessages(p.Bytes, each)
}

// forMessages reads frames that this package wrote.
func forMessages(frames []byte, each func(Attributes, []byte) error) error {
	for len(frames) > 0 {
		h, n := parseOwn(frames)
		if err := each(h.Attributes, frames[n:n+h.Size]); err != nil {
			return err
		}
		frames = frames[n+h.Size:]
	}
	return nil
}

// withdraw copies the messages of a chunk.
func (c *chunk) withdraw() (messages []Withdrawn) {
	frames := c.frames
	if c.lent != nil {
		frames = slices.Concat(c.frames, c.lent)
	}
	_ = forMessages(frames, func(a Attributes, payload []byte) error {
		messages = append(messages, Withdrawn{a.Codec, bytes.Clone(payload)})
		return nil
	})
	return messages
}
