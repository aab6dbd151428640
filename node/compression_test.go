package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"testing"

	"peerbus/node/compression"
	"peerbus/node/session"
)

func compressing(codecs ...session.Codec) func(*Options) {
	return func(o *Options) { o.Config.Channel.Compression.Codecs = codecs }
}

func takingNone(o *Options) { o.Config.Channel.AcceptCompressed = false }

// words is text of that size that begins with a number.
func words(number, size int) []byte {
	text := bytes.Repeat([]byte("the temperature is 21.5 degrees; "), size/33+1)[:size]
	copy(text, fmt.Sprintf("%06d ", number))
	return text
}

func randomBytes(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.Read(b)
	return b
}

func compressedOn(t testing.TB, n *Node, c *Channel) ChannelInfo {
	t.Helper()
	info, err := n.ChannelInfo(c.Name())
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func TestCompressedMessagesArriveAsTheyWereSent(t *testing.T) {
	for _, codec := range []session.Codec{session.CodecZstd, session.CodecLZ4, session.CodecGzip} {
		t.Run(codecNames[codec], func(t *testing.T) {
			a, b := startPair(t, compressing(codec))
			c := openChannel(t, a, b, "~")
			sizes := []int{0, 100, 1 << 10, 20 << 10, 70 << 10, 3 << 20}
			for i, size := range sizes {
				payload := words(i, max(size, 7))
				if size == 0 {
					payload = randomBytes(200 << 10)
				}
				id := mustSend(t, c, payload)
				if got := receive(t, b, 1)[0]; !bytes.Equal(got.Data, payload) || got.ID != id {
					t.Fatalf("message %d of %d bytes came as %d bytes with the id %d", id, len(payload), len(got.Data), got.ID)
				}
			}
			info := compressedOn(t, a, c)
			if info.Compressed.Messages != 4 || info.Compressed.CompressedBytes*8 > info.Compressed.Bytes*7 {
				t.Errorf("compressed %+v, want the four messages of text from 1 KiB on", info.Compressed)
			}
			if !slices.Contains(info.PeerCodecs, codecNames[codec]) {
				t.Errorf("the peer takes %v", info.PeerCodecs)
			}
		})
	}
}

func TestABatchIsCompressedMessageByMessage(t *testing.T) {
	a, b := startPair(t, compressing(session.CodecZstd), limits(func(l *Limits) { l.ChannelMessages = 100 }))
	c := openChannel(t, a, b, "~")
	payloads := make([][]byte, 20)
	for i := range payloads {
		payloads[i] = words(i, 10+i*2000)
	}
	first, taken, err := c.SendBatch(within(t), payloads)
	if err != nil || first != 1 || taken != len(payloads) {
		t.Fatalf("took %d from %d on, %v", taken, first, err)
	}
	for i, m := range receive(t, b, len(payloads)) {
		if !bytes.Equal(m.Data, payloads[i]) {
			t.Errorf("message %d differs", i)
		}
	}
	if info := compressedOn(t, a, c); info.Compressed.Messages != 19 {
		t.Errorf("compressed %+v", info.Compressed)
	}
}

func TestAPeerThatTakesNoCodecGetsMessagesAsTheyAre(t *testing.T) {
	a, b := startNode(t, compressing(session.CodecZstd, session.CodecLZ4)), startNode(t, takingNone)
	connect(t, a, b)
	c := openChannel(t, a, b, "~")
	// The first ones are compressed before the peer has said anything, and unpacked on their way.
	for i := range 6 {
		mustSend(t, c, words(i, 1<<(10+2*i)))
	}
	for i, m := range receive(t, b, 6) {
		if !bytes.Equal(m.Data, words(i, 1<<(10+2*i))) {
			t.Errorf("message %d differs", i)
		}
	}
	before := compressedOn(t, a, c).Compressed.Messages
	mustReach(t, c, mustSend(t, c, words(9, 100<<10)), DeliveryAccepted)
	if info := compressedOn(t, a, c); info.Compressed.Messages != before || len(info.PeerCodecs) != 0 {
		t.Errorf("compressed for a peer that takes nothing: %+v", info)
	}
}

func TestWhatWasCompressedForNobodyFallsBackToChat(t *testing.T) {
	a, b := startNode(t, compressing(session.CodecGzip)), startNode(t, overChat)
	connect(t, a, b)
	c := openChannel(t, a, b, "~")
	mustSend(t, c, words(1, 50<<10))
	if got := receive(t, b, 1)[0]; !bytes.Equal(got.Data, words(1, 50<<10)) || got.Protocol != ChatProtocol {
		t.Errorf("%d bytes by %s", len(got.Data), got.Protocol)
	}
}

// forgePacked puts a payload as a codec's into the session, whatever it is.
func forgePacked(t *testing.T, c *Channel, codec session.Codec, packed []byte, size int) uint64 {
	t.Helper()
	m := outMessage{payload: make([]byte, size), packed: packed, codec: codec}
	id, err := c.out.send(within(t), m, nil)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestADamagedPayloadIsDroppedAndTheChannelGoesOn(t *testing.T) {
	a, b := startPair(t)
	c := openChannel(t, a, b, "~")
	mustReach(t, c, mustSend(t, c, []byte("before")), DeliveryAccepted)
	bomb := make([]byte, 0, compression.Bound(session.CodecZstd, 1<<20))
	bomb, _ = compression.Pack(session.CodecZstd, bomb, make([]byte, 1<<20))
	cut := bomb[:len(bomb)-3]
	bad := []uint64{
		forgePacked(t, c, session.CodecZstd, []byte("no frame at all"), 100), forgePacked(t, c, session.CodecLZ4, randomBytes(40<<10), 50<<10),
		forgePacked(t, c, session.CodecZstd, cut, 1000), forgePacked(t, c, session.CodecGzip, []byte{0x1f, 0x8b}, 100),
	}
	after := mustSend(t, c, []byte("after"))
	mustReach(t, c, after, DeliveryAccepted)
	for _, id := range bad {
		expectLost(t, c, id)
	}
	got := receive(t, b, 2)
	if string(got[1].Data) != "after" || got[1].Gap != uint64(len(bad)) {
		t.Errorf("then came %q behind a gap of %d", got[1].Data, got[1].Gap)
	}
	if lost := b.Statistics().Lost[directionIn][lossDecodeError]; lost != uint64(len(bad)) {
		t.Errorf("the receiver counts %d", lost)
	}
	if lost := a.Statistics().Lost[directionOut]["peer_decode_error"]; lost != uint64(len(bad)) {
		t.Errorf("the sender counts %d", lost)
	}
}

func TestABombIsDroppedAtTheLimit(t *testing.T) {
	a, b := startNode(t), startNode(t, limits(func(l *Limits) { l.MessageBytes = 128 << 10 }))
	connect(t, a, b)
	c := openChannel(t, a, b, "~")
	mustReach(t, c, mustSend(t, c, []byte("before")), DeliveryAccepted)
	for _, codec := range []session.Codec{session.CodecZstd, session.CodecLZ4, session.CodecGzip} {
		buffer := make([]byte, 0, compression.Bound(codec, 8<<20))
		bomb, _ := compression.Pack(codec, buffer, make([]byte, 8<<20))
		expectLost(t, c, forgePacked(t, c, codec, bomb, 1000)) // it says that it is small
	}
	mustReach(t, c, mustSend(t, c, []byte("after")), DeliveryAccepted)
}

func TestCompressedMessagesAreResumed(t *testing.T) {
	wide := limits(func(l *Limits) { l.ChannelMessages = 1000 })
	a, b := startPair(t, compressing(session.CodecLZ4), wide)
	c := openChannel(t, a, b, "~")
	const count = 200
	go func() {
		for i := range count {
			if i%40 == 20 {
				for _, conn := range a.host.Network().ConnsToPeer(b.id) {
					_ = conn.Close()
				}
				_, _ = a.Connect(context.Background(), b.Addresses())
			}
			if _, err := c.Send(t.Context(), words(i, 1<<10+i*700)); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for i, m := range receive(t, b, count) {
		if !bytes.Equal(m.Data, words(i, 1<<10+i*700)) {
			t.Fatalf("message %d differs, is missing or came twice", i)
		}
	}
}

func TestAHandleHasACompressionOfItsOwn(t *testing.T) {
	a, b := startPair(t, compressing(session.CodecZstd))
	c, plain := openChannel(t, a, b, "one"), openChannel(t, a, b, "two")
	mustConfigure(t, plain, SendOptions{Compression: Compression{}})
	mustReach(t, c, mustSend(t, c, words(1, 10_000)), DeliveryAccepted)
	mustReach(t, plain, mustSend(t, plain, words(1, 10_000)), DeliveryAccepted)
	if compressedOn(t, a, c).Compressed.Messages != 1 || compressedOn(t, a, plain).Compressed.Messages != 0 {
		t.Error("the handles do not differ")
	}
}

func TestCodecNamesAreChecked(t *testing.T) {
	for _, name := range []string{"", "none", "ZSTD", "brotli"} {
		if _, err := ParseCodec(name); !errors.Is(err, ErrArgument) {
			t.Errorf("%q: %v", name, err)
		}
	}
}
