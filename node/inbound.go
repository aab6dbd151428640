package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"peerbus/node/session"
	"peerbus/queue"
)

// goodbyeTimeout bounds the last words on a stream: the acknowledgement and the CLOSE of a node that closes.
const goodbyeTimeout = time.Second

// inStream is one stream of an acknowledged channel that a peer sends on. One goroutine reads (inbound_reader.go), another one
// writes the acknowledgements (inbound_acks.go). The reading one has the last word.
//
//	opening --OPEN taken--> serving --FINISH, stream lost, violation, fenced or node closes--> leaving --> ended
//	   +------------- refused: CLOSE ---------------------------------------------------------------------> ended
type inStream struct {
	network.Stream
	node *Node
	peer *inPeer
	from string
	name string // of the channel
	// topic is not nil for the messages of a direct topic, whose name is that of the channel.
	topic *directSubscription

	stream   *session.Stream
	receiver *session.Receiver
	origin   *queue.Source
	kept     *incoming // nil unless the session is durable

	ctx    context.Context // ends with why the stream ends
	cancel context.CancelCauseFunc
}

// endOfStream says how a stream ends. A zero code: without a CLOSE.
type endOfStream struct {
	code session.CloseCode
	text string
}

func (e endOfStream) Error() string { return e.text }

var (
	endFinished = endOfStream{text: "the sender has finished the session"}
	endFenced   = endOfStream{session.CloseFenced, "a newer stream serves the session"}
	endClosing  = endOfStream{session.CloseGoingAway, "the node closes"}
)

// endFor answers how a stream ends after an error.
func endFor(err error) endOfStream {
	var end endOfStream
	switch {
	case errors.As(err, &end):
		return end
	case errors.Is(err, session.ErrFenced):
		return endFenced
	case errors.Is(err, session.ErrTooManySessions):
		return endOfStream{session.CloseTooManySessions, err.Error()}
	case errors.Is(err, session.ErrUnsupported):
		return endOfStream{session.CloseUnsupported, err.Error()}
	case errors.Is(err, session.ErrViolation):
		return endOfStream{session.CloseViolation, err.Error()}
	}
	return endOfStream{text: err.Error()}
}

// acceptChannel serves a stream that a peer opened to send on a channel.
func (n *Node) acceptChannel(raw network.Stream) {
	in := &inStream{Stream: raw, node: n, from: raw.Conn().RemotePeer().String()}
	in.ctx, in.cancel = context.WithCancelCause(n.ctx)
	source := bufio.NewReaderSize(raw, chatReadBuffer)
	if err := in.open(source); err != nil {
		n.log.Debug("channel stream refused", "peer", in.from, "channel", in.name, "reason", err)
		in.sayGoodbye(nil, endFor(err))
		return
	}
	n.peers.markApplication(raw.Conn().RemotePeer())
	acknowledging := make(chan struct{})
	if !n.spawn("channel acknowledgements", func() { defer close(acknowledging); in.acknowledge() }) {
		in.cancel(endClosing)
		close(acknowledging)
		_ = raw.Reset()
	}
	stop := in.untilUnsubscribed()
	err := newInReader(in, source).run()
	stop()
	n.log.Debug("channel stream ended", "peer", in.from, "channel", in.name, "reason", err)
	in.cancel(endFor(err))
	<-acknowledging
	in.depart()
	n.inbounds.table.Release(in.stream, in.from, time.Now())
	unsubscribed := errors.Is(context.Cause(in.ctx), endUnsubscribed)
	if n.ctx.Err() != nil || unsubscribed {
		in.awaitFarewell()
	}
	if unsubscribed {
		n.inbounds.table.Forget(in.stream, in.from)
	}
	n.inbounds.leave(in)
}

