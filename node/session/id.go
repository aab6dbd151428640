package session

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
)

// ID names a session, or the instance of a receiver: the state that remembers sessions, usually one process. It needs to be
// unique, not secret, because a session belongs to the peer id of the connection.
type ID [16]byte

// NewID draws a random id. It is never zero.
func NewID() ID {
	var id ID
	for id.IsZero() {
		_, _ = rand.Read(id[:]) // never fails, says its documentation
	}
	return id
}

// IsZero tells the id that stands for "none".
func (id ID) IsZero() bool { return id == ID{} }

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// ParseID reads what String writes. The zero id is none.
func ParseID(text string) (ID, error) {
	var id ID
	if len(text) == hex.EncodedLen(len(id)) {
		if _, err := hex.Decode(id[:], []byte(text)); err == nil && !id.IsZero() {
			return id, nil
		}
	}
	return ID{}, fmt.Errorf("%.40q is no id of %d bytes in hexadecimal", text, len(id))
}
