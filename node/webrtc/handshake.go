package webrtc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"time"

	"github.com/pion/datachannel"
	pion "github.com/pion/webrtc/v4"
)

// dataLabel names the one data channel of a session.
const dataLabel = "unaiverse-data"

// maxForeignChannels is how many other data channels a peer may open, each closed at once, before its session ends.
const maxForeignChannels = 8

// handshake is a connection on its way to a session.
type handshake struct {
	connection *pion.PeerConnection
	opened     chan *datachannel.DataChannel
	failed     chan error
	session    *Session // takes over what happens from then on
}

func (e *Engine) newHandshake(c ICEConfig) (*handshake, error) {
	connection, err := e.NewConnection(c)
	if err != nil {
		return nil, err
	}
	h := &handshake{
		connection: connection,
		opened:     make(chan *datachannel.DataChannel, 1),
		failed:     make(chan error, 1),
		session:    newSession(connection),
	}
	connection.OnConnectionStateChange(h.session.onState)
	connection.OnDataChannel(h.refuseChannel)
	return h, nil
}

// Offer opens a session as the side that starts it, over the signalling stream to the peer. The stream must end its reads and
// writes when ctx ends.
func (e *Engine) Offer(ctx context.Context, c ICEConfig, stream io.ReadWriter) (*Session, error) {
	h, err := e.newHandshake(c)
	if err != nil {
		return nil, err
	}
	return h.finish(ctx, func() error {
		ordered := true
		channel, err := h.connection.CreateDataChannel(dataLabel, &pion.DataChannelInit{Ordered: &ordered})
		if err != nil {
			return fmt.Errorf("creating the data channel: %w", err)
		}
		h.awaitOpen(channel)
		offer, err := h.connection.CreateOffer(nil)
		if err != nil {
			return fmt.Errorf("creating the offer: %w", err)
		}
		if err := h.describe(ctx, stream, SignalOffer, offer); err != nil {
			return err
		}
		return h.readAnswer(stream)
	})
}

func (h *handshake) readAnswer(stream io.Reader) error {
	signal, err := ReadSignal(stream)
	if errors.Is(err, io.EOF) {
		return ErrRefused // peers of the existing network refuse by closing
	}
	if err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	answer, err := signal.expect(SignalAnswer)
	if err != nil {
		return err
	}
	return h.setRemote(pion.SDPTypeAnswer, answer)
}

// Answer opens a session for a peer's offer, which was read from the stream before. A failure before the answer is told to
// the peer.
func (e *Engine) Answer(ctx context.Context, c ICEConfig, stream io.Writer, offer Signal) (*Session, error) {
	h, err := e.newHandshake(c)
	if err != nil {
		return nil, err
	}
	return h.finish(ctx, func() error {
		h.connection.OnDataChannel(h.takeChannel)
		if err := h.answer(ctx, stream, offer); err != nil {
			_ = WriteSignal(stream, Signal{Type: SignalError, Message: err.Error()})
			return err
		}
		return nil
	})
}

func (h *handshake) answer(ctx context.Context, stream io.Writer, offer Signal) error {
	sdp, err := offer.expect(SignalOffer)
	if err != nil {
		return err
	}
	if err := h.setRemote(pion.SDPTypeOffer, sdp); err != nil {
		return err
	}
	answer, err := h.connection.CreateAnswer(nil)
	if err != nil {
		return fmt.Errorf("creating the answer: %w", err)
	}
	return h.describe(ctx, stream, SignalAnswer, answer)
}

func (h *handshake) setRemote(kind pion.SDPType, sdp string) error {
	checked, err := CheckDescription(sdp)
	if err != nil {
		return err
	}
	if err := h.connection.SetRemoteDescription(pion.SessionDescription{Type: kind, SDP: checked}); err != nil {
		return fmt.Errorf("%w: the %s: %v", ErrSignal, kind, err)
	}
	return nil
}

// describe sends the own description with all candidates that were found.
func (h *handshake) describe(ctx context.Context, stream io.Writer, kind string, local pion.SessionDescription) error {
	gathered := pion.GatheringCompletePromise(h.connection)
	if err := h.connection.SetLocalDescription(local); err != nil {
		return fmt.Errorf("setting the own description: %w", err)
	}
	patience := time.NewTimer(gatherTimeout)
	defer patience.Stop()
	select {
	case <-gathered:
	case <-patience.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	sdp := h.connection.LocalDescription().SDP
	if countCandidates(sdp) == 0 {
		return errors.New("no address of this machine and no TURN server to be reached by; check listen_ips and the ICE servers")
	}
	return WriteSignal(stream, Signal{Type: kind, SDP: sdp})
}

// finish runs the exchange of signals and waits for the channel. The connection closes when anything fails.
func (h *handshake) finish(ctx context.Context, exchange func() error) (*Session, error) {
	err := Guarded(exchange)
	if err == nil {
		err = h.awaitChannel(ctx)
	}
	if err != nil {
		h.session.end(err)
		h.session.Close()
		return nil, err
	}
	return h.session, nil
}

func (h *handshake) awaitChannel(ctx context.Context) error {
	select {
	case raw := <-h.opened:
		h.session.open(raw)
		return nil
	case err := <-h.failed:
		return err
	case <-h.session.Ended():
		return h.session.Err()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Guarded turns a panic, which a peer's description might cause in a parser, into an error.
func Guarded(f func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = fmt.Errorf("%w: panic: %v\n%s", ErrSignal, value, debug.Stack())
		}
	}()
	return f()
}

// awaitOpen hands the channel over once it is open.
func (h *handshake) awaitOpen(channel *pion.DataChannel) {
	channel.OnOpen(func() {
		raw, err := channel.Detach()
		if err != nil {
			h.fail(fmt.Errorf("taking the data channel: %w", err))
			return
		}
		select {
		case h.opened <- raw.(*datachannel.DataChannel):
		default:
		}
	})
}

func (h *handshake) fail(err error) {
	select {
	case h.failed <- err:
	default:
	}
}

// takeChannel serves the answerer: the offerer opens the channel.
func (h *handshake) takeChannel(channel *pion.DataChannel) {
	if channel.Label() != dataLabel || !channel.Ordered() || channel.MaxRetransmits() != nil || channel.MaxPacketLifeTime() != nil ||
		!h.session.claimChannel() {
		h.refuseChannel(channel)
		return
	}
	h.awaitOpen(channel)
}

func (h *handshake) refuseChannel(channel *pion.DataChannel) {
	_ = channel.Close()
	if h.session.foreignChannels.Add(1) > maxForeignChannels {
		h.session.end(fmt.Errorf("%w: the peer opens more and more data channels", ErrSignal))
	}
}
