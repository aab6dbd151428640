package node

import (
	"testing"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"

	"peerbus/node/mux"
)

// muxerTo answers what divides the connection between the node and the peer into streams.
func muxerTo(t *testing.T, n *Node, id peer.ID) protocol.ID {
	t.Helper()
	conns := n.host.Network().ConnsToPeer(id)
	if len(conns) == 0 {
		t.Fatal("no connection")
	}
	return conns[0].ConnState().StreamMultiplexer
}

func TestTwoNodesAgreeOnOurMuxerAndStockPeersGetYamux(t *testing.T) {
	a, b := startPair(t)
	if got := muxerTo(t, a, b.id); got != mux.ID {
		t.Errorf("two nodes use %q", got)
	}
	for _, ours := range []bool{true, false} {
		stock, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableMetrics())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = stock.Close() })
		stock.SetStreamHandler(ChatProtocol, func(s network.Stream) { _ = s.Reset() })
		if ours {
			err = a.host.Connect(t.Context(), peer.AddrInfo{ID: stock.ID(), Addrs: stock.Addrs()})
		} else {
			err = stock.Connect(t.Context(), peer.AddrInfo{ID: a.id, Addrs: a.host.Addrs()})
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := muxerTo(t, a, stock.ID()); got != yamux.ID {
			t.Errorf("with a stock peer, dialled by us %v: %q", ours, got)
		}
	}
}
