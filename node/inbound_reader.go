package node

import (
	"bufio"
	"context"
	"io"
	"time"

	"peerbus/node/session"
	"peerbus/queue"
)

const (
	// inBatchMessages and inBatchBytes are how much goes into the receive queue at a time.
	inBatchMessages = 256
	inBatchBytes    = 1 << 20
	// smallPiece is the most memory that small payloads share.
	smallPiece = 16 << 10
)

// inReader decodes the frames of one stream.
type inReader struct {
	*inStream
	source *bufio.Reader

	pending  []queue.Message // counted, not offered yet
	refused  []refusal       // of each of pending
	bytes    int             // of pending
	reserved int64           // bytes of pending, and of the payload being read, that the peer's budget counts
	small    []byte          // memory for small payloads
	gap      uint64          // messages that the sender gave up before the next one
	spent    int64           // payload bytes received so far

	limited  bool      // a read deadline is set
	frameEnd time.Time // when the frame in progress must be complete; zero between frames
}

func newInReader(in *inStream, opened *bufio.Reader) *inReader {
	r := &inReader{inStream: in}
	// What came behind OPEN is in the buffer of the one who read that.
	early, _ := opened.Peek(opened.Buffered())
	r.source = bufio.NewReaderSize(&inSource{reader: r, early: early}, chatReadBuffer)
	return r
}

// inSource reads the stream, after what was read before.
type inSource struct {
	reader *inReader
	early  []byte
}

func (s *inSource) Read(p []byte) (int, error) {
	if len(s.early) > 0 {
		n := copy(p, s.early)
		s.early = s.early[n:]
		return n, nil
	}
	return s.reader.fill(p)
}

// run decodes until the stream ends. Whole messages are handed over in any case: the sender has not to send them again.
func (r *inReader) run() error {
	defer func() { r.release() }()
	for {
		if err := r.frame(); err != nil {
			if handErr := r.handOver(); handErr != nil {
				return handErr
			}
			return err
		}
	}
}

// fill reads from the stream under a deadline within a frame, and without one between frames. What was decoded goes into the
// queue first, since the read may block.
func (r *inReader) fill(p []byte) (int, error) {
	r.small = nil
	if len(r.pending) > 0 {
		began := time.Now()
		if err := r.handOver(); err != nil {
			return 0, err
		}
		if !r.frameEnd.IsZero() {
			r.frameEnd = r.frameEnd.Add(time.Since(began))
		}
	}
	if err := r.setDeadline(); err != nil {
		return 0, err
	}
	n, err := r.Stream.Read(p)
	if n == 0 && err != nil && r.ctx.Err() != nil {
		err = context.Cause(r.ctx)
	} else if n == 0 && isDeadline(err) {
		err = errStalled
	}
	return n, err
}

func (r *inReader) setDeadline() error {
	within := !r.frameEnd.IsZero() || r.source.Buffered() > 0
	if !within && !r.limited {
		return nil
	}
	until := time.Time{}
	if within {
		until = time.Now().Add(frameStallTimeout)
		if !r.frameEnd.IsZero() && r.frameEnd.Before(until) {
			until = r.frameEnd
		}
	}
	r.limited = within
	err := r.SetReadDeadline(until)
	if r.ctx.Err() != nil { // its own deadline may just have been overwritten
		return context.Cause(r.ctx)
	}
	return err
}

func (r *inReader) frame() error {
	r.frameEnd = time.Time{}
	head, err := r.head()
	if err != nil {
		return err
	}
	if head.IsData() {
		return r.message(head)
	}
	body, err := r.source.Peek(head.Size)
	if err != nil {
		return unexpected(err)
	}
	if err := r.control(head, body); err != nil {
		return err
	}
	_, err = r.source.Discard(head.Size)
	return err
}

func (r *inReader) head() (session.Head, error) {
	for need := 2; ; need = r.source.Buffered() + 1 {
		if _, err := r.source.Peek(need); err != nil {
			if err == io.EOF && r.source.Buffered() > 0 {
				err = io.ErrUnexpectedEOF
			}
			return session.Head{}, err
		}
		seen, _ := r.source.Peek(min(r.source.Buffered(), session.MaxHead))
		head, n, err := session.ParseHead(seen, r.stream.MaxMessage())
		if err != nil {
			return head, err
		}
		if n > 0 {
			_, err = r.source.Discard(n)
			return head, err
		}
	}
}

