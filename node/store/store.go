package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// FileName is the name of the file within the identity directory.
const FileName = "channels.db"

const (
	fileMode = 0o600
	// lockTimeout is how long Open waits for another process that uses the file.
	lockTimeout = time.Second
	// laterAfter is how long a change that nobody waits for may wait for company.
	laterAfter = 100 * time.Millisecond
)

var (
	// ErrDamaged: the file is no store, or a part of it was altered.
	ErrDamaged = errors.New("damaged")
	// ErrForeign: the file belongs to another identity.
	ErrForeign = errors.New("belongs to another identity")
	// ErrInUse: another node has the file open.
	ErrInUse = errors.New("in use by another node")
	// ErrClosed: the store is closed.
	ErrClosed = errors.New("store closed")
)

// Store is one open file.
//
//	Open --> kept (Keep runs) --ctx ends or Keep panics--> closed
type Store struct {
	db   *bolt.DB
	box  box
	path string
	wake chan struct{} // holds one token when Keep has something to write

	state struct {
		sync.Mutex
		waiting []change
		later   []change
		closed  bool
		watch   func(committed bool) error
	}
}

type change struct {
	write func(*Tx) error
	done  func(error)
}

// Exists tells whether there is a store in a directory, or what Open takes for one.
func Exists(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, FileName))
	return !errors.Is(err, os.ErrNotExist)
}

// Open opens the store of an identity in its directory, or makes it. secret is what its key is derived from.
func Open(dir string, secret []byte) (*Store, error) {
	s := &Store{path: filepath.Join(dir, FileName), wake: make(chan struct{}, 1)}
	var err error
	if s.box, err = newBox(secret); err != nil {
		return nil, err
	}
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("%s: %w", s.path, err)
	}
	return s, nil
}

func (s *Store) open() error {
	if err := s.examine(); err != nil {
		return err
	}
	db, err := s.openFile(bolt.Options{FreelistType: bolt.FreelistMapType})
	if err != nil {
		return err
	}
	s.db = db
	if err := s.Update(s.prepare); err != nil {
		return errors.Join(err, guarded(s.db.Close))
	}
	return nil
}

// examine looks at every page of a file that is there, read-only, before anything is written. The list of free pages is on disk
// for the same reason: making it anew, bbolt would look on a goroutine of its own, where a damaged page ends the process.
func (s *Store) examine() error {
	if info, err := os.Stat(s.path); errors.Is(err, os.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil
	}
	db, err := s.openFile(bolt.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	err = guarded(func() error { return db.View(touch) })
	if err != nil {
		err = fmt.Errorf("%w: %s", err, adviceDamaged)
	}
	return errors.Join(err, guarded(db.Close))
}

const adviceDamaged = "move the file away to begin anew, without the messages in it"

func (s *Store) openFile(o bolt.Options) (db *bolt.DB, err error) {
	o.Timeout = lockTimeout
	err = guarded(func() (err error) {
		db, err = bolt.Open(s.path, fileMode, &o)
		return err
	})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fmt.Errorf("%w: close that one, or give this node an identity_dir of its own", ErrInUse)
	case err != nil && !isSystem(err): // bbolt has no common error for what is no store
		return nil, fmt.Errorf("%w: %w: %s", ErrDamaged, err, adviceDamaged)
	}
	return db, err
}

// isSystem tells the errors of the operating system: permissions, a full disk.
func isSystem(err error) bool {
	var errno syscall.Errno
	return errors.As(err, &errno)
}

// touch reads the first and the last byte of everything.
func touch(tx *bolt.Tx) error {
	return tx.ForEach(func(_ []byte, bucket *bolt.Bucket) error {
		sum, before := byte(0), []byte(nil)
		err := bucket.ForEach(func(key, value []byte) error {
			if bytes.Compare(key, before) <= 0 || len(value) == 0 {
				return fmt.Errorf("%w: a key is not in its place", ErrDamaged)
			}
			sum += value[0] + value[len(value)-1]
			before = key
			return nil
		})
		runtime.KeepAlive(sum)
		return err
	})
}

// prepare makes the buckets of a new file, and checks that an old one is ours.
func (s *Store) prepare(t *Tx) error {
	fresh := t.tx.Bucket(bucketMeta) == nil
	for _, name := range buckets {
		if _, err := t.tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	if fresh {
		return t.put(bucketMeta, metaVersion, nil, []byte(version))
	}
	_, found, err := t.get(bucketMeta, metaVersion, 0)
	switch {
	case err != nil:
		return fmt.Errorf("%w: bring back its identity.key, or %s", ErrForeign, adviceDamaged)
	case string(found) != version:
		return fmt.Errorf("%w: layout %q, this version writes %q", ErrDamaged, found, version)
	}
	return nil
}

// guarded runs f and turns its panics into errors: a damaged file makes bbolt panic, and one that was cut short makes reading it
// a memory fault.
func guarded(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if value := recover(); value != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, value)
		}
	}()
	return f()
}

