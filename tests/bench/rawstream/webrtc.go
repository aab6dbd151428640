package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/pion/datachannel"
	"github.com/pion/webrtc/v4"
)

const (
	channelMessage = 60 << 10 // bytes; every implementation takes 64 KiB
	channelBuffer  = 1 << 20  // bytes that may wait in SCTP, whose own queue has no bound
	readAtOnce     = 64 << 10 // room for any message of the other side
)

// dataChannel is a bare pion data channel as a stream of bytes: what WebRTC between two Go programs gives without peerbus.
type dataChannel struct {
	raw  datachannel.ReadWriteCloser
	room chan struct{}
	rest []byte
	buf  [readAtOnce]byte
}

func newDataChannel(c *webrtc.DataChannel, opened chan<- io.ReadWriter) {
	d := &dataChannel{room: make(chan struct{}, 1)}
	c.SetBufferedAmountLowThreshold(channelBuffer / 2)
	c.OnBufferedAmountLow(func() {
		select {
		case d.room <- struct{}{}:
		default:
		}
	})
	c.OnOpen(func() {
		raw, err := c.Detach()
		if err != nil {
			panic(err)
		}
		d.raw = raw
		opened <- d
	})
}

func (d *dataChannel) Write(p []byte) (written int, err error) {
	channel := d.raw.(*datachannel.DataChannel)
	for written < len(p) {
		for channel.BufferedAmount()+channelMessage > channelBuffer {
			<-d.room
		}
		n, err := d.raw.Write(p[written:min(len(p), written+channelMessage)])
		if err != nil {
			return written, err
		}
		written += n
	}
	return written, nil
}

func (d *dataChannel) Read(p []byte) (int, error) {
	if len(d.rest) == 0 {
		n, err := d.raw.Read(d.buf[:])
		if err != nil {
			return 0, err
		}
		d.rest = d.buf[:n]
	}
	n := copy(p, d.rest)
	d.rest = d.rest[n:]
	return n, nil
}

// loopbackConnection finds paths on loopback only.
func loopbackConnection() (*webrtc.PeerConnection, error) {
	settings := webrtc.SettingEngine{}
	settings.DetachDataChannels()
	settings.SetIncludeLoopbackCandidate(true)
	settings.SetIPFilter(net.IP.IsLoopback)
	return webrtc.NewAPI(webrtc.WithSettingEngine(settings)).NewPeerConnection(webrtc.Configuration{})
}

// describe sets the local description, waits for its candidates and writes it.
func describe(c *webrtc.PeerConnection, d webrtc.SessionDescription, to io.Writer) error {
	gathered := webrtc.GatheringCompletePromise(c)
	if err := c.SetLocalDescription(d); err != nil {
		return err
	}
	<-gathered
	return json.NewEncoder(to).Encode(c.LocalDescription())
}

func take(c *webrtc.PeerConnection, from io.Reader) error {
	var d webrtc.SessionDescription
	if err := json.NewDecoder(from).Decode(&d); err != nil {
		return err
	}
	return c.SetRemoteDescription(d)
}

// listenWebRTC answers one offer that comes over TCP, and the address to send it to.
func listenWebRTC(arrived chan<- io.ReadWriter) (string, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() {
		defer listener.Close()
		if err := answerOffer(listener, arrived); err != nil {
			panic(err)
		}
	}()
	return listener.Addr().String(), nil
}

func answerOffer(listener net.Listener, arrived chan<- io.ReadWriter) error {
	signals, err := listener.Accept()
	if err != nil {
		return err
	}
	defer signals.Close()
	c, err := loopbackConnection()
	if err != nil {
		return err
	}
	c.OnDataChannel(func(channel *webrtc.DataChannel) { newDataChannel(channel, arrived) })
	if err := take(c, signals); err != nil {
		return fmt.Errorf("the offer: %w", err)
	}
	answer, err := c.CreateAnswer(nil)
	if err != nil {
		return err
	}
	return describe(c, answer, signals)
}

func connectWebRTC(address string) (io.ReadWriter, error) {
	signals, err := net.DialTimeout("tcp4", address, openDeadline)
	if err != nil {
		return nil, err
	}
	defer signals.Close()
	c, err := loopbackConnection()
	if err != nil {
		return nil, err
	}
	channel, err := c.CreateDataChannel("bench", nil)
	if err != nil {
		return nil, err
	}
	opened := make(chan io.ReadWriter, 1)
	newDataChannel(channel, opened)
	offer, err := c.CreateOffer(nil)
	if err != nil {
		return nil, err
	}
	if err := describe(c, offer, signals); err != nil {
		return nil, err
	}
	if err := take(c, signals); err != nil {
		return nil, fmt.Errorf("the answer: %w", err)
	}
	select {
	case stream := <-opened:
		return stream, nil
	case <-time.After(openDeadline):
		return nil, errors.New("the data channel did not open")
	}
}
