package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"peerbus/node/pause"
	"peerbus/node/session"
)

const (
	// firstRetry is the pause after a stream could not be opened; it doubles up to lastRetry. A new connection ends it. After
	// eagerRetries failures it does not end two pauses in a row: a peer that refuses us is connected for a moment at each try.
	firstRetry   = 50 * time.Millisecond
	placeRetry   = 200 * time.Millisecond // of a channel for which no place came free
	lastRetry    = 5 * time.Second
	eagerRetries = 20
)

// startWriterLocked makes sure that a writer looks at the channel.
func (o *outbound) startWriterLocked() {
	s := &o.state
	if s.writer {
		o.poke()
		return
	}
	s.writer = true
	ended := make(chan struct{})
	s.ended = ended
	if !o.node.spawn("channel writer", func() { defer close(ended); o.write() }) {
		s.writer = false
		close(ended) // the node is closing, which reports what waits
	}
}

// write is the writer goroutine. It ends when the channel has no stream and nothing to send.
func (o *outbound) write() {
	for o.step() {
	}
}

// step does one thing for the channel and answers whether there may be more.
func (o *outbound) step() bool {
	o.state.Lock()
	s := &o.state
	class := s.class
	if left := s.left; left != nil {
		s.left, s.writing = nil, true
		o.state.Unlock()
		o.writePiece(left.stream, left.sender, left.piece, class)
		return true
	}
	if s.sender == nil || s.stream == nil && o.nothingToSendLocked() {
		s.writer = false
		o.state.Unlock()
		return false
	}
	stream := s.stream
	if stream == nil {
		o.state.Unlock()
		o.reopen()
		return true
	}
	sender := s.sender
	if s.writing {
		s.passedBy = true
		o.state.Unlock()
		o.rest() // until the host's thread has written its message
		return true
	}
	if s.gathering == gatherWaits {
		o.state.Unlock()
		o.rest() // until topicGather says that it is due
		return true
	}
	if class != ClassControl && o.gathersLocked() {
		o.state.Unlock()
		pause.For(gatherTime)
		return true
	}
	piece, more := sender.NextPiece(stream.generation)
	s.writing, s.gathering = more, gatherIdle
	finished := !more && sender.Err() != nil
	o.state.Unlock()
	switch {
	case more:
		o.writePiece(stream, sender, piece, class)
	case finished:
		o.finish(stream)
	default:
		o.rest()
	}
	return true
}

// writePiece has no deadline: as long as the connection lives a peer may take its time, which holds up this channel alone,
// and the end of the connection or of the channel ends the write.
func (o *outbound) writePiece(stream *outStream, sender *session.Sender, piece session.Piece, class SendClass) {
	o.wrote(stream, sender, piece, o.put(stream, piece, class))
}

func (o *outbound) wrote(stream *outStream, sender *session.Sender, piece session.Piece, err error) {
	o.state.Lock()
	o.state.writing = false
	sender.Done(piece, err == nil)
	if o.state.sender == sender {
		o.state.lastUse = time.Now()
		o.accountLocked()
		o.countSentLocked(piece.Size(), err == nil)
		o.announceRoomLocked() // the acknowledgement may have been quicker than the end of the write
	}
	o.calmLocked()
	o.state.Unlock()
	if err != nil {
		o.streamEnded(stream, err)
	}
}

// countSentLocked notes how far the transport is. What is sent a second time counts once.
func (o *outbound) countSentLocked(bytes int, taken bool) {
	s := &o.state
	sent := s.sender.Progress().Sent
	if !taken || sent <= s.counted {
		return
	}
	if o.subscriber == nil { // published messages count once, not for each subscriber
		o.node.traffic.sent(sent-s.counted, bytes)
	}
	o.deliveredLocked(DeliverySent, session.Range{First: s.counted + 1, Last: sent})
	s.counted = sent
}

// rest waits for something to do.
func (o *outbound) rest() {
	select {
	case <-o.wake:
	case <-o.node.ctx.Done():
		o.abandon()
	}
}

// abandon ends the session of a node that closes, should its messages not be reported yet.
func (o *outbound) abandon() {
	o.state.Lock()
	defer o.state.Unlock()
	o.endSessionLocked(lossNodeClosed)
}

// finish ends a session whose last piece, FINISH, is written.
func (o *outbound) finish(stream *outStream) {
	o.state.Lock()
	if o.state.stream == stream {
		o.state.stream = nil
		o.retireSenderLocked()
	}
	o.state.Unlock()
	_ = stream.SetReadDeadline(time.Now().Add(acceptTimeout))
	_ = stream.CloseWrite() // its reader closes the rest when the peer does
}

