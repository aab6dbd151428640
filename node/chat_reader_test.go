package node

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"peerbus/queue"
)

// scriptedStream gives a reader pieces of bytes, each after a delay, and then EOF or silence. It heeds deadlines.
type scriptedStream struct {
	network.Stream
	pieces   []scriptedPiece
	silent   bool // stays open at the end
	deadline time.Time
}

type scriptedPiece struct {
	after time.Duration
	bytes []byte
}

func (s *scriptedStream) SetReadDeadline(at time.Time) error {
	s.deadline = at
	return nil
}

func (s *scriptedStream) Read(p []byte) (int, error) {
	left := time.Until(s.deadline)
	if len(s.pieces) == 0 && !s.silent {
		return 0, io.EOF
	}
	if len(s.pieces) == 0 || s.pieces[0].after > left {
		time.Sleep(left)
		if len(s.pieces) > 0 {
			s.pieces[0].after -= left
		}
		return 0, os.ErrDeadlineExceeded
	}
	piece := &s.pieces[0]
	time.Sleep(piece.after)
	piece.after = 0
	n := copy(p, piece.bytes)
	if piece.bytes = piece.bytes[n:]; len(piece.bytes) == 0 {
		s.pieces = s.pieces[1:]
	}
	return n, nil
}

func cutIntoBytes(frames []byte, after time.Duration) []scriptedPiece {
	var pieces []scriptedPiece
	for _, b := range frames {
		pieces = append(pieces, scriptedPiece{after, []byte{b}})
	}
	return pieces
}

// countingMemory knows how much it has given at most.
type countingMemory struct {
	sync.Mutex
	held, most int
}

func (m *countingMemory) Slab() []byte { return m.Get(SlabBytes) }

func (m *countingMemory) Get(size int) []byte {
	m.Lock()
	defer m.Unlock()
	m.held += size
	m.most = max(m.most, m.held)
	return make([]byte, size)
}

func (m *countingMemory) Put(buffer []byte) {
	m.Lock()
	defer m.Unlock()
	m.held -= len(buffer)
}

// offlineNode is a node without a host that takes messages for one peer id.
func offlineNode(t testing.TB, id string, change ...func(*Options)) *Node {
	t.Helper()
	options := Options{Config: quietConfig("unused")}
	options.Config.Limits.ChannelMessages = 1 << 16
	for _, f := range change {
		f(&options)
	}
	n := newNode(options)
	decoded, err := peer.Decode(id)
	if err != nil {
		t.Fatal(err)
	}
	n.id = decoded
	return n
}

// readAs lets the node read a stream of the given sender until it ends.
func readAs(t testing.TB, n *Node, sender string, stream *scriptedStream) error {
	t.Helper()
	from, err := peer.Decode(sender)
	if err != nil {
		t.Fatal(err)
	}
	return newChatReader(newLink(n, from), newChatStream(stream)).run()
}

func taken(n *Node) []queue.Message { return n.queue.Take(nil, "", 0, 0) }

type chatVectors struct {
	Sender, Receiver string
	Limit            int
	Vectors          []chatVector
}

type chatVector struct {
	Name     string
	Bytes    vectorBytes
	Messages []struct{ Channel, Payload string }
	Lost     map[string]uint64
	End      string
	Written  bool
}

func readChatVectors(t testing.TB) chatVectors {
	var v chatVectors
	readVectors(t, "chat/frames.json", &v)
	if len(v.Vectors) == 0 {
		t.Fatal("no vectors")
	}
	return v
}

func (v chatVectors) node(t testing.TB) *Node {
	return offlineNode(t, v.Receiver, limits(func(l *Limits) { l.MessageBytes = v.Limit }))
}

func (v chatVectors) check(t *testing.T, n *Node, vector chatVector, err error) {
	t.Helper()
	if wantEOF := vector.End == "end"; wantEOF != (err == io.EOF) || !wantEOF && !errors.Is(err, errBadFrame) {
		t.Errorf("ended with %v, want %s", err, vector.End)
	}
	got := taken(n)
	if len(got) != len(vector.Messages) {
		t.Fatalf("%d messages arrived, want %d", len(got), len(vector.Messages))
	}
	for i, m := range got {
		want := vector.Messages[i]
		if m.Channel != want.Channel || hex.EncodeToString(m.Data) != want.Payload || m.From != v.Sender || m.Protocol != ChatProtocol {
			t.Errorf("message %d is %+v, want %v from %s", i, m, want, v.Sender)
		}
	}
	if lost := n.losses.totals()[directionIn]; !maps.Equal(lost, vector.Lost) {
		t.Errorf("losses %v, want %v", lost, vector.Lost)
	}
}

