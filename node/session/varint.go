package session

import "encoding/binary"

// uvarint decodes an unsigned LEB128 number and answers its length, 0 when b ends before the number does. A number that is
// longer than needed is refused, so that every number has exactly one encoding.
func uvarint(b []byte) (uint64, int, error) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), 1, nil
	}
	value, n := binary.Uvarint(b)
	switch {
	case n < 0 || n == 0 && len(b) >= binary.MaxVarintLen64:
		return 0, 0, violation("a number does not fit into 64 bits")
	case n > 1 && b[n-1] == 0:
		return 0, 0, violation("a number has superfluous bytes")
	}
	return value, n, nil
}

func uvarintSize(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

// body reads the fields of a control frame. The first failure stays; what is read after it means nothing.
type body struct {
	rest []byte
	err  error
}

func (b *body) fail(err error) {
	if b.err == nil {
		b.err = err
	}
}

func (b *body) bytes(n int) []byte {
	if n < 0 || n > len(b.rest) {
		b.fail(violation("a frame ends in the middle of a field"))
		return nil
	}
	taken := b.rest[:n]
	b.rest = b.rest[n:]
	return taken
}

func (b *body) byte() uint8 {
	if field := b.bytes(1); field != nil {
		return field[0]
	}
	return 0
}

func (b *body) id() (id ID) {
	copy(id[:], b.bytes(len(id)))
	return id
}

func (b *body) uvarint() uint64 {
	value, n, err := uvarint(b.rest)
	if err != nil {
		b.fail(err)
		return 0
	}
	if n == 0 {
		b.fail(violation("a frame ends in the middle of a field"))
		return 0
	}
	b.rest = b.rest[n:]
	return value
}

// sequence reads a sequence number or generation.
func (b *body) sequence() uint64 {
	value := b.uvarint()
	if value > MaxSequence {
		b.fail(violation("sequence number %d is above 2^62", value))
		return 0
	}
	return value
}

func (b *body) text(limit int) string {
	size := b.uvarint()
	if size > uint64(limit) {
		b.fail(violation("a text of %d bytes, at most %d are allowed", size, limit))
		return ""
	}
	return string(b.bytes(int(size)))
}

// extensions checks what follows the known fields. No extension is defined yet: those that may be ignored are.
func (b *body) extensions() error {
	if len(b.rest) > MaxExtensions {
		b.fail(violation("%d bytes of extensions", len(b.rest)))
	}
	for b.err == nil && len(b.rest) > 0 {
		key, size := b.uvarint(), b.uvarint()
		if size > uint64(len(b.rest)) {
			b.fail(violation("an extension of %d bytes in %d", size, len(b.rest)))
			break
		}
		b.bytes(int(size))
		if b.err == nil && key&1 == 1 {
			b.fail(unsupported(key))
		}
	}
	return b.err
}
