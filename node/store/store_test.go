package store

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"peerbus/node/session"
)

var secret = bytes.Repeat([]byte{7}, 64)

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir, secret)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// filled is the directory of a closed store with one channel and messages 1 to count.
func filled(t *testing.T, count uint64) string {
	t.Helper()
	dir := t.TempDir()
	s := open(t, dir)
	defer s.Close()
	if err := s.Update(func(tx *Tx) error { return fill(tx, count) }); err != nil {
		t.Fatal(err)
	}
	return dir
}

func fill(tx *Tx, count uint64) error {
	number, err := tx.NewChannel()
	for id := uint64(1); id <= count && err == nil; id++ {
		err = tx.PutOut(number, OutMessage{ID: id, Attributes: [3]byte{0, 1, 2}, Payload: payloadOf(id)})
	}
	return errors.Join(err, tx.PutChannel(number, Channel{Name: "a secret name", Last: count}))
}

func payloadOf(id uint64) []byte { return bytes.Repeat([]byte{byte(id)}, int(id*37%5000)) }

func TestMessagesAreThereAfterReopening(t *testing.T) {
	s := open(t, filled(t, 100))
	defer s.Close()
	err := s.View(func(tx *Tx) error {
		got := tx.Out(1, 1, 100, 1<<20)
		for i, m := range got {
			if m.Err != nil || m.ID != uint64(i+1) || !bytes.Equal(m.Payload, payloadOf(m.ID)) || m.Attributes != [3]byte{0, 1, 2} {
				t.Errorf("message %d: %v", m.ID, m.Err)
			}
		}
		if len(got) != 100 {
			t.Errorf("%d messages are there", len(got))
		}
		return tx.Channels(func(number uint64, c Channel) error {
			if number != 1 || c.Name != "a secret name" || c.Last != 100 {
				t.Errorf("channel %d is %+v", number, c)
			}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestWhatADeletionFreesIsWhatWasCounted(t *testing.T) {
	s := open(t, filled(t, 50))
	defer s.Close()
	if err := s.Update(func(tx *Tx) error {
		before := tx.OutUsed()
		cost, err := tx.DeleteOut(1, 30)
		if after := tx.OutUsed(); before-cost != after {
			t.Errorf("%d were used, %d freed, %d are left", before, cost, after)
		}
		want := int64(0)
		for id := uint64(31); id <= 50; id++ {
			want += OutCost(len(payloadOf(id)))
		}
		if after := tx.OutUsed(); after != want {
			t.Errorf("%d are left, want %d", after, want)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func TestAFileOfAnotherIdentityIsRefusedAndKept(t *testing.T) {
	dir := filled(t, 3)
	if _, err := Open(dir, bytes.Repeat([]byte{8}, 64)); !errors.Is(err, ErrForeign) {
		t.Fatalf("got %v", err)
	}
	open(t, dir).Close()
}

func TestAFileInUseIsRefused(t *testing.T) {
	dir := filled(t, 3)
	s := open(t, dir)
	if _, err := Open(dir, secret); !errors.Is(err, ErrInUse) {
		t.Errorf("got %v", err)
	}
	s.Close()
	open(t, dir).Close()
}

func TestNothingReadableIsInTheFile(t *testing.T) {
	file, err := os.ReadFile(filepath.Join(filled(t, 100), FileName))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range [][]byte{[]byte("a secret name"), payloadOf(99)} {
		if bytes.Contains(file, text) {
			t.Errorf("the file holds %.20q in the clear", text)
		}
	}
}

// A file that was cut short or overwritten is an error of Open, or of reading what was hit; never a panic, never another message.
func TestDamageIsAnErrorAndNeverAMessage(t *testing.T) {
	whole, err := os.ReadFile(filepath.Join(filled(t, 200), FileName))
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		damaged := bytes.Clone(whole)
		if random.IntN(4) == 0 {
			damaged = damaged[:random.IntN(len(damaged))]
		} else {
			at := random.IntN(len(damaged))
			for i := range damaged[at:min(at+1+random.IntN(64), len(damaged))] {
				damaged[at+i] ^= byte(1 + random.IntN(255))
			}
		}
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, FileName), damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(dir, secret)
		if err != nil {
			continue
		}
		_ = s.View(func(tx *Tx) error {
			for _, m := range tx.Out(1, 1, 200, 1<<20) {
				if m.Err == nil && !bytes.Equal(m.Payload, payloadOf(m.ID)) {
					t.Errorf("message %d is another one", m.ID)
				}
			}
			return nil
		})
		s.Close()
	}
}

func TestChangesAreDoneInOrderAndAfterCloseRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); s.Keep(ctx) }()
	var done []int
	for i := range 100 {
		give := s.Do
		if i%10 == 9 {
			give = s.Later
		}
		if !give(func(tx *Tx) error { return tx.PutOut(1, OutMessage{ID: uint64(i + 1)}) }, func(err error) {
			if err != nil {
				t.Error(err)
			}
			done = append(done, i)
		}) {
			t.Fatal("refused")
		}
	}
	if err := s.Await(func(*Tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
	cancel()
	<-ended
	if len(done) != 100 {
		t.Errorf("%d of 100 changes were done", len(done))
	}
	if err := s.Await(func(*Tx) error { return nil }); !errors.Is(err, ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
	s = open(t, dir)
	defer s.Close()
	if err := s.View(func(tx *Tx) error {
		for _, m := range tx.Out(1, 1, 100, 1<<20) {
			if m.Err != nil {
				t.Error(m.Err)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestAFailedChangeChangesNothing(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); s.Keep(ctx) }()
	broken := errors.New("broken")
	if err := s.Await(func(tx *Tx) error { return errors.Join(fill(tx, 10), broken) }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	cancel()
	<-ended
	s = open(t, dir)
	defer s.Close()
	if err := s.View(func(tx *Tx) error {
		if used := tx.OutUsed(); used != 0 {
			t.Errorf("%d bytes are there", used)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestAMessageInThePlaceOfAnotherIsNotTaken(t *testing.T) {
	s := open(t, filled(t, 3))
	defer s.Close()
	err := s.Update(func(tx *Tx) error {
		outbox := tx.tx.Bucket(bucketOutbox)
		first, second := bytes.Clone(outbox.Get(keyOf(1, 1))), bytes.Clone(outbox.Get(keyOf(1, 2)))
		return errors.Join(outbox.Put(keyOf(1, 1), second), outbox.Put(keyOf(1, 2), first))
	})
	if err != nil {
		t.Fatal(err)
	}
	_ = s.View(func(tx *Tx) error {
		for _, m := range tx.Out(1, 1, 3, 1<<20) {
			if exchanged := m.ID < 3; exchanged != (m.Err != nil) {
				t.Errorf("message %d: %v", m.ID, m.Err)
			}
		}
		return nil
	})
}

func TestTheInstanceIsDrawnOnceForAFile(t *testing.T) {
	dir := t.TempDir()
	instance := func() (id session.ID) {
		t.Helper()
		s := open(t, dir)
		defer s.Close()
		if err := s.Update(func(tx *Tx) (err error) { id, err = tx.Instance(); return err }); err != nil {
			t.Fatal(err)
		}
		return id
	}
	if first := instance(); first.IsZero() || instance() != first {
		t.Error("another process would be another receiver")
	}
}
