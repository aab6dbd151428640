// Command rawpeer is a libp2p peer that speaks no protocol itself: what it says is up to the test that started it.
//
//	rawpeer ADDRESS PROTOCOL SOCKET
//
// It connects to the node at ADDRESS, a multiaddr with /p2p/, prints its own peer id and, on one connection, carries every
// connection that is made to the Unix socket as a stream of PROTOCOL. It ends with its standard input.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	tls "github.com/libp2p/go-libp2p/p2p/security/tls"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: rawpeer ADDRESS PROTOCOL SOCKET")
		os.Exit(2)
	}
	if err := run(os.Args[1], protocol.ID(os.Args[2]), os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "rawpeer:", err)
		os.Exit(1)
	}
}

func run(address string, id protocol.ID, socket string) error {
	target, err := peer.AddrInfoFromString(address)
	if err != nil {
		return err
	}
	h, err := libp2p.New(libp2p.NoListenAddrs, libp2p.DisableMetrics(), libp2p.DisableRelay(),
		libp2p.Transport(tcp.NewTCPTransport), libp2p.Security(tls.ID, tls.New))
	if err != nil {
		return err
	}
	defer h.Close()
	if err := h.Connect(context.Background(), *target); err != nil {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	go accept(h, target.ID, id, listener)
	fmt.Println(h.ID())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func accept(h host.Host, target peer.ID, id protocol.ID, listener net.Listener) {
	for {
		near, err := listener.Accept()
		if err != nil {
			return
		}
		go carry(h, target, id, near.(*net.UnixConn))
	}
}

// carry joins a connection of the test with a stream; the end of either direction is that of the other's.
func carry(h host.Host, target peer.ID, id protocol.ID, near *net.UnixConn) {
	defer near.Close()
	stream, err := h.NewStream(network.WithNoDial(context.Background(), "rawpeer"), target, id)
	if err != nil {
		fmt.Fprintln(os.Stderr, "rawpeer:", err)
		return
	}
	go func() {
		if _, err := io.Copy(stream, near); err != nil {
			_ = stream.Reset()
			return
		}
		_ = stream.CloseWrite()
	}()
	_, _ = io.Copy(near, stream)
	_ = stream.Reset()
}
