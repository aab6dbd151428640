package webrtc

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/pion/datachannel"
	pion "github.com/pion/webrtc/v4"
)

// The benchmarks compare a session with a bare pion data channel, in one run:
//
//	go test ./node/webrtc -run '^$' -bench . -count 5
//
// BenchmarkBareThroughput is the flow-controlled sender of pion's own examples, with the same buffer and message size.

// barePair is two bare peer connections on loopback with one detached data channel.
func barePair(b *testing.B) (sender, receiver *datachannel.DataChannel) {
	b.Helper()
	engine := loopbackEngine()
	var connections [2]*pion.PeerConnection
	for i := range connections {
		made, err := engine.NewConnection(ICEConfig{})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = made.Close() })
		connections[i] = made
	}
	opened := [2]chan *datachannel.DataChannel{make(chan *datachannel.DataChannel, 1), make(chan *datachannel.DataChannel, 1)}
	take := func(channel *pion.DataChannel, to chan *datachannel.DataChannel) {
		channel.OnOpen(func() {
			raw, err := channel.Detach()
			if err != nil {
				b.Error(err)
				return
			}
			to <- raw.(*datachannel.DataChannel)
		})
	}
	connections[1].OnDataChannel(func(channel *pion.DataChannel) { take(channel, opened[1]) })
	channel, err := connections[0].CreateDataChannel("bare", nil)
	if err != nil {
		b.Fatal(err)
	}
	take(channel, opened[0])
	introduce(b, connections)
	return <-opened[0], <-opened[1]
}

func introduce(b *testing.B, c [2]*pion.PeerConnection) {
	b.Helper()
	offer, err := c[0].CreateOffer(nil)
	if err != nil {
		b.Fatal(err)
	}
	gathered := pion.GatheringCompletePromise(c[0])
	if err := c[0].SetLocalDescription(offer); err != nil {
		b.Fatal(err)
	}
	<-gathered
	if err := c[1].SetRemoteDescription(*c[0].LocalDescription()); err != nil {
		b.Fatal(err)
	}
	answer, err := c[1].CreateAnswer(nil)
	if err != nil {
		b.Fatal(err)
	}
	gathered = pion.GatheringCompletePromise(c[1])
	if err := c[1].SetLocalDescription(answer); err != nil {
		b.Fatal(err)
	}
	<-gathered
	if err := c[0].SetRemoteDescription(*c[1].LocalDescription()); err != nil {
		b.Fatal(err)
	}
}

const benchPayload = chunkPiece - headerBytes - 1 // one chunk on channel "c"

func BenchmarkSessionThroughput(b *testing.B) {
	sender, receiver := open(b, ICEConfig{})
	frame := frameOf("c", make([]byte, benchPayload))
	b.SetBytes(benchPayload)
	done := make(chan struct{})
	go func() {
		defer close(done)
		assembler := NewAssembler(&collector{}, 1<<20)
		buffer := make([]byte, MessageBytes)
		for got := 0; got < b.N; {
			n, err := receiver.Read(buffer)
			if err != nil {
				b.Error(err)
				return
			}
			if _, ok := assembler.Add(buffer[:n], time.Time{}); ok {
				got++
			}
		}
	}()
	b.ResetTimer()
	for range b.N {
		if _, err := sender.Write(frame, "c", patience); err != nil {
			b.Fatal(err)
		}
	}
	<-done
}

func BenchmarkBareThroughput(b *testing.B) {
	sender, receiver := barePair(b)
	room := make(chan struct{}, 1)
	sender.SetBufferedAmountLowThreshold(sctpBuffer / 2)
	sender.OnBufferedAmountLow(func() {
		select {
		case room <- struct{}{}:
		default:
		}
	})
	b.SetBytes(benchPayload)
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, MessageBytes)
		for range b.N {
			if _, err := receiver.Read(buffer); err != nil {
				b.Error(err)
				return
			}
		}
	}()
	message := make([]byte, ChunkBytes)
	b.ResetTimer()
	for range b.N {
		for sender.BufferedAmount()+ChunkBytes > sctpBuffer {
			<-room
		}
		if _, err := sender.Write(message); err != nil {
			b.Fatal(err)
		}
	}
	<-done
}

func BenchmarkSessionRoundTrip(b *testing.B) {
	sender, receiver := open(b, ICEConfig{})
	frame := frameOf("c", make([]byte, 64))
	go func() {
		buffer := make([]byte, MessageBytes)
		for {
			if _, err := receiver.Read(buffer); err != nil {
				return
			}
			if _, err := receiver.Write(frame, "c", patience); err != nil {
				return
			}
		}
	}()
	buffer := make([]byte, MessageBytes)
	b.ResetTimer()
	for range b.N {
		if _, err := sender.Write(frame, "c", patience); err != nil {
			b.Fatal(err)
		}
		if _, err := sender.Read(buffer); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBareRoundTrip(b *testing.B) {
	sender, receiver := barePair(b)
	go func() {
		buffer := make([]byte, MessageBytes)
		for {
			n, err := receiver.Read(buffer)
			if err != nil {
				return
			}
			if _, err := receiver.Write(buffer[:n]); err != nil {
				return
			}
		}
	}()
	message, buffer := binary.BigEndian.AppendUint64(make([]byte, 63), 0), make([]byte, MessageBytes)
	b.ResetTimer()
	for range b.N {
		if _, err := sender.Write(message); err != nil {
			b.Fatal(err)
		}
		if _, err := sender.Read(buffer); err != nil {
			b.Fatal(err)
		}
	}
}
