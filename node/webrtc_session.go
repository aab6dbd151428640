package node

import (
	"errors"
	"fmt"
	"time"

	"peerbus/node/webrtc"
	"peerbus/queue"
)

// serve runs an open session: a goroutine that reads, and one that waits for the end and counts what was lost.
func (s *webrtcSession) serve() {
	t := s.node.webrtc
	close(s.settled)
	if !s.node.peers.hold(s) {
		s.session.End(errors.New("the peer is gone"))
	}
	s.node.peers.markApplication(s.peer)
	read := make(chan struct{})
	reading := s.node.spawn("webrtc reader", func() {
		defer close(read)
		newWebRTCReader(s).run()
	})
	if !reading {
		s.session.End(ErrClosed)
		close(read)
	}
	if pair, ok := s.session.Pair(); ok {
		t.announce(s.peer, s.offered, WebRTCOpen, "", &pair)
	} else {
		t.announce(s.peer, s.offered, WebRTCOpen, "", nil)
	}
	if !s.node.spawn("webrtc session", func() { s.keep(read) }) {
		s.session.End(ErrClosed)
		s.keep(read)
	}
}

// keep waits for the end of the session and cleans up after it.
func (s *webrtcSession) keep(read <-chan struct{}) {
	t := s.node.webrtc
	<-s.session.Ended()
	reason := s.session.Err()
	pair, _ := s.session.Pair()
	s.session.Close()
	s.cancel(reason)
	<-read
	s.countUnacknowledged(reason)
	t.remove(s)
	s.node.peers.release(s)
	t.announce(s.peer, s.offered, WebRTCClosed, reason.Error(), &pair)
	close(s.gone)
	if l := s.node.links.find(s.peer); l != nil && !l.connected() {
		l.peerGone()
	}
}

// countUnacknowledged counts messages that the session had taken and that the peer may not have: they were counted as sent,
// too.
func (s *webrtcSession) countUnacknowledged(reason error) {
	loss := lossPeerClosed
	if errors.Is(reason, ErrClosed) {
		loss = lossNodeClosed
	}
	for channel, count := range s.session.Unacknowledged() {
		s.node.losses.add(directionOut, loss, channel, s.peer.String(), count)
	}
}

// webrtcReader moves the frames of one session into the receive queue.
type webrtcReader struct {
	of        *webrtcSession
	node      *Node
	from      string
	judge     channelJudge
	assembler *webrtc.Assembler
}

func newWebRTCReader(s *webrtcSession) *webrtcReader {
	r := &webrtcReader{of: s, node: s.node, from: s.peer.String(), judge: newChannelJudge(s.peer, s.node.id)}
	r.assembler = webrtc.NewAssembler(r, s.node.config.Limits.MessageBytes)
	return r
}

func (r *webrtcReader) run() {
	buffer := make([]byte, webrtc.MessageBytes)
	for {
		n, err := r.of.session.Read(buffer)
		switch {
		case webrtc.IsDeadline(err):
			r.assembler.Expire(time.Now())
			r.of.session.SetReadDeadline(time.Time{})
			continue
		case err != nil:
			r.cutOff(err)
			return
		}
		before := r.assembler.Deadline()
		frame, complete := r.assembler.Add(buffer[:n], time.Now())
		if deadline := r.assembler.Deadline(); !deadline.Equal(before) {
			r.of.session.SetReadDeadline(deadline)
		}
		if complete && !r.put(frame) {
			r.of.session.End(ErrClosed)
			return
		}
	}
}

// put hands a frame over. A full channel holds the reader, and SCTP's flow control the peer; the queue counts what it drops.
func (r *webrtcReader) put(f webrtc.Frame) bool {
	message := queue.Message{From: r.from, Channel: f.Channel, Protocol: WebRTCProtocol, Data: f.Payload}
	err := r.node.queue.PutBatch(r.node.ctx, []queue.Message{message}, chatBlockTimeout)
	return err == nil || errors.Is(err, queue.ErrFull)
}

// cutOff counts the frame that the end of the session leaves unfinished.
func (r *webrtcReader) cutOff(err error) {
	if errors.Is(err, ErrClosed) {
		r.assembler.Abandon(webrtc.Defect(lossNodeClosed))
	} else {
		r.assembler.Abandon(webrtc.Defect(lossPeerClosed))
	}
}

// Get, Put, Accept and Lost serve the assembler.

func (r *webrtcReader) Get(size int) []byte {
	if size < LargePayload {
		return make([]byte, size)
	}
	return r.node.memory.Get(size)
}

func (r *webrtcReader) Put(buffer []byte) { freePayload(r.node.memory, buffer) }

func (r *webrtcReader) Accept(name []byte) (string, bool) {
	channel, reason := r.judge.of(name)
	if reason != "" {
		r.node.losses.add(directionIn, reason, channel, r.from, 1)
	}
	return channel, reason == ""
}

func (r *webrtcReader) Lost(defect webrtc.Defect) {
	r.node.losses.add(directionIn, string(defect), "", r.from, 1)
}

// errNoSession says that a message has to go by stream.
var errNoSession = errors.New("no open WebRTC session")

// leaveTimeout is how long the change from a stream to a session waits for the peer to have read the stream.
const leaveTimeout = 5 * time.Second

// deliverByWebRTC writes a chunk to the peer's open session and answers what was taken. With errNoSession the rest has to go
// by stream.
func (l *link) deliverByWebRTC(c chunk) (delivery, error) {
	s := l.node.webrtc.writable(l.peer)
	if s == nil || time.Now().Before(s.usableFrom) {
		return delivery{}, errNoSession
	}
	l.leaveStream()
	select {
	case s.writing <- struct{}{}:
	case <-s.session.Ended():
		return delivery{}, errNoSession
	case <-l.ctx.Done():
		return delivery{}, contextError(l.ctx, "writing")
	case <-s.ctx.Done():
		return delivery{}, errNoSession
	}
	defer func() { <-s.writing }()
	n, err := s.session.Write(c.frames, channelOf(c.frames), l.node.writeTimeout)
	messages, bytes := framesWithin(c.frames, n)
	sent := delivery{messages, bytes}
	switch {
	case err == nil:
		return sent, nil
	case errors.Is(err, webrtc.ErrTimeout):
		s.session.End(err)
		return sent, fmt.Errorf("%w: %s took nothing for %s", ErrTimeout, l.peer, l.node.writeTimeout)
	}
	return sent, errNoSession
}

// channelOf is the channel of the first frame; a chunk holds frames of one.
func channelOf(frames []byte) string {
	return string(frames[frameOverhead : frameOverhead+int(frames[frameTotalBytes])])
}

// leaveStream ends the stream that was written so far, and waits until the peer has read it, so that what follows by session
// does not overtake it.
func (l *link) leaveStream() {
	l.state.Lock()
	stream := l.state.current
	written := stream != nil && stream.written
	l.state.current = nil
	l.state.Unlock()
	if !written {
		return
	}
	l.node.spawn("half-close", stream.closeWrite)
	timer := time.NewTimer(leaveTimeout)
	defer timer.Stop()
	select {
	case <-stream.ended:
	case <-timer.C:
	case <-l.ctx.Done():
	}
}
