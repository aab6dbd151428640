package webrtc

import (
	"net"
	"strconv"

	pion "github.com/pion/webrtc/v4"
)

// Candidate is one end of a path.
type Candidate struct {
	Type    string `json:"type"`    // "host", "srflx" (behind a NAT), "prflx" (seen in a check) or "relay" (at a TURN server)
	Address string `json:"address"` // host:port
	// RelayProtocol is how an own relay candidate reaches its TURN server: "udp", "tcp", "tls" or "dtls".
	RelayProtocol string `json:"relay_protocol,omitempty"`
}

// Pair is the path that ICE has chosen.
type Pair struct {
	Local  Candidate `json:"local"`
	Remote Candidate `json:"remote"`
}

// Relayed tells whether the path leads through a TURN server.
func (p Pair) Relayed() bool {
	relay := pion.ICECandidateTypeRelay.String()
	return p.Local.Type == relay || p.Remote.Type == relay
}

// Pair answers the path in use; false before there is one.
func (s *Session) Pair() (Pair, bool) { return PairOf(s.connection) }

// PairOf answers the path that a connection uses; false before there is one.
func PairOf(c *pion.PeerConnection) (Pair, bool) {
	chosen, ok := c.SCTP().Transport().ICETransport().GetSelectedCandidatePairStats()
	if !ok {
		return Pair{}, false
	}
	stats := c.GetStats()
	local, haveLocal := stats[chosen.LocalCandidateID].(pion.ICECandidateStats)
	remote, haveRemote := stats[chosen.RemoteCandidateID].(pion.ICECandidateStats)
	return Pair{candidateOf(local), candidateOf(remote)}, haveLocal && haveRemote
}

func candidateOf(s pion.ICECandidateStats) Candidate {
	return Candidate{s.CandidateType.String(), net.JoinHostPort(s.IP, strconv.Itoa(int(s.Port))), s.RelayProtocol}
}
