package node

import (
	"io"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
)

const benchMessage = 64 << 10

// benchRelayed is a pair that only a relay without limits connects, for good.
func benchRelayed(b *testing.B, change ...func(*Options)) (*Node, *Node) {
	change = append(change, func(o *Options) { o.Config.WebRTC.Enabled = false })
	relay := startNode(b, asRelay, broadly)
	from, to := startNode(b, change...), startNode(b, change...)
	if _, err := to.Connect(within(b), relay.Addresses()); err != nil {
		b.Fatal(err)
	}
	if _, err := to.ReserveOnRelay(within(b), relay.id); err != nil {
		b.Fatal(err)
	}
	circuits := withPeerID(to.relays.circuitAddresses(), to.id)
	if _, err := from.Connect(within(b), circuits[:1]); err != nil {
		b.Fatal(err)
	}
	return from, to
}

// BenchmarkChatThroughARelay against BenchmarkRawStreamThroughARelay is what chat costs on a circuit.
func BenchmarkChatThroughARelay(b *testing.B) {
	from, to := benchRelayed(b, limits(func(l *Limits) { l.ChannelMessages, l.ChannelBytes = 1<<20, 1<<30 }))
	channel, payload := directChannel(from.id, to.id, "~"), make([]byte, benchMessage)
	b.SetBytes(benchMessage)
	b.ResetTimer()
	go func() {
		for range b.N {
			if err := from.Send(b.Context(), channel, payload); err != nil {
				b.Error(err)
				return
			}
		}
	}()
	for got := 0; got < b.N; {
		messages, err := to.queue.Receive(b.Context(), "", 1024, 0)
		if err != nil {
			b.Fatal(err)
		}
		to.FreeTaken(messages)
		got += len(messages)
	}
}

func BenchmarkRawStreamThroughARelay(b *testing.B) {
	from, to := benchRelayed(b)
	done := make(chan error, 1)
	to.host.SetStreamHandler("/bench", func(s network.Stream) {
		_, err := io.CopyN(io.Discard, s, int64(b.N)*benchMessage)
		done <- err
	})
	s, err := from.host.NewStream(network.WithAllowLimitedConn(b.Context(), "bench"), to.id, "/bench")
	if err != nil {
		b.Fatal(err)
	}
	payload := make([]byte, benchMessage)
	b.SetBytes(benchMessage)
	b.ResetTimer()
	for range b.N {
		if _, err := s.Write(payload); err != nil {
			b.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

// BenchmarkDirectAfterRelayed is the time from Connect through a relay to the direct connection, on one machine.
func BenchmarkDirectAfterRelayed(b *testing.B) {
	for range b.N {
		b.StopTimer()
		relay := startNode(b, asRelay)
		from, to := startNode(b, punching), startNode(b, punching)
		if _, err := to.Connect(within(b), relay.Addresses()); err != nil {
			b.Fatal(err)
		}
		if _, err := to.ReserveOnRelay(within(b), relay.id); err != nil {
			b.Fatal(err)
		}
		circuits := withPeerID(to.relays.circuitAddresses(), to.id)
		b.StartTimer()
		if _, err := from.Connect(within(b), circuits[:1]); err != nil {
			b.Fatal(err)
		}
		for !from.punches.direct(to.id) {
			time.Sleep(100 * time.Microsecond)
		}
	}
}
