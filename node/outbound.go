package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"peerbus/node/session"
)

// errPeerFull: what waits for the peer on all acknowledged channels uses limits.send_bytes up.
var errPeerFull = fmt.Errorf("%w: the peer's share", session.ErrFull)

// An outbound is the sending side of one direct channel, from its first message on. It decides by which protocol the channel
// travels, and owns the session of the acknowledged one.
//
//	        first message to a peer that is known to speak it, or of which nothing is known
//	idle ---------------------------------------------------------------------------------> acknowledged
//	 |  ^                                                                                     |    |
//	 |  +---- refused by the peer, disconnected by us, or idle for long: the session ends ----+    |
//	 |  +---- the peer's chat link ends -----+                                                     |
//	 |                                       |                                                     |
//	 +--- first message to a peer that  ---> chat <--- connected, and the peer does not speak it --+
//	      speaks only chat                             (only before a first stream was opened)
//
// The choice is made for the channel, not for a message: it holds until the session or the link is over, so a channel never
// uses both at a time, and what goes over chat after a session, or the other way round, comes after everything of that one was
// settled. A peer that returns without the acknowledged protocol (an older version took its place) gets nothing until the
// resume window is over; what waits is then lost and reported, and the next message chooses anew.
//
// Message ids count from 1 per outbound: those of a session begin behind those of the session before.
type outbound struct {
	node *Node
	peer *outPeer
	name string
	// subscriber is not nil for what a direct topic sends to one peer; then name is the topic's, and the ids are its numbers.
	subscriber *subscriber

	wake  chan struct{} // holds one token when the writer has something to look at
	came  chan struct{} // holds one token when the peer has a new connection
	place chan struct{} // holds one token when a stream of the peer has ended that this one waits for
	kept  *kept         // nil unless the channel is durable; the lock guards it until the first message, which settles it

	state struct {
		sync.Mutex
		sender   *session.Sender // nil unless acknowledged
		stream   *outStream      // its newest one; nil while there is none
		moveTo   network.Conn    // where the next stream shall run; nil: anywhere
		link     *link           // not nil: chat
		base     uint64          // ids of the sessions before, and on chat
		held     int             // bytes of this sender that peer.held counts
		counted  uint64          // messages of this sender that the traffic counts
		writer   bool            // the writer goroutine runs
		writing  bool            // a piece is being written
		passedBy bool            // the writer waits for the end of that
		left     *leftPiece      // for the writer to begin with; nil: nothing
		ended    chan struct{}   // closed when the writer that was started last has ended
		closing  error           // not nil: takes nothing, for this reason

		lastUse     time.Time
		pace        pace               // of small messages
		aside       bool               // the last one was a lone one that the writer has to write: stepAside
		gathered    bool               // the writer has waited for more to come
		gathering   gathering          // of a subscriber's writer
		stopOpening context.CancelFunc // ends the attempt to get a stream; nil while there is none
		failures    int                // in a row, of getting a stream that the peer accepts
		hurried     bool               // a new connection ended the last pause
		expiry      *time.Timer        // of the resume window; nil while it does not run
		stuck       time.Time          // since then streams through relays with limits settle nothing; zero: they do

		room     chan struct{} // closed when there is room; nil when nobody waits
		wantRoom bool          // raise a writable event then

		class      SendClass
		progress   bool  // of large messages becomes events
		claim      int64 // of a control message that is not written yet, see urgency; 0: none
		deliveries deliveries
		compressed CompressedMessages
		handles    int // open handles: keeps the ids
	}
}

func (o *outbound) poke() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// errChatOver tells a sender that the channel's chat link is gone: choose anew.
var errChatOver = errors.New("chat link over")

// errKept tells a sender that the channel is durable: messages go to the disk first.
var errKept = errors.New("durable")

// send takes a message, copying it, and answers its id. It waits for room until ctx ends. wait, when not nil, gets what tells
// that the transport has taken the message.
func (o *outbound) send(ctx context.Context, m outMessage, wait *sentWaiter) (uint64, error) {
	id, _, err := o.sendSome(ctx, m, batch{}, wait)
	return id, err
}

