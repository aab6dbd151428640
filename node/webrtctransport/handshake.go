package webrtctransport

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/libp2p/go-libp2p/core/network"
	pion "github.com/pion/webrtc/v4"

	"peerbus/node/webrtc"
)

// maxCandidates bounds the candidates taken of a peer: each is checked against each of ours.
const maxCandidates = 64

// negotiation is the exchange of signals for one connection.
type negotiation struct {
	connection *connection
	stream     network.Stream
	reader     *bufio.Reader

	writing    sync.Mutex              // candidates are found while descriptions are sent
	described  bool                    // the peer's description is set
	early      []pion.ICECandidateInit // those that came before it
	candidates int
}

func newNegotiation(c *connection, s network.Stream) *negotiation {
	return &negotiation{connection: c, stream: s, reader: bufio.NewReader(s)}
}

func (n *negotiation) write(s signal) error {
	n.writing.Lock()
	defer n.writing.Unlock()
	return writeSignal(n.stream, s)
}

// trickle sends candidates as they are found. What cannot be sent does not matter once connected, and ends in a timeout before.
func (n *negotiation) trickle() {
	n.connection.pc.OnICECandidate(func(candidate *pion.ICECandidate) {
		if candidate == nil {
			return
		}
		if text, err := candidateText(candidate); err == nil {
			_ = n.write(signal{candidateSignal, text})
		}
	})
}

// offer runs the dialler's side.
func (n *negotiation) offer(ctx context.Context) error {
	pc := n.connection.pc
	first, err := pc.CreateDataChannel(initLabel, nil)
	if err != nil {
		return err
	}
	offer, err := pc.CreateOffer(nil)
	if err != nil {
		return err
	}
	n.trickle()
	if err := n.write(signal{offerSignal, offer.SDP}); err != nil {
		return fmt.Errorf("sending the offer: %w", err)
	}
	if err := pc.SetLocalDescription(offer); err != nil {
		return err
	}
	if err := n.follow(ctx, answerSignal, pion.SDPTypeAnswer); err != nil {
		return err
	}
	_ = first.Close()
	return nil
}

// answer runs the listener's side.
func (n *negotiation) answer(ctx context.Context) error {
	offer, err := readSignal(n.reader)
	if err != nil {
		return fmt.Errorf("reading the offer: %w", err)
	}
	if offer.kind != offerSignal {
		return fmt.Errorf("%w: a signal of type %d where an offer was expected", errMessage, offer.kind)
	}
	n.trickle()
	if err := n.describe(pion.SDPTypeOffer, offer.data); err != nil {
		return err
	}
	pc := n.connection.pc
	answer, err := pc.CreateAnswer(nil)
	if err != nil {
		return err
	}
	if err := n.write(signal{answerSignal, answer.SDP}); err != nil {
		return fmt.Errorf("sending the answer: %w", err)
	}
	if err := pc.SetLocalDescription(answer); err != nil {
		return err
	}
	return n.follow(ctx, candidateSignal, 0)
}

func (n *negotiation) describe(kind pion.SDPType, sdp string) error {
	checked, err := webrtc.CheckDescription(sdp)
	if err != nil {
		return err
	}
	if err := n.connection.pc.SetRemoteDescription(pion.SessionDescription{Type: kind, SDP: checked}); err != nil {
		return fmt.Errorf("%w: the %s: %v", errMessage, kind, err)
	}
	n.described = true
	for _, candidate := range n.early {
		_ = n.connection.pc.AddICECandidate(candidate)
	}
	return nil
}

// follow takes the peer's signals, a description of the given kind among them, until the connection is there.
func (n *negotiation) follow(ctx context.Context, wanted signalKind, kind pion.SDPType) error {
	signals := make(chan error, 1)
	reading := n.connection.transport.spawn("webrtc signals", func() {
		signals <- webrtc.Guarded(func() error { return n.readSignals(wanted, kind) })
	})
	if !reading {
		return ErrEnded
	}
	for {
		select {
		case <-n.connection.connected:
			return nil
		case err := <-signals:
			if err != nil {
				return err
			}
			signals = nil // the peer has said everything
		case <-n.connection.ctx.Done():
			return fmt.Errorf("no path was found: %w", context.Cause(n.connection.ctx))
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (n *negotiation) readSignals(wanted signalKind, kind pion.SDPType) error {
	for {
		s, err := readSignal(n.reader)
		switch {
		case err != nil && n.described && !errors.Is(err, errMessage):
			return nil // the peer ends the stream when it is connected, or has no more candidates
		case err != nil:
			return fmt.Errorf("reading the signals: %w", err)
		case s.kind == candidateSignal:
			n.addCandidate(s.data)
		case s.kind == wanted && !n.described:
			if err := n.describe(kind, s.data); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%w: an unexpected signal of type %d", errMessage, s.kind)
		}
	}
}

func (n *negotiation) addCandidate(data string) {
	candidate, ok := candidateOf(data)
	if n.candidates++; !ok || n.candidates > maxCandidates {
		return
	}
	if !n.described {
		n.early = append(n.early, candidate)
		return
	}
	_ = n.connection.pc.AddICECandidate(candidate)
}
