package node

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/tcpreuse"
	ma "github.com/multiformats/go-multiaddr"
)

// Bulk goes by TCP. QUIC is dialled first, since it passes NATs and takes fewer round trips, but from 64 KiB up TCP with TLS carries
// four to five times as much (docs/performance.md). So a channel of class bulk whose stream came about on a connection over UDP asks for one over TCP
// beside it, if both sides listen on TCP, and moves there when it comes, as from a relay to a direct connection. What cannot be
// reached by TCP stays where it is, and is tried again after a while.

const (
	// bulkWayTimeout bounds an attempt, all addresses together.
	bulkWayTimeout = 10 * time.Second
	// bulkWayRetry is how long a peer is left alone after an attempt.
	bulkWayRetry = 2 * time.Minute
	// maxBulkWayDials is how many addresses an attempt tries, one after the other.
	maxBulkWayDials = 4
)

// isDatagrams tells a direct connection over UDP.
func isDatagrams(c network.Conn) bool {
	switch transportRank(c.RemoteMultiaddr()) {
	case rankQUIC, rankWebTransport, rankWebRTC:
		return true
	}
	return false
}

func isTCP(c network.Conn) bool { return transportRank(c.RemoteMultiaddr()) == rankTCP }

// takesBulkWayLocked tells whether the channel would rather be on a connection over TCP than on this one.
func (o *outbound) takesBulkWayLocked(c network.Conn) bool {
	return o.state.class == ClassBulk && o.node.config.Network.BulkTCP && isDatagrams(c)
}

// takeBulkWay moves the channel to TCP, or asks for a connection to which it may move.
func (o *outbound) takeBulkWay() {
	o.state.Lock()
	stream := o.state.stream
	wanted := stream != nil && o.takesBulkWayLocked(stream.Conn())
	o.state.Unlock()
	if !wanted {
		return
	}
	if c := o.tcpConn(); c != nil {
		o.connected(c)
	} else if o.peer.claimBulkWay(time.Now()) {
		o.node.spawn("a connection for bulk", func() { o.node.openBulkWay(o.peer.id) })
	}
}

// tcpConn is an open connection with the peer over TCP, or nil.
func (o *outbound) tcpConn() network.Conn {
	for _, c := range openConns(o.node.host.Network().ConnsToPeer(o.peer.id)) {
		if isTCP(c) {
			return c
		}
	}
	return nil
}

// claimBulkWay takes the right to try, unless somebody did so lately.
func (p *outPeer) claimBulkWay(now time.Time) bool {
	p.state.Lock()
	defer p.state.Unlock()
	if now.Sub(p.state.bulkWay) < bulkWayRetry {
		return false
	}
	p.state.bulkWay = now
	return true
}

// openBulkWay dials the peer's addresses of TCP. Its channels hear of the connection like of any other.
func (n *Node) openBulkWay(id peer.ID) {
	ctx, cancel := context.WithTimeout(n.ctx, bulkWayTimeout)
	defer cancel()
	n.awaitIdentify(ctx, id) // which tells what the peer listens on
	dials := 0
	for _, ranked := range n.rankDials(n.host.Peerstore().Addrs(id)) {
		if transportRank(ranked.Addr) != rankTCP || !n.tcp.CanDial(ranked.Addr) || !n.gate.InterceptAddrDial(id, ranked.Addr) {
			continue
		}
		if dials++; dials > maxBulkWayDials || ctx.Err() != nil {
			return
		}
		err := n.tcp.dialBeside(ctx, id, ranked.Addr)
		if err == nil {
			return
		}
		n.log.Debug("no connection over TCP for bulk", "peer", id, "address", ranked.Addr, "reason", err)
	}
}

// tcpTransport is libp2p's, which can besides open a connection with a peer that has one over another transport. The swarm
// dials no such peer; it takes the connection as if a listener had accepted it.
type tcpTransport struct {
	*tcp.TcpTransport
	node      *Node
	listeners atomic.Int64
	opened    chan transport.CapableConn
}

// newTCP is what libp2p constructs the transport with.
func (n *Node) newTCP(upgrader transport.Upgrader, resources network.ResourceManager, shared *tcpreuse.ConnMgr) (*tcpTransport, error) {
	inner, err := tcp.NewTCPTransport(upgrader, resources, shared)
	if err != nil {
		return nil, err
	}
	n.tcp = &tcpTransport{TcpTransport: inner, node: n, opened: make(chan transport.CapableConn)}
	return n.tcp, nil
}

// dialBeside returns when the swarm has taken the connection.
func (t *tcpTransport) dialBeside(ctx context.Context, id peer.ID, addr ma.Multiaddr) error {
	if t.listeners.Load() == 0 {
		return fmt.Errorf("%w: this node does not listen on TCP", ErrUnsupported)
	}
	conn, err := t.Dial(ctx, addr, id)
	if err != nil {
		return err
	}
	if len(openConns(t.node.host.Network().ConnsToPeer(id))) == 0 { // the peer was disconnected meanwhile, and stays so
		_ = conn.Close()
		return ErrPeerClosed
	}
	select {
	case t.opened <- conn:
		return nil
	case <-ctx.Done():
		_ = conn.Close()
		return ctx.Err()
	}
}

// Listen is the transport's, whose listener also gives out what dialBeside opens.
func (t *tcpTransport) Listen(addr ma.Multiaddr) (transport.Listener, error) {
	inner, err := t.TcpTransport.Listen(addr)
	if err != nil {
		return nil, err
	}
	t.listeners.Add(1)
	return &tcpListener{Listener: inner, transport: t, accepted: make(chan acceptance)}, nil
}

type acceptance struct {
	transport.CapableConn
	err error
}

type tcpListener struct {
	transport.Listener
	transport *tcpTransport
	begin     sync.Once
	accepted  chan acceptance
}

// Accept is called by the swarm, again and again until it fails.
func (l *tcpListener) Accept() (transport.CapableConn, error) {
	l.begin.Do(func() { go l.accept() }) // the swarm waits for its end, since it waits for that of Accept
	select {
	case a := <-l.accepted:
		return a.CapableConn, a.err
	case conn := <-l.transport.opened:
		return conn, nil
	}
}

// accept ends with the listener, which the swarm closes and hears of.
func (l *tcpListener) accept() {
	defer l.transport.node.recoverPanic("accepting connections")
	for {
		conn, err := l.Listener.Accept()
		l.accepted <- acceptance{conn, err}
		if err != nil {
			l.transport.listeners.Add(-1)
			return
		}
	}
}