// sendSome is send, and takes of the messages that follow those that find room at once. It answers the id of the first one and
// how many it took; their ids follow each other.
func (o *outbound) sendSome(ctx context.Context, m outMessage, more batch, wait *sentWaiter) (uint64, int, error) {
	for {
		id, taken, room, err := o.trySend(ctx, m, more, wait)
		switch {
		case room != nil:
			select {
			case <-room:
			case <-ctx.Done():
			}
		case err == errKept:
			id, taken, err := o.sendKept(ctx, append([][]byte{m.payload}, more.payloads...))
			if wait != nil {
				*wait = sentWaiter{out: o, id: id}
			}
			return id, taken, err
		case err != errChatOver:
			return id, taken, o.sendError(err)
		}
	}
}

// sentWaiter waits until the transport has taken one message.
type sentWaiter struct {
	chat settleWaiter // when the channel is on chat
	out  *outbound    // otherwise
	id   uint64
}

func (w sentWaiter) wait(ctx context.Context) error {
	if w.out != nil {
		return w.out.await(ctx, w.id, DeliverySent)
	}
	return w.chat.wait(ctx)
}

// trySend answers a channel to wait on when there is no room yet.
func (o *outbound) trySend(ctx context.Context, m outMessage, more batch, wait *sentWaiter) (id uint64, taken int, room <-chan struct{}, err error) {
	o.state.Lock()
	defer unlockAside(&o.state, &o.state.aside)
	if o.beginKeptLocked() {
		return 0, 0, nil, errKept
	}
	err = o.readyLocked()
	if err == nil && o.state.link != nil {
		id, err := o.sendChatLocked(ctx, m.payload, wait)
		return id, 1, nil, err
	}
	if err == nil {
		id, taken, err = o.acceptLocked(m, more)
	}
	if errors.Is(err, session.ErrFull) {
		room, err := o.wantRoomLocked(ctx, err, len(m.payload))
		return 0, 0, room, err
	}
	if err == nil && wait != nil {
		*wait = sentWaiter{out: o, id: id}
	}
	return id, taken, nil, err
}

// readyLocked chooses the protocol if that is open, and refuses what cannot get anywhere.
func (o *outbound) readyLocked() error {
	s := &o.state
	switch {
	case s.closing != nil:
		return s.closing
	case s.link != nil:
		return s.link.checkReachable()
	case s.stream != nil || s.sender != nil && s.sender.Unsettled() > 0:
		return nil // connected, or in its resume window
	}
	if !o.node.reachable(o.peer.id) {
		return fmt.Errorf("%w: no connection to %s and no address of it is known; connect first", ErrNotConnected, o.peer.id)
	}
	if s.sender == nil {
		return o.chooseLocked()
	}
	return nil
}

func (o *outbound) chooseLocked() error {
	if o.node.speaks(o.peer.id) == speaksChat {
		return o.chooseChatLocked()
	}
	s := &o.state
	s.sender = o.node.newSender(o.name, 1)
	s.sender.Learn(o.peer.learned())
	s.held, s.counted, s.failures = 0, 0, 0
	return nil
}

func (o *outbound) chooseChatLocked() error {
	if o.state.link = o.node.links.obtain(o.peer.id); o.state.link == nil {
		return ErrClosed
	}
	return nil
}

// sendChatLocked passes a message to the peer's link. The lock is free while that waits for room.
func (o *outbound) sendChatLocked(ctx context.Context, payload []byte, wait *sentWaiter) (uint64, error) {
	if len(payload) == 0 {
		return 0, errEmptyOnChat()
	}
	l := o.state.link
	o.state.Unlock()
	settled, err := l.enqueue(ctx, o.name, payload, wait != nil)
	o.state.Lock()
	if err != nil {
		if errors.Is(err, errRetired) {
			if o.state.link == l {
				o.state.link = nil
			}
			err = errChatOver
		}
		return 0, err
	}
	if wait != nil {
		*wait = sentWaiter{chat: settled}
	}
	o.state.base++
	o.state.deliveries.note(fate{session.Range{First: o.state.base, Last: o.state.base}, fateChat, "", false})
	o.queuedLocked(o.state.base, o.state.base)
	return o.state.base, nil
}