// open takes OPEN and answers it.
func (in *inStream) open(source *bufio.Reader) error {
	if err := in.SetDeadline(time.Now().Add(acceptTimeout)); err != nil {
		return err
	}
	head, body, err := readControl(source)
	if err != nil {
		return err
	}
	if head.Type != session.TypeOpen {
		return endOfStream{session.CloseViolation, fmt.Sprintf("the first frame has type %d, not OPEN", head.Type)}
	}
	open, err := session.ParseOpen(body)
	if err != nil {
		return err
	}
	if err := in.judge(open.Channel); err != nil {
		return err
	}
	if err := in.node.inbounds.enter(in, open); err != nil {
		return err
	}
	answer := in.receiver.AppendAck(in.stream.AppendAccept(nil), in.stream.Generation())
	if _, err := in.Write(answer); err != nil {
		in.node.inbounds.table.Release(in.stream, in.from, time.Now())
		in.node.inbounds.leave(in)
		return err
	}
	return in.SetDeadline(time.Time{})
}

// judge refuses a channel that is not the peer's to send on: only the owner may, and only to its target.
func (in *inStream) judge(channel string) error {
	name, err := parseChannel(channel)
	if err == nil && name.topic {
		return in.judgeTopic(name)
	}
	reason := ""
	switch {
	case err != nil:
		reason = lossBadChannel
	case name.owner != in.from || name.target != in.node.id:
		reason = lossChannelSpoofed
	default:
		in.name = name.text
		return nil
	}
	in.node.losses.add(directionIn, reason, "", in.from, 1)
	return endOfStream{session.CloseRefused, "only the owner of a direct channel may send on it, to its target"}
}

// depart says goodbye when nothing is read or acknowledged any more. A node that closes or unsubscribes acknowledges what it has
// accepted: the stream must not be released before, or the sender never learns of it.
func (in *inStream) depart() {
	end := endFor(context.Cause(in.ctx))
	if in.node.ctx.Err() != nil {
		end = endClosing
		if in.topic != nil {
			end = endUnsubscribed // it has no subscription when it returns
		}
	}
	var last []byte
	if end.code == session.CloseGoingAway || end == endUnsubscribed {
		last = in.receiver.AppendAck(nil, in.stream.Generation())
	}
	in.sayGoodbye(last, end)
}

// sayGoodbye writes what is left to say and closes the stream. The last acknowledgement keeps messages from being in doubt.
func (in *inStream) sayGoodbye(last []byte, end endOfStream) {
	if end.code != 0 {
		last = session.AppendClose(last, session.Close{Code: end.code, Text: end.text})
	}
	if len(last) > 0 && in.SetWriteDeadline(time.Now().Add(goodbyeTimeout)) == nil {
		if _, err := in.Write(last); err == nil {
			if end == endClosing || end == endUnsubscribed {
				_ = in.CloseWrite() // awaitFarewell closes the rest
				return
			}
			_ = in.Close()
			return
		}
	}
	if end == endFinished {
		_ = in.Close()
		return
	}
	_ = in.Reset()
}

// awaitFarewell waits until the sender has read the last words of a node that closes: the end of the connection would drop what
// is on its way, and leave messages that were accepted in doubt.
func (in *inStream) awaitFarewell() {
	if in.SetReadDeadline(time.Now().Add(goodbyeTimeout)) == nil {
		_, _ = io.Copy(io.Discard, in.Stream)
	}
	_ = in.Reset()
}

// end makes both goroutines of the stream stop.
func (in *inStream) end(why endOfStream) {
	in.cancel(why)
	_ = in.SetReadDeadline(time.Unix(1, 0))
	_ = in.SetWriteDeadline(time.Now().Add(goodbyeTimeout))
}

// inPeer is what the streams of one peer share.
type inPeer struct {
	reading byteBudget // large payloads that are being read
	streams int        // inbounds' lock guards it
}

// inbounds are the receiving sides of the acknowledged channels.
type inbounds struct {
	node  *Node
	table *session.Table
	state struct {
		sync.Mutex
		streams  map[*session.Stream]*inStream
		peers    map[peer.ID]*inPeer
		shares   map[network.Conn]*windowShare
		closed   bool
		sweeping bool
		empty    chan struct{} // closed when closed and no stream is left
	}
}

