// Package webrtc makes WebRTC data channels between two peers that already share a signalling stream, and moves chat frames
// over them (SPEC NEW-15). It is a package of its own because it knows pion and the wire format but neither a node nor
// libp2p: what reaches the queue, who may start a session and what is counted is the business of package node.
//
// What it guarantees
//   - Everything ends by itself: a handshake with its context, a write with its deadline, a session when the peer closes it,
//     falls silent for FailedTimeout or its owner calls Close. Close returns when pion's goroutines have ended.
//   - Memory is bounded: sctpBuffer bytes wait to be sent (SCTP itself would take any amount), as much may lie received and
//     unread, and an Assembler holds one frame that grows with what arrived, never with what a peer claims.
//   - What the channel had taken and the peer had not acknowledged when the session ended is known message by message
//     (Session.Unacknowledged).
//   - A malformed signal or chunk is an error or a counted loss; a panic of the SDP parser is an error of that handshake.
//
// Life of a session; Offer and Answer return when it is open or has failed:
//
//	offerer:   gathering --offer--> awaiting answer --answer--> connecting --channel opens--> open --> closed
//	answerer:  offer --> gathering --answer--> connecting --the offerer's channel opens--> open --> closed
//
// There is no trickle: all candidates of a side are in its description, so gathering is bounded by gatherTimeout and goes on
// with what it found by then.
package webrtc
