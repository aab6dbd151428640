package node

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
)

func TestIdentityIsCreatedOnceAndStays(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "yet")
	first, err := LoadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	second, err := LoadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !first.Equals(second) {
		t.Error("the second load gives another key")
	}
	expectMode(t, dir, 0o700)
	expectMode(t, filepath.Join(dir, identityFile), 0o400)
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("the directory holds %v, %v", entries, err)
	}
}

func expectMode(t *testing.T, path string, want os.FileMode) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != want {
		t.Errorf("%s has mode %04o, want %04o", filepath.Base(path), got, want)
	}
}

func TestNodesThatStartTogetherShareOneIdentity(t *testing.T) {
	const nodes = 16
	dir := t.TempDir()
	keys, errs := make([]crypto.PrivKey, nodes), make([]error, nodes)
	start := make(chan struct{})
	var group sync.WaitGroup
	for i := range nodes {
		group.Go(func() {
			<-start
			keys[i], errs[i] = LoadIdentity(dir)
		})
	}
	close(start)
	group.Wait()
	for i := range nodes {
		if errs[i] != nil {
			t.Fatal(errs[i])
		}
		if !keys[i].Equals(keys[0]) {
			t.Errorf("node %d has another key than node 0", i)
		}
	}
}

func TestExistingKeysOfOtherProgramsAreRead(t *testing.T) {
	for _, mode := range []os.FileMode{0o400, 0o600} {
		dir := t.TempDir()
		key := newKey(t, crypto.Ed25519)
		writeIdentity(t, dir, marshalled(t, key), mode)
		loaded, err := LoadIdentity(dir)
		if err != nil || !loaded.Equals(key) {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
}

func TestKeysThatCannotBeUsedAreRefusedAndKept(t *testing.T) {
	good := marshalled(t, newKey(t, crypto.Ed25519))
	flipped := func(at int) []byte {
		changed := append([]byte(nil), good...)
		changed[at] ^= 1
		return changed
	}
	for _, c := range []struct {
		name string
		text []byte
		mode os.FileMode
		word string
	}{
		{"empty", nil, 0o400, "empty"},
		{"not a key", []byte("hello"), 0o400, "corrupt"},
		{"cut short", good[:len(good)-1], 0o400, "corrupt"},
		{"a flipped bit in the seed", flipped(10), 0o400, "corrupt"},
		{"a flipped bit in the public half", flipped(len(good) - 1), 0o400, "corrupt"},
		{"another type of key", marshalled(t, newKey(t, crypto.Secp256k1)), 0o400, "Secp256k1"},
		{"too large", make([]byte, maxIdentityBytes+1), 0o400, "more than"},
		{"readable by the group", good, 0o440, "chmod 400"},
		{"readable by others", good, 0o604, "chmod 400"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path := writeIdentity(t, dir, c.text, c.mode)
			_, err := LoadIdentity(dir)
			if !errors.Is(err, ErrIdentity) {
				t.Fatalf("got %v", err)
			}
			expectWords(t, err.Error(), path, c.word)
			kept, err := os.ReadFile(path)
			if err != nil || string(kept) != string(c.text) {
				t.Errorf("the file was changed to %q, %v", kept, err)
			}
		})
	}
}

func TestADanglingLinkIsNotReplaced(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(dir, "gone"), filepath.Join(dir, identityFile)); err != nil {
		t.Fatal(err)
	}
	_, err := LoadIdentity(dir)
	if !errors.Is(err, ErrIdentity) {
		t.Fatalf("got %v", err)
	}
	expectWords(t, err.Error(), "symbolic link")
}

func TestUnusableDirectoriesAreReported(t *testing.T) {
	base := t.TempDir()
	file := filepath.Join(base, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	keyIsDir := filepath.Join(base, "dir")
	if err := os.MkdirAll(filepath.Join(keyIsDir, identityFile), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"", file, filepath.Join(file, "below"), keyIsDir} {
		if _, err := LoadIdentity(dir); !errors.Is(err, ErrIdentity) {
			t.Errorf("directory %q: %v", dir, err)
		}
	}
}

func TestADirectoryThatCannotBeWrittenIsReported(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root writes everywhere")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	_, err := LoadIdentity(dir)
	if !errors.Is(err, os.ErrPermission) {
		t.Errorf("got %v", err)
	}
}

func newKey(t *testing.T, kind int) crypto.PrivKey {
	t.Helper()
	key, _, err := crypto.GenerateKeyPairWithReader(kind, 0, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func marshalled(t *testing.T, key crypto.PrivKey) []byte {
	t.Helper()
	text, err := crypto.MarshalPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// writeIdentity sets the mode apart from writing, free of the umask.
func writeIdentity(t *testing.T, dir string, text []byte, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(dir, identityFile)
	if err := errors.Join(os.WriteFile(path, text, 0o600), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
	return path
}
