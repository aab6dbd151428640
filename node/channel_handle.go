package node

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"peerbus/node/session"
)

// ErrLost says that a message will never reach the state that was asked for.
var ErrLost = errors.New("lost")

// ChannelOptions are how a handle wants its channel.
type ChannelOptions struct {
	Events DeliveryStates // states of messages that become delivery events; lost always does
}

// Channel is a handle of the sending side of a direct channel: sending through it parses no name, and answers message ids.
// It is safe for concurrent use. Closing it ends nothing but the handle.
type Channel struct {
	node *Node
	name channelName
	out  *outbound

	compression atomic.Pointer[Compression]
}

// OpenChannel answers a handle of a direct channel. Several handles of one channel share its ids and its options.
func (n *Node) OpenChannel(channel string, o ChannelOptions) (*Channel, error) {
	name, err := n.route(channel)
	if err != nil {
		return nil, err
	}
	for {
		out := n.outbounds.obtain(name)
		if out == nil {
			return nil, ErrClosed
		}
		if out.hold(o) {
			c := &Channel{node: n, name: name, out: out}
			c.compression.Store(&n.config.Channel.Compression)
			return c, nil
		}
	}
}

// hold notes one more handle, unless the outbound has just been forgotten.
func (o *outbound) hold(options ChannelOptions) bool {
	o.state.Lock()
	defer o.state.Unlock()
	if errors.Is(o.state.closing, errRetired) {
		return false
	}
	if o.state.handles == 0 { // it is the first one, and begins anew
		o.setClassLocked(ClassNormal)
		o.state.progress = o.node.config.Channel.Progress
	}
	o.state.handles++
	o.state.deliveries.events |= options.Events
	if options.Events.Has(DeliveryTaken) && o.state.sender != nil {
		o.awaitTakenLocked(o.state.base + o.state.sender.Progress().Last)
	}
	return true
}

// Close gives the handle back. Messages that it took are still delivered.
func (c *Channel) Close() {
	s := &c.out.state
	s.Lock()
	defer s.Unlock()
	s.handles--
	if s.handles == 0 {
		s.deliveries.events = 0
	}
}

// Send takes one message, copying it, and answers its id. It waits for room until ctx ends.
func (c *Channel) Send(ctx context.Context, payload []byte) (uint64, error) {
	return c.send(ctx, payload, nil)
}

// SendLent is Send as Node.SendLent is.
func (c *Channel) SendLent(ctx context.Context, payload []byte, release func()) (uint64, error) {
	l := loan{release: release}
	id, err := c.send(ctx, payload, &l)
	l.end(err)
	return id, err
}

func (c *Channel) send(ctx context.Context, payload []byte, l *loan) (uint64, error) {
	if err := c.node.checkPayload(c.name, payload); err != nil {
		return 0, err
	}
	m := c.out.pack(ctx, *c.compression.Load(), payload)
	m.loan = l
	defer c.out.drop(m)
	return c.out.send(ctx, m, nil)
}

// atOnceContext is that of a call which does not wait.
var atOnceContext = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// Name is the name of the channel.
func (c *Channel) Name() string { return c.name.text }

// Await waits until a message has reached a state. ErrLost: it never will. ErrUnsupported: the channel's protocol does not tell.
func (c *Channel) Await(ctx context.Context, id uint64, state DeliveryState) error {
	ctx, cancel := c.node.bind(ctx)
	defer cancel()
	return c.out.await(ctx, id, state)
}

// ChannelInfo says what a direct channel guarantees at present and how far its messages are.
type ChannelInfo struct {
	Channel      string   `json:"channel"`
	Peer         string   `json:"peer"`
	Protocol     string   `json:"protocol"` // "" before the first message decided
	Connected    bool     `json:"connected"`
	Address      string   `json:"address"` // the peer's end of the stream that carries the messages now; "" while there is none
	Guarantees   []string `json:"guarantees"`
	Class        string   `json:"class"`
	Last         uint64   `json:"last"` // newest message id
	Sent         uint64   `json:"sent"` // every message up to this id was sent, or lost
	Accepted     uint64   `json:"accepted"`
	Taken        uint64   `json:"taken"`
	Waiting      uint64   `json:"waiting"`       // messages that are not acknowledged
	WaitingBytes int      `json:"waiting_bytes"` // of the buffers that hold them

	PeerCodecs []string           `json:"peer_codecs"` // that the peer unpacks, as far as it has said
	Compressed CompressedMessages `json:"compressed"`
}

// What a channel guarantees, in the words of ChannelInfo.
var (
	chatGuarantees = []string{"ordered"}
	// A message is in the peer's queue once and in order, or the sender is told which is not; the rest follows from that.
	acknowledgedGuarantees = []string{"ordered", "once", "acknowledged", "resumed", "restart_detected", "backpressure"}
)

// ChannelInfo answers the state of a direct channel by name.
func (n *Node) ChannelInfo(channel string) (ChannelInfo, error) {
	name, err := n.route(channel)
	if err != nil {
		return ChannelInfo{}, err
	}
	if o := n.outbounds.find(name.text); o != nil {
		return o.info(), nil
	}
	return ChannelInfo{}, fmt.Errorf("%w: nothing was sent on %q", ErrNotFound, channel)
}

func (o *outbound) info() ChannelInfo {
	o.state.Lock()
	defer o.state.Unlock()
	s := &o.state
	info := ChannelInfo{Channel: o.name, Peer: o.peer.id.String(), Class: s.class.String(), Guarantees: []string{},
		PeerCodecs: []string{}, Compressed: s.compressed, Last: s.base, Sent: s.base, Accepted: s.base, Taken: s.base}
	switch {
	case s.link != nil:
		info.Protocol, info.Guarantees, info.Connected = ChatProtocol, chatGuarantees, s.link.connected()
		info.Address = s.link.address()
		info.Accepted, info.Taken = 0, 0
	case s.sender != nil:
		p := s.sender.Progress()
		info.Protocol, info.Guarantees, info.Connected = session.Protocol, acknowledgedGuarantees, s.stream != nil
		info.Last += p.Last
		info.Sent += max(p.Sent, p.Settled)
		info.Accepted += p.Settled
		info.Taken += p.Taken
		info.Waiting, info.WaitingBytes = s.sender.Unsettled(), s.sender.Held()
		if s.stream != nil && s.stream.accepted {
			info.Address = s.stream.Conn().RemoteMultiaddr().String()
		}
		info.PeerCodecs = codecsOf(s.sender)
		if o.kept != nil {
			o.keptInfoLocked(&info)
		}
	}
	return info
}
