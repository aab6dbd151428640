package pool

import (
	"encoding/json"
	"fmt"

	"github.com/libp2p/go-libp2p/core/peer"

	"peerbus/node"
)

// Entry is one peer of a list or roster. Nil Addrs are "not told"; in JSON null or missing.
type Entry = node.RosterPeer

// Snapshot is one rendezvous roster as it arrived.
type Snapshot = node.Snapshot

// checkEntry asks whether the entry can stand in a list that the host sets.
func checkEntry(e *Entry) error {
	if _, err := peer.Decode(e.ID); err != nil {
		return fmt.Errorf("%w: %.128q is not a peer id: %v", ErrArgument, e.ID, err)
	}
	if err := node.CheckAddresses(e.Addrs); err != nil {
		return fmt.Errorf("%s: %w", e.ID, err)
	}
	return checkRole(e.Misc)
}

// ParseList decodes a JSON list of entries that the host gives; null is no entries. Any bad entry fails the whole.
func ParseList(data []byte) ([]Entry, error) {
	if len(data) > node.MaxRosterBytes {
		return nil, fmt.Errorf("%w: a list of %d bytes, at most %d are read", ErrArgument, len(data), node.MaxRosterBytes)
	}
	var entries []Entry
	if err := json.Unmarshal(data, &entries); err != nil {
		return nil, fmt.Errorf("%w: the list is not JSON of the form [{\"id\", \"addrs\", \"misc\"}, ...]: %v", ErrArgument, err)
	}
	return entries, checkEntries(entries)
}

func checkEntries(entries []Entry) error {
	if len(entries) > node.MaxRosterPeers {
		return fmt.Errorf("%w: a list of %d peers, at most %d are kept", ErrArgument, len(entries), node.MaxRosterPeers)
	}
	seen := make(map[string]struct{}, len(entries))
	for i := range entries {
		e := &entries[i]
		if err := checkEntry(e); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
		if _, repeated := seen[e.ID]; repeated {
			return fmt.Errorf("%w: entry %d: %s is listed twice", ErrArgument, i, e.ID)
		}
		seen[e.ID] = struct{}{}
	}
	return nil
}

// EncodeRoster writes the content of a roster message. Every entry must be one that readers accept.
func EncodeRoster(peers []Entry, updateCount int64) ([]byte, error) {
	if updateCount < 0 {
		return nil, fmt.Errorf("%w: update_count %d is negative", ErrArgument, updateCount)
	}
	for i := range peers {
		if err := peers[i].Check(); err != nil {
			return nil, fmt.Errorf("entry %d: %w", i, err)
		}
		if err := checkRole(peers[i].Misc); err != nil {
			return nil, fmt.Errorf("entry %d: %w", i, err)
		}
	}
	return json.Marshal(node.Roster{Peers: append([]Entry{}, peers...), UpdateCount: updateCount})
}
