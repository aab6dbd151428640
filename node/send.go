package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// SendTimeout bounds SendMessageToPeer: the write deadline of GEN-06.
const SendTimeout = writeTimeout

// maxRoutes bounds the channel names whose parsed form is remembered.
const maxRoutes = 4096

// routes remembers direct channels, so that a send costs one look-up.
type routes struct {
	sync.RWMutex
	byName map[string]*Route
}

// Route is a direct channel that may be sent on.
type Route struct {
	name channelName
	out  atomic.Pointer[outbound] // that sent on it last; it may be retired
}

// outbound is that of the route; nil once the node closes.
func (r *Route) outbound(n *Node) *outbound {
	o := r.out.Load()
	if o == nil {
		o = n.outbounds.obtain(r.name)
		r.out.Store(o)
	}
	return o
}

// traffic counts what left.
type traffic struct {
	sentMessages, sentBytes           atomic.Uint64
	publishedMessages, publishedBytes atomic.Uint64
	routes                            routes
}

func (t *traffic) sent(messages uint64, bytes int) {
	t.sentMessages.Add(messages)
	t.sentBytes.Add(uint64(bytes))
}

// Send takes one message for a direct channel, copying it, and waits for room until ctx ends. What cannot be sent later is
// counted and raised as messages_lost.
func (n *Node) Send(ctx context.Context, channel string, payload []byte) error {
	r, err := n.Route(channel)
	if err != nil {
		return err
	}
	return n.SendOn(ctx, r, payload)
}

// SendOn is Send on a channel that was looked up before.
func (n *Node) SendOn(ctx context.Context, r *Route, payload []byte) error {
	return n.take(ctx, r, payload, nil, nil)
}

// SendLent is Send without the copy: payload must not change until release is called, once the message needs it no more, at the
// latest when the node has closed. That may be during this call or any other of the node, under its locks. After an error release
// is not called.
func (n *Node) SendLent(ctx context.Context, channel string, payload []byte, release func()) error {
	r, err := n.Route(channel)
	if err != nil {
		return err
	}
	return n.SendLentOn(ctx, r, payload, release)
}

// SendLentOn is SendLent on a channel that was looked up before.
func (n *Node) SendLentOn(ctx context.Context, r *Route, payload []byte, release func()) error {
	l := loan{release: release}
	err := n.take(ctx, r, payload, &l, nil)
	l.end(err)
	return err
}

// end gives the memory back at once if the message was copied.
func (l *loan) end(err error) {
	if err == nil && !l.used {
		l.release()
	}
}

// SendAndWait is Send, and then waits until the transport took the message. When ctx ends first the message stays queued.
func (n *Node) SendAndWait(ctx context.Context, channel string, payload []byte) error {
	r, err := n.Route(channel)
	if err != nil {
		return err
	}
	var sent sentWaiter
	if err := n.take(ctx, r, payload, nil, &sent); err != nil {
		return err
	}
	return sent.wait(ctx)
}

func (n *Node) take(ctx context.Context, r *Route, payload []byte, l *loan, wait *sentWaiter) error {
	if err := n.checkPayload(r.name, payload); err != nil {
		return err
	}
	for {
		o := r.outbound(n)
		if o == nil {
			return ErrClosed
		}
		m := o.pack(ctx, n.config.Channel.Compression, payload)
		m.loan = l
		_, err := o.send(ctx, m, wait)
		o.drop(m)
		if !errors.Is(err, errRetired) {
			return err
		}
		r.out.CompareAndSwap(o, nil)
	}
}

func (n *Node) checkPayload(name channelName, payload []byte) error {
	if total, most := (frameHeader{name.text}).total(len(payload)), n.config.Limits.MessageBytes; total > most {
		return fmt.Errorf("%w: %d bytes with their header, limits.message_bytes is %d", ErrTooLarge, total, most)
	}
	return nil
}

func errEmptyOnChat() error {
	return fmt.Errorf("%w: an empty message cannot travel on %s; peers of the existing network break the stream on it", ErrArgument, ChatProtocol)
}

// Routed answers the route of a direct channel that was sent on lately, else nil. It keeps nothing of the text.
func (n *Node) Routed(channel string) *Route {
	r := &n.traffic.routes
	r.RLock()
	defer r.RUnlock()
	return r.byName[channel]
}

// Route answers the route of a direct channel that may be sent on.
func (n *Node) Route(channel string) (*Route, error) {
	if known := n.Routed(channel); known != nil {
		return known, nil
	}
	name, err := parseChannel(channel)
	if err != nil {
		return nil, err
	}
	if name.topic {
		return nil, fmt.Errorf("%w: %q is a topic; publish on it", ErrArgument, channel)
	}
	if err := name.checkOutgoing(n.id); err != nil {
		return nil, err
	}
	r := &n.traffic.routes
	r.Lock()
	defer r.Unlock()
	if r.byName == nil || len(r.byName) >= maxRoutes {
		r.byName = map[string]*Route{}
	}
	made := &Route{name: name}
	r.byName[channel] = made
	return made, nil
}

// route answers a parsed direct channel name that may be sent on.
func (n *Node) route(channel string) (channelName, error) {
	r, err := n.Route(channel)
	if err != nil {
		return channelName{}, err
	}
	return r.name, nil
}

// checkReachable refuses a message for a peer that is neither connected nor known.
func (l *link) checkReachable() error {
	l.state.Lock()
	streaming := l.state.current != nil
	l.state.Unlock()
	if streaming || l.connected() || len(l.node.host.Peerstore().Addrs(l.peer)) > 0 {
		return nil
	}
	l.retireUnused()
	return fmt.Errorf("%w: no connection to %s and no address of it is known; connect first", ErrNotConnected, l.peer)
}

// Flush waits until everything queued on the channel before is in the peer's queue, or on chat until the transport has taken it.
//
// On a direct topic: in the queue of every subscriber.
func (n *Node) Flush(ctx context.Context, channel string) error {
	if d := n.topics.direct.find(channel); d != nil {
		ctx, cancel := n.bind(ctx)
		defer cancel()
		return d.flush(ctx)
	}
	name, err := n.route(channel)
	if err != nil {
		return err
	}
	o := n.outbounds.find(name.text)
	if o == nil {
		return nil
	}
	ctx, cancel := n.bind(ctx)
	defer cancel()
	return o.flush(ctx)
}
