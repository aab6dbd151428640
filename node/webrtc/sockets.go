package webrtc

import (
	"net"

	"github.com/pion/transport/v3"
	"github.com/pion/transport/v3/stdnet"
)

// socketBuffer is asked for both buffers of a UDP socket; the system gives what net.core.rmem_max and wmem_max allow, twice. SCTP
// has up to 1 MiB on its way: what its bursts find no room for is lost, and a lost tail stands still for SCTP's shortest
// retransmission timeout, a second.
const socketBuffer = 4 << 20

// sockets are the network that ICE uses.
type sockets struct{ transport.Net }

func newSockets() (sockets, error) {
	system, err := stdnet.NewNet()
	return sockets{system}, err
}

// Interfaces are those of now; the system's own answers those of its creation.
func (s sockets) Interfaces() ([]*transport.Interface, error) {
	now, err := stdnet.NewNet()
	if err != nil {
		return nil, err
	}
	return now.Interfaces()
}

func (s sockets) ListenUDP(network string, at *net.UDPAddr) (transport.UDPConn, error) {
	c, err := s.Net.ListenUDP(network, at)
	if err != nil {
		return nil, err
	}
	enlarge(c)
	return c, nil
}

func (s sockets) ListenPacket(network, at string) (net.PacketConn, error) {
	c, err := s.Net.ListenPacket(network, at)
	if err != nil {
		return nil, err
	}
	if buffered, ok := c.(buffered); ok {
		enlarge(buffered)
	}
	return c, nil
}

type buffered interface {
	SetReadBuffer(bytes int) error
	SetWriteBuffer(bytes int) error
}

// enlarge does without what the system refuses.
func enlarge(c buffered) {
	_ = c.SetReadBuffer(socketBuffer)
	_ = c.SetWriteBuffer(socketBuffer)
}
