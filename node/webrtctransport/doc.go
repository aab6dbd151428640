// Package webrtctransport is the libp2p transport /webrtc between two peers that neither can dial, such as a browser and a
// node behind a NAT (libp2p's specs/webrtc, "browser to browser"). The peers share a relayed connection; over a stream of
// SignalProtocol on it they negotiate a WebRTC connection, whose data channels are then streams of a libp2p connection: direct,
// with every protocol on it. There is no further handshake, since the relayed connection has authenticated both sides.
//
//	dialler:  stream --> offer --> candidates both ways --> answer --> connected --> CapableConn
//	listener: stream --> offer --> answer --> candidates both ways --> connected --> Accept
//
// A swarm sends every address with /p2p-circuit to the circuit transport. So this one dials the bare address /webrtc, which
// stands for "whatever the peer behind the relayed connection negotiates": put Address into the peerstore and dial with
// network.WithForceDirectDial.
//
// What it guarantees
//   - Handshakes are bounded in number (maxHandshakes, one for each peer) and time (handshakeTimeout), signals in size.
//   - A stream holds at most receiveBuffer bytes unread and sendBuffer bytes unacknowledged; writes wait and keep deadlines.
//   - A stream's end is told as the specification says: FIN is acknowledged before the data channel closes.
//   - Close of the listener ends the handshakes; connections end with their swarm.
package webrtctransport
