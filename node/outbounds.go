package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"peerbus/node/session"
)

const (
	// sessionIdleTimeout ends the session of a channel that sends nothing (GEN-06); the next message begins another.
	sessionIdleTimeout = 5 * time.Minute
	// sweepPeriod is how often idle sessions are looked for.
	sweepPeriod = time.Minute
	// maxIdleOutbounds bounds the records of channels without messages, of one peer.
	maxIdleOutbounds = 1024
	// maxDatagramStreams bounds the streams of channels to a peer that is connected over QUIC, which admits 256 in all.
	maxDatagramStreams = 224
)

// outPeer is what the outbounds to one peer share.
type outPeer struct {
	id    peer.ID
	limit int64
	out   *outbounds
	held  atomic.Int64 // bytes in the buffers of all sessions
	bulk  atomic.Int64 // of held, those of bulk channels

	urgency urgency

	state struct {
		sync.Mutex
		channels map[string]*outbound
		streams  int
		queue    []*outbound         // that found no place for a stream; the first one hears of the next that is free
		bulkWay  time.Time           // when a connection for bulk was last asked for
		instance session.ID          // of its receiver, as its hello said; zero: unknown
		room     chan struct{}       // closed when held has fallen; nil when nobody waits
		waiting  map[string]struct{} // channels that want a writable event then
	}
}

// account notes that sessions hold more or less, and what of that is bulk. Half of a bound makes room: that keeps a fast sender
// from being woken for every acknowledgement.
func (p *outPeer) account(change, bulkChange int64) {
	held, bulk := p.held.Add(change), p.bulk.Add(bulkChange)
	if change < 0 && held <= p.limit/2 || bulkChange < 0 && bulk <= bulkShare(p.limit)/2 {
		p.announceRoom()
	}
}

func (p *outPeer) announceRoom() {
	p.state.Lock()
	defer p.state.Unlock()
	if p.state.room != nil {
		close(p.state.room)
		p.state.room = nil
	}
	for channel := range p.state.waiting {
		p.raiseWritable(channel)
	}
	p.state.waiting = nil
}

func (p *outPeer) raiseWritable(channel string) {
	p.out.node.events.PushOnce(EventWritable, EventWritable+channel, map[string]any{"channel": channel})
}

// waitForRoom answers what is closed when a message of the class may find room.
func (p *outPeer) waitForRoom(class SendClass, size int) <-chan struct{} {
	p.state.Lock()
	defer p.state.Unlock()
	if !p.full(class, size) {
		return closedChannel
	}
	if p.state.room == nil {
		p.state.room = make(chan struct{})
	}
	return p.state.room
}

var closedChannel = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// wantRoom raises a writable event when a message of the class may find room: at once, if that came since the peer was full.
func (p *outPeer) wantRoom(channel string, class SendClass, size int) {
	p.state.Lock()
	defer p.state.Unlock()
	if !p.full(class, size) {
		p.raiseWritable(channel)
		return
	}
	if p.state.waiting == nil {
		p.state.waiting = map[string]struct{}{}
	}
	p.state.waiting[channel] = struct{}{}
}

func (p *outPeer) learned() session.ID {
	p.state.Lock()
	defer p.state.Unlock()
	return p.state.instance
}

func (p *outPeer) all() []*outbound {
	p.state.Lock()
	defer p.state.Unlock()
	return slices.Collect(maps.Values(p.state.channels))
}

// mostStreams leaves room for the streams of other protocols where the transport admits few: one that finds none is not refused
// there, but waits.
func (p *outPeer) mostStreams() int {
	most := p.out.node.config.Limits.ChannelStreams
	if slices.ContainsFunc(openConns(p.out.node.host.Network().ConnsToPeer(p.id)), isDatagrams) {
		most = min(most, maxDatagramStreams)
	}
	return most
}

// reserve takes the place of one stream, if need be that of a channel that has nothing to send.
func (p *outPeer) reserve(for_ *outbound) bool {
	most := p.mostStreams()
	p.state.Lock()
	p.state.queue = slices.DeleteFunc(p.state.queue, func(o *outbound) bool { return o == for_ })
	if p.state.streams < most {
		p.state.streams++
		p.state.Unlock()
		return true
	}
	p.state.queue = append(p.state.queue, for_)
	p.state.Unlock()
	var oldest *outbound
	var since time.Time
	for _, other := range p.all() {
		if use, idle := other.idleSince(); idle && other != for_ && (oldest == nil || use.Before(since)) {
			oldest, since = other, use
		}
	}
	if oldest != nil {
		oldest.suspend() // its reader gives the place back, for the first one in the queue
	}
	return false
}

func (p *outPeer) release() {
	p.state.Lock()
	defer p.state.Unlock()
	p.state.streams--
	if len(p.state.queue) > 0 {
		next := p.state.queue[0]
		p.state.queue = p.state.queue[1:]
		select {
		case next.place <- struct{}{}:
		default:
		}
	}
}

// outbounds finds the outbound of a channel.
type outbounds struct {
	node  *Node
	state struct {
		sync.RWMutex
		byName   map[string]*outbound
		byPeer   map[peer.ID]*outPeer
		closed   bool
		sweeping bool
	}
}

