package node

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multistream"

	"peerbus/node/mux"
	"peerbus/node/session"
)

const (
	// acceptTimeout bounds ACCEPT after OPEN, OPEN after the stream was opened, and the end of a stream after FINISH.
	acceptTimeout = 10 * time.Second
	// answerBuffer holds the largest frame that a receiver writes.
	answerBuffer = session.MaxControl + session.MaxHead
	// stalledAfter is how long a stream may leave everything unacknowledged before a new connection of its peer is
	// believed to replace the one it runs on.
	stalledAfter = 2 * time.Second
)

// outStream is one stream of an outbound. The outbound's lock guards accepted, progressed and atOnce.
type outStream struct {
	network.Stream
	generation uint64
	accepted   bool
	progressed time.Time // when the receiver last said something
	atOnce     bool      // the hello is written, and the stream takes writes that do not wait
	settled    uint64    // messages of the session, when the stream began
}

// begin makes a raw stream the channel's newest one and writes its hello. The slot of the stream is reserved.
func (o *outbound) begin(raw network.Stream) error {
	o.state.Lock()
	s := &o.state
	if s.sender == nil {
		o.state.Unlock()
		o.peer.release()
		return raw.Reset()
	}
	generation, hello := s.sender.OpenStream()
	stream := &outStream{Stream: raw, generation: generation, progressed: time.Now(), settled: s.sender.Progress().Settled}
	s.stream = stream
	o.state.Unlock()
	if !o.node.spawn("channel answers", func() { o.read(stream) }) {
		o.peer.release()
		_ = raw.Reset()
		return ErrClosed
	}
	if _, err := raw.Write(hello); err != nil {
		o.streamEnded(stream, err)
		return err
	}
	o.state.Lock()
	stream.atOnce = raw.Conn().ConnState().StreamMultiplexer == mux.ID
	o.state.Unlock()
	o.node.peers.markApplication(o.peer.id)
	o.poke()
	o.leaveRelay(raw.Conn())
	o.takeBulkWay()
	return nil
}

// leaveRelay moves the channel off a relayed connection if the peer has a direct one: it may have come while the stream was opened.
func (o *outbound) leaveRelay(c network.Conn) {
	if !isRelayed(c.RemoteMultiaddr()) {
		return
	}
	for _, other := range o.node.host.Network().ConnsToPeer(o.peer.id) {
		if !other.IsClosed() && !isRelayed(other.RemoteMultiaddr()) {
			o.connected(other)
			return
		}
	}
}

// newStream opens a stream on the connection that the channel shall move to, or else on the one that libp2p finds best.
func (o *outbound) newStream(ctx context.Context) (network.Stream, error) {
	o.state.Lock()
	c := o.state.moveTo
	o.state.moveTo = nil
	o.state.Unlock()
	if c == nil || c.IsClosed() {
		return o.node.host.NewStream(network.WithNoDial(ctx, "channel"), o.peer.id, session.Protocol)
	}
	return streamOn(ctx, c, session.Protocol)
}

// streamOn opens a stream of a protocol on this very connection.
func streamOn(ctx context.Context, c network.Conn, id protocol.ID) (network.Stream, error) {
	raw, err := c.NewStream(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.Reset() })
	defer stop()
	if err = raw.SetProtocol(id); err == nil {
		err = multistream.SelectProtoOrFail(id, raw)
	}
	if err != nil {
		_ = raw.Reset()
		return nil, err
	}
	return raw, nil
}

// connected is called when the peer has a new connection. A channel moves to it when its stream has ended, leaves a relay, or
// shows that the connection it runs on is dead, or when it carries bulk and TCP replaces UDP.
func (o *outbound) connected(c network.Conn) {
	o.state.Lock()
	s := &o.state
	stream := s.stream
	if stream == nil {
		if o.kept != nil {
			o.comeBackLocked()
		}
		o.state.Unlock()
		select {
		case o.came <- struct{}{}:
		default:
		}
		return
	}
	old := stream.Conn()
	stalled := s.sender != nil && s.sender.Unsettled() > 0 && time.Since(stream.progressed) > stalledAfter
	direct := !isRelayed(c.RemoteMultiaddr())
	moves := old != c && (old.IsClosed() || direct && (isRelayed(old.RemoteMultiaddr()) || stalled) ||
		isTCP(c) && o.takesBulkWayLocked(old))
	if moves {
		s.moveTo = c
	}
	o.state.Unlock()
	if moves {
		o.streamEnded(stream, errMoved)
	}
}