// wholly and byteByByte are the ways in which the bytes of a vector arrive.
func wholly(frames []byte) []scriptedPiece     { return []scriptedPiece{{0, frames}} }
func byteByByte(frames []byte) []scriptedPiece { return cutIntoBytes(frames, time.Microsecond) }

func TestFramesOfTheVectorsAreRead(t *testing.T) {
	vectors := readChatVectors(t)
	for _, vector := range vectors.Vectors {
		for name, cut := range map[string]func([]byte) []scriptedPiece{"at once": wholly, "byte by byte": byteByByte} {
			t.Run(vector.Name+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					n := vectors.node(t)
					vectors.check(t, n, vector, readAs(t, n, vectors.Sender, &scriptedStream{pieces: cut(vector.Bytes)}))
					n.losses.close()
				})
			})
		}
	}
}

func TestFramesAreWrittenAsTheVectorsSay(t *testing.T) {
	for _, vector := range readChatVectors(t).Vectors {
		if !vector.Written {
			continue
		}
		box := &outbox{}
		for _, m := range vector.Messages {
			payload, err := hex.DecodeString(m.Payload)
			if err != nil {
				t.Fatal(err)
			}
			box.appendSmall(frameHeader{m.Channel}, payload)
		}
		if got := hex.EncodeToString(box.chunks[0].frames); len(box.chunks) != 1 || got != hex.EncodeToString(vector.Bytes) {
			t.Errorf("%s: wrote %s, want %x", vector.Name, got, []byte(vector.Bytes))
		}
	}
}

// frameEnds are where a stream may end; elsewhere it leaves a truncated frame.
func frameEnds(frames []byte) map[int]bool {
	ends := map[int]bool{0: true}
	for n := range len(frames) + 1 {
		if _, end := framesWithin(frames, n); end == n {
			ends[n] = true
		}
	}
	return ends
}

func TestAFrameCutAtAnyByteIsCountedOnce(t *testing.T) {
	vectors := readChatVectors(t)
	for _, vector := range vectors.Vectors {
		if len(vector.Lost) > 0 || len(vector.Bytes) > 1000 {
			continue
		}
		ends := frameEnds(vector.Bytes)
		for n := range len(vector.Bytes) {
			node := vectors.node(t)
			err := readAs(t, node, vectors.Sender, &scriptedStream{pieces: wholly(vector.Bytes[:n])})
			lost := sum(node.losses.totals()[directionIn])
			if whole := ends[n]; whole != (err == io.EOF) || whole != (lost == 0) || lost > 1 {
				t.Fatalf("%s cut at %d ended with %v and %d losses", vector.Name, n, err, lost)
			}
			node.losses.close()
		}
	}
}

func TestACutFrameIsCountedByWhoCutIt(t *testing.T) {
	vectors := readChatVectors(t)
	frame := vectors.Vectors[0].Bytes
	for reason, end := range map[string]error{lossPeerClosed: network.ErrReset, lossBadFrame: io.ErrUnexpectedEOF} {
		n := vectors.node(t)
		stream := &scriptedStream{pieces: wholly(frame[:len(frame)-1])}
		if err := readAs(t, n, vectors.Sender, &scriptedStream{Stream: nil, pieces: stream.pieces}); err != io.ErrUnexpectedEOF {
			t.Fatal(err)
		}
		reader := newChatReader(newLink(n, n.id), newChatStream(stream))
		if got := reader.cutOff(end); got != reason {
			t.Errorf("%v is %s, want %s", end, got, reason)
		}
		reader.link.cancel(ErrClosed)
		if got := reader.cutOff(end); got != lossNodeClosed {
			t.Errorf("%v of a closed node is %s", end, got)
		}
		n.losses.close()
	}
}

func TestAFrameWithoutProgressEndsTheStream(t *testing.T) {
	vectors := readChatVectors(t)
	frame := vectors.Vectors[0].Bytes
	for _, begun := range []int{1, 3, 4, 5, 50, len(frame) - 1} {
		synctest.Test(t, func(t *testing.T) {
			n := vectors.node(t)
			start := time.Now()
			err := readAs(t, n, vectors.Sender, &scriptedStream{pieces: wholly(frame[:begun]), silent: true})
			if took := time.Since(start); !errors.Is(err, errStalled) || took != frameStallTimeout {
				t.Errorf("%d bytes: ended with %v after %s", begun, err, took)
			}
			expectLosses(t, n, directionIn, map[string]uint64{lossBadFrame: 1})
			n.losses.close()
		})
	}
}

