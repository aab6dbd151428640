package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	bolt "go.etcd.io/bbolt"

	"peerbus/node/session"
)

// What a record decodes to is one that this side writes: written again it is the same record.
func FuzzChannelRecord(f *testing.F) {
	f.Add(keyOf(1), []byte(`{"Name":"a","Base":1,"Settled":2,"Exposed":3,"Last":4}`))
	f.Add(keyOf(2), []byte(`{"Name":"a","Settled":9,"Last":4}`))
	f.Add([]byte{1}, []byte(`{}`))
	f.Fuzz(func(t *testing.T, key, text []byte) { decodeTwice[Channel](t, key, text) })
}

func FuzzIncomingRecord(f *testing.F) {
	f.Add(keyOf(1), []byte(`{"Peer":"p","Channel":"c","Born":1,"Ledger":{"Next":3,"Done":[{"First":5,"Last":6}]},"Base":1,"Seen":7}`))
	f.Add(keyOf(1), []byte(`{"Peer":"p","Channel":"c","Ledger":{"Next":3,"Done":[{"First":3,"Last":2}]},"Drops":[{"First":0}]}`))
	f.Add([]byte{}, []byte(`[]`))
	f.Fuzz(func(t *testing.T, key, text []byte) { decodeTwice[Incoming](t, key, text) })
}

func decodeTwice[T interface{ check() error }](t *testing.T, key, text []byte) {
	number, record, err := decodeRecord[T](key, text)
	if err != nil {
		return
	}
	again, err := json.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	other, same, err := decodeRecord[T](keyOf(number), again)
	third, _ := json.Marshal(same)
	if err != nil || other != number || !bytes.Equal(again, third) {
		t.Fatalf("%s is read as %s: %v", again, third, err)
	}
}

// Whatever lies in the buckets, reading it ends with the messages that were written, or with an error in their place.
func FuzzBuckets(f *testing.F) {
	f.Add([]byte("outbox"), keyOf(1, 1), bytes.Repeat([]byte{1}, 60))
	f.Add([]byte("outbox"), []byte("short"), []byte{1})
	f.Add([]byte("incoming"), keyOf(1), []byte{1})
	f.Add([]byte("meta"), []byte("instance"), []byte("x"))
	dir := f.TempDir()
	s, err := Open(dir, secret)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(s.Close)
	s.db.NoSync = true
	undo := errors.New("undo")
	f.Fuzz(func(t *testing.T, bucket, key, value []byte) {
		_ = s.Update(func(tx *Tx) error {
			into := tx.tx.Bucket(bucket)
			if into == nil || len(key) == 0 || len(key) > bolt.MaxKeySize || into.Put(key, value) != nil {
				return undo
			}
			for _, m := range tx.Out(1, 1, 2, 1<<20) {
				if m.Err == nil {
					t.Errorf("%x is message %d", value, m.ID)
				}
			}
			if _, err := tx.DeleteOut(1, 1<<40); err != nil {
				t.Error(err)
			}
			tx.OutUsed()
			_ = tx.Channels(func(uint64, Channel) error { t.Error("a channel"); return nil })
			_ = tx.Incomings(func(uint64, Incoming) error { t.Error("a receiving side"); return nil })
			if instance, err := tx.Instance(); err == nil && instance == (session.ID{}) {
				t.Error("no instance")
			}
			return undo
		})
	})
}
