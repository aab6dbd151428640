package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-yamux/v5"

	"peerbus/node/mux"
)

// chatStream is one chat stream of either direction. The link's lock guards written and atOnce.
type chatStream struct {
	network.Stream
	relayed bool          // its connection goes through a relay; known once attached
	written bool          // we have put frames on it
	atOnce  bool          // it takes writes that do not wait
	heard   atomic.Bool   // the peer has put frames on it
	lastUse atomic.Int64  // when the last frame of either direction passed, Unix nanoseconds
	ended   chan struct{} // closed when its reader is done

	lastHeard atomic.Int64 // when the peer's last frame came, Unix nanoseconds
	handing   atomic.Bool  // its reader waits for room in the receive queue
	finishing atomic.Bool  // the peer has ended it; the write in progress ends it here

	// writeLock is held while writing: QUIC streams must not be closed meanwhile, or the write may never end.
	writeLock sync.Mutex
}

func newChatStream(s network.Stream) *chatStream {
	stream := &chatStream{Stream: s, ended: make(chan struct{})}
	stream.lastHeard.Store(time.Now().UnixNano())
	stream.touch()
	return stream
}

// isDeadline tells whether a stream's deadline has passed. Streams over yamux, those of TCP and WebSocket, have an error of
// their own for that.
func isDeadline(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, yamux.ErrTimeout)
}

func (s *chatStream) touch() { s.lastUse.Store(time.Now().UnixNano()) }

// write puts frames on the stream and answers how many bytes the transport took. Each piece has its own deadline, so that a
// slow link is no stalled peer.
func (s *chatStream) write(frames []byte, timeout time.Duration) (written int, err error) {
	s.writeLock.Lock()
	defer func() {
		s.writeLock.Unlock()
		if s.finishing.Load() {
			s.tryClose()
		}
	}()
	defer s.touch()
	for written < len(frames) && err == nil {
		if err = s.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
			break
		}
		var n int
		n, err = s.Write(frames[written:min(written+writePiece, len(frames))])
		written += n
	}
	return written, err
}

// writeAtOnce writes all the frames, or none and answers a passed deadline when that would have to wait.
func (s *chatStream) writeAtOnce(frames []byte) error {
	if !s.writeLock.TryLock() {
		return os.ErrDeadlineExceeded
	}
	defer s.writeLock.Unlock()
	if err := s.SetWriteDeadline(mux.AtOnce); err != nil {
		return err
	}
	_, err := s.Write(frames)
	if err == nil {
		s.touch()
	}
	return err
}

// closeWrite half-closes the stream, unless a write is in progress: the end of the connection ends that one.
func (s *chatStream) closeWrite() {
	if s.writeLock.TryLock() {
		defer s.writeLock.Unlock()
		_ = s.CloseWrite()
	}
}

// finish ends a stream whose peer has ended it. A write in progress gets finishPatience to end, since the peer may go on
// reading; after that it fails, and goes on with a fresh stream.
func (s *chatStream) finish(run func(string, func()) bool) {
	s.finishing.Store(true)
	if s.tryClose() {
		return
	}
	time.AfterFunc(finishPatience, func() {
		run("finishing a stream", func() {
			if !s.tryClose() {
				_ = s.Reset()
			}
		})
	})
}

// tryClose closes the stream unless a write is in progress.
func (s *chatStream) tryClose() bool {
	if !s.writeLock.TryLock() {
		return false
	}
	defer s.writeLock.Unlock()
	_ = s.Close()
	return true
}

// attach makes the link own a stream. The newest stream is the one that is written, except that a stream in use is not left
// for nothing: two peers that open, or dial, at the same moment would otherwise change streams in the middle of a channel,
// and the receiver could read the two in either order.
func (l *link) attach(stream *chatStream) error {
	l.state.Lock()
	defer l.state.Unlock()
	s := &l.state
	switch {
	case s.retired:
		return errRetired
	case len(s.streams) >= maxChatStreams:
		return fmt.Errorf("%w: %s holds %d chat streams already", ErrRefused, l.peer, len(s.streams))
	}
	stream.relayed = isRelayed(stream.Conn().RemoteMultiaddr())
	s.streams[stream] = struct{}{}
	stream.atOnce = stream.Conn().ConnState().StreamMultiplexer == mux.ID
	if s.current == nil || s.current.outdatedBy(stream) {
		s.current = stream
	}
	return nil
}

// outdatedBy tells whether a stream replaces this one: nothing was written here, or the other runs on another connection and
// shows that the peer, which has used this stream, has lost it. From a relayed to a direct one leaveRelay goes, in order.
func (s *chatStream) outdatedBy(other *chatStream) bool {
	if !s.written || s.Conn() == other.Conn() {
		return !s.written
	}
	if s.relayed && !other.relayed && !s.Conn().IsClosed() {
		return false
	}
	return s.heard.Load() || s.Conn().IsClosed()
}

// detach forgets a stream whose reader has ended.
func (l *link) detach(stream *chatStream) {
	l.state.Lock()
	defer l.state.Unlock()
	delete(l.state.streams, stream)
	if l.state.current == stream {
		l.state.current = nil
	}
}

// discard resets a stream that failed.
func (l *link) discard(stream *chatStream) {
	l.detach(stream)
	_ = stream.Reset()
}

// endStreams half-closes every stream and waits for the peer to have read what we wrote: its own close is the sign.
// Half-closing may wait behind the writes of other streams, so it must not hold up the one who closes.
func (l *link) endStreams(ctx context.Context) {
	l.state.Lock()
	var unread []*chatStream
	for stream := range l.state.streams {
		if stream.written {
			unread = append(unread, stream)
		}
		l.node.spawn("half-close", stream.closeWrite)
	}
	l.state.current = nil
	l.state.Unlock()
	for _, stream := range unread {
		select {
		case <-stream.ended:
		case <-ctx.Done():
		}
	}
}

// acceptChat serves a chat stream that a peer opened.
func (n *Node) acceptChat(raw network.Stream) {
	stream := newChatStream(raw)
	id := raw.Conn().RemotePeer()
	for {
		l := n.links.obtain(id)
		if l == nil {
			_ = raw.Reset()
			return
		}
		switch err := l.attach(stream); err {
		case nil:
			n.peers.markApplication(id)
			l.read(stream)
			return
		case errRetired:
			continue
		default:
			n.log.Warn("chat stream refused", "peer", id, "reason", err)
			_ = raw.Reset()
			return
		}
	}
}

// read moves the frames of a stream into the receive queue until it ends. A peer's half-close ends it for writing too.
func (l *link) read(stream *chatStream) {
	defer close(stream.ended)
	l.awaitRelayed(stream)
	reader := newChatReader(l, stream)
	err := reader.run()
	l.detach(stream)
	if err == io.EOF || errors.Is(err, errIdle) {
		stream.finish(l.node.run)
	} else {
		l.node.log.Debug("chat stream ended", "peer", l.peer, "reason", err)
		_ = stream.Reset()
	}
	if !l.connected() {
		l.retireUnused() // peerGone may have come before the streams had ended
	}
}
