// Package pool routes the connected peers of one or more networks into named, bounded pools, keeps their roles and world
// lists, and verifies the tokens that their messages carry. It is a state machine: events and calls come in, verdicts and
// events go out. It knows nothing of C, and of libp2p only the spelling of peer ids and addresses; package node enters
// through the interface Network and adapter.go.
//
// What it guarantees
//   - A peer is in one pool at most. The indices pool to peers, peer to pool, network, role and token agree whenever no call
//     is inside the set; each event and each query about one peer costs O(1) in the number of pooled peers.
//   - Who finds no place is refused with a reason, counted, reported and, unless the caller keeps it, disconnected. One
//     refusal never stops the handling of the others.
//   - A call that fails leaves the state as it was: lists, rosters and capacities are checked whole before anything changes.
//   - No lock is held across network work. A peer whose disconnection hangs holds up one worker until disconnectTimeout.
//   - A token is verified once per (peer, token), with the one algorithm that the configured key allows. Failed verifications
//     are limited per peer, so a flood of them costs little and reaches nobody else.
//   - Memory follows connections, members and lists that the host or an accepted roster set, each bounded in limits.go.
//
// Who owns what: Set owns the membership of one connection budget and takes Network values that the caller made; Close of
// the set ends its workers and detaches it, CloseTransports closes the networks too. NodeConn is a Set with the pools,
// rules and lists of the two-network preset. Verifier and Issuer stand alone. Slices and maps that a query answers are copies.
//
// States of a peer on one network:
//
//	            Connected                     rule fits, room
//	unknown ------------------> undecided ----------------------> pooled <---------------+
//	   ^                         |  |   ^                          |  ^   |              |
//	   |        no rule, stranger|  |   | Update, lists changed    |  |   | list or role | lists changed back,
//	   |        full, other pool |  |   |                          |  |   | changed      | Move
//	   | Disconnected            v  |   |             Disconnected |  |   v              |
//	   +----------------------- refused +                          |  | misplaced -------+
//	   |                        (disconnected, unless kept)        |  |   |
//	   |                                                           v  |   | Disconnected
//	   +---------------------- Remove ---------------------------- lost <-+
//	                                                                Connected: back to pooled
//
// Undecided are the peers that a routing function of the host has not seen yet, and strangers that this program dialled: they
// get until the next Update, because a program connects to a world node before it names it. Lost and misplaced peers keep
// their place and are flagged as removed by every Update until Remove or their return.
package pool