// control takes a frame that is no message. What came before it is settled first.
func (r *inReader) control(head session.Head, body []byte) error {
	if err := r.handOver(); err != nil {
		return err
	}
	control, err := r.stream.Take(head, body)
	if err != nil {
		return err
	}
	switch control {
	case session.ControlReposition:
		return r.reposition()
	case session.ControlFinish:
		return endFinished
	case session.ControlClose:
		return io.EOF
	}
	return nil
}

func (r *inReader) reposition() error {
	if err := r.takeTurn(); err != nil {
		return err
	}
	gap, err := r.receiver.Reposition(r.stream)
	<-r.receiver.Turn
	if gap > 0 {
		r.gap += gap
		r.node.losses.add(directionIn, lossSkipped, r.name, r.from, gap)
	}
	if r.kept != nil {
		r.kept.keepSoon()
	}
	return err
}

func (r *inReader) message(head session.Head) error {
	r.frameEnd = time.Now().Add(frameStallTimeout + time.Duration(head.Size/minFrameRate)*time.Second)
	keep, err := r.stream.Admit(head)
	if err != nil {
		return err
	}
	if !keep {
		_, err := io.CopyN(io.Discard, r.source, int64(head.Size))
		return unexpected(err)
	}
	var payload []byte
	var refused refusal
	if head.Codec == session.CodecNone {
		payload, err = r.payload(head.Size)
	} else {
		payload, refused, err = r.unpack(head)
	}
	if err != nil {
		return unexpected(err)
	}
	r.frameEnd = time.Time{}
	r.spent += int64(head.Size)
	r.stream.Count(head.Size)
	var known queue.Verdict
	if refused.reason == "" {
		known, refused.reason = r.node.judge(r.from, r.name, payload)
		refused.drop = session.DropRefused
		if refused.reason == "" {
			refused.reason = r.topic.refuses(r.Conn().RemotePeer(), payload)
		}
	}
	r.pending = append(r.pending, queue.Message{From: r.from, Channel: r.name, Protocol: session.Protocol, Data: payload, Verdict: known})
	r.refused = append(r.refused, refused)
	r.bytes += len(payload)
	if len(r.pending) >= inBatchMessages || r.bytes >= inBatchBytes {
		return r.handOver()
	}
	return nil
}

// payload reads size bytes. The buffer grows with what arrives, and large ones count against the peer's budget.
func (r *inReader) payload(size int) ([]byte, error) {
	if size < LargePayload {
		return r.smallPayload(size)
	}
	if err := r.reserve(int64(size)); err != nil {
		return nil, err
	}
	return readPayload(r.watch(size).reader(r.source), r.node.memory, size, int(max(firstPayloadBuffer, r.spent)))
}

// smallPayload takes its memory from a piece for all that has arrived: messages of a burst leave the queue in order, so the
// first ones of a piece do not hold it for long.
func (r *inReader) smallPayload(size int) ([]byte, error) {
	if len(r.small) < size {
		r.small = make([]byte, max(size, min(r.source.Buffered(), smallPiece)))
	}
	payload := r.small[:size:size]
	r.small = r.small[size:]
	_, err := io.ReadFull(r.source, payload)
	return payload, err
}

// reserve waits until the peer's other channels leave room for one more large payload.
func (r *inReader) reserve(size int64) error {
	if !r.peer.reading.try(size) {
		began := time.Now()
		if err := r.handOver(); err != nil {
			return err
		}
		if err := r.peer.reading.take(r.ctx, size); err != nil {
			return err
		}
		r.frameEnd = r.frameEnd.Add(time.Since(began))
	}
	r.reserved += size
	return nil
}

func (r *inReader) release() {
	if r.reserved > 0 {
		r.peer.reading.give(r.reserved)
		r.reserved = 0
	}
}

// takeTurn makes this reader the one that puts messages of the session. It waits for a reader of an earlier stream.
func (r *inReader) takeTurn() error {
	select {
	case r.receiver.Turn <- struct{}{}:
		return nil
	case <-r.ctx.Done():
		return context.Cause(r.ctx)
	}
}

