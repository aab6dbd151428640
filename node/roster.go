package node

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// Bounds of a rendezvous list.
const (
	// MaxRosterBytes bounds the JSON text of a list.
	MaxRosterBytes = 50 << 20
	// MaxRosterPeers bounds the entries of one list.
	MaxRosterPeers = 65536
	// MaxPeerAddresses bounds the addresses kept of one peer, MaxAddressBytes the length of each.
	MaxPeerAddresses = 64
	MaxAddressBytes  = 1024
)

// RosterPeer is one entry of a list. Nil Addrs are "not told"; they and a nil ConnectedAt are written as null.
type RosterPeer struct {
	ID          string   `json:"id"`
	Addrs       []string `json:"addrs"`
	ConnectedAt *string  `json:"connected_at"` // RFC 3339
	Direction   string   `json:"direction"`
	Misc        int64    `json:"misc"` // the role
	Relayed     bool     `json:"relayed"`
}

// Roster is the content of a rendezvous message (P2P-21).
type Roster struct {
	Peers       []RosterPeer `json:"peers"`
	UpdateCount int64        `json:"update_count"`
}

// Snapshot is a rendezvous list as it arrived.
type Snapshot struct {
	Owner       string // of the topic it came on
	Author      string // whose signature it carries
	Listed      bool   // the list that was accepted before names the author as a master
	After       int64  // update count of that list, -1 for none
	UpdateCount int64
	Peers       []RosterPeer
	Skipped     int // malformed and repeated entries that were left out
}

// Roster is what the snapshot says.
func (s *Snapshot) Roster() Roster { return Roster{Peers: s.Peers, UpdateCount: s.UpdateCount} }

// ParseRoster decodes the content of a rendezvous message. Entries that are malformed or repeat an id are left out and counted
// in Skipped; Owner and Author are the caller's to fill in.
func ParseRoster(data []byte) (Snapshot, error) {
	if len(data) > MaxRosterBytes {
		return Snapshot{}, fmt.Errorf("%w: a list of %d bytes, at most %d are read", ErrArgument, len(data), MaxRosterBytes)
	}
	var list struct {
		Peers       *[]json.RawMessage `json:"peers"`
		UpdateCount *int64             `json:"update_count"`
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return Snapshot{}, fmt.Errorf("%w: malformed list: %v", ErrArgument, err)
	}
	switch {
	case list.Peers == nil || list.UpdateCount == nil:
		return Snapshot{}, fmt.Errorf("%w: a list needs peers and update_count", ErrArgument)
	case *list.UpdateCount < 0:
		return Snapshot{}, fmt.Errorf("%w: update_count %d is negative", ErrArgument, *list.UpdateCount)
	case len(*list.Peers) > MaxRosterPeers:
		return Snapshot{}, fmt.Errorf("%w: %d peers, at most %d are taken", ErrArgument, len(*list.Peers), MaxRosterPeers)
	}
	s := Snapshot{UpdateCount: *list.UpdateCount, Peers: make([]RosterPeer, 0, len(*list.Peers))}
	for _, raw := range *list.Peers {
		var p RosterPeer
		if json.Unmarshal(raw, &p) != nil {
			s.Skipped++
			continue
		}
		s.Peers = append(s.Peers, p)
	}
	s.DropBad()
	return s, nil
}

// DropBad leaves out and counts the entries that are malformed or repeat an id. The slice that Peers was is left alone.
func (s *Snapshot) DropBad() {
	kept := make([]RosterPeer, 0, len(s.Peers))
	seen := make(map[string]struct{}, len(s.Peers))
	for i := range s.Peers {
		p := &s.Peers[i]
		if _, repeated := seen[p.ID]; repeated || p.Check() != nil {
			s.Skipped++
			continue
		}
		seen[p.ID] = struct{}{}
		kept = append(kept, *p)
	}
	s.Peers = kept
}

// Check asks for what readers of the existing network need: one entry that they cannot read costs them the list.
func (p *RosterPeer) Check() error {
	if _, err := peer.Decode(p.ID); err != nil {
		return fmt.Errorf("%w: %.128q is not a peer id: %v", ErrArgument, p.ID, err)
	}
	if err := CheckAddresses(p.Addrs); err != nil {
		return fmt.Errorf("%s: %w", p.ID, err)
	}
	for _, text := range p.Addrs {
		if _, err := ma.NewMultiaddr(text); err != nil {
			return fmt.Errorf("%w: address %q of %s: %v", ErrArgument, text, p.ID, err)
		}
	}
	if p.ConnectedAt != nil {
		if _, err := time.Parse(time.RFC3339, *p.ConnectedAt); err != nil {
			return fmt.Errorf("%w: connected_at %.64q of %s is not RFC 3339: %v", ErrArgument, *p.ConnectedAt, p.ID, err)
		}
	}
	if p.Misc < 0 {
		return fmt.Errorf("%w: misc %d of %s is negative", ErrArgument, p.Misc, p.ID)
	}
	return nil
}

// CheckAddresses answers why the addresses of one peer are not kept, if so.
func CheckAddresses(addrs []string) error {
	if len(addrs) > MaxPeerAddresses {
		return fmt.Errorf("%w: %d addresses of one peer, at most %d are kept", ErrArgument, len(addrs), MaxPeerAddresses)
	}
	for _, text := range addrs {
		if len(text) > MaxAddressBytes {
			return fmt.Errorf("%w: an address of %d bytes, at most %d are kept", ErrArgument, len(text), MaxAddressBytes)
		}
	}
	return nil
}
