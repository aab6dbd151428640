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

// routes remembers parsed direct channel names, so that a send costs one look-up.
type routes struct {
	sync.RWMutex
	byName map[string]channelName
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
	return n.take(ctx, channel, payload, nil, nil)
}

// SendLent is Send without the copy: payload must not change until release is called, once the message needs it no more, at the
// latest when the node has closed. That may be during this call or any other of the node, under its locks. After an error release
// is not called.
func (n *Node) SendLent(ctx context.Context, channel string, payload []byte, release func()) error {
	l := loan{release: release}
	err := n.take(ctx, channel, payload, &l, nil)
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
	var sent sentWaiter
	if err := n.take(ctx, channel, payload, nil, &sent); err != nil {
		return err
	}
	return sent.wait(ctx)
}

func (n *Node) take(ctx context.Context, channel string, payload []byte, l *loan, wait *sentWaiter) error {
	name, err := n.route(channel)
	if err != nil {
		return err
	}
	if err := n.checkPayload(name, payload); err != nil {
		return err
	}
	for {
		o := n.outbounds.obtain(name)
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

// Routed answers a direct channel that was sent on lately, as a text that stays.
func (n *Node) Routed(channel string) (string, bool) {
	r := &n.traffic.routes
	r.RLock()
	name, known := r.byName[channel]
	r.RUnlock()
	return name.text, known
}

// route answers a parsed direct channel name that may be sent on.
func (n *Node) route(channel string) (channelName, error) {
	r := &n.traffic.routes
	r.RLock()
	name, known := r.byName[channel]
	r.RUnlock()
	if known {
		return name, nil
	}
	name, err := parseChannel(channel)
	if err != nil {
		return name, err
	}
	if name.topic {
		return name, fmt.Errorf("%w: %q is a topic; publish on it", ErrArgument, channel)
	}
	if err := name.checkOutgoing(n.id); err != nil {
		return name, err
	}
	r.Lock()
	defer r.Unlock()
	if r.byName == nil || len(r.byName) >= maxRoutes {
		r.byName = map[string]channelName{}
	}
	r.byName[channel] = name
	return name, nil
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