// handOver puts the decoded messages into the receive queue. That waits as long as a full channel makes it: the stream is not
// read then, and flow control reaches the sender. Only the end of the node gives it up, not that of the stream: what is counted
// is acknowledged once it is in the queue.
func (r *inReader) handOver() error {
	if len(r.pending) == 0 {
		return nil
	}
	fresh, err := r.offer()
	if err == nil {
		fresh, err = r.deliver(fresh)
		<-r.receiver.Turn
	}
	if r.kept != nil {
		r.kept.keepSoon()
	}
	r.discard(fresh)
	clear(r.pending)
	r.pending, r.refused, r.bytes = r.pending[:0], r.refused[:0], 0
	r.release()
	return err
}

// offer answers the messages that are new here. Without an error this reader has the turn.
func (r *inReader) offer() ([]queue.Message, error) {
	if r.kept != nil {
		if err := r.kept.foresee(r.ctx, r.stream.Position()-1); err != nil {
			return r.pending, err
		}
	}
	if err := r.takeTurn(); err != nil {
		return r.pending, err
	}
	batch, err := r.receiver.Offer(r.stream)
	if err != nil {
		<-r.receiver.Turn
		return r.pending, err
	}
	r.discard(r.pending[:batch.Duplicates])
	fresh := r.pending[batch.Duplicates:]
	for i := range fresh {
		fresh[i].Source, fresh[i].Sequence, fresh[i].ID = r.origin, batch.First+uint64(i), batch.First+uint64(i)
	}
	if r.kept != nil {
		r.kept.label(r.receiver, fresh, r.refused[batch.Duplicates:])
	}
	if len(fresh) > 0 {
		fresh[0].Gap, r.gap = r.gap, 0
		r.topic.arrived(r.Conn().RemotePeer(), batch.First, len(fresh))
	}
	return fresh, nil
}

// deliver answers what it could not put.
func (r *inReader) deliver(fresh []queue.Message) ([]queue.Message, error) {
	refused := r.refused[len(r.pending)-len(fresh):]
	for len(fresh) > 0 {
		good := leading(refused[len(refused)-len(fresh):])
		if good == 0 {
			if err := r.refuse(fresh[0], refused[len(refused)-len(fresh)]); err != nil {
				return fresh, err
			}
			if fresh = fresh[1:]; len(fresh) > 0 {
				fresh[0].Gap, r.gap = r.gap, 0
			}
			continue
		}
		stored, lost, err := r.node.queue.Deliver(r.node.ctx, fresh[:good])
		if err != nil {
			return fresh, err
		}
		now := time.Now()
		if err := r.receiver.Settle(stored, now); err != nil {
			return fresh[stored:], err
		}
		fresh = fresh[stored:]
		if lost != "" {
			if err := r.receiver.Drop(1, dropReason(lost), now); err != nil {
				return fresh[1:], err
			}
			fresh = fresh[1:]
		}
	}
	return nil, nil
}

// leading counts the messages before the first one that is refused.
func leading(refused []refusal) int {
	for i, r := range refused {
		if r.reason != "" {
			return i
		}
	}
	return len(refused)
}

// refuse drops a message by the word of the node's guard, or because nobody can read it.
func (r *inReader) refuse(m queue.Message, why refusal) error {
	if why == confirmedBefore {
		freePayload(r.node.memory, m.Data)
		r.gap += m.Gap
		return r.receiver.Settle(1, time.Now())
	}
	if err := r.receiver.Drop(1, why.drop, time.Now()); err != nil {
		return err
	}
	r.node.losses.add(directionIn, why.reason, r.name, r.from, 1)
	freePayload(r.node.memory, m.Data)
	r.gap += m.Gap // the absence of what the guard refuses is no gap: it was not meant to come
	if why == undecodable {
		r.gap++
	}
	return nil
}

func dropReason(reason queue.Reason) session.DropReason {
	switch reason {
	case queue.QueueFull:
		return session.DropQueueFull
	case queue.TooManyChannels:
		return session.DropTooManyChannels
	case queue.ByteBudget:
		return session.DropByteBudget
	case queue.NodeClosed:
		return session.DropNodeClosed
	}
	return session.DropUnknown
}

// discard frees messages that do not go into the queue: the sender has them still, or they were there before.
func (r *inReader) discard(messages []queue.Message) {
	for _, m := range messages {
		freePayload(r.node.memory, m.Data)
	}
}
