package node

import (
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/security/noise"

	"peerbus/node/corktls"
	"peerbus/node/mux"
)

// yamuxMessageBytes is half of the window that a stream begins with: a chunk of messages then is one frame, whose TLS records
// leave together, and the peer reads the first half while the second is written.
const yamuxMessageBytes = 128 << 10

// upgradeOptions are how TCP, WebSocket and relayed connections are secured and divided into streams. Two peerbus nodes agree
// on our muxer; towards everybody else all of it is libp2p's own on the wire.
func upgradeOptions() []libp2p.Option {
	return []libp2p.Option{
		libp2p.Security(corktls.ID, corktls.New),
		libp2p.Security(noise.ID, noise.New),
		libp2p.Muxer(mux.ID, mux.Transport{}),
		libp2p.Muxer(yamux.ID, newYamux()),
	}
}

func newYamux() *yamux.Transport {
	config := *yamux.DefaultTransport.Config()
	config.MaxMessageSize = yamuxMessageBytes
	return (*yamux.Transport)(&config)
}