var errMoved = errors.New("the channel moves to another connection")

// read takes the receiver's answers until the stream ends.
func (o *outbound) read(stream *outStream) {
	defer o.peer.release()
	err := stream.SetReadDeadline(time.Now().Add(acceptTimeout))
	source := bufio.NewReaderSize(stream, answerBuffer)
	for err == nil {
		var head session.Head
		var body []byte
		if head, body, err = readControl(source); err == nil {
			if head.Type == session.TypeAccept {
				err = stream.SetReadDeadline(time.Time{})
			}
			err = errors.Join(err, o.answer(stream, head, body))
		} else if errors.Is(err, session.ErrViolation) {
			o.violated(stream, err)
		}
	}
	o.streamEnded(stream, err)
}

// violated ends the session of a receiver that writes what is no frame.
func (o *outbound) violated(stream *outStream, err error) {
	o.state.Lock()
	defer o.state.Unlock()
	s := &o.state
	if s.stream != stream || s.sender == nil {
		return
	}
	s.failures++
	o.applyLocked(s.sender.Violated(stream.generation, err, session.Outcome{}))
}

// readControl reads one frame that is not a message. Its body is valid until the next call.
func readControl(source *bufio.Reader) (session.Head, []byte, error) {
	for need := 2; ; need = source.Buffered() + 1 {
		if _, err := source.Peek(need); err != nil {
			return session.Head{}, nil, err
		}
		seen, _ := source.Peek(source.Buffered())
		head, n, err := session.ParseHead(seen, session.NoMessages)
		if err != nil {
			return head, nil, err
		}
		if n == 0 {
			continue
		}
		whole, err := source.Peek(n + head.Size)
		if err != nil {
			return head, nil, err
		}
		_, err = source.Discard(n + head.Size)
		return head, whole[n:], err
	}
}

// answer gives a frame to the session. An error ends the stream.
func (o *outbound) answer(stream *outStream, head session.Head, body []byte) error {
	if o.kept != nil && head.Type == session.TypeAccept {
		if err := o.keepAnswer(body); err != nil {
			return err
		}
	}
	o.state.Lock()
	defer o.state.Unlock()
	s := &o.state
	if s.stream != stream || s.sender == nil {
		return errOutdated
	}
	sender, taken, durable := s.sender, s.sender.Progress().Taken, s.sender.Durable()
	out, err := sender.Receive(stream.generation, head, body)
	stream.progressed = time.Now()
	if head.Type == session.TypeAccept && err == nil {
		stream.accepted, s.failures, s.deliveries.unheard = true, 0, 0
		o.stopExpiryLocked()
		if o.kept != nil {
			o.tellDurableLocked(durable)
		}
	}
	if now := sender.Progress().Taken; now > taken && out.Taken.First == 0 {
		s.deliveries.note(fate{o.idsLocked(session.Range{First: taken + 1, Last: now}), fateUntaken, "", false})
	}
	o.applyLocked(out)
	if out.Ended {
		s.failures++
		if sender.Err() == nil {
			o.subscriber.closing()
		}
		return fmt.Errorf("%w: %w", ErrPeerClosed, cmp.Or(sender.Err(), err, errGoneAway))
	}
	return err
}

var errGoneAway = errors.New("the peer closed the stream")

var errOutdated = errors.New("a newer stream serves the channel")

// streamEnded notes the end of a stream. Its unacknowledged messages go to the next one.
func (o *outbound) streamEnded(stream *outStream, err error) {
	_ = stream.Reset()
	o.state.Lock()
	defer o.state.Unlock()
	s := &o.state
	if s.stream != stream {
		return
	}
	if err != nil && err != io.EOF {
		o.node.log.Debug("channel stream ended", "peer", o.peer.id, "channel", o.name, "reason", err)
	}
	s.stream = nil
	if s.sender == nil {
		return
	}
	if !stream.accepted {
		s.failures++
	}
	if s.deliveries.events.Has(DeliveryTaken) {
		s.sender.Await(s.sender.Progress().Last)
	}
	s.sender.StreamLost(stream.generation, o.stuckSinceLocked(stream))
	o.tickLocked()
	if s.sender != nil && !o.nothingToSendLocked() {
		o.startWriterLocked()
	} else {
		o.poke() // the writer may end
	}
}

