package webrtctransport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/protowire"
)

// errMessage is wrapped by every error about what a peer wrote.
var errMessage = errors.New("malformed message")

// readPrefixed reads a message that follows its length, a varint.
func readPrefixed(r io.ByteReader, body io.Reader, limit int) ([]byte, error) {
	size, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, err
	}
	if size > uint64(limit) {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are taken", errMessage, size, limit)
	}
	message := make([]byte, size)
	if _, err := io.ReadFull(body, message); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return message, nil
}

func prefixed(message []byte) []byte {
	return append(protowire.AppendVarint(make([]byte, 0, len(message)+protowire.SizeVarint(uint64(len(message)))), uint64(len(message))), message...)
}

// eachField calls visit with the fields of a protobuf message that are varints or bytes, and skips the others.
func eachField(message []byte, visit func(field protowire.Number, number uint64, bytes []byte)) error {
	for len(message) > 0 {
		field, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return fmt.Errorf("%w: %v", errMessage, protowire.ParseError(n))
		}
		message = message[n:]
		switch kind {
		case protowire.VarintType:
			var number uint64
			if number, n = protowire.ConsumeVarint(message); n >= 0 {
				visit(field, number, nil)
			}
		case protowire.BytesType:
			var bytes []byte
			if bytes, n = protowire.ConsumeBytes(message); n >= 0 {
				visit(field, 0, bytes)
			}
		default:
			n = protowire.ConsumeFieldValue(field, kind, message)
		}
		if n < 0 {
			return fmt.Errorf("%w: %v", errMessage, protowire.ParseError(n))
		}
		message = message[n:]
	}
	return nil
}
