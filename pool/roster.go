package pool

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// Entry is one peer of a list or roster. Nil Addrs are "not told"; in JSON null or missing.
type Entry struct {
	ID          string   `json:"id"`
	Addrs       []string `json:"addrs"`
	Misc        int64    `json:"misc"`
	ConnectedAt *string  `json:"connected_at,omitempty"` // RFC 3339
	Direction   string   `json:"direction,omitempty"`
	Relayed     bool     `json:"relayed,omitempty"`
}

// Snapshot is one rendezvous roster as it arrived.
type Snapshot struct {
	Owner       string // of the topic it came on
	Author      string // whose signature it carries
	UpdateCount int64
	Peers       []Entry
	Skipped     int // malformed and repeated entries that were left out before
}

// check asks whether the entry can stand in a list that the host sets.
func (e *Entry) check() error {
	if _, err := peer.Decode(e.ID); err != nil {
		return fmt.Errorf("%w: %.128q is not a peer id: %v", ErrArgument, e.ID, err)
	}
	if err := checkAddresses(e.Addrs); err != nil {
		return fmt.Errorf("%s: %w", e.ID, err)
	}
	return checkRole(e.Misc)
}

// checkWritten asks for what readers of the existing network need: one entry that they cannot read costs them the roster.
func (e *Entry) checkWritten() error {
	if _, err := peer.Decode(e.ID); err != nil {
		return fmt.Errorf("%w: %.128q is not a peer id: %v", ErrArgument, e.ID, err)
	}
	if err := checkAddresses(e.Addrs); err != nil {
		return fmt.Errorf("%s: %w", e.ID, err)
	}
	for _, text := range e.Addrs {
		if _, err := ma.NewMultiaddr(text); err != nil {
			return fmt.Errorf("%w: address %q of %s: %v", ErrArgument, text, e.ID, err)
		}
	}
	if e.ConnectedAt != nil {
		if _, err := time.Parse(time.RFC3339, *e.ConnectedAt); err != nil {
			return fmt.Errorf("%w: connected_at %.64q of %s is not RFC 3339: %v", ErrArgument, *e.ConnectedAt, e.ID, err)
		}
	}
	return checkRole(e.Misc)
}

// ParseList decodes a JSON list of entries that the host gives; null is no entries. Any bad entry fails the whole.
func ParseList(data []byte) ([]Entry, error) {
	if len(data) > MaxRosterBytes {
		return nil, fmt.Errorf("%w: a list of %d bytes, at most %d are read", ErrArgument, len(data), MaxRosterBytes)
	}
	var entries []Entry
	if err := json.Unmarshal(data, &entries); err != nil {
		return nil, fmt.Errorf("%w: the list is not JSON of the form [{\"id\", \"addrs\", \"misc\"}, ...]: %v", ErrArgument, err)
	}
	return entries, checkEntries(entries)
}

func checkEntries(entries []Entry) error {
	if len(entries) > MaxRosterPeers {
		return fmt.Errorf("%w: a list of %d peers, at most %d are kept", ErrArgument, len(entries), MaxRosterPeers)
	}
	seen := make(map[string]struct{}, len(entries))
	for i := range entries {
		e := &entries[i]
		if err := e.check(); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
		if _, repeated := seen[e.ID]; repeated {
			return fmt.Errorf("%w: entry %d: %s is listed twice", ErrArgument, i, e.ID)
		}
		seen[e.ID] = struct{}{}
	}
	return nil
}

// ParseRoster decodes the content of a roster message. Entries that are malformed or repeat an id are left out and counted in
// Skipped; Owner and Author are the caller's to fill in.
func ParseRoster(data []byte) (Snapshot, error) {
	if len(data) > MaxRosterBytes {
		return Snapshot{}, fmt.Errorf("%w: a roster of %d bytes, at most %d are read", ErrArgument, len(data), MaxRosterBytes)
	}
	var content struct {
		Peers       *[]json.RawMessage `json:"peers"`
		UpdateCount *int64             `json:"update_count"`
	}
	if err := json.Unmarshal(data, &content); err != nil {
		return Snapshot{}, fmt.Errorf("%w: malformed roster: %v", ErrArgument, err)
	}
	switch {
	case content.Peers == nil || content.UpdateCount == nil:
		return Snapshot{}, fmt.Errorf("%w: a roster needs peers and update_count", ErrArgument)
	case *content.UpdateCount < 0:
		return Snapshot{}, fmt.Errorf("%w: update_count %d is negative", ErrArgument, *content.UpdateCount)
	case len(*content.Peers) > MaxRosterPeers:
		return Snapshot{}, fmt.Errorf("%w: a roster of %d peers, at most %d are read", ErrArgument, len(*content.Peers), MaxRosterPeers)
	}
	snapshot := Snapshot{UpdateCount: *content.UpdateCount, Peers: make([]Entry, 0, len(*content.Peers))}
	for _, raw := range *content.Peers {
		var e Entry
		if json.Unmarshal(raw, &e) != nil {
			snapshot.Skipped++
			continue
		}
		snapshot.Peers = append(snapshot.Peers, e)
	}
	snapshot.dropBad()
	return snapshot, nil
}

// dropBad leaves out and counts what no list could hold. An entry without addresses passes: readers skip it uncounted.
func (r *Snapshot) dropBad() {
	kept := make([]Entry, 0, len(r.Peers))
	seen := make(map[string]struct{}, len(r.Peers))
	for _, e := range r.Peers {
		_, repeated := seen[e.ID]
		if repeated || e.checkWritten() != nil {
			r.Skipped++
			continue
		}
		seen[e.ID] = struct{}{}
		kept = append(kept, e)
	}
	r.Peers = kept
}

// EncodeRoster writes the content of a roster message. Every entry must be one that readers accept.
func EncodeRoster(peers []Entry, updateCount int64) ([]byte, error) {
	if updateCount < 0 {
		return nil, fmt.Errorf("%w: update_count %d is negative", ErrArgument, updateCount)
	}
	type written struct {
		ID          string   `json:"id"`
		Addrs       []string `json:"addrs"`
		ConnectedAt *string  `json:"connected_at"`
		Direction   string   `json:"direction"`
		Misc        int64    `json:"misc"`
		Relayed     bool     `json:"relayed"`
	}
	list := make([]written, len(peers))
	for i, e := range peers {
		if err := e.checkWritten(); err != nil {
			return nil, fmt.Errorf("entry %d: %w", i, err)
		}
		list[i] = written{e.ID, e.Addrs, e.ConnectedAt, e.Direction, e.Misc, e.Relayed}
	}
	return json.Marshal(map[string]any{"peers": list, "update_count": updateCount})
}