// stuckSinceLocked is when the resume window began for what a stream leaves behind. A message larger than all that a relay with limits
// lets through ends one relayed connection after the other, each of which the peer accepts: without progress they count as one.
func (o *outbound) stuckSinceLocked(ended *outStream) time.Time {
	s, now := &o.state, time.Now()
	if !ended.Conn().Stat().Limited || s.sender.Progress().Settled > ended.settled || s.sender.Unsettled() == 0 {
		s.stuck = time.Time{}
		return now
	}
	if s.stuck.IsZero() {
		s.stuck = now
	}
	return s.stuck
}

// tickLocked gives up what has waited too long for a stream, and sets the timer for what may.
func (o *outbound) tickLocked() {
	s := &o.state
	o.stopExpiryLocked()
	if s.sender == nil {
		return
	}
	now := time.Now()
	out, next := s.sender.Tick(now)
	o.applyLocked(out)
	if !next.IsZero() {
		s.expiry = time.AfterFunc(next.Sub(now), func() { o.node.run("resume window", o.tick) })
	}
}

func (o *outbound) tick() {
	o.state.Lock()
	defer o.state.Unlock()
	o.tickLocked()
}

func (o *outbound) stopExpiryLocked() {
	if o.state.expiry != nil {
		o.state.expiry.Stop()
		o.state.expiry = nil
	}
}

// applyLocked does what an outcome of the session asks for.
func (o *outbound) applyLocked(out session.Outcome) {
	s := &o.state
	refused := out.Ended && s.sender.Err() != nil
	if refused {
		o.subscriber.refuse() // before the events: who hears of a loss knows that the subscriber misses what is published then
	}
	for _, r := range out.Accepted {
		o.deliveredLocked(DeliveryAccepted, r)
	}
	for _, loss := range out.Lost {
		o.loseLocked(loss)
	}
	if out.Taken.First != 0 {
		o.deliveredLocked(DeliveryTaken, out.Taken)
	}
	if out.Unheard {
		s.deliveries.unheard = s.base + s.sender.Progress().Settled
	}
	if out.Restarted {
		o.restartedLocked(out.Untaken)
	}
	o.accountLocked()
	if refused {
		o.node.log.Warn("channel ended by its peer", "peer", o.peer.id, "channel", o.name, "reason", s.sender.Err())
		o.retireSenderLocked()
	}
	if out.Room || out.Ended {
		o.announceRoomLocked()
	}
	if out.Sending && s.sender != nil && s.sender.Sendable() {
		o.poke()
	}
	if o.kept != nil {
		o.appliedLocked(out)
	}
	s.deliveries.progressed()
}

// retireSenderLocked forgets a session that is over. The next message begins another.
func (o *outbound) retireSenderLocked() {
	s := &o.state
	o.stopExpiryLocked()
	if s.sender == nil {
		return
	}
	if o.kept != nil {
		o.renewKeptLocked()
		return
	}
	last := s.sender.Progress()
	if last.Taken < last.Last {
		s.deliveries.note(fate{o.idsLocked(session.Range{First: last.Taken + 1, Last: last.Last}), fateUntaken, "", false})
	}
	s.base += last.Last // 0 while a topic has a session, whose numbers are the ids
	s.sender = nil
	s.deliveries.progressed()
	o.accountLocked()
}

// endSessionLocked gives up what is not acknowledged.
func (o *outbound) endSessionLocked(reason string) {
	s := &o.state
	if o.kept != nil {
		o.pauseKeptLocked()
		return
	}
	stream := s.stream
	s.stream = nil
	if s.stopOpening != nil {
		s.stopOpening()
	}
	if s.sender != nil {
		out := s.sender.Close()
		for i := range out.Lost {
			out.Lost[i].Reason = session.Reason(reason)
		}
		o.applyLocked(out)
	}
	if stream != nil {
		o.node.spawn("channel reset", func() { _ = stream.Reset() })
	}
}
