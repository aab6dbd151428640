package node

import (
	"bytes"
	"errors"
	"testing"

	"peerbus/node/session"
)

// lentBatch makes payloads that are lent, but for those whose size is negative, which are copied.
func lentBatch(sizes ...int) (all []*lentPayload, payloads [][]byte, releases []func()) {
	for k, size := range sizes {
		l := newLentPayload(max(size, -size))
		l.bytes[0] = byte(k)
		all, payloads = append(all, l), append(payloads, l.bytes)
		if size < 0 {
			releases = append(releases, nil)
		} else {
			releases = append(releases, l.release)
		}
	}
	return all, payloads, releases
}

// unreachable is a handle of a channel to a peer that is known, and never answers.
func unreachable(t *testing.T, a *Node) *Channel {
	t.Helper()
	b := startNode(t)
	a.host.Peerstore().AddAddrs(b.ID(), addrsOf(t, "/ip4/127.0.0.1/tcp/1"), 1<<40)
	a.host.Peerstore().SetProtocols(b.ID(), session.Protocol)
	return openChannel(t, a, b, "~")
}

func TestABatchOfLentAndCopiedPayloadsKeepsItsOrder(t *testing.T) {
	for name, change := range protocols {
		t.Run(name, func(t *testing.T) {
			a, b := startPair(t, change)
			c := openChannel(t, a, b, "~")
			all, payloads, releases := lentBatch(-10, lentFrom, 100, -lentFrom, 2*lentFrom, -9, lentFrom-1, lentFrom)
			for sent := 0; sent < len(payloads); {
				first, taken, err := c.SendBatchLent(within(t), payloads[sent:], releases[sent:])
				if err != nil || first != uint64(sent+1) {
					t.Fatalf("after %d: first %d, %v", sent, first, err)
				}
				sent += taken
			}
			for k, m := range receive(t, b, len(all)) {
				if !bytes.Equal(m.Data, all[k].bytes) {
					t.Errorf("message %d, of %d bytes, is not what was sent, %d bytes", k, len(m.Data), len(all[k].bytes))
				}
			}
			for k, l := range all {
				if releases[k] != nil {
					l.expectReturn(t)
				}
			}
		})
	}
}

func TestOfABatchThatFindsNoRoomOnlyWhatWasTakenComesBack(t *testing.T) {
	a := startNode(t, limits(func(l *Limits) { l.ChannelSendBytes = 3 * lentFrom }))
	c := unreachable(t, a)
	all, payloads, releases := lentBatch(lentFrom, 100, lentFrom, lentFrom, lentFrom)
	first, taken, err := c.SendBatchLent(within(t), payloads, releases)
	if err != nil || first != 1 || taken != 3 {
		t.Fatalf("first %d, taken %d, %v", first, taken, err)
	}
	if n := all[1].returned.Load(); n != 1 {
		t.Errorf("what was copied came back %d times", n)
	}
	if _, _, err := c.SendBatchLent(atOnceContext, payloads[taken:], releases[taken:]); !errors.Is(err, ErrWouldBlock) {
		t.Errorf("without room: %v", err)
	}
	for k := range all {
		if n := all[k].returned.Load(); n != 0 && k != 1 {
			t.Errorf("payload %d came back %d times before its message was settled", k, n)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	for k, want := range []int64{1, 1, 1, 0, 0} {
		if n := all[k].returned.Load(); n != want {
			t.Errorf("after the end of the node payload %d has come back %d times, want %d", k, n, want)
		}
	}
}

func TestABatchWithOneTooLargePayloadTakesNone(t *testing.T) {
	a, b := startPair(t, limits(func(l *Limits) { l.MessageBytes = 2 * lentFrom }))
	c := openChannel(t, a, b, "~")
	all, payloads, releases := lentBatch(lentFrom, 10, 2*lentFrom)
	if _, taken, err := c.SendBatchLent(within(t), payloads, releases); !errors.Is(err, ErrTooLarge) || taken != 0 {
		t.Fatalf("taken %d, %v", taken, err)
	}
	for k, l := range all {
		if l.returned.Load() != 0 {
			t.Errorf("payload %d came back although it was not taken", k)
		}
	}
	if id := mustSend(t, c, []byte("next")); id != 1 {
		t.Errorf("the next message has the id %d", id)
	}
	receive(t, b, 1)
}

func TestABatchThatIsCompressedOrKeptComesBackAtOnce(t *testing.T) {
	durable := func(o *Options) { o.Config.Channel.Durable = true }
	compressing := func(o *Options) {
		o.Config.Channel.Compression = Compression{Codecs: []session.Codec{session.CodecZstd}, Above: defaultCompressAbove}
	}
	for name, change := range map[string]func(*Options){"kept": durable, "compressed": compressing} {
		t.Run(name, func(t *testing.T) {
			a, b := startPair(t, change)
			c := openChannel(t, a, b, "~")
			all, payloads, releases := lentBatch(lentFrom, lentFrom, -10)
			if _, taken, err := c.SendBatchLent(within(t), payloads, releases); err != nil || taken != len(all) {
				t.Fatalf("taken %d, %v", taken, err)
			}
			for k, l := range all[:2] {
				if n := l.returned.Load(); n != 1 {
					t.Errorf("payload %d came back %d times", k, n)
				}
			}
			for k, m := range receive(t, b, len(all)) {
				if !bytes.Equal(m.Data, all[k].bytes) {
					t.Errorf("message %d is not what was sent", k)
				}
			}
		})
	}
}
