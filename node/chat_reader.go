package node

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"peerbus/queue"
)

const (
	chatReadBuffer = 64 << 10
	// chatReadBatch is how many messages go into the receive queue under one lock.
	chatReadBatch = 256
	// chatIdleTimeout ends a chat stream without frames in either direction (GEN-06).
	chatIdleTimeout = 5 * time.Minute
	// frameStallTimeout ends a stream in the middle of a frame that makes no progress (P2P-15) ...
	frameStallTimeout = 30 * time.Second
	// ... and minFrameRate, in bytes per second, one that trickles.
	minFrameRate = 16 << 10
	// chatBlockTimeout is how long a full channel may hold up a chat stream, which carries the peer's other channels too.
	// Peers of the existing network never give up writing; P2P-18 allows 30 s at most.
	chatBlockTimeout = 20 * time.Second
	// firstPayloadBuffer is what a claimed payload length gets before a byte of it has arrived, unless the stream has
	// delivered more than that already: memory follows what a peer sent, not what it says.
	firstPayloadBuffer = 64 << 10
	// believedFrom is how much of a payload has to be there until its whole length is believed and gets its buffer, so that the
	// largest ones are not copied from buffer to buffer. Of that, only what arrives takes memory.
	believedFrom = 4 << 20
)

var (
	errBadFrame = errors.New("malformed frame")
	errStalled  = errors.New("frame without progress")
	errIdle     = errors.New("idle")
)

// chatReader decodes the frames of one stream.
type chatReader struct {
	link   *link
	stream *chatStream
	source *bufio.Reader
	from   string

	pending   []queue.Message
	judge     channelJudge
	delivered int64     // payload bytes received so far
	frameEnd  time.Time // when the frame in progress must be complete; zero between frames
	uncounted bool      // a frame has begun that is neither received nor counted as lost
}

func newChatReader(l *link, stream *chatStream) *chatReader {
	r := &chatReader{link: l, stream: stream, from: l.peer.String(), judge: newChannelJudge(l.peer, l.node.id)}
	r.source = bufio.NewReaderSize(readerFunc(r.fill), chatReadBuffer)
	return r
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// fill reads from the stream under the deadline that fits: idle between frames, progress within one. What was decoded goes
// into the queue first, since the read may block.
func (r *chatReader) fill(p []byte) (int, error) {
	if err := r.handOverUntimed(); err != nil {
		return 0, err
	}
	midFrame := r.midFrame()
	for {
		if err := r.stream.SetReadDeadline(r.deadline(midFrame)); err != nil {
			return 0, err
		}
		n, err := r.stream.Read(p)
		if n > 0 || !isDeadline(err) {
			return n, err
		}
		if midFrame {
			return 0, errStalled
		}
		if time.Since(time.Unix(0, r.stream.lastUse.Load())) >= chatIdleTimeout {
			return 0, errIdle
		}
	}
}

// midFrame tells whether the peer has begun a frame: at least a byte of it is here.
func (r *chatReader) midFrame() bool { return !r.frameEnd.IsZero() || r.source.Buffered() > 0 }

func (r *chatReader) deadline(midFrame bool) time.Time {
	if !midFrame {
		return time.Unix(0, r.stream.lastUse.Load()).Add(chatIdleTimeout)
	}
	stall := time.Now().Add(frameStallTimeout)
	if !r.frameEnd.IsZero() && r.frameEnd.Before(stall) {
		return r.frameEnd
	}
	return stall
}

// handOverUntimed is handOver whose wait the peer does not answer for: it holds neither for idle nor for stalled.
func (r *chatReader) handOverUntimed() error {
	if len(r.pending) == 0 {
		return nil
	}
	began := time.Now()
	err := r.handOver()
	r.stream.touch()
	if !r.frameEnd.IsZero() {
		r.frameEnd = r.frameEnd.Add(time.Since(began))
	}
	return err
}

// run decodes until the stream ends; io.EOF is the peer's orderly end. A frame that it cuts off is counted.
func (r *chatReader) run() error {
	for {
		err := r.frame()
		if err == nil {
			continue
		}
		if r.uncounted || r.frameEnd.IsZero() && r.source.Buffered() > 0 {
			r.lost(r.cutOff(err), "")
		}
		if handErr := r.handOver(); handErr != nil {
			return handErr
		}
		return err
	}
}

// cutOff is the loss reason of a frame that ends in the middle.
func (r *chatReader) cutOff(err error) string {
	switch {
	case r.link.ctx.Err() != nil:
		return lossReason(contextError(r.link.ctx, "reading"))
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, errStalled):
		return lossBadFrame
	}
	return lossPeerClosed
}

