package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"peerbus/node/webrtc"
)

// glareMessage refuses an offer that met our own, which stays. The peer then waits for ours.
const glareMessage = "both sides offered at the same time, and this one's offer stays"

// glareTimeout is how long the side whose offer was refused so waits for the other's.
const glareTimeout = 15 * time.Second

// offer runs this node's attempt.
func (t *webrtcSessions) offer(s *webrtcSession) {
	ctx, cancel := context.WithTimeout(s.ctx, webrtc.HandshakeTimeout)
	defer cancel()
	t.announce(s.peer, s.offered, WebRTCConnecting, "", nil)
	session, err := t.exchangeOffer(ctx, s.peer)
	if errors.Is(err, webrtc.ErrRefused) && strings.Contains(err.Error(), glareMessage) {
		waiting := time.NewTimer(glareTimeout)
		defer waiting.Stop()
		select {
		case <-waiting.C:
		case <-ctx.Done():
		}
	}
	t.settle(s, session, webrtcError(ctx, s.peer, err))
}

func (t *webrtcSessions) exchangeOffer(ctx context.Context, id peer.ID) (*webrtc.Session, error) {
	opening, cancel := context.WithTimeout(network.WithNoDial(network.WithAllowLimitedConn(ctx, "webrtc"), "webrtc"), streamOpenTimeout)
	defer cancel()
	stream, err := t.node.host.NewStream(opening, id, webrtc.SignalProtocol)
	if err != nil {
		return nil, fmt.Errorf("%w: opening the signalling stream: %w", dialFailure(err), err)
	}
	stop := context.AfterFunc(ctx, func() { _ = stream.Reset() })
	defer stop()
	session, err := t.engine.Offer(ctx, t.iceConfig(), stream)
	if err != nil {
		_ = stream.Reset()
		return nil, err
	}
	_ = stream.Close()
	return session, nil
}

// webrtcError says of a failed handshake what this package's errors say.
func webrtcError(ctx context.Context, id peer.ID, err error) error {
	doing := "opening a WebRTC connection to " + id.String()
	switch {
	case err == nil:
		return nil
	case errors.Is(context.Cause(ctx), context.DeadlineExceeded):
		return fmt.Errorf("%w: %s took longer than %s", ErrTimeout, doing, webrtc.HandshakeTimeout)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, webrtc.ErrRefused):
		return fmt.Errorf("%w: %s: %w", ErrRefused, doing, err)
	case errors.Is(err, ErrNotConnected), errors.Is(err, ErrClosed):
		return fmt.Errorf("%s: %w", doing, err)
	}
	return fmt.Errorf("%w: %s: %w", ErrUnreachable, doing, err)
}

// accept serves a signalling stream that a peer opened.
func (t *webrtcSessions) accept(stream network.Stream) {
	id := stream.Conn().RemotePeer()
	if !t.admit(id) {
		t.refuse(stream, "busy with other offers; try again later")
		return
	}
	defer t.dismiss(id)
	ctx, cancel := context.WithTimeout(t.node.ctx, webrtc.HandshakeTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = stream.Reset() })
	defer stop()
	offer, err := webrtc.ReadSignal(stream)
	switch {
	case err == nil && offer.Type == webrtc.SignalOffer:
		t.take(ctx, stream, offer)
	case err == nil || errors.Is(err, webrtc.ErrSignal):
		t.node.log.Warn("WebRTC signalling refused", "peer", id, "type", offer.Type, "reason", err)
		t.refuse(stream, "expected an offer")
	default:
		t.node.log.Debug("WebRTC signalling ended early", "peer", id, "reason", err)
		_ = stream.Reset()
	}
}

// take answers an offer, unless the table says no.
func (t *webrtcSessions) take(ctx context.Context, stream network.Stream, offer webrtc.Signal) {
	id := stream.Conn().RemotePeer()
	s, refusal := t.beginAnswer(ctx, id)
	if refusal != "" {
		t.node.log.Info("WebRTC offer refused", "peer", id, "reason", refusal)
		t.refuse(stream, refusal)
		return
	}
	bound, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(s.ctx, func() {
		cancel(context.Cause(s.ctx))
		_ = stream.Reset()
	})
	t.announce(s.peer, s.offered, WebRTCConnecting, "", nil)
	session, err := t.engine.Answer(bound, t.iceConfig(), stream, offer)
	stop() // a failure ends s.ctx, and its reason is on its way to the peer
	t.settle(s, session, webrtcError(bound, id, err))
	_ = stream.Close()
}

// admit bounds the offers that are read and answered at a time, to one for each peer.
func (t *webrtcSessions) admit(id peer.ID) bool {
	t.state.Lock()
	defer t.state.Unlock()
	if _, busy := t.state.signalling[id]; busy || len(t.state.signalling) >= maxSignalling {
		return false
	}
	t.state.signalling[id] = struct{}{}
	return true
}

func (t *webrtcSessions) dismiss(id peer.ID) {
	t.state.Lock()
	defer t.state.Unlock()
	delete(t.state.signalling, id)
}

// refuse answers an offer with an error. Peers of the existing network close the stream instead, and take either.
func (t *webrtcSessions) refuse(stream network.Stream, reason string) {
	t.counted.refused.Add(1)
	_ = stream.SetDeadline(time.Now().Add(refusalTimeout))
	if err := webrtc.WriteSignal(stream, webrtc.Signal{Type: webrtc.SignalError, Message: reason}); err != nil {
		_ = stream.Reset()
		return
	}
	_ = stream.Close()
}

// refusalTimeout bounds how long a refusal may take to leave.
const refusalTimeout = 10 * time.Second

// beginAnswer answers the session for a peer's offer, or why the offer is refused.
func (t *webrtcSessions) beginAnswer(ctx context.Context, id peer.ID) (*webrtcSession, string) {
	for {
		t.state.Lock()
		before := t.state.byPeer[id]
		s, refusal := t.beginAnswerLocked(id, before)
		t.state.Unlock()
		if s != nil || refusal != "" {
			return s, refusal
		}
		select { // the one before is ending
		case <-before.gone:
		case <-ctx.Done():
			return nil, "the connection before has not ended yet"
		}
	}
}

func (t *webrtcSessions) beginAnswerLocked(id peer.ID, before *webrtcSession) (*webrtcSession, string) {
	switch {
	case t.state.closed:
		return nil, "this node closes"
	case before == nil:
		return t.newSessionLocked(id, false), ""
	case before.closing:
		return nil, ""
	case before.session != nil && before.session.Err() != nil:
		return nil, ""
	case before.session != nil && before.session.Doubtful():
		before.session.End(errSuperseded)
		return nil, ""
	case before.session != nil:
		return nil, "a WebRTC connection is open already"
	case !before.offered:
		return nil, "an offer is being answered already"
	case t.node.id < id:
		return nil, glareMessage
	}
	s := t.newSessionLocked(id, false)
	before.successor = s
	before.cancel(errOffered)
	return s, ""
}
