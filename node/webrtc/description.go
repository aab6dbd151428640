package webrtc

import (
	"fmt"
	"strings"
)

// maxRemoteCandidates bounds the candidates taken of a peer: each is checked against each of ours.
const maxRemoteCandidates = 64

// CheckDescription answers the session description to give to pion: one data channel section, a bounded number of candidates.
// Media sections would make pion allocate transceivers for as long as the peer names them.
func CheckDescription(sdp string) (string, error) {
	sections, candidates := 0, 0
	lines := strings.Split(strings.TrimRight(sdp, "\r\n"), "\n")
	kept := lines[:0]
	for _, line := range lines {
		line = strings.TrimSuffix(line, "\r")
		switch {
		case strings.HasPrefix(line, "m="):
			sections++
			if !strings.HasPrefix(line, "m=application ") {
				return "", fmt.Errorf("%w: the description offers %q; only a data channel is taken", ErrSignal, shown(line))
			}
		case strings.HasPrefix(line, "a=candidate:"):
			if candidates++; candidates > maxRemoteCandidates {
				continue
			}
		}
		kept = append(kept, line)
	}
	if sections != 1 {
		return "", fmt.Errorf("%w: the description has %d data channel sections instead of one", ErrSignal, sections)
	}
	return strings.Join(kept, "\r\n") + "\r\n", nil
}

func countCandidates(sdp string) int { return strings.Count(sdp, "\na=candidate:") }
