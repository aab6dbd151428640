package store

import (
	"encoding/binary"
	"encoding/json"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// version names the layout of the file.
const version = "1"

var (
	bucketMeta     = []byte("meta")
	bucketChannels = []byte("channels") // number -> Channel
	bucketOutbox   = []byte("outbox")   // number of the channel, message id -> message
	bucketIncoming = []byte("incoming") // number -> Incoming
	buckets        = [][]byte{bucketMeta, bucketChannels, bucketOutbox, bucketIncoming}

	metaVersion  = []byte("version")
	metaInstance = []byte("instance")
)

// Tx is one transaction.
type Tx struct {
	tx  *bolt.Tx
	box box
}

// place binds a value to its bucket and key.
func place(bucket, key []byte) []byte {
	where := make([]byte, 0, len(bucket)+1+len(key)+16)
	return append(append(append(where, bucket...), 0), key...)
}

func (t *Tx) put(bucket, key, head, value []byte) error {
	return t.tx.Bucket(bucket).Put(key, t.box.seal(place(bucket, key), head, value))
}

// get answers the head, of known length, and the value; both nil when there is none.
func (t *Tx) get(bucket, key []byte, headBytes int) (head, value []byte, err error) {
	sealed := t.tx.Bucket(bucket).Get(key)
	if sealed == nil {
		return nil, nil, nil
	}
	return t.box.open(place(bucket, key), sealed, headBytes)
}

func (t *Tx) putRecord(bucket []byte, number uint64, record any) error {
	text, err := json.Marshal(record)
	if err != nil {
		return err
	}
	return t.put(bucket, keyOf(number), nil, text)
}

// records calls each with every record of a bucket, in order.
func records[T interface{ check() error }](t *Tx, bucket []byte, each func(number uint64, record T) error) error {
	cursor := t.tx.Bucket(bucket).Cursor()
	for key, sealed := cursor.First(); key != nil; key, sealed = cursor.Next() {
		_, text, err := t.box.open(place(bucket, key), sealed, 0)
		if err != nil {
			return err
		}
		number, record, err := decodeRecord[T](key, text)
		if err != nil {
			return fmt.Errorf("%w: a record of %s cannot be read: %v", ErrDamaged, bucket, err)
		}
		if err := each(number, record); err != nil {
			return err
		}
	}
	return nil
}

// decodeRecord is the inverse of putRecord, behind the encryption.
func decodeRecord[T interface{ check() error }](key, text []byte) (number uint64, record T, err error) {
	if len(key) != numberBytes {
		return 0, record, fmt.Errorf("a key of %d bytes", len(key))
	}
	if err := json.Unmarshal(text, &record); err != nil {
		return 0, record, err
	}
	return binary.BigEndian.Uint64(key), record, record.check()
}

const numberBytes = 8

func keyOf(numbers ...uint64) []byte {
	key := make([]byte, 0, numberBytes*len(numbers))
	for _, n := range numbers {
		key = binary.BigEndian.AppendUint64(key, n)
	}
	return key
}
