package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"

	"peerbus/node/webrtctransport"
)

const streamTest = "/peerbus/test/stream"

// startBrowserLike is two nodes whose relayed connection became a direct one by the WebRTC transport.
func startBrowserLike(t *testing.T) (a, b *Node) {
	t.Helper()
	a, b = startRelayed(t, time.Hour)
	if err := a.webrtc.conns.dial(within(t), b.id); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "both have the direct connection", func() bool { return directTo(a, b) != nil && directTo(b, a) != nil })
	return a, b
}

func directTo(from, to *Node) network.Conn {
	for _, c := range from.host.Network().ConnsToPeer(to.id) {
		if c.RemoteMultiaddr().Equal(webrtctransport.Address) {
			return c
		}
	}
	return nil
}

// openTest opens a stream of streamTest on the direct connection, which serve handles at the other side.
func openTest(t *testing.T, a, b *Node, serve func(network.Stream)) network.Stream {
	t.Helper()
	b.host.SetStreamHandler(streamTest, serve)
	s, err := a.host.NewStream(within(t), b.id, streamTest)
	if err != nil {
		t.Fatal(err)
	}
	if !s.Conn().RemoteMultiaddr().Equal(webrtctransport.Address) {
		t.Fatalf("the stream runs over %s", s.Conn().RemoteMultiaddr())
	}
	return s
}

func TestTheWebRTCTransportMakesARelayedConnectionDirect(t *testing.T) {
	a, b := startBrowserLike(t)
	for _, pair := range [][2]*Node{{a, b}, {b, a}} {
		c := directTo(pair[0], pair[1])
		if c.Stat().Limited || c.ConnState().Transport != "webrtc" || c.RemotePublicKey() == nil || !pair[1].id.MatchesPublicKey(c.RemotePublicKey()) {
			t.Errorf("the connection is %+v, %+v", c.Stat(), c.ConnState())
		}
		sendAll(t, pair[0], pair[1], []byte("hello"), make([]byte, 1_000_000))
		receive(t, pair[1], 2)
	}
}

func TestStreamsOfTheWebRTCTransportCarryBytesBothWaysAndHalfClose(t *testing.T) {
	a, b := startBrowserLike(t)
	s := openTest(t, a, b, func(s network.Stream) {
		if _, err := io.Copy(s, s); err != nil {
			t.Error(err)
		}
		_ = s.Close()
	})
	want := make([]byte, 3_000_000)
	_, _ = rand.Read(want)
	var group sync.WaitGroup
	group.Go(func() {
		if _, err := s.Write(want); err != nil {
			t.Error(err)
		}
		if err := s.CloseWrite(); err != nil {
			t.Error(err)
		}
	})
	got, err := io.ReadAll(s)
	group.Wait()
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d of %d bytes came back, %v", len(got), len(want), err)
	}
	if _, err := s.Write([]byte("x")); err == nil {
		t.Error("a stream was written after CloseWrite")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// openBegun opens a stream whose other side has read its first byte, and answers how reading ended there.
func openBegun(t *testing.T, a, b *Node) (network.Stream, <-chan error) {
	t.Helper()
	began, ended := make(chan struct{}), make(chan error, 1)
	s := openTest(t, a, b, func(s network.Stream) {
		_, err := io.ReadFull(s, make([]byte, 1))
		close(began)
		if err == nil {
			_, err = io.ReadAll(s)
		}
		ended <- err
	})
	if _, err := s.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	<-began
	return s, ended
}

func TestAResetReachesTheOtherSideWithItsCode(t *testing.T) {
	a, b := startBrowserLike(t)
	s, ended := openBegun(t, a, b)
	if err := s.ResetWithError(42); err != nil {
		t.Fatal(err)
	}
	var reason *network.StreamError
	if err := <-ended; !errors.As(err, &reason) || !reason.Remote || reason.ErrorCode != 42 {
		t.Errorf("reading ended with %v", err)
	}
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, network.ErrReset) {
		t.Errorf("reading the own side ended with %v", err)
	}
}

