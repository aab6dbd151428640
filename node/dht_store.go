package node

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
)

const (
	// maxDHTRecords bounds the records that a DHT server keeps for others, maxDHTPeerRecords those of one of them.
	maxDHTRecords     = 1 << 16
	maxDHTPeerRecords = 1 << 10
	// maxDHTRecordBytes bounds one record; those of the public DHT are below it.
	maxDHTRecordBytes = 10 << 10
)

var errStoreFull = errors.New("the DHT store has no room for the record")

// dhtStore keeps the records of a DHT server in memory. The DHT names a provider record /providers/<key>/<peer>, and asks
// for all records of one key, so that is the order they lie in. Anybody may send records: their number is bounded, in all
// and by peer.
type dhtStore struct {
	state struct {
		sync.RWMutex
		byParent map[datastore.Key]map[datastore.Key][]byte
		byPeer   map[string]int // last part of the key
		count    int
	}
}

var _ datastore.Batching = (*dhtStore)(nil)

func newDHTStore() *dhtStore {
	s := &dhtStore{}
	s.state.byParent = map[datastore.Key]map[datastore.Key][]byte{}
	s.state.byPeer = map[string]int{}
	return s
}

func (s *dhtStore) Put(_ context.Context, key datastore.Key, value []byte) error {
	s.state.Lock()
	defer s.state.Unlock()
	parent, owner := key.Parent(), key.BaseNamespace()
	if len(value) > maxDHTRecordBytes {
		return errStoreFull
	}
	if _, known := s.state.byParent[parent][key]; !known {
		if s.state.count >= maxDHTRecords || s.state.byPeer[owner] >= maxDHTPeerRecords {
			return errStoreFull
		}
		s.state.count++
		s.state.byPeer[owner]++
	}
	if s.state.byParent[parent] == nil {
		s.state.byParent[parent] = map[datastore.Key][]byte{}
	}
	s.state.byParent[parent][key] = slices.Clone(value)
	return nil
}

func (s *dhtStore) Delete(_ context.Context, key datastore.Key) error {
	s.state.Lock()
	defer s.state.Unlock()
	parent, owner := key.Parent(), key.BaseNamespace()
	if _, known := s.state.byParent[parent][key]; !known {
		return nil
	}
	s.state.count--
	if s.state.byPeer[owner]--; s.state.byPeer[owner] == 0 {
		delete(s.state.byPeer, owner)
	}
	if delete(s.state.byParent[parent], key); len(s.state.byParent[parent]) == 0 {
		delete(s.state.byParent, parent)
	}
	return nil
}

func (s *dhtStore) Get(_ context.Context, key datastore.Key) ([]byte, error) {
	s.state.RLock()
	defer s.state.RUnlock()
	value, known := s.state.byParent[key.Parent()][key]
	if !known {
		return nil, datastore.ErrNotFound
	}
	return value, nil
}

func (s *dhtStore) Has(ctx context.Context, key datastore.Key) (bool, error) {
	_, err := s.Get(ctx, key)
	return err == nil, nil
}

func (s *dhtStore) GetSize(ctx context.Context, key datastore.Key) (int, error) {
	value, err := s.Get(ctx, key)
	if err != nil {
		return -1, err
	}
	return len(value), nil
}

// Query answers the records below a prefix: those of one key at once, others by looking at all keys.
func (s *dhtStore) Query(_ context.Context, q query.Query) (query.Results, error) {
	s.state.RLock()
	defer s.state.RUnlock()
	prefix := datastore.NewKey(q.Prefix)
	var entries []query.Entry
	add := func(records map[datastore.Key][]byte) {
		for key, value := range records {
			entries = append(entries, query.Entry{Key: key.String(), Value: value, Size: len(value)})
		}
	}
	if records, exact := s.state.byParent[prefix]; exact {
		add(records)
	} else {
		for parent, records := range s.state.byParent {
			if q.Prefix == "" || parent == prefix || prefix.IsAncestorOf(parent) {
				add(records)
			}
		}
	}
	q.Prefix = ""
	return query.NaiveQueryApply(q, query.ResultsWithEntries(q, entries)), nil
}

func (s *dhtStore) Batch(context.Context) (datastore.Batch, error) {
	return datastore.NewBasicBatch(s), nil
}

func (s *dhtStore) Sync(context.Context, datastore.Key) error { return nil }

func (s *dhtStore) Close() error { return nil }