// View reads.
func (s *Store) View(read func(*Tx) error) error {
	return guarded(func() error {
		return s.db.View(func(tx *bolt.Tx) error { return read(&Tx{tx, s.box}) })
	})
}

// Update writes at once, outside of Keep: before it runs.
func (s *Store) Update(write func(*Tx) error) error {
	return guarded(func() error {
		return s.db.Update(func(tx *bolt.Tx) error { return write(&Tx{tx, s.box}) })
	})
}

// Do hands a change over. Keep's goroutine calls write within a transaction, and then done, in the same order for all, with nil
// once it is on disk. A false answer: the store is closed, and neither is called.
func (s *Store) Do(write func(*Tx) error, done func(error)) bool {
	s.state.Lock()
	defer s.state.Unlock()
	if s.state.closed {
		return false
	}
	s.state.waiting = append(s.state.waiting, change{write, done})
	s.poke()
	return true
}

// Await is Do, and waits for the end. The disk decides how long that takes.
func (s *Store) Await(write func(*Tx) error) error {
	end := make(chan error, 1)
	if !s.Do(write, func(err error) { end <- err }) {
		return ErrClosed
	}
	return <-end
}

// Later is Do for what is in no hurry: it goes along with the next change, or a moment later.
func (s *Store) Later(write func(*Tx) error, done func(error)) bool {
	s.state.Lock()
	defer s.state.Unlock()
	if s.state.closed {
		return false
	}
	if s.state.later = append(s.state.later, change{write, done}); len(s.state.later) == 1 {
		s.poke()
	}
	return true
}

// Hurry writes what is in no hurry now.
func (s *Store) Hurry() {
	s.state.Lock()
	defer s.state.Unlock()
	s.state.waiting = append(s.state.waiting, s.state.later...)
	s.state.later = nil
	s.poke()
}

func (s *Store) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Keep writes until ctx ends, then what is left, and closes the store. One goroutine runs it.
func (s *Store) Keep(ctx context.Context) {
	defer s.close()
	var later <-chan time.Time
	for {
		select {
		case <-s.wake:
		case <-later:
			later = nil
			s.Hurry()
		case <-ctx.Done():
			s.Hurry()
			s.write()
			return
		}
		s.write()
		s.state.Lock()
		if later == nil && len(s.state.later) > 0 {
			later = time.After(laterAfter)
		}
		s.state.Unlock()
	}
}

// write writes what waits, in one transaction.
func (s *Store) write() {
	s.state.Lock()
	if len(s.state.waiting) == 0 {
		s.state.Unlock()
		return
	}
	changes := append(s.state.waiting, s.state.later...)
	s.state.waiting, s.state.later = nil, nil
	watch := s.state.watch
	s.state.Unlock()
	err := s.commit(changes, watch)
	if err != nil {
		err = fmt.Errorf("%s: %w", s.path, err)
	}
	for _, c := range changes {
		c.done(err)
	}
}

func (s *Store) commit(changes []change, watch func(bool) error) error {
	if watch != nil {
		if err := watch(false); err != nil {
			return err
		}
	}
	err := s.Update(func(tx *Tx) error {
		for _, c := range changes {
			if err := c.write(tx); err != nil {
				return err
			}
		}
		return nil
	})
	if watch != nil {
		err = errors.Join(err, watch(true))
	}
	return err
}

// Watch is for tests of crashes and of failing disks: f is called before each transaction of Keep and after it. Nothing is written
// while it has not returned, and nobody has heard yet of what was; its error is that of the transaction.
func (s *Store) Watch(f func(committed bool) error) {
	s.state.Lock()
	defer s.state.Unlock()
	s.state.watch = f
}

func (s *Store) close() {
	s.state.Lock()
	left := append(s.state.waiting, s.state.later...)
	s.state.waiting, s.state.later, s.state.closed = nil, nil, true
	s.state.Unlock()
	for _, c := range left {
		c.done(ErrClosed)
	}
	_ = guarded(s.db.Close) // everything is synced; what is left is the lock and the mapping
}

// Close closes a store that Keep was never started on.
func (s *Store) Close() { s.close() }