func newInbounds(n *Node) *inbounds {
	limits := n.config.Limits
	is := &inbounds{node: n, table: session.NewTable(session.TableOptions{
		PeerSessions: limits.ChannelSessions,
		Receiver:     session.ReceiverOptions{MaxMessage: limits.MessageBytes, Codecs: n.acceptedCodecs()},
	})}
	is.state.streams = map[*session.Stream]*inStream{}
	is.state.peers = map[peer.ID]*inPeer{}
	is.state.shares = map[network.Conn]*windowShare{}
	is.state.empty = make(chan struct{})
	return is
}

// enter finds the session of a stream. The stream before it ends.
func (is *inbounds) enter(in *inStream, open session.Open) error {
	opened, err := is.table.Open(in.from, open, time.Now())
	if err != nil {
		return err
	}
	in.stream, in.receiver = opened.Stream, opened.Receiver()
	in.origin = &queue.Source{Left: func(sequence uint64) { in.receiver.Taken(sequence+1, time.Now()) }}
	fenced, err := is.attach(in, opened.Fenced)
	if err != nil {
		is.table.Release(in.stream, in.from, time.Now())
		return err
	}
	if fenced != nil {
		fenced.end(endFenced)
	}
	if err := is.keep(in, opened.Replaced); err != nil {
		return err
	}
	if opened.Replaced && in.topic.heard(in.Conn().RemotePeer()) {
		is.node.events.Push(EventSenderRestarted, map[string]any{"peer": in.from, "channel": in.name})
	}
	return nil
}

// keep brings a durable session to the disk.
func (is *inbounds) keep(in *inStream, replaced bool) (err error) {
	if in.kept, err = is.node.durables.keep(in, replaced); err != nil {
		is.table.Release(in.stream, in.from, time.Now())
		is.leave(in)
		return err
	}
	if in.kept != nil {
		in.origin = in.kept.origin(in.receiver)
	}
	return nil
}

func (is *inbounds) attach(in *inStream, before *session.Stream) (fenced *inStream, err error) {
	is.state.Lock()
	defer is.state.Unlock()
	s := &is.state
	if s.closed {
		return nil, endClosing
	}
	id := in.Conn().RemotePeer()
	in.peer = s.peers[id]
	if in.peer == nil {
		in.peer = &inPeer{reading: byteBudget{limit: is.node.config.Limits.PeerQueueBytes}}
		s.peers[id] = in.peer
	}
	in.peer.streams++
	s.streams[in.stream] = in
	is.shareLocked(in)
	if !s.sweeping {
		s.sweeping = is.node.spawn("session sweeper", is.sweep)
	}
	return s.streams[before], nil
}

// leave forgets a stream that has ended.
func (is *inbounds) leave(in *inStream) {
	is.state.Lock()
	defer is.state.Unlock()
	s := &is.state
	delete(s.streams, in.stream)
	in.peer.streams--
	if id := in.Conn().RemotePeer(); in.peer.streams == 0 && s.peers[id] == in.peer {
		delete(s.peers, id)
	}
	is.unshareLocked(in)
	if s.closed && len(s.streams) == 0 {
		close(s.empty)
	}
}

// sweep forgets sessions that have been without a stream for too long.
func (is *inbounds) sweep() {
	ticker := time.NewTicker(sweepPeriod)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			is.table.Sweep(now)
		case <-is.node.ctx.Done():
			return
		}
	}
}

// close ends every stream with a last acknowledgement and waits for that.
func (is *inbounds) close(patience time.Duration) {
	is.state.Lock()
	s := &is.state
	if s.closed {
		is.state.Unlock()
		return
	}
	s.closed = true
	open := make([]*inStream, 0, len(s.streams))
	for _, in := range s.streams {
		open = append(open, in)
	}
	if len(open) == 0 {
		close(s.empty)
	}
	is.state.Unlock()
	for _, in := range open {
		in.end(endClosing)
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-s.empty:
	case <-timer.C:
	}
}