func TestDeadlinesOfTheWebRTCTransport(t *testing.T) {
	a, b := startBrowserLike(t)
	s := openTest(t, a, b, func(network.Stream) {})
	_ = s.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("reading ended with %v", err)
	}
	_ = s.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
	written, err := s.Write(make([]byte, 16<<20))
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("writing ended with %v", err)
	}
	if written > 4<<20 {
		t.Errorf("%d bytes were taken although nobody reads", written)
	}
	_ = s.Reset()
}

func TestManyStreamsShareAWebRTCConnection(t *testing.T) {
	a, b := startBrowserLike(t)
	b.host.SetStreamHandler(streamTest, func(s network.Stream) {
		_, _ = io.Copy(s, s)
		_ = s.Close()
	})
	var group sync.WaitGroup
	for i := range 100 {
		group.Go(func() {
			s, err := a.host.NewStream(within(t), b.id, streamTest)
			if err != nil {
				t.Error(err)
				return
			}
			text := strings.Repeat("x", 100*i+1)
			_, _ = s.Write([]byte(text))
			_ = s.CloseWrite()
			if got, err := io.ReadAll(s); err != nil || string(got) != text {
				t.Errorf("%d of %d bytes, %v", len(got), len(text), err)
			}
			_ = s.Close()
		})
	}
	group.Wait()
}

func TestTheEndOfAWebRTCConnectionEndsItsStreams(t *testing.T) {
	a, b := startBrowserLike(t)
	s, served := openBegun(t, a, b)
	if err := directTo(a, b).Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(make([]byte, 1)); err == nil {
		t.Error("a stream of a closed connection was read")
	}
	if err := <-served; err == nil {
		t.Error("the other side saw an orderly end")
	}
	waitUntil(t, "the other side has closed it", func() bool { return directTo(b, a) == nil })
}

func TestTheWebRTCTransportIsAnnouncedForEachRelayAndNotByItself(t *testing.T) {
	n := startNode(t)
	relay, direct := "/ip4/127.0.0.1/tcp/1/p2p/"+n.id.String()+"/p2p-circuit", "/ip4/127.0.0.1/tcp/2"
	got := n.webrtc.conns.announced(preferRoutable(addrsOf(t, "/webrtc", direct, relay)))
	if want := addrsOf(t, direct, relay, relay+"/webrtc"); !equalAddrs(got, want) {
		t.Errorf("announced %v, want %v", got, want)
	}
	for _, addr := range n.Addresses() {
		if strings.HasPrefix(addr, "/webrtc") {
			t.Errorf("%s is among the own addresses", addr)
		}
	}
}

func equalAddrs(a, b []ma.Multiaddr) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !a[i].Equal(b[i]) {
			return false
		}
	}
	return true
}

func TestADialOfTheWebRTCTransportNeedsARelayedConnection(t *testing.T) {
	a, b := startNode(t), startNode(t)
	a.host.Peerstore().AddAddr(b.id, webrtctransport.Address, time.Hour)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := a.host.Network().DialPeer(ctx, b.id); err == nil {
		t.Error("a peer was reached without a way to it")
	}
}

func TestMalformedNegotiationsEndAlone(t *testing.T) {
	n := startNode(t)
	for name, wire := range map[string]string{
		"nothing":        "",
		"no protobuf":    "\x03\xff\xff\xff",
		"an answer":      "\x04\x08\x01\x12\x00",
		"unknown type":   "\x02\x08\x09",
		"no description": "\x02\x08\x00",
		"too long":       "\xff\xff\xff\xff\x0f",
		"audio":          "\x1e\x08\x00\x12\x1av=0\r\nm=audio 9 RTP/AVP 0\r\n",
	} {
		h := startRawHost(t)
		dialRaw(t, h, n)
		s, err := h.NewStream(within(t), n.id, webrtctransport.SignalProtocol)
		if err != nil {
			t.Fatal(err)
		}
		_ = s.SetDeadline(time.Now().Add(patience))
		_, _ = s.Write([]byte(wire))
		_ = s.CloseWrite()
		if got, err := io.ReadAll(s); err == nil || len(got) > 0 {
			t.Errorf("%s: answered %q, %v", name, got, err)
		}
	}
	if err := n.Usable(); err != nil {
		t.Error(err)
	}
}
