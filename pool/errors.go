package pool

import (
	"errors"

	"peerbus/node"
)

// The failures that callers tell apart. Every error of this package wraps one of them, or is that of a Network.
var (
	// ErrArgument: the call is wrong as it stands (ValueError).
	ErrArgument = node.ErrArgument
	// ErrNotFound: no pool, network or allow set of that name, or no peer id given (KeyError).
	ErrNotFound = node.ErrNotFound
	// ErrFull: the pool has no place left.
	ErrFull = errors.New("pool full")
	// ErrOtherPool: the peer is in another pool already.
	ErrOtherPool = errors.New("peer is in another pool")
	// ErrNotPooled: the peer is in no pool, so it has no network.
	ErrNotPooled = errors.New("peer is in no pool")
	// ErrNoPolicy: there is neither a public key nor the explicit policy none, so no message can be judged.
	ErrNoPolicy = errors.New("no authentication policy")
	// ErrRefused: a roster of somebody who may not publish it.
	ErrRefused = node.ErrRefused
	// ErrStale: a roster that is not newer than the applied one.
	ErrStale = errors.New("stale")
	// ErrClosed: the set is closed.
	ErrClosed error = closedError{}
	// ErrTimeout: a deadline passed.
	ErrTimeout = node.ErrTimeout
	// ErrInternal: a fault of this library or of a Network.
	ErrInternal = node.ErrInternal
)

// closedError also ends waits inside a node as the closing of the node does.
type closedError struct{}

func (closedError) Error() string        { return "pool set closed" }
func (closedError) Is(target error) bool { return target == node.ErrClosed }

// Why a token fails.
var (
	ErrNoToken      = errors.New("no token")
	ErrBadToken     = errors.New("bad token")
	ErrExpiredToken = errors.New("expired token")
	ErrTokenPeer    = errors.New("token is for other peers")
	ErrTokenRate    = errors.New("too many failed tokens")
	ErrKey          = errors.New("unusable key")
)

// Reasons of GEN-02 that this package counts.
const (
	ReasonDecodeError       = "decode_error"
	ReasonSenderMismatch    = "sender_mismatch"
	ReasonChannelSpoofed    = "channel_spoofed"
	ReasonNotMember         = "not_member"
	ReasonNoToken           = "no_token"
	ReasonBadToken          = "bad_token"
	ReasonExpiredToken      = "expired_token"
	ReasonTokenPeerMismatch = "token_peer_mismatch"
	ReasonRateLimited       = "rate_limited"
	ReasonRendezvousRefused = "rendezvous_refused"
	ReasonRendezvousStale   = "rendezvous_stale"
	ReasonRendezvousEntry   = "rendezvous_entry" // an entry of an accepted roster that was left out
)

// Reasons for which a connected peer gets no place (POOL-24).
const (
	RefusedFull       = "pool_full"
	RefusedOtherPool  = "other_pool"
	RefusedStranger   = "stranger"
	RefusedUnroutable = "unroutable"
	RefusedRelayed    = "relayed"
)
