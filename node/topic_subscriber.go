package node

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"peerbus/node/session"
)

const (
	// refusalPause is how long a subscriber that refused the messages of its topic gets none.
	refusalPause = time.Second
	// leaveGrace is how long a connected subscriber may be without its announcement: pub/sub forgets it, and hears it again, when
	// one of several connections ends; and it may notice the end of the only one first.
	leaveGrace = 2 * time.Second
	// maxSubscribers bounds the subscribers of one direct topic, those without a connection included.
	maxSubscribers = 4096
)

// A subscriber is a peer that asked for a direct topic, as its publisher sees it. What is sent to it belongs to its outbound, which
// it keeps.
//
//	       announced            connection lost             resume window over
//	(none) ---------> present ------------------> away ----------------------------> gone
//	                   |  ^  ^                     |      gets what is published       |  is reported as not_connected
//	                   |  |  +---- announced ------+-----------------------------------+
//	      it refuses   |  |  announced, or after refusalPause
//	                   v  |
//	                  refusing: reported as peer_refused
//	any --- it unsubscribed, or its node closes, or was connected without an announcement for leaveGrace,
//	        or was refusing when it left, or we disconnected it ---------------------> (none)
type subscriber struct {
	id        peer.ID
	out       *outbound
	refusedAt atomic.Int64 // in Unix nanoseconds; 0: not
	awaySince atomic.Int64 // 0: announced
	withdrew  atomic.Bool  // it unsubscribed, or its node closes
	dropped   atomic.Uint64

	leaving *time.Timer // of leaveGrace; the topic's lock guards it
}

// refuse notes that the peer ended the session. The outbound's lock is held.
func (s *subscriber) refuse() {
	if s != nil {
		s.refusedAt.Store(time.Now().UnixNano())
	}
}

// closing notes that the peer's node closes, whose last announcements may get lost.
func (s *subscriber) closing() {
	if s != nil {
		s.withdrew.Store(true)
	}
}

// misses answers why the subscriber gets nothing now, "" when it does.
func (s *subscriber) misses(now time.Time) string {
	if at := s.refusedAt.Load(); at != 0 && now.UnixNano()-at < int64(refusalPause) {
		return string(session.ReasonRefused)
	}
	if since := s.awaySince.Load(); since != 0 && now.UnixNano()-since >= int64(s.out.node.config.Channel.ResumeWindow) {
		return lossNotConnected
	}
	return ""
}

// returned notes an announcement. It answers whether the peer was away.
func (s *subscriber) returned() bool {
	s.refusedAt.Store(0)
	s.withdrew.Store(false)
	return s.awaySince.Swap(0) != 0
}

// end gives up what is not acknowledged, and the outbound.
func (s *subscriber) end() {
	o := s.out
	o.state.Lock()
	defer o.state.Unlock()
	o.endSessionLocked(lossPeerClosed)
	o.state.handles--
	o.poke()
}

// key finds the outbound among all: several peers get the same topic.
func (o *outbound) key() string {
	if o.subscriber == nil {
		return o.name
	}
	return subscriberKey(o.name, o.subscriber.id)
}

func subscriberKey(topic string, id peer.ID) string { return topic + "\n" + string(id) }

// obtainSubscriber answers the outbound of a topic to one peer as a subscriber, and holds it; nil once the node closes.
func (os *outbounds) obtainSubscriber(topic string, id peer.ID) *subscriber {
	os.state.Lock()
	defer os.state.Unlock()
	if os.state.closed {
		return nil
	}
	if o := os.state.byName[subscriberKey(topic, id)]; o != nil {
		o.hold(ChannelOptions{})
		return o.subscriber
	}
	o := &outbound{name: topic}
	o.subscriber = &subscriber{id: id, out: o}
	o.state.handles = 1
	return os.addLocked(o, id).subscriber
}

// topicRoom answers what to wait for before the subscriber can take a piece, nil when it can. Once ctx has ended that is an
// ErrWouldBlock.
func (o *outbound) topicRoom(ctx context.Context, p *topicPiece) (<-chan struct{}, error) {
	o.state.Lock()
	defer o.state.Unlock()
	full := o.topicFullLocked(p)
	if !errors.Is(full, session.ErrFull) {
		return nil, full
	}
	room, err := o.wantRoomLocked(ctx, full, p.bytes)
	if errors.Is(err, ErrWouldBlock) {
		err = fmt.Errorf("%w (subscriber %s)", err, o.peer.id)
	}
	return room, err
}

func (o *outbound) topicFullLocked(p *topicPiece) error {
	s := &o.state
	switch {
	case s.closing != nil:
		return s.closing
	case s.sender == nil:
		return nil
	case o.peer.full(ClassNormal, p.bytes) && s.sender.Held() > 0:
		return fmt.Errorf("%w: %d bytes wait to be sent to it or to be acknowledged", errPeerFull, o.peer.held.Load())
	}
	return s.sender.Fits(p.bytes, p.largest)
}

// topicMakeRoom gives up the oldest messages, with drop, until a piece fits. It answers how many, and why it does not fit.
func (o *outbound) topicMakeRoom(p *topicPiece, drop bool) (dropped uint64, full error) {
	o.state.Lock()
	defer o.state.Unlock()
	s := &o.state
	for {
		full := o.topicFullLocked(p)
		if !drop || !errors.Is(full, session.ErrFull) {
			return dropped, full
		}
		r, err := s.sender.DropOldest()
		if err != nil {
			return dropped, full
		}
		dropped += r.Len()
		o.accountLocked()
	}
}

// topicTake takes a piece whose first message has that number. topicRoom has said that there is room. It answers whether its writer
// waits for more, until the topic's gather ends that.
func (o *outbound) topicTake(first uint64, p *topicPiece, burst bool) (waits bool, err error) {
	o.state.Lock()
	defer o.state.Unlock()
	s := &o.state
	if s.closing != nil {
		return false, s.closing
	}
	if s.sender == nil {
		s.sender = o.node.newSender(o.name, first)
		s.sender.Learn(o.peer.learned())
		s.base, s.held, s.counted, s.failures = 0, 0, first-1, 0
	}
	s.sender.Skip(first)
	if err := p.acceptInto(s.sender); err != nil {
		return false, err
	}
	o.accountLocked()
	if s.stream == nil && s.expiry == nil {
		o.tickLocked()
	}
	return o.gatherLocked(burst), nil
}
