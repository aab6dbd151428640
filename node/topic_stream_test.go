package node

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/network"
	"google.golang.org/protobuf/proto"
)

// writeRecorder is a stream that remembers what each write carried.
type writeRecorder struct {
	network.Stream
	writes [][]byte
	fails  error
	reset  bool
	closed bool
}

func (r *writeRecorder) Write(p []byte) (int, error) {
	r.writes = append(r.writes, bytes.Clone(p))
	return len(p), r.fails
}

func (r *writeRecorder) Reset() error { r.reset = true; return nil }
func (r *writeRecorder) Close() error { r.closed = true; return nil }

func newRecordedStream() (*writeRecorder, *topicStream) {
	recorder := &writeRecorder{}
	n := &Node{}
	n.config.Limits.TopicMessages, n.config.Limits.SendBytes = 1000, 1<<20
	s := &topicStream{Stream: recorder, outboxes: newTopicOutboxes(n), peer: "peer", ended: make(chan struct{})}
	s.carried.by = recorder
	return recorder, s
}

// seen answers the writes so far and how many messages wait.
func (r *writeRecorder) seen(s *topicStream) (writes [][]byte, waiting int64) {
	s.out.Lock()
	defer s.out.Unlock()
	s.outboxes.state.Lock()
	defer s.outboxes.state.Unlock()
	return slices.Clone(r.writes), s.outboxes.ofLocked(s.peer).messages
}

// rpcFrame is an RPC as pubsub writes it, with one message of that size.
func rpcFrame(t *testing.T, size int) []byte {
	t.Helper()
	text, err := proto.Marshal(&pb.RPC{Publish: []*pb.Message{{Topic: proto.String("x"), Data: make([]byte, size)}}})
	if err != nil {
		t.Fatal(err)
	}
	return append(binary.AppendUvarint(nil, uint64(len(text))), text...)
}

func mustWrite(t *testing.T, s *topicStream, frame []byte) {
	t.Helper()
	if n, err := s.Write(frame); n != len(frame) || err != nil {
		t.Fatalf("wrote %d of %d bytes: %v", n, len(frame), err)
	}
}

func TestALonePublicationIsWrittenAtOnceAndThoseOfABurstTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		recorder, s := newRecordedStream()
		s.outboxes.ofLocked(s.peer).messages = 100
		frame := rpcFrame(t, 100)
		for range 20 {
			mustWrite(t, s, frame)
			time.Sleep(2 * rpcBurstGap)
		}
		if writes, _ := recorder.seen(s); len(writes) != 20 {
			t.Errorf("20 lone RPCs in %d writes", len(writes))
		}
		for range rpcBurst + 50 {
			mustWrite(t, s, frame)
		}
		if writes, waiting := recorder.seen(s); len(writes) != 20+rpcBurst || waiting != 100-20-rpcBurst {
			t.Errorf("at the begin of a burst %d writes, %d messages wait", len(writes), waiting)
		}
		time.Sleep(rpcGatherTime)
		synctest.Wait()
		writes, waiting := recorder.seen(s)
		if last := writes[len(writes)-1]; len(last) != 50*len(frame) || waiting != 100-20-rpcBurst-50 {
			t.Errorf("the burst ended with a write of %d bytes, %d messages wait", len(last), waiting)
		}
	})
}

func TestABurstIsWrittenWhenItIsLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		recorder, s := newRecordedStream()
		frame := rpcFrame(t, 1000)
		for range 100 {
			mustWrite(t, s, frame)
		}
		if err := s.Close(); err != nil || !recorder.closed {
			t.Errorf("closed %t, %v", recorder.closed, err)
		}
		all := bytes.Join(recorder.writes, nil)
		if !bytes.Equal(all, bytes.Repeat(frame, 100)) {
			t.Errorf("%d bytes were written", len(all))
		}
		for _, write := range recorder.writes {
			if len(write) >= rpcGatherBytes+len(frame) {
				t.Errorf("a write of %d bytes", len(write))
			}
		}
		if len(recorder.writes) > 2*rpcBurst {
			t.Errorf("%d writes", len(recorder.writes))
		}
		synctest.Wait()
	})
}

func TestAGatheredWriteThatFailsEndsTheStreamAndStaysCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		recorder, s := newRecordedStream()
		s.outboxes.ofLocked(s.peer).messages = rpcBurst + 1
		frame := rpcFrame(t, 100)
		for range rpcBurst {
			mustWrite(t, s, frame)
		}
		recorder.fails = errors.New("broken")
		mustWrite(t, s, frame)
		time.Sleep(rpcGatherTime)
		synctest.Wait()
		if _, waiting := recorder.seen(s); !recorder.reset || waiting != 1 {
			t.Errorf("reset %t, %d messages wait", recorder.reset, waiting)
		}
		if _, err := s.Write(frame); err == nil {
			t.Error("a write after that")
		}
	})
}
