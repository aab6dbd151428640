package pool

import (
	"context"
	"time"
)

// Network is what the pools need of a node. Its methods may block until their context ends; the set calls none of them with
// a lock held. Connection events come the other way: whoever wires a network calls Set.Connected and Set.Disconnected, in
// the order in which they happened.
type Network interface {
	// ID is the own peer id on this network.
	ID() string
	// Usable answers why the network cannot be asked any more, nil while it can.
	Usable() error
	// Peers lists the live connections. The set asks when it is made and after a failure, not periodically.
	Peers() ([]PeerInfo, error)
	// Connect dials the peer that the addresses name and answers its id and the address that won.
	Connect(ctx context.Context, addresses []string) (id, address string, err error)
	Disconnect(ctx context.Context, id string) error
	// Spares tells whether a peer without a place keeps its connection, because the network itself needs it: relays and such.
	Spares(id string) bool
	// Reserve makes a reservation on the connected relay.
	Reserve(ctx context.Context, id string) (expires time.Time, err error)
	Send(ctx context.Context, channel string, payload []byte) error
	Publish(ctx context.Context, channel string, payload []byte) (reached int, err error)
	Subscribe(channel string) error
	Unsubscribe(channel string) error
	// Rendezvous is the newest snapshot that arrived; ok is false before the first.
	Rendezvous() (snapshot Snapshot, ok bool)
	// ResetRendezvous: the next snapshot counts, whatever its update count.
	ResetRendezvous()
	Close() error
}

// Directions of a connection, as seen from the own node.
const (
	Inbound  = "inbound"
	Outbound = "outbound"
)

// PeerInfo describes a peer with its connection.
type PeerInfo struct {
	ID          string   `json:"id"`
	Addrs       []string `json:"addrs"`
	ConnectedAt string   `json:"connected_at"` // RFC 3339
	Direction   string   `json:"direction"`    // Inbound or Outbound
	Misc        int64    `json:"misc"`         // the role
	Relayed     bool     `json:"relayed"`
}

// normalDirection also reads the words of the roster format; "" for anything else.
func normalDirection(word string) string {
	switch word {
	case Inbound, "incoming":
		return Inbound
	case Outbound, "outgoing":
		return Outbound
	}
	return ""
}
