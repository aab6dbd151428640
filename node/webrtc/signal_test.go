package webrtc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func framed(body string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

func TestASignalIsReadAsItWasWritten(t *testing.T) {
	for _, s := range []Signal{
		{Type: SignalOffer, SDP: "v=0\r\n"}, {Type: SignalAnswer, SDP: strings.Repeat("x", 100_000)}, {Type: SignalError, Message: "no"},
	} {
		var wire bytes.Buffer
		if err := WriteSignal(&wire, s); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadSignal(iotest.OneByteReader(&wire)); err != nil || got != s {
			t.Errorf("read %+v, %v; want %+v", got, err, s)
		}
	}
}

func TestMalformedSignalsAreErrors(t *testing.T) {
	for name, c := range map[string]struct {
		wire []byte
		want error
	}{
		"nothing":        {nil, io.EOF},
		"half a length":  {[]byte{0, 0}, io.ErrUnexpectedEOF},
		"length 0":       {framed(""), ErrSignal},
		"above 1 MiB":    {binary.BigEndian.AppendUint32(nil, 1<<20+1), ErrSignal},
		"cut off":        {framed(`{"type":"offer"}`)[:10], io.ErrUnexpectedEOF},
		"no JSON":        {framed("offer"), ErrSignal},
		"a list":         {framed(`["offer"]`), ErrSignal},
		"no type":        {framed(`{}`), ErrSignal},
		"unknown type":   {framed(`{"type":"candidate"}`), ErrSignal},
		"type no text":   {framed(`{"type":1}`), ErrSignal},
		"only a promise": {binary.BigEndian.AppendUint32(nil, 1<<20), io.ErrUnexpectedEOF},
	} {
		if got, err := ReadSignal(bytes.NewReader(c.wire)); !errors.Is(err, c.want) {
			t.Errorf("%s: %+v, %v; want %v", name, got, err, c.want)
		}
	}
}

const minimalSDP = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n"

func TestDescriptionsHoldOneDataChannelAndFewCandidates(t *testing.T) {
	for name, sdp := range map[string]string{
		"empty":      "",
		"no section": "v=0\r\n",
		"two":        minimalSDP + "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n",
		"audio":      minimalSDP + "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n",
	} {
		if _, err := CheckDescription(sdp); !errors.Is(err, ErrSignal) {
			t.Errorf("%s: %v", name, err)
		}
	}
	candidate := "a=candidate:1 1 udp 1 192.0.2.1 1 typ host\r\n"
	got, err := CheckDescription(minimalSDP + strings.Repeat(candidate, 1000))
	if err != nil || countCandidates(got) != maxRemoteCandidates {
		t.Errorf("%d candidates are kept, %v", countCandidates(got), err)
	}
	if got, err := CheckDescription(minimalSDP + candidate); err != nil || got != minimalSDP+candidate {
		t.Errorf("changed to %q, %v", got, err)
	}
}

func TestAPeersTextIsShownInOneShortLine(t *testing.T) {
	if got := shown("a\nb\x00\xffc"); got != "a?b??c" {
		t.Errorf("%q", got)
	}
	if got := shown(strings.Repeat("x", 10_000)); len(got) > maxShownText+3 {
		t.Errorf("%d bytes", len(got))
	}
}

func FuzzReadSignal(f *testing.F) {
	f.Add(framed(`{"type":"offer","sdp":"v=0\r\nm=application 9 x\r\n"}`))
	f.Add(framed(`{"type":"error","message":"no"}`))
	f.Fuzz(func(t *testing.T, wire []byte) {
		s, err := ReadSignal(bytes.NewReader(wire))
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := WriteSignal(&again, s); err != nil && len(wire) < maxSignalBytes/8 {
			t.Fatal(err)
		}
		if sdp, err := CheckDescription(s.SDP); err == nil && countCandidates(sdp) > maxRemoteCandidates {
			t.Fatal("too many candidates")
		}
	})
}
