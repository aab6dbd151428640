package node

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/libp2p/go-libp2p/core/crypto"
)

// ErrIdentity is wrapped by every error of LoadIdentity.
var ErrIdentity = errors.New("identity cannot be used")

const (
	identityFile     = "identity.key"
	identityDirMode  = 0o700
	identityFileMode = 0o400
	// othersMode are the permissions that a private key must not grant.
	othersMode = 0o077
	// maxIdentityBytes is far above the 68 bytes of a key, and bounds reading a wrong file.
	maxIdentityBytes = 4096
)

// LoadIdentity returns the private key that identity.key in dir holds, a libp2p-marshalled Ed25519
// key (P2P-05). Directory and key are created if absent. An existing key is never replaced, however
// broken: a new one would silently be another peer. A key that group or others may read is refused,
// like ssh does: tightening its mode would hide that it was open.
func LoadIdentity(dir string) (crypto.PrivKey, error) {
	key, err := loadIdentity(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIdentity, err)
	}
	return key, nil
}

func loadIdentity(dir string) (crypto.PrivKey, error) {
	if dir == "" {
		return nil, errors.New("no directory named")
	}
	if err := os.MkdirAll(dir, identityDirMode); err != nil {
		return nil, fmt.Errorf("create the identity directory: %w", err)
	}
	path := filepath.Join(dir, identityFile)
	key, err := readIdentity(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if err := createIdentity(dir, path); err != nil {
		return nil, fmt.Errorf("create %s: %w: make the directory writable, on a file system with hard links, "+
			"or name another identity_dir", path, err)
	}
	return readIdentity(path)
}

func readIdentity(path string) (crypto.PrivKey, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, missingOrBroken(path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file, move it away", path)
	}
	// The permission bits of Windows say nothing about other users.
	if mode := info.Mode().Perm(); mode&othersMode != 0 && runtime.GOOS != "windows" {
		return nil, fmt.Errorf("%s has mode %04o, so other users may have it: if you trust it run chmod 400 on it, "+
			"else move it away and the node gets a new peer id", path, mode)
	}
	text, err := readBounded(path)
	if err != nil {
		return nil, err
	}
	key, err := parseIdentity(text)
	if err != nil {
		return nil, fmt.Errorf("%s %w: restore it from a copy, or move it away and the node gets a new peer id", path, err)
	}
	return key, nil
}

// missingOrBroken tells a missing key, which may be created, from a dangling symbolic link, whose
// target may come back.
func missingOrBroken(path string, err error) error {
	// Another process may create the key between the two looks, so only a link is a dangling link.
	if info, linkErr := os.Lstat(path); errors.Is(err, fs.ErrNotExist) && linkErr == nil && info.Mode()&fs.ModeSymlink != 0 {
		return fmt.Errorf("%s is a symbolic link to nothing, restore its target or remove it", path)
	}
	return err
}

func readBounded(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxIdentityBytes+1))
	if err == nil && len(text) > maxIdentityBytes {
		err = fmt.Errorf("%s has more than %d bytes, it is no key", path, maxIdentityBytes)
	}
	return text, err
}

// parseIdentity also derives the key from its seed: unmarshalling does not notice a public half
// that belongs to another private one.
func parseIdentity(text []byte) (crypto.PrivKey, error) {
	if len(text) == 0 {
		return nil, errors.New("is empty")
	}
	key, err := crypto.UnmarshalPrivateKey(text)
	if err != nil {
		return nil, fmt.Errorf("is corrupt (%w)", err)
	}
	if key.Type() != crypto.Ed25519 {
		return nil, fmt.Errorf("holds a key of type %s, not Ed25519", key.Type())
	}
	raw, err := key.Raw()
	if err != nil {
		return nil, fmt.Errorf("is corrupt (%w)", err)
	}
	if derived := ed25519.NewKeyFromSeed(raw[:ed25519.SeedSize]); !bytes.Equal(derived, raw) {
		return nil, errors.New("is corrupt (its public key does not belong to its private key)")
	}
	return key, nil
}

// createIdentity writes a new key unless another process was faster. The key appears complete or
// not at all, and by a hard link, which, other than a rename, never replaces a file.
func createIdentity(dir, path string) error {
	temporary, err := writeNewKey(dir)
	if err != nil {
		return err
	}
	err = os.Link(temporary, path)
	removeErr := os.Remove(temporary)
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	if err = errors.Join(err, removeErr); err != nil {
		return err
	}
	return syncDir(dir)
}

// writeNewKey returns the path of a synced file next to the final one.
func writeNewKey(dir string) (path string, err error) {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return "", err
	}
	text, err := crypto.MarshalPrivateKey(key)
	if err != nil {
		return "", err
	}
	file, err := os.CreateTemp(dir, ".identity-*.tmp")
	if err != nil {
		return "", err
	}
	_, writeErr := file.Write(text)
	err = errors.Join(writeErr, file.Chmod(identityFileMode), file.Sync(), file.Close())
	if err != nil {
		return "", errors.Join(err, os.Remove(file.Name()))
	}
	return file.Name(), nil
}

// syncDir makes the new directory entry survive a power cut, where the file system can do that.
func syncDir(dir string) error {
	handle, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer handle.Close()
	err = handle.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}
