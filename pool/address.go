package pool

import (
	"slices"
	"time"

	"peerbus/node"
)

// addressBook holds addresses of peers that need not be connected, each for addressLifetime after it was told.
type addressBook struct {
	byPeer map[string]addressEntry
	puts   int // since the last sweep
}

type addressEntry struct {
	addrs   []string
	expires time.Time
}

func newAddressBook() addressBook { return addressBook{byPeer: map[string]addressEntry{}} }

func (b *addressBook) get(id string, now time.Time) (addrs []string, known bool) {
	entry, known := b.byPeer[id]
	if !known || !now.Before(entry.expires) {
		return nil, false
	}
	return entry.addrs, true
}

func (b *addressBook) put(id string, addrs []string, now time.Time) {
	b.byPeer[id] = addressEntry{append([]string{}, addrs...), now.Add(addressLifetime)}
	if b.puts++; b.puts < max(addressSweep, len(b.byPeer)) {
		return
	}
	b.puts = 0
	for other, entry := range b.byPeer {
		if !now.Before(entry.expires) {
			delete(b.byPeer, other)
		}
	}
}

func (b *addressBook) forget(id string) { delete(b.byPeer, id) }

// Addresses are the cached addresses of a peer, connected or not; ok is false when none are known or they have expired.
func (s *Set) Addresses(id string) (addrs []string, ok bool) {
	s.state.RLock()
	defer s.state.RUnlock()
	addrs, ok = s.state.addresses.get(id, s.now())
	return slices.Clone(addrs), ok
}

// SetAddresses caches addresses of a peer for later, connected or not.
func (s *Set) SetAddresses(id string, addrs []string) error {
	if err := checkPeerID(id); err != nil {
		return err
	}
	if err := node.CheckAddresses(addrs); err != nil {
		return err
	}
	s.state.Lock()
	defer s.state.Unlock()
	s.state.addresses.put(id, addrs, s.now())
	return nil
}