// wantRoomLocked follows ErrFull for a message of that size: it answers what to wait on, or why there is no time for it.
func (o *outbound) wantRoomLocked(ctx context.Context, full error, size int) (<-chan struct{}, error) {
	s := &o.state
	byPeer := errors.Is(full, errPeerFull)
	switch {
	case ctx.Err() == nil && byPeer:
		return o.peer.waitForRoom(s.class, size), nil
	case ctx.Err() == nil:
		if s.room == nil {
			s.room = make(chan struct{})
		}
		return s.room, nil
	case errors.Is(context.Cause(ctx), ErrClosed):
		return nil, ErrClosed
	case byPeer:
		o.peer.wantRoom(o.name, s.class, size)
	default:
		s.wantRoom = true
	}
	return nil, fmt.Errorf("%w: %v; wait for the writable event or give a longer timeout", ErrWouldBlock, full)
}

// roomLocked tells whether it is worth trying again: half of the bounds keeps a fast sender from being woken for every
// acknowledgement. A large message may have to try several times.
func (o *outbound) roomLocked() bool {
	s := &o.state
	limits := o.node.config.Limits
	if s.sender == nil || s.closing != nil || s.sender.Held() == 0 {
		return true
	}
	return int64(s.sender.Held()) <= limits.ChannelSendBytes/2 && s.sender.Unsettled() <= uint64(limits.SendMessages)/2
}

// announceRoomLocked wakes who waits for room, if there is some.
func (o *outbound) announceRoomLocked() {
	s := &o.state
	if s.room == nil && !s.wantRoom || !o.roomLocked() {
		return
	}
	if s.room != nil {
		close(s.room)
		s.room = nil
	}
	if s.wantRoom {
		s.wantRoom = false
		o.node.events.PushOnce(EventWritable, EventWritable+o.name, map[string]any{"channel": o.name})
	}
}

// sendError turns what the session says into this package's errors.
func (o *outbound) sendError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, session.ErrTooLarge):
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	case errors.Is(err, session.ErrClosed):
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return err
}

// newSender makes the session of a channel.
func (n *Node) newSender(channel string, first uint64) *session.Sender {
	options := n.senderOptions(channel)
	options.First = first
	return session.NewSender(options)
}

// keptOptions are those of a durable session.
func (n *Node) keptOptions(channel string) session.SenderOptions {
	options := n.senderOptions(channel)
	options.Durable = true
	return options
}

func (n *Node) senderOptions(channel string) session.SenderOptions {
	limits := n.config.Limits
	return session.SenderOptions{
		Channel: channel, Messages: limits.SendMessages, Bytes: int(limits.ChannelSendBytes),
		MaxMessage: limits.MessageBytes, ResumeWindow: n.config.Channel.ResumeWindow, ReportTaken: true,
		Get: n.frames.get, Put: n.frames.put,
	}
}

// What is known of a peer's protocols.
type spoken uint8

const (
	speaksUnknown spoken = iota
	speaksAcknowledged
	speaksChat
)

func (n *Node) speaks(id peer.ID) spoken {
	if !n.config.Channel.Acknowledged {
		return speaksChat
	}
	known, err := n.host.Peerstore().GetProtocols(id)
	if err != nil || len(known) == 0 {
		return speaksUnknown
	}
	for _, p := range known {
		if p == session.Protocol {
			return speaksAcknowledged
		}
	}
	return speaksChat
}

// reachable tells whether the peer is connected or an address of it is known.
func (n *Node) reachable(id peer.ID) bool {
	return n.isConnected(id) || len(n.host.Peerstore().Addrs(id)) > 0
}
