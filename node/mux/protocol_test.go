package mux

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
)

func frames(list ...any) []byte {
	var p []byte
	for _, item := range list {
		switch item := item.(type) {
		case header:
			p = item.appendTo(p)
		case []byte:
			p = append(p, item...)
		}
	}
	return p
}

// TestTheFramesAreThoseOfTheSpecification holds the examples of docs/mux.md against the code.
func TestTheFramesAreThoseOfTheSpecification(t *testing.T) {
	for want, h := range map[string]header{
		"000000000000000100000000": {frameOpen, 1, 0},
		"010000000000000100000005": {frameData, 1, 5},
		"020000000000000100000000": {frameEnd, 1, 0},
		"030000000000000200020000": {frameCredit, 2, 131072},
		"040000000000000200001002": {frameReset, 2, 0x1002},
		"050000000000000100000000": {frameStop, 1, 0},
		"060000000000000000000007": {framePing, 0, 7},
		"070000000000000000000007": {framePong, 0, 7},
		"080000000000000000001006": {frameGoAway, 0, 0x1006},
	} {
		if got := hex.EncodeToString(h.appendTo(nil)); got != want {
			t.Errorf("%+v is %s, want %s", h, got, want)
		}
		if back, err := parseHeader([headerBytes]byte(h.appendTo(nil))); err != nil || back != h {
			t.Errorf("%s is read as %+v, %v", want, back, err)
		}
	}
}

func TestAPeerThatBreaksTheRulesIsCutOffAndToldWhy(t *testing.T) {
	open := header{frameOpen, 1, 0}
	tooMuch := []any{open}
	for range initialWindow / maxFrame {
		tooMuch = append(tooMuch, header{frameData, 1, maxFrame}, make([]byte, maxFrame))
	}
	for name, sent := range map[string][]byte{
		"an unknown type":                  frames(header{frameTypes, 1, 0}),
		"reserved bytes":                   {0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0},
		"a stream frame on stream 0":       frames(header{frameData, 0, 1}),
		"a ping on a stream":               frames(header{framePing, 1, 1}),
		"an open with a value":             frames(header{frameOpen, 1, 1}),
		"an end with a value":              frames(open, header{frameEnd, 1, 1}),
		"empty data":                       frames(open, header{frameData, 1, 0}),
		"an oversized frame":               frames(open, header{frameData, 1, maxFrame + 1}),
		"an empty grant":                   frames(open, header{frameCredit, 1, 0}),
		"an oversized grant":               frames(open, header{frameCredit, 1, maxWindow + 1}),
		"a stream that was not opened":     frames(header{frameCredit, 1, 1}),
		"our stream that was not opened":   frames(header{frameCredit, 2, 1}),
		"a stream opened twice":            frames(open, open),
		"streams opened out of order":      frames(header{frameOpen, 5, 0}, header{frameOpen, 3, 0}),
		"a stream with our kind of number": frames(header{frameOpen, 2, 0}),
		"more than the window":             frames(append(tooMuch, header{frameData, 1, 1}, []byte{0})...),
		"data behind the end":              frames(open, header{frameEnd, 1, 0}, header{frameData, 1, 1}, []byte{0}),
		"two ends":                         frames(open, header{frameEnd, 1, 0}, header{frameEnd, 1, 0}),
	} {
		t.Run(name, func(t *testing.T) {
			ours, peer := tcpPair(t)
			m := muxed(t, ours, true)
			if _, err := peer.Write(sent); err != nil {
				t.Fatal(err)
			}
			select {
			case <-m.closed:
			case <-time.After(patience):
				t.Fatal("the connection goes on")
			}
			_, err := m.AcceptStream()
			var failed *network.ConnError
			if !errors.As(err, &failed) || failed.ErrorCode != network.ConnProtocolViolation || !errors.Is(err, errProtocol) {
				t.Errorf("it failed with %v", err)
			}
		})
	}
}

