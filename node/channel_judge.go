package node

import "github.com/libp2p/go-libp2p/core/peer"

// maxKnownChannels bounds the channel names that one judge remembers.
const maxKnownChannels = 1024

// verdict is what a channel name means on a connection: the loss reason of its frames, "" for good ones.
type verdict struct{ channel, reason string }

// channelJudge says which channels the frames of one peer may name. One reader owns it.
type channelJudge struct {
	from  string
	self  peer.ID
	known map[string]verdict
}

func newChannelJudge(from, self peer.ID) channelJudge {
	return channelJudge{from: from.String(), self: self, known: map[string]verdict{}}
}

// of answers the channel as a string and why the frame is refused, if it is: only the owner may send on a direct channel,
// and only to its target.
func (j channelJudge) of(name []byte) (channel, reason string) {
	if known, ok := j.known[string(name)]; ok {
		return known.channel, known.reason
	}
	channel = string(name)
	parsed, err := parseChannel(channel)
	switch {
	case err != nil || parsed.topic:
		reason = lossBadChannel
	case parsed.owner != j.from || parsed.target != j.self:
		reason = lossChannelSpoofed
	}
	if len(j.known) < maxKnownChannels {
		j.known[channel] = verdict{channel, reason}
	}
	return channel, reason
}
