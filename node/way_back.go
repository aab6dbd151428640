package node

import (
	"context"
	"sync"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// waysBack know how this node had reached a peer through a relay before a direct connection came, after which the relayed one is
// closed. A punched hole may close again; then the side that had dialled through the relay does so once more, and everything goes
// on there: a connection that the program asked for does not end because a better one did not last. It does not when either side
// disconnected: the one that did refuses the dial. WebRTC connections go back by themselves (webrtc_conns.go).
//
// Which of the two connections ended last is not known: libp2p tells it from a goroutine for each. So whichever end is told when
// no connection is left goes back.
type waysBack struct {
	node  *Node
	state struct {
		sync.Mutex
		byPeer map[peer.ID]ma.Multiaddr // of connected peers
	}
}

func newWaysBack(n *Node) *waysBack {
	w := &waysBack{node: n}
	w.state.byPeer = map[peer.ID]ma.Multiaddr{}
	return w
}

// note remembers the way when this node dialled one of the relayed connections.
func (w *waysBack) note(id peer.ID, relayed []network.Conn) {
	w.state.Lock()
	defer w.state.Unlock()
	for _, c := range relayed {
		if c.Stat().Direction == network.DirOutbound {
			w.state.byPeer[id] = c.RemoteMultiaddr()
		}
	}
}

func (w *waysBack) take(id peer.ID) ma.Multiaddr {
	w.state.Lock()
	defer w.state.Unlock()
	back := w.state.byPeer[id]
	delete(w.state.byPeer, id)
	return back
}

// disconnected goes back when the peer's last connection has ended.
func (w *waysBack) disconnected(c network.Conn) {
	id := c.RemotePeer()
	if len(openConns(w.node.host.Network().ConnsToPeer(id))) > 0 {
		return
	}
	back := w.take(id)
	if back == nil || isWebRTC(c) || w.node.gate.refused(id) {
		return
	}
	w.node.spawn("back to the relay", func() {
		if err := w.dial(id, back); err != nil {
			w.node.log.Info("no way back to the relay after a direct connection", "peer", id, "reason", err)
		}
	})
}

// dial reaches a peer through a relay again.
func (w *waysBack) dial(id peer.ID, back ma.Multiaddr) error {
	info := peer.AddrInfo{ID: id, Addrs: []ma.Multiaddr{back}}
	w.node.forgetFailedDials(info)
	ctx, cancel := context.WithTimeout(network.WithAllowLimitedConn(w.node.ctx, "back to the relay"), ConnectTimeout)
	defer cancel()
	return w.node.host.Connect(ctx, info)
}
