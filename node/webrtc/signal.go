package webrtc

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// SignalProtocol is the libp2p protocol of the stream that Signals travel on.
const SignalProtocol = "/unaiverse/webrtc-signal/1.0.0"

// Types of a Signal.
const (
	SignalOffer  = "offer"
	SignalAnswer = "answer"
	SignalError  = "error"
)

const (
	// maxSignalBytes bounds the JSON of one signal.
	maxSignalBytes = 1 << 20
	// maxShownText bounds how much of a peer's text an error repeats.
	maxShownText = 200
)

var (
	// ErrSignal is wrapped by every error about what the peer signalled.
	ErrSignal = errors.New("malformed signalling")
	// ErrRefused says that the peer answered the offer with an error, or with nothing.
	ErrRefused = errors.New("the peer refused the offer")
)

// Signal is one message of SignalProtocol: u32 big endian length, then that much JSON.
type Signal struct {
	Type    string `json:"type"`
	SDP     string `json:"sdp,omitempty"`
	Message string `json:"message,omitempty"` // of an error
}

// WriteSignal writes one signal.
func WriteSignal(w io.Writer, s Signal) error {
	body, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if len(body) > maxSignalBytes {
		return fmt.Errorf("%w: %d bytes to send, at most %d are allowed", ErrSignal, len(body), maxSignalBytes)
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...))
	return err
}

// ReadSignal reads one signal. Memory follows what arrives. io.EOF means that the peer ended the stream instead.
func ReadSignal(r io.Reader) (Signal, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return Signal{}, err
	}
	size := binary.BigEndian.Uint32(length[:])
	if size == 0 || size > maxSignalBytes {
		return Signal{}, fmt.Errorf("%w: a message of %d bytes, 1 to %d are taken", ErrSignal, size, maxSignalBytes)
	}
	var body bytes.Buffer
	if _, err := io.CopyN(&body, r, int64(size)); err != nil {
		return Signal{}, fmt.Errorf("the signal ends early: %w", unexpectedEnd(err))
	}
	var s Signal
	if err := json.Unmarshal(body.Bytes(), &s); err != nil {
		return Signal{}, fmt.Errorf("%w: no JSON object of a signal: %v", ErrSignal, err)
	}
	switch s.Type {
	case SignalOffer, SignalAnswer, SignalError:
		return s, nil
	}
	return Signal{}, fmt.Errorf("%w: unknown type %q", ErrSignal, shown(s.Type))
}

// expect answers the description of a signal that must be of a kind.
func (s Signal) expect(kind string) (string, error) {
	switch {
	case s.Type == SignalError:
		return "", fmt.Errorf("%w: %s", ErrRefused, shown(s.Message))
	case s.Type != kind:
		return "", fmt.Errorf("%w: %s where %s was expected", ErrSignal, s.Type, kind)
	}
	return s.SDP, nil
}

func unexpectedEnd(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// shown is a peer's text as one short printable line.
func shown(text string) string {
	if len(text) > maxShownText {
		text = text[:maxShownText] + "..."
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return '?'
		}
		return r
	}, text)
}
