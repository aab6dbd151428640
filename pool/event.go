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
	EventRouteRequested    EventKind = "pool_route_requested"
	EventRoleChanged       EventKind = "role_changed"
	EventWorldListChanged  EventKind = "world_list_changed" // List names it, Peers is its length
	EventWorldLeft         EventKind = "world_left"         // Peers lost their places
	EventRendezvousApplied EventKind = "rendezvous_applied"
	EventRendezvousRefused EventKind = "rendezvous_refused"
	EventDisconnectFailed  EventKind = "pool_disconnect_failed"
)

// Event is one change of the set; the fields that mean something depend on Kind.
type Event struct {
	Kind        EventKind
	Network     string
	Pool        string
	Peer        string
	Reason      string
	List        string
	Direction   string
	Address     string
	Relayed     bool
	Role        int64
	Previous    int64
	UpdateCount int64
	Peers       int
	Skipped     int
}

// Fields are those that the header documents for the kind.
func (e Event) Fields() map[string]any {
	fields := map[string]any{}
	if e.Network != "" {
		fields["network"] = e.Network
	}
	if e.Peer != "" {
		fields["peer"] = e.Peer
	}
	switch e.Kind {
	case EventPeerAdded, EventPeerMoved:
		fields["pool"], fields["role"] = e.Pool, e.Role
	case EventPeerLost, EventPeerReturned, EventPeerRemoved:
		fields["pool"] = e.Pool
	case EventPeerRefused:
		fields["pool"], fields["reason"] = e.Pool, e.Reason
	case EventRouteRequested:
		fields["direction"], fields["address"], fields["relayed"], fields["role"] = e.Direction, e.Address, e.Relayed, e.Role
	case EventDisconnectFailed:
		fields["reason"] = e.Reason
	case EventRoleChanged:
		fields["role"], fields["previous_role"] = e.Role, e.Previous
	case EventWorldListChanged:
		fields["list"], fields["peers"] = e.List, e.Peers
	case EventWorldLeft:
		fields["reason"], fields["peers"] = e.Reason, e.Peers
	case EventRendezvousApplied:
		fields["update_count"], fields["peers"], fields["skipped"] = e.UpdateCount, e.Peers, e.Skipped
	case EventRendezvousRefused:
		fields["update_count"], fields["reason"] = e.UpdateCount, e.Reason
	}
	return fields
}

// emitLocked hands an event to the host's sink, in the order of the changes.
func (s *Set) emitLocked(e Event) {
	if s.emit != nil {
		s.emit(e)
	}
}