func TestFramesOfStreamsThatAreOverAreIgnored(t *testing.T) {
	ours, peer := tcpPair(t)
	m := muxed(t, ours, true)
	if _, err := peer.Write(frames(header{frameOpen, 1, 0}, header{frameReset, 1, 0}, header{frameData, 1, 3}, []byte("abc"),
		header{frameCredit, 1, 5}, header{frameEnd, 1, 0}, header{frameStop, 1, 0}, header{frameReset, 1, 0}, header{frameOpen, 3, 0})); err != nil {
		t.Fatal(err)
	}
	for range 2 { // both were open for a moment
		if _, err := m.AcceptStream(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPingsAreAnsweredAndAFloodOfThemThatReadsNoAnswerIsCutOff(t *testing.T) {
	ours, peer := tcpPair(t)
	m := muxed(t, ours, true)
	if _, err := peer.Write(frames(header{framePing, 0, 42})); err != nil {
		t.Fatal(err)
	}
	var p [headerBytes]byte
	for h := (header{}); h != (header{framePong, 0, 42}); { // the connection's own ping comes too
		if _, err := io.ReadFull(peer, p[:]); err != nil {
			t.Fatal(err)
		}
		h, _ = parseHeader(p)
	}
	flood := bytes.Repeat(frames(header{framePing, 0, 1}), 10_000)
	go func() {
		for {
			if _, err := peer.Write(flood); err != nil {
				return
			}
		}
	}()
	select {
	case <-m.closed:
	case <-time.After(patience):
		t.Fatal("the flood goes on")
	}
}

func TestStreamsBeyondTheLimitAreRefusedWithoutHarmToOthers(t *testing.T) {
	x, y := tcpPair(t)
	a, b := muxed(t, x, false), muxed(t, y, true)
	var streams []network.MuxedStream
	for range maxUnaccepted + 1 {
		s, err := a.OpenStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, s)
	}
	_ = streams[maxUnaccepted].SetReadDeadline(time.Now().Add(patience))
	var refused *network.StreamError
	if _, err := streams[maxUnaccepted].Read(make([]byte, 1)); !errors.As(err, &refused) || refused.ErrorCode != network.StreamResourceLimitExceeded {
		t.Errorf("the stream too many reads %v", err)
	}
	if _, err := b.AcceptStream(); err != nil {
		t.Fatal(err)
	}
	if s, err := a.OpenStream(t.Context()); err != nil {
		t.Error(err)
	} else if _, err := s.Write([]byte("x")); err != nil {
		t.Error(err)
	}
}

func TestSmallFramesGoFirstButNotForEver(t *testing.T) {
	turns := newTurns(nil)
	if turns.request(true) != nil {
		t.Fatal("a free right is not given")
	}
	large := turns.request(false)
	var small []*turn
	for range maxOvertakes + 1 {
		small = append(small, turns.request(true))
	}
	granted := func(t *turn) bool {
		select {
		case <-t.granted:
			return true
		default:
			return false
		}
	}
	for i := range maxOvertakes {
		if err := turns.release(); err != nil || !granted(small[i]) || granted(large) {
			t.Fatalf("turn %d", i)
		}
	}
	if err := turns.release(); err != nil || !granted(large) || granted(small[maxOvertakes]) {
		t.Fatal("the large frame waits for ever")
	}
	if err := turns.cancel(large); err != nil || !granted(small[maxOvertakes]) {
		t.Fatal("a turn that is given up too late is not passed on")
	}
}

// FuzzConnection: whatever bytes a peer sends, the connection neither panics nor hangs, and memory stays inside the windows.
func FuzzConnection(f *testing.F) {
	open := header{frameOpen, 1, 0}
	f.Add(frames(open, header{frameData, 1, 3}, []byte("abc"), header{frameEnd, 1, 0}))
	f.Add(frames(open, header{frameStop, 1, 0}, header{frameReset, 1, 1}, header{frameGoAway, 0, 2}))
	f.Add(frames(header{framePing, 0, 1}, header{framePong, 0, 1}, open, header{frameCredit, 1, 100}, open))
	f.Fuzz(func(t *testing.T, sent []byte) {
		ours, peer := net.Pipe()
		made, err := Transport{}.NewConn(ours, true, nil)
		if err != nil {
			t.Fatal(err)
		}
		m := made.(*Conn)
		go func() { _, _ = io.Copy(io.Discard, peer) }()
		go func() { _, _ = peer.Write(sent); _ = peer.Close() }()
		for {
			s, err := m.AcceptStream()
			if err != nil {
				break
			}
			go func() { _, _ = io.Copy(s, s); _ = s.Close() }()
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
}
