package node

import (
	"github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"

	"peerbus/node/session"
)

// closingStreams is how many more streams than its limit a peer may have for a moment: it forgets one before we do.
const closingStreams = 16

// channelLimits bounds the streams of acknowledged channels with one peer, beside those that a peer may have anyway.
func channelLimits(own *rcmgr.PartialLimitConfig, automatic rcmgr.ConcreteLimitConfig, streams int) {
	each := rcmgr.LimitVal(streams + closingStreams)
	usual := automatic.ToPartialLimitConfig().PeerDefault
	own.PeerDefault.Streams = usual.Streams + 2*each
	own.PeerDefault.StreamsInbound = usual.StreamsInbound + each
	own.PeerDefault.StreamsOutbound = usual.StreamsOutbound + each
	if own.ProtocolPeer == nil {
		own.ProtocolPeer = map[protocol.ID]rcmgr.ResourceLimits{}
	}
	own.ProtocolPeer[session.Protocol] = rcmgr.ResourceLimits{Streams: 2 * each, StreamsInbound: each, StreamsOutbound: each}
}