func newOutbounds(n *Node) *outbounds {
	os := &outbounds{node: n}
	os.state.byName = map[string]*outbound{}
	os.state.byPeer = map[peer.ID]*outPeer{}
	return os
}

func (os *outbounds) find(channel string) *outbound {
	os.state.RLock()
	defer os.state.RUnlock()
	return os.state.byName[channel]
}

func (os *outbounds) ofPeer(id peer.ID) *outPeer {
	os.state.RLock()
	defer os.state.RUnlock()
	return os.state.byPeer[id]
}

func (os *outbounds) all() []*outbound {
	os.state.RLock()
	defer os.state.RUnlock()
	return slices.Collect(maps.Values(os.state.byName))
}

// obtain answers the outbound of a channel, making it when there is none; nil once the node closes.
func (os *outbounds) obtain(name channelName) *outbound {
	if o := os.find(name.text); o != nil {
		return o
	}
	os.state.Lock()
	defer os.state.Unlock()
	return os.obtainLocked(name)
}

func (os *outbounds) obtainLocked(name channelName) *outbound {
	if os.state.closed {
		return nil
	}
	if o := os.state.byName[name.text]; o != nil {
		return o
	}
	o := &outbound{node: os.node, name: name.text}
	if os.node.durables.receives {
		o.newKeptLocked() // nobody else knows it yet
	}
	return os.addLocked(o, name.target)
}

// addLocked makes a new outbound to a peer ready.
func (os *outbounds) addLocked(o *outbound, id peer.ID) *outbound {
	p := os.peerLocked(id)
	o.node, o.peer, o.wake, o.came, o.place = os.node, p, make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	os.state.byName[o.key()] = o
	p.state.Lock()
	p.state.channels[o.name] = o
	crowded := len(p.state.channels) > maxIdleOutbounds
	p.state.Unlock()
	if crowded {
		os.forgetIdleLocked(p, o) // o is idle, too, until its caller uses it
	}
	if !os.state.sweeping {
		os.state.sweeping = os.node.spawn("channel sweeper", os.sweep)
	}
	return o
}

func (os *outbounds) peerLocked(id peer.ID) *outPeer {
	p := os.state.byPeer[id]
	if p == nil {
		p = &outPeer{id: id, out: os, limit: os.node.config.Limits.SendBytes}
		p.state.channels = map[string]*outbound{}
		os.state.byPeer[id] = p
	}
	return p
}

// learn notes the instance that a peer's hello named.
func (os *outbounds) learn(id peer.ID, instance session.ID) {
	os.state.Lock()
	p := os.peerLocked(id)
	os.state.Unlock()
	p.state.Lock()
	defer p.state.Unlock()
	p.state.instance = instance
}

// forgetIdleLocked drops the channels of a peer that nobody would miss but kept, and the peer with the last of them.
func (os *outbounds) forgetIdleLocked(p *outPeer, kept *outbound) {
	var idle []*outbound
	for _, o := range p.all() {
		if o != kept && o.retire() {
			idle = append(idle, o)
		}
	}
	p.state.Lock()
	defer p.state.Unlock()
	for _, o := range idle {
		delete(p.state.channels, o.name)
		delete(os.state.byName, o.key())
	}
	if len(p.state.channels) == 0 && !os.node.isConnected(p.id) {
		delete(os.state.byPeer, p.id)
	}
}

// sweep ends idle sessions from time to time.
func (os *outbounds) sweep() {
	ticker := time.NewTicker(sweepPeriod)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-os.node.ctx.Done():
			return
		}
		for _, o := range os.all() {
			o.finishIdle(sessionIdleTimeout)
		}
		os.state.Lock()
		for _, p := range os.state.byPeer {
			os.forgetIdleLocked(p, nil)
		}
		os.state.Unlock()
	}
}

// connected tells the peer's channels of a new connection.
func (os *outbounds) connected(c network.Conn) {
	if p := os.ofPeer(c.RemotePeer()); p != nil {
		for _, o := range p.all() {
			o.connected(c)
		}
	}
}

// waiting is what the sessions hold.
func (os *outbounds) waiting() (sum SendWaiting) {
	for _, o := range os.all() {
		o.state.Lock()
		if o.state.sender != nil {
			sum.Messages += o.state.sender.Unsettled()
			sum.Bytes += int64(o.state.sender.Held())
		}
		o.state.Unlock()
	}
	return sum
}

// close lets every session end: what is not acknowledged within patience is lost, for that reason. While it runs the channels
// take nothing.
func (os *outbounds) close(patience time.Duration) {
	os.state.Lock()
	os.state.closed = true
	os.state.Unlock()
	os.stop(os.all(), ErrClosed, lossNodeClosed, patience)
}

// disconnect ends the sessions with one peer.
func (os *outbounds) disconnect(id peer.ID, refusal error, patience time.Duration) {
	p := os.ofPeer(id)
	if p == nil {
		return
	}
	channels := p.all()
	os.stop(channels, refusal, lossPeerClosed, patience)
	for _, o := range channels {
		o.takeAgain(refusal)
	}
}

