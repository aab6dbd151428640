package store

import (
	"crypto/rand"
	"fmt"

	"peerbus/node/session"
)

// Incoming is what the receiving side of a durable channel keeps. Messages are with their sender until they are confirmed.
type Incoming struct {
	Peer string
	session.ReceiverState
	Base uint64 // ids of the sessions before: the host's ids never come twice
	Seen uint64 // messages of the session up to it may have been handed to the application
}

// check tells whether it is a record that a receiving side writes.
func (i Incoming) check() error {
	if i.Peer == "" || i.Channel == "" || i.Born > session.MaxSequence || i.Seen > 2*session.MaxSequence || i.Base > maxID {
		return fmt.Errorf("the numbers of channel %q contradict each other", i.Channel)
	}
	for _, d := range i.Drops {
		if d.First == 0 || d.Count == 0 || d.First+d.Count > session.MaxSequence {
			return fmt.Errorf("channel %q lost %d messages from %d on", i.Channel, d.Count, d.First)
		}
	}
	return i.Ledger.Check()
}

// NewIncoming answers the number of a new record.
func (t *Tx) NewIncoming() (uint64, error) { return t.tx.Bucket(bucketIncoming).NextSequence() }

// PutIncoming writes a record.
func (t *Tx) PutIncoming(number uint64, i Incoming) error {
	return t.putRecord(bucketIncoming, number, i)
}

// DeleteIncoming forgets a record.
func (t *Tx) DeleteIncoming(number uint64) error {
	return t.tx.Bucket(bucketIncoming).Delete(keyOf(number))
}

// Incomings calls each with every record.
func (t *Tx) Incomings(each func(number uint64, i Incoming) error) error {
	return records(t, bucketIncoming, each)
}

// Instance names this file as the state in which durable sessions are remembered. It is drawn once.
func (t *Tx) Instance() (instance session.ID, err error) {
	_, found, err := t.get(bucketMeta, metaInstance, 0)
	if err != nil {
		return instance, err
	}
	if found == nil {
		_, _ = rand.Read(instance[:]) // never fails, says its documentation
		return instance, t.put(bucketMeta, metaInstance, nil, instance[:])
	}
	if copy(instance[:], found) != len(instance) || instance.IsZero() {
		return instance, fmt.Errorf("%w: an instance of %d bytes", ErrDamaged, len(found))
	}
	return instance, nil
}