func (r *chatReader) frame() error {
	r.frameEnd, r.uncounted = time.Time{}, false
	header, err := r.source.Peek(frameTotalBytes)
	if err != nil {
		if err == io.EOF && len(header) > 0 {
			return io.ErrUnexpectedEOF
		}
		return err
	}
	total := int64(binary.BigEndian.Uint32(header))
	if _, err := r.source.Discard(frameTotalBytes); err != nil || total == 0 {
		return err
	}
	r.uncounted = true
	r.frameEnd = time.Now().Add(frameStallTimeout + time.Duration(total/minFrameRate)*time.Second)
	if most := int64(r.link.node.config.Limits.MessageBytes); total > most {
		r.count(lossOversize, "")
		return fmt.Errorf("%w: a frame of %d bytes, at most %d are taken", errBadFrame, total, most)
	}
	return r.body(int(total))
}

func (r *chatReader) body(total int) error {
	length, err := r.source.ReadByte()
	if err != nil {
		return unexpected(err)
	}
	size := total - frameChannelBytes - int(length)
	if size < 0 {
		r.count(lossBadFrame, "")
		return fmt.Errorf("%w: a total of %d bytes cannot hold a channel of %d", errBadFrame, total, length)
	}
	name, err := r.source.Peek(int(length))
	if err != nil {
		return unexpected(err)
	}
	channel, reason := r.judge.of(name)
	if _, err := r.source.Discard(int(length)); err != nil {
		return unexpected(err)
	}
	if reason != "" {
		r.count(reason, channel)
		_, err := io.CopyN(io.Discard, r.source, int64(size))
		return unexpected(err)
	}
	payload, err := r.payload(size)
	if err != nil {
		return unexpected(err)
	}
	r.delivered += int64(size)
	r.uncounted = false
	r.stream.heard.Store(true)
	r.stream.touch()
	r.stream.lastHeard.Store(r.stream.lastUse.Load())
	known, reason := r.link.node.judge(r.from, channel, payload)
	if reason != "" {
		freePayload(r.link.node.memory, payload)
		r.count(reason, channel)
		return nil
	}
	r.pending = append(r.pending, queue.Message{From: r.from, Channel: channel, Protocol: ChatProtocol, Data: payload, Verdict: known})
	if len(r.pending) >= chatReadBatch {
		return r.handOver()
	}
	return nil
}

// payload reads size bytes. The buffer grows with what arrives.
func (r *chatReader) payload(size int) ([]byte, error) {
	if size < LargePayload {
		small := make([]byte, size)
		_, err := io.ReadFull(r.source, small)
		return small, err
	}
	return readPayload(r.source, r.link.node.memory, size, int(max(firstPayloadBuffer, r.delivered)))
}

// readPayload reads a large payload into a buffer of memory, which begins with first bytes and grows with what arrives.
func readPayload(source io.Reader, memory Memory, size, first int) ([]byte, error) {
	buffer := memory.Get(min(size, first))
	filled := 0
	for {
		n, err := io.ReadFull(source, buffer[filled:])
		filled += n
		if err != nil {
			memory.Put(buffer)
			return nil, err
		}
		if filled == size {
			return buffer, nil
		}
		next := min(size, 2*len(buffer))
		if filled >= believedFrom {
			next = size
		}
		larger := memory.Get(next)
		copy(larger, buffer)
		memory.Put(buffer)
		buffer = larger
	}
}

// handOver puts the decoded messages into the receive queue, which blocks when a channel is full: the stream is then not
// read, and flow control reaches the sender. The queue counts what it drops.
func (r *chatReader) handOver() error {
	if len(r.pending) == 0 {
		return nil
	}
	r.stream.handing.Store(true)
	defer r.stream.handing.Store(false)
	err := r.link.node.queue.PutBatch(r.link.ctx, r.pending, chatBlockTimeout)
	clear(r.pending)
	r.pending = r.pending[:0]
	if errors.Is(err, queue.ErrFull) {
		return nil
	}
	return err
}

// count counts the frame in progress as lost.
func (r *chatReader) count(reason, channel string) {
	r.uncounted = false
	r.lost(reason, channel)
}

func (r *chatReader) lost(reason, channel string) {
	r.link.node.losses.add(directionIn, reason, channel, r.from, 1)
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