func TestATricklingFrameEndsTheStream(t *testing.T) {
	vectors := readChatVectors(t)
	var big chatVector
	for _, vector := range vectors.Vectors {
		if len(vector.Bytes) > vectors.Limit {
			big = vector
		}
	}
	synctest.Test(t, func(t *testing.T) {
		n := vectors.node(t)
		start := time.Now()
		err := readAs(t, n, vectors.Sender, &scriptedStream{pieces: cutIntoBytes(big.Bytes, time.Second)})
		if took := time.Since(start); !errors.Is(err, errStalled) || took > frameStallTimeout+5*time.Second {
			t.Errorf("ended with %v after %s", err, took)
		}
		expectLosses(t, n, directionIn, map[string]uint64{lossBadFrame: 1})
		n.losses.close()
	})
}

func TestAnIdleStreamEndsWithoutALoss(t *testing.T) {
	vectors := readChatVectors(t)
	synctest.Test(t, func(t *testing.T) {
		n := vectors.node(t)
		start := time.Now()
		pieces := []scriptedPiece{{chatIdleTimeout - time.Second, vectors.Vectors[0].Bytes}}
		err := readAs(t, n, vectors.Sender, &scriptedStream{pieces: pieces, silent: true})
		if took := time.Since(start); !errors.Is(err, errIdle) || took != 2*chatIdleTimeout-time.Second {
			t.Errorf("ended with %v after %s", err, took)
		}
		expectLosses(t, n, directionIn, map[string]uint64{})
		n.losses.close()
	})
}

func TestAFullQueueIsNotTakenForAStalledPeer(t *testing.T) {
	vectors := readChatVectors(t)
	frame := vectors.Vectors[0].Bytes
	synctest.Test(t, func(t *testing.T) {
		n := offlineNode(t, vectors.Receiver, limits(func(l *Limits) { l.ChannelMessages = 1 }))
		const frames = 4
		pieces := []scriptedPiece{{0, frame}, {0, frame}, {0, frame}, {0, frame[:9]}, {frameStallTimeout - time.Second, frame[9:]}}
		ended := make(chan error)
		go func() { ended <- readAs(t, n, vectors.Sender, &scriptedStream{pieces: pieces}) }()
		for range frames {
			time.Sleep(chatBlockTimeout - time.Second)
			if got := n.queue.Take(nil, "", 1, 0); len(got) != 1 {
				t.Errorf("took %d messages", len(got))
			}
		}
		if err := <-ended; err != io.EOF {
			t.Error(err)
		}
		expectLosses(t, n, directionIn, map[string]uint64{})
	})
}

func TestMemoryFollowsWhatArrivedAndNoClaim(t *testing.T) {
	const streams, arrived = 64, 100
	memory := &countingMemory{}
	n := offlineNode(t, anotherPeer, func(o *Options) { o.Memory = memory })
	header := frameHeader{directChannel(mustID(t, somePeer), n.id, "~")}
	bytes := header.appendTo(nil, make([]byte, arrived))
	binary.BigEndian.PutUint32(bytes, 50<<20)
	readers := make(chan error)
	for range streams {
		go func() { readers <- readAs(t, n, somePeer, &scriptedStream{pieces: wholly(bytes)}) }()
	}
	for range streams {
		if err := <-readers; err != io.ErrUnexpectedEOF {
			t.Error(err)
		}
	}
	if most := streams * firstPayloadBuffer; memory.most > most || memory.held != 0 {
		t.Errorf("%d bytes were held for %d claims, at most %d are right; %d are held now", memory.most, streams, most, memory.held)
	}
	expectLosses(t, n, directionIn, map[string]uint64{lossBadFrame: streams})
}

func TestMemoryOfOneFrameGrowsWithItsBytes(t *testing.T) {
	vector := frameHeader{directChannel(mustID(t, somePeer), mustID(t, anotherPeer), "~")}.appendTo(nil, make([]byte, 3<<20))
	for _, arrived := range []int{1000, 100_000, 1 << 20, 3 << 20} {
		memory := &countingMemory{}
		n := offlineNode(t, anotherPeer, func(o *Options) { o.Memory = memory })
		if err := readAs(t, n, somePeer, &scriptedStream{pieces: wholly(vector[:arrived])}); err != io.ErrUnexpectedEOF {
			t.Error(err)
		}
		if most := 4*arrived + firstPayloadBuffer; memory.most > most {
			t.Errorf("%d bytes held for %d that arrived", memory.most, arrived)
		}
		n.losses.close()
	}
}

func mustID(t testing.TB, text string) peer.ID {
	t.Helper()
	id, err := peer.Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	return id
}
