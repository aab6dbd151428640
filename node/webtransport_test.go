package node

import (
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
)

// deafStream is one of webtransport-go after the end of its session: only a deadline ends a Read.
type deafStream struct {
	network.MuxedStream
	deadline chan struct{}
}

func (s deafStream) Read([]byte) (int, error) {
	<-s.deadline
	return 0, os.ErrDeadlineExceeded
}

func (s deafStream) SetReadDeadline(at time.Time) error {
	if !at.IsZero() && at.Before(time.Now()) {
		close(s.deadline)
	}
	return nil
}

func (s deafStream) SetDeadline(at time.Time) error { return s.SetReadDeadline(at) }

func (s deafStream) Reset() error                                 { return nil }
func (s deafStream) ResetWithError(network.StreamErrorCode) error { return nil }
func (s deafStream) CloseRead() error                             { return nil }
func (s deafStream) Close() error                                 { return nil }

func TestWhatEndsAWebTransportStreamEndsItsRead(t *testing.T) {
	for name, end := range map[string]func(network.MuxedStream) error{
		"reset":      network.MuxedStream.Reset,
		"reset with": func(s network.MuxedStream) error { return s.ResetWithError(1) },
		"close read": network.MuxedStream.CloseRead,
		"close":      network.MuxedStream.Close,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, err := wakeable(deafStream{deadline: make(chan struct{})}, nil)
				if err != nil {
					t.Fatal(err)
				}
				read := make(chan error)
				go func() {
					_, err := s.Read(make([]byte, 1))
					read <- err
				}()
				synctest.Wait()
				if err := end(s); err != nil {
					t.Error(err)
				}
				if err := <-read; !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("the read ended with %v", err)
				}
			})
		})
	}
}

func TestWebTransportIsTheOneWhoseStreamsAreWakeable(t *testing.T) {
	n := startNode(t)
	addr := addrsOf(t, "/ip4/127.0.0.1/udp/1/quic-v1/webtransport")[0]
	if _, ok := n.host.Network().(*swarm.Swarm).TransportForDialing(addr).(webTransport); !ok {
		t.Error("libp2p dials by another one")
	}
}