// reopen tries to get a stream, and pauses when there is none.
func (o *outbound) reopen() {
	if !o.pause() {
		return
	}
	ctx, cancel := context.WithTimeout(network.WithAllowLimitedConn(o.node.ctx, "channel"), streamOpenTimeout)
	defer cancel()
	o.state.Lock()
	if o.state.sender == nil || o.kept != nil && o.kept.paused {
		o.state.Unlock()
		return
	}
	o.state.stopOpening = cancel
	o.state.Unlock()
	err := o.open(ctx)
	if err == errNoPlace {
		o.awaitPlace(ctx)
	}
	o.state.Lock()
	defer o.state.Unlock()
	o.state.stopOpening = nil
	if err != nil && err != errNoPlace {
		o.node.log.Debug("no channel stream", "peer", o.peer.id, "channel", o.name, "reason", err)
		o.state.failures++
	}
}

// errNoPlace: limits.channel_streams are open with the peer.
var errNoPlace = errors.New("all streams with the peer are in use")

// awaitPlace waits until a stream with the peer has ended. All of them may have work for long: one that has none any more is
// looked for from time to time.
func (o *outbound) awaitPlace(ctx context.Context) {
	timer := time.NewTimer(placeRetry)
	defer timer.Stop()
	select {
	case <-o.place:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// pause waits after failures, until the peer has a new connection at the longest. It answers false when the node closes.
func (o *outbound) pause() bool {
	o.state.Lock()
	failures, came := o.state.failures, o.came
	if o.state.hurried && failures > eagerRetries {
		came = nil
	}
	o.state.hurried = false
	o.state.Unlock()
	if failures == 0 {
		return true
	}
	timer := time.NewTimer(min(firstRetry<<min(failures-1, 10), lastRetry))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-came:
		o.state.Lock()
		o.state.hurried = true
		o.state.Unlock()
	case <-o.node.ctx.Done():
		o.abandon()
		return false
	}
	return true
}

var errNotSpoken = errors.New("the peer does not speak " + session.Protocol)

// open connects if need be, makes sure that the peer speaks the protocol, and opens a stream.
func (o *outbound) open(ctx context.Context) error {
	id := o.peer.id
	known := o.node.speaks(id)
	if err := o.node.host.Connect(ctx, peer.AddrInfo{ID: id}); err != nil {
		if known == speaksUnknown {
			o.fallBack() // chat reports at once what it cannot send
		}
		return err
	}
	if o.node.speaks(id) != speaksAcknowledged {
		o.node.awaitIdentify(ctx, id)
	}
	if o.node.speaks(id) != speaksAcknowledged {
		if !o.fallBack() {
			return errNotSpoken
		}
		return nil
	}
	if !o.peer.reserve(o) {
		return errNoPlace
	}
	raw, err := o.newStream(ctx)
	if err != nil {
		o.peer.release()
		return err
	}
	return o.begin(raw)
}

// fallBack moves a channel that never had a stream to chat, messages first. It answers false when it is too late for that.
func (o *outbound) fallBack() bool {
	o.state.Lock()
	defer o.state.Unlock()
	s := &o.state
	if o.kept != nil {
		return false // chat confirms nothing: the messages wait for a peer that speaks the protocol
	}
	if s.sender == nil || s.closing != nil {
		return true
	}
	if o.subscriber != nil {
		return false
	}
	last := s.sender.Progress().Last
	messages, ok := s.sender.Withdraw()
	if !ok {
		return false
	}
	s.closing = errMoving
	o.accountLocked()
	first := s.base + 1
	s.base += last
	s.sender = nil
	o.stopExpiryLocked()
	o.state.Unlock()
	moved, err := o.moveToChat(messages)
	o.state.Lock()
	if s.closing == errMoving {
		s.closing = nil
		if err == nil {
			_ = o.chooseChatLocked()
		}
	}
	if moved > 0 {
		s.deliveries.note(fate{session.Range{First: first, Last: first + uint64(moved) - 1}, fateChat, "", false})
	}
	if moved < len(messages) {
		lost := session.Range{First: first + uint64(moved), Last: first + uint64(len(messages)) - 1}
		o.loseLocked(session.Loss{Range: lost, Reason: session.Reason(lossReason(err))})
	}
	o.announceRoomLocked()
	s.deliveries.progressed()
	return true
}

// errMoving keeps messages out while those before them move to chat.
var errMoving = fmt.Errorf("%w: the channel is moving to %s", session.ErrFull, ChatProtocol)

func (o *outbound) moveToChat(messages []session.Withdrawn) (moved int, err error) {
	for ; moved < len(messages); moved++ {
		payload := messages[moved].Payload
		if codec := messages[moved].Codec; codec != session.CodecNone {
			plain := o.node.unpackOwn(codec, payload)
			defer freePayload(o.node.memory, plain)
			payload = plain
		}
		if len(payload) == 0 {
			o.node.losses.add(directionOut, lossEmpty, o.name, o.peer.id.String(), 1)
			continue
		}
		for err = errRetired; errors.Is(err, errRetired); {
			l := o.node.links.obtain(o.peer.id)
			if l == nil {
				return moved, ErrClosed
			}
			_, err = l.enqueue(o.node.ctx, o.name, payload, false)
		}
		if err != nil {
			return moved, err
		}
	}
	return moved, nil
}