func (os *outbounds) stop(channels []*outbound, refusal error, reason string, patience time.Duration) {
	ctx, cancel := context.WithTimeout(os.node.ctx, patience)
	defer cancel()
	var group sync.WaitGroup
	for _, o := range channels {
		group.Go(func() {
			defer os.node.recoverPanic("closing a channel")
			o.stop(ctx, refusal, reason)
		})
	}
	group.Wait()
}

// idleSince answers when a channel with a stream and nothing to send was used last.
func (o *outbound) idleSince() (time.Time, bool) {
	o.state.Lock()
	defer o.state.Unlock()
	s := &o.state
	return s.lastUse, s.stream != nil && s.sender != nil && s.sender.Unsettled() == 0
}

// suspend ends the stream of a channel that has nothing to send; its session goes on with the next message.
func (o *outbound) suspend() {
	o.state.Lock()
	stream := o.state.stream
	idle := stream != nil && o.state.sender != nil && o.state.sender.Unsettled() == 0
	o.state.Unlock()
	if idle {
		o.streamEnded(stream, nil)
	}
}

// finishIdle ends a session that has been idle for long. A handle keeps it: its ids go on.
func (o *outbound) finishIdle(limit time.Duration) {
	o.state.Lock()
	defer o.state.Unlock()
	s := &o.state
	if s.sender == nil || s.sender.Unsettled() > 0 || time.Since(s.lastUse) < limit || o.kept != nil {
		return
	}
	if s.stream == nil {
		o.retireSenderLocked()
	} else if s.sender.Finish() {
		o.poke()
	}
}

// retire ends an outbound that keeps nothing that anybody could ask for, and answers whether it did.
func (o *outbound) retire() bool {
	o.state.Lock()
	defer o.state.Unlock()
	s := &o.state
	if s.handles > 0 || s.sender != nil || s.writer || s.closing != nil || s.wantRoom || s.room != nil ||
		s.link != nil && !s.link.gone() || s.deliveries.news != nil {
		return false
	}
	s.closing = errRetired
	return true
}

// stop takes no more messages, lets those that wait be acknowledged until ctx ends, and ends the session.
func (o *outbound) stop(ctx context.Context, refusal error, reason string) {
	o.state.Lock()
	s := &o.state
	if s.closing == nil || s.closing == errMoving {
		s.closing = refusal
	}
	s.link = nil // its own end is its link's matter
	o.releaseRoomLocked()
	o.state.Unlock()
	o.drain(ctx)
	o.state.Lock()
	finishing := s.sender != nil && s.writer && o.kept == nil && (s.sender.Err() != nil || s.sender.Finish())
	ended := s.ended
	o.state.Unlock()
	if finishing {
		o.poke()
		select {
		case <-ended:
		case <-ctx.Done():
		}
	}
	o.state.Lock()
	o.endSessionLocked(reason)
	o.state.Unlock()
}

// flush waits until every message that was sent before is in the peer's queue, or on chat until the transport has taken it.
func (o *outbound) flush(ctx context.Context) error {
	o.state.Lock()
	link, last, lost := o.state.link, o.state.base, o.state.deliveries.lost
	if o.state.sender != nil {
		last += o.state.sender.Progress().Last
		o.state.sender.RequestAck()
		o.poke()
	}
	if o.kept != nil {
		last = o.kept.last
	}
	o.state.Unlock()
	if link != nil {
		return link.flush(ctx, o.name)
	}
	if last == 0 {
		return nil
	}
	err := o.await(ctx, last, DeliveryAccepted)
	if err != nil && !errors.Is(err, ErrLost) && !errors.Is(err, ErrNotFound) {
		return err
	}
	o.state.Lock()
	defer o.state.Unlock()
	if errors.Is(o.state.closing, ErrClosed) {
		return ErrClosed
	}
	if lost = o.state.deliveries.lost - lost; lost > 0 {
		return fmt.Errorf("%w: %d messages on %q were lost", ErrPeerClosed, lost, o.name)
	}
	return nil
}

// drain waits until nothing is unacknowledged.
func (o *outbound) drain(ctx context.Context) {
	for asked := false; ; asked = true {
		o.state.Lock()
		s := &o.state
		if s.sender == nil || s.sender.Unsettled() == 0 || o.kept != nil && s.stream == nil {
			o.state.Unlock()
			return // what a durable channel cannot send now stays on disk
		}
		if !asked {
			s.sender.RequestAck()
			o.poke()
		}
		news := s.deliveries.wait()
		o.state.Unlock()
		select {
		case <-news:
		case <-ctx.Done():
			return
		}
	}
}

// takeAgain ends the refusal of a channel that was stopped.
func (o *outbound) takeAgain(refusal error) {
	o.state.Lock()
	defer o.state.Unlock()
	if o.state.closing == refusal {
		o.state.closing = nil
	}
}

// releaseRoomLocked lets everyone who waits for room try, and fail.
func (o *outbound) releaseRoomLocked() {
	if o.state.room != nil {
		close(o.state.room)
		o.state.room = nil
	}
	o.peer.announceRoom()
}
