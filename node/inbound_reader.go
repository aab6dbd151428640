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
)

// inReader decodes the frames of one stream.
type inReader struct {
	*inStream
	landing landing

	pending  []queue.Message // counted, not offered yet
	refused  []refusal       // of each of pending
	bytes    int             // of pending
	reserved int64           // bytes of pending, and of the payload being read, that the peer's budget counts
	gap      uint64          // messages that the sender gave up before the next one
	spent    int64           // payload bytes received so far

	lent lending

	limited  bool      // a read deadline is set
	frameEnd time.Time // when the frame in progress must be complete; zero between frames
}

func newInReader(in *inStream, opened *bufio.Reader) *inReader {
	r := &inReader{inStream: in}
	r.landing = landing{memory: in.node.memory, settle: r.handOverUntimed, read: r.fill}
	// What came behind OPEN is in the buffer of the one who read that.
	early, _ := opened.Peek(opened.Buffered())
	r.landing.begin(early)
	r.lent.prepare(in.Conn(), in.kept != nil)
	return r
}

// run decodes until the stream ends. Whole messages are handed over in any case: the sender has not to send them again.
func (r *inReader) run() error {
	defer r.landing.end()
	defer func() { r.release() }()
	r.lent.mine.Lock() // for ever, but in lend
	defer r.node.attention.reader.CompareAndSwap(r, nil)
	for {
		err := r.lend()
		if err == nil {
			err = r.frame()
		}
		if err != nil {
			if handErr := r.handOver(); handErr != nil {
				return handErr
			}
			return err
		}
	}
}

// handOverUntimed is handOver whose wait the peer does not answer for.
func (r *inReader) handOverUntimed() error {
	if len(r.pending) == 0 {
		return nil
	}
	began := time.Now()
	err := r.handOver()
	if !r.frameEnd.IsZero() {
		r.frameEnd = r.frameEnd.Add(time.Since(began))
	}
	return err
}

// fill reads from the stream under a deadline within a frame, and without one between frames.
func (r *inReader) fill(p []byte) (int, error) {
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
	within := !r.frameEnd.IsZero() || r.landing.buffered() > 0
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
	body, err := r.landing.peek(head.Size)
	if err != nil {
		return unexpected(err)
	}
	err = r.control(head, body)
	r.landing.skip(head.Size)
	return err
}

func (r *inReader) head() (session.Head, error) {
	for need := 2; ; need = r.landing.buffered() + 1 {
		if _, err := r.landing.peek(need); err != nil {
			if err == io.EOF && r.landing.buffered() > 0 {
				err = io.ErrUnexpectedEOF
			}
			return session.Head{}, err
		}
		seen, _ := r.landing.peek(min(r.landing.buffered(), session.MaxHead))
		head, n, err := session.ParseHead(seen, r.stream.MaxMessage())
		if n > 0 || err != nil {
			r.landing.skip(n)
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
	if head.Size >= LargePayload || head.Size > r.landing.buffered() {
		r.frameEnd = time.Now().Add(frameStallTimeout + time.Duration(head.Size/minFrameRate)*time.Second)
	}
	keep, err := r.stream.Admit(head)
	if err != nil {
		return err
	}
	if !keep {
		_, err := io.CopyN(io.Discard, &r.landing, int64(head.Size))
		return unexpected(err)
	}
	m := queue.Message{From: r.from, Channel: r.name, Protocol: session.Protocol}
	var refused refusal
	switch {
	case head.Codec != session.CodecNone:
		m.Data, refused, err = r.unpack(head)
	case head.Size < LargePayload:
		m.Data, err = r.landing.take(head.Size)
		m.Slab = r.landing.slab
	default:
		m.Data, err = r.largePayload(head.Size)
	}
	if err != nil {
		return unexpected(err)
	}
	r.frameEnd = time.Time{}
	r.spent += int64(head.Size)
	r.stream.Count(head.Size)
	if refused.reason == "" {
		m.Verdict, refused.reason = r.node.judge(r.from, r.name, m.Data)
		refused.drop = session.DropRefused
		if refused.reason == "" {
			refused.reason = r.topic.refuses(r.Conn().RemotePeer(), m.Data)
		}
	}
	r.pending = append(r.pending, m)
	r.refused = append(r.refused, refused)
	r.bytes += len(m.Data)
	r.lent.next = head.Size <= lentBytes
	if len(r.pending) >= inBatchMessages || r.bytes >= inBatchBytes {
		return r.handOver()
	}
	return nil
}

// largePayload reads size bytes. The buffer grows with what arrives and counts against the peer's budget.
func (r *inReader) largePayload(size int) ([]byte, error) {
	if err := r.reserve(int64(size)); err != nil {
		return nil, err
	}
	return readPayload(r.watch(size).reader(&r.landing), r.node.memory, size, int(max(firstPayloadBuffer, r.spent)))
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
	fresh, err := r.lent.rest, error(nil)
	if r.lent.rest = nil; fresh == nil {
		r.landing.hold(r.pending)
		fresh, err = r.offer()
	}
	if err == nil {
		fresh, err = r.deliver(r.node.ctx, fresh)
		<-r.receiver.Turn
	}
	return r.handedOver(fresh, err)
}

// handedOver forgets what was pending, except that what did not go into the queue is freed.
func (r *inReader) handedOver(fresh []queue.Message, err error) error {
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
	return r.offerInTurn()
}

func (r *inReader) offerInTurn() ([]queue.Message, error) {
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
func (r *inReader) deliver(ctx context.Context, fresh []queue.Message) ([]queue.Message, error) {
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
		r.landing.pack(fresh[:good])
		stored, lost, err := r.put(ctx, fresh[:good])
		if err != nil {
			return fresh, err
		}
		r.landing.keep(fresh[:stored])
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

// put gives messages to the queue, and tells the connection when that has to wait.
func (r *inReader) put(ctx context.Context, fresh []queue.Message) (stored int, lost queue.Reason, err error) {
	if r.lent.conn == nil {
		return r.node.queue.Deliver(ctx, fresh)
	}
	stored, lost, err = r.node.queue.Deliver(atOnceContext, fresh)
	if err != context.Canceled || ctx == atOnceContext {
		return stored, lost, err
	}
	r.lent.conn.Away()
	return r.node.queue.Deliver(ctx, fresh)
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
		freeMessage(r.node.memory, &m)
		r.gap += m.Gap
		return r.receiver.Settle(1, time.Now())
	}
	if err := r.receiver.Drop(1, why.drop, time.Now()); err != nil {
		return err
	}
	r.node.losses.add(directionIn, why.reason, r.name, r.from, 1)
	freeMessage(r.node.memory, &m)
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
	for i := range messages {
		freeMessage(r.node.memory, &messages[i])
	}
}
