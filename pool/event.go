package pool

// EventKind names what happened.
type EventKind string

// Kinds of events.
const (
	EventPeerAdded         EventKind = "pool_peer_added"
	EventPeerLost          EventKind = "pool_peer_lost"
	EventPeerReturned      EventKind = "pool_peer_returned"
	EventPeerRemoved       EventKind = "pool_peer_removed"
	EventPeerMoved         EventKind = "pool_peer_moved"
	EventPeerRefused       EventKind = "pool_peer_refused"
	EventRoleChanged       EventKind = "role_changed"
	EventWorldListChanged  EventKind = "world_list_changed" // List names it, Peers is its length
	EventRendezvousApplied EventKind = "rendezvous_applied"
	EventRendezvousRefused EventKind = "rendezvous_refused"
	EventDisconnectFailed  EventKind = "pool_disconnect_failed"
)

// Event is one change of the set; the fields that mean something depend on Kind.
type Event struct {
	Kind        EventKind `json:"type"`
	Network     string    `json:"network,omitempty"`
	Pool        string    `json:"pool,omitempty"`
	Peer        string    `json:"peer,omitempty"`
	Reason      string    `json:"reason,omitempty"`
	List        string    `json:"list,omitempty"`
	Role        int64     `json:"role,omitempty"`
	Previous    int64     `json:"previous_role,omitempty"`
	UpdateCount int64     `json:"update_count,omitempty"`
	Peers       int       `json:"peers,omitempty"`
	Skipped     int       `json:"skipped,omitempty"`
}

// emitLocked hands an event to the host's sink, in the order of the changes.
func (s *Set) emitLocked(e Event) {
	if s.emit != nil {
		s.emit(e)
	}
}
