package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Channel is what the sending side of a channel keeps besides its messages. Ids are those that the host knows; numbers of the
// session count from Base.
type Channel struct {
	Name     string
	Session  [16]byte
	Base     uint64 // ids of the sessions before
	Starts   uint64 // how often the channel was loaded: streams of later processes have higher generations
	Instance [16]byte
	Born     uint64
	Durable  bool   // the receiver said that it keeps the session on disk
	Exposed  uint64 // newest id that may have gone to a stream
	Settled  uint64 // newest id of which all before are settled
	Taken    uint64
	Last     uint64 // newest id
	Lost     uint64 // newest id that was lost
}

// check tells whether it is a record that a sending side writes.
func (c Channel) check() error {
	if c.Name == "" || c.Base > c.Settled || c.Settled > c.Last || c.Exposed > c.Last || c.Taken > c.Last || c.Lost > c.Last || c.Last > maxID {
		return fmt.Errorf("the numbers of channel %q contradict each other", c.Name)
	}
	return nil
}

// maxID is more than any channel comes to.
const maxID = 1 << 63

// outHeadBytes is the codec, class and hop limit of a message.
const outHeadBytes = 3

// OutMessage is a message of the outbox.
type OutMessage struct {
	ID         uint64
	Attributes [outHeadBytes]byte
	Payload    []byte
	Err        error // not nil: it cannot be read
}

// OutCost is how much of the outbox's bound a message uses.
func OutCost(payload int) int64 { return int64(payload) + outHeadBytes + boxOverhead + messageOverhead }

// messageOverhead is about what bbolt needs for a message besides its value.
const messageOverhead = 64

// NewChannel answers the number of a new channel.
func (t *Tx) NewChannel() (uint64, error) { return t.tx.Bucket(bucketChannels).NextSequence() }

// PutChannel writes a channel's record.
func (t *Tx) PutChannel(number uint64, c Channel) error {
	return t.putRecord(bucketChannels, number, c)
}

// Channels calls each with every channel.
func (t *Tx) Channels(each func(number uint64, c Channel) error) error {
	return records(t, bucketChannels, each)
}

// PutOut adds a message to a channel's outbox.
func (t *Tx) PutOut(channel uint64, m OutMessage) error {
	bucket := t.tx.Bucket(bucketOutbox)
	bucket.FillPercent = 0.9 // ids grow: pages are filled once and then only emptied
	key := keyOf(channel, m.ID)
	return bucket.Put(key, t.box.seal(place(bucketOutbox, key), m.Attributes[:], m.Payload))
}

// Out answers the messages of a channel from first to last as long as they have together at most maxBytes, but at least one. A
// missing or unreadable one comes with an error in its place.
func (t *Tx) Out(channel, first, last uint64, maxBytes int) (messages []OutMessage) {
	cursor := t.tx.Bucket(bucketOutbox).Cursor()
	key, sealed := cursor.Seek(keyOf(channel, first))
	for id := first; id <= last; id++ {
		m := OutMessage{ID: id}
		if bytes.Equal(key, keyOf(channel, id)) {
			if len(sealed) > maxBytes && len(messages) > 0 {
				break
			}
			maxBytes -= len(sealed)
			head, payload, err := t.box.open(place(bucketOutbox, key), sealed, outHeadBytes)
			copy(m.Attributes[:], head)
			m.Payload, m.Err = payload, err
			key, sealed = cursor.Next()
		} else {
			m.Err = fmt.Errorf("%w: message %d is not there", ErrDamaged, id)
		}
		messages = append(messages, m)
	}
	return messages
}

// DeleteOut removes a channel's messages up to an id, and answers what they cost.
func (t *Tx) DeleteOut(channel, last uint64) (cost int64, err error) {
	bucket := t.tx.Bucket(bucketOutbox)
	cursor := bucket.Cursor()
	for key, sealed := cursor.Seek(keyOf(channel, 0)); outKeyUpTo(key, channel, last); key, sealed = cursor.Seek(keyOf(channel, 0)) {
		cost += OutCost(len(sealed) - outHeadBytes - boxOverhead)
		if err := bucket.Delete(key); err != nil {
			return cost, err
		}
	}
	return cost, nil
}

func outKeyUpTo(key []byte, channel, last uint64) bool {
	return len(key) == 2*numberBytes && binary.BigEndian.Uint64(key) == channel && binary.BigEndian.Uint64(key[numberBytes:]) <= last
}

// OutUsed answers what all messages of the outbox cost.
func (t *Tx) OutUsed() (cost int64) {
	_ = t.tx.Bucket(bucketOutbox).ForEach(func(_, sealed []byte) error {
		cost += OutCost(len(sealed) - outHeadBytes - boxOverhead)
		return nil
	})
	return cost
}
