package webrtctransport

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// body is a message without its length.
func body(t testing.TB, message []byte) []byte {
	t.Helper()
	r := bufio.NewReader(bytes.NewReader(message))
	read, err := readPrefixed(r, r, maxReceivedFrame)
	if err != nil {
		t.Fatal(err)
	}
	return read
}

func FuzzFramesThatAreReadAreWrittenTheSame(f *testing.F) {
	for _, frame := range []frame{
		{flag: noFlag, data: []byte("data")}, {flag: flagFIN}, {flag: flagFINAck}, {flag: flagReset, errorCode: 7}, {flag: flagStopSending},
	} {
		f.Add(body(f, frame.encode()))
	}
	f.Add([]byte{0x08, 0xff})
	f.Add([]byte{0x12, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, message []byte) {
		first, err := decodeFrame(message)
		if err != nil {
			if !errors.Is(err, errMessage) {
				t.Errorf("%x: %v", message, err)
			}
			return
		}
		again, err := decodeFrame(body(t, first.encode()))
		if len(first.data) == 0 {
			first.data, again.data = nil, nil
		}
		if err != nil || !reflect.DeepEqual(again, first) {
			t.Errorf("%x is %+v, and then %+v, %v", message, first, again, err)
		}
	})
}

func FuzzSignalsAreReadWithCare(f *testing.F) {
	for _, s := range []signal{{offerSignal, "v=0"}, {answerSignal, ""}, {candidateSignal, `{"candidate":"a=candidate:1 1 udp 1 127.0.0.1 1 typ host"}`}} {
		var written bytes.Buffer
		if err := writeSignal(&written, s); err != nil {
			f.Fatal(err)
		}
		f.Add(written.Bytes())
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		s, err := readSignal(bufio.NewReader(bytes.NewReader(stream)))
		if err != nil {
			return
		}
		if s.kind > candidateSignal || len(s.data) > maxSignal {
			t.Errorf("%x is taken as %+v", stream, s)
		}
		if candidate, ok := candidateOf(s.data); ok && strings.HasPrefix(candidate.Candidate, "a=") {
			t.Errorf("the candidate is %q", candidate.Candidate)
		}
	})
}

func TestAMessageThatClaimsMoreThanItsLimitCostsNothing(t *testing.T) {
	long := bufio.NewReader(bytes.NewReader(protowire.AppendVarint(nil, 1<<40)))
	if _, err := readPrefixed(long, long, maxSignal); !errors.Is(err, errMessage) {
		t.Errorf("got %v", err)
	}
	cut := bufio.NewReader(strings.NewReader("\x05abc"))
	if _, err := readPrefixed(cut, cut, maxSignal); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}

func TestFramesFitIntoTheirBound(t *testing.T) {
	f := frame{flag: noFlag, data: make([]byte, maxFrame-frameOverhead)}
	if size := len(f.encode()); size > maxFrame {
		t.Errorf("a full frame has %d bytes, more than %d", size, maxFrame)
	}
}
