package node

import (
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"peerbus/node/session"
)

// acknowledge writes acknowledgements as they become due, until the stream ends.
func (in *inStream) acknowledge() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var frames []byte
	for in.ctx.Err() == nil {
		due, at := in.receiver.AckDue(time.Now())
		if due {
			frames = in.receiver.AppendAck(frames[:0], in.stream.Generation())
			if err := in.writeAck(frames); err != nil {
				in.end(endFor(err))
			}
			continue
		}
		var alarm <-chan time.Time
		if !at.IsZero() {
			timer.Reset(time.Until(at))
			alarm = timer.C
		}
		select {
		case <-in.receiver.Due:
		case <-alarm:
		case <-in.ctx.Done():
		}
	}
	in.wakeAcknowledging() // the token may have been for the stream that replaces this one
}

func (in *inStream) writeAck(frames []byte) error {
	if len(frames) == 0 {
		return endFenced
	}
	if err := in.SetWriteDeadline(time.Now().Add(in.node.writeTimeout)); err != nil {
		return err
	}
	_, err := in.Write(frames)
	return err
}

func (in *inStream) wakeAcknowledging() {
	select {
	case in.receiver.Due <- struct{}{}:
	default:
	}
}

// sharedWindow is what the channels of one connection may have in flight together where the connection itself has a window:
// well below it, so that stalled channels never keep the others from being heard.
const sharedWindow = 8 << 20

// windowShare divides sharedWindow.
type windowShare struct {
	streams map[*inStream]struct{}
	window  int
}

// sharesWindow tells whether the streams of a connection have a window in common. Those of yamux, over TCP, do not.
func sharesWindow(c network.Conn) bool {
	switch c.ConnState().Transport {
	case "quic-v1", "webtransport", "webrtc-direct", "webrtc":
		return true
	}
	return false
}

func (is *inbounds) shareLocked(in *inStream) {
	c := in.Conn()
	if !sharesWindow(c) {
		return
	}
	share := is.state.shares[c]
	if share == nil {
		share = &windowShare{streams: map[*inStream]struct{}{}, window: session.DefaultWindow}
		is.state.shares[c] = share
	}
	share.streams[in] = struct{}{}
	if share.window != session.DefaultWindow {
		in.receiver.SetWindow(share.window)
	}
	share.fit()
}

func (is *inbounds) unshareLocked(in *inStream) {
	share := is.state.shares[in.Conn()]
	if share == nil {
		return
	}
	delete(share.streams, in)
	if len(share.streams) == 0 {
		delete(is.state.shares, in.Conn())
		return
	}
	share.fit()
}

// fit halves or doubles the window until it fits the number of streams, so that few changes have to be told.
func (w *windowShare) fit() {
	window := session.DefaultWindow
	for window > session.InitialWindow && window*len(w.streams) > sharedWindow {
		window /= 2
	}
	if window == w.window {
		return
	}
	w.window = window
	for in := range w.streams {
		in.receiver.SetWindow(window)
	}
}
