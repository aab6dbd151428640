package node

import (
	"context"
	"errors"
	"fmt"

	"peerbus/node/session"
)

// DeliveryState is how far a message is on its way.
type DeliveryState uint8

// The states. Lost may follow queued and sent; accepted may follow queued, when the acknowledgement is quicker than we are.
const (
	DeliveryQueued   DeliveryState = iota // this node took it and gave it an id
	DeliverySent                          // a transport took all of its bytes
	DeliveryAccepted                      // the peer's receive queue took it
	DeliveryTaken                         // the peer's application took it
	DeliveryLost
)

var deliveryNames = [...]string{"queued", "sent", "accepted", "taken", "lost"}

func (s DeliveryState) String() string { return deliveryNames[s] }

// DeliveryStates is a set of states.
type DeliveryStates uint8

// With adds a state.
func (s DeliveryStates) With(state DeliveryState) DeliveryStates { return s | 1<<state }

// Has tells whether the state is in the set.
func (s DeliveryStates) Has(state DeliveryState) bool { return s&(1<<state) != 0 }

// maxFates bounds the runs of messages that one channel remembers as special.
const maxFates = 1024

type fateKind uint8

const (
	fateLost    fateKind = iota
	fateChat             // went by chat, which confirms nothing
	fateUntaken          // accepted, and nobody will say whether the application took it
)

// fate is a run of messages, by the ids that the host knows, for which the session's numbers do not say the truth.
type fate struct {
	session.Range
	kind    fateKind
	reason  session.Reason
	inDoubt bool
}

// deliveries remembers what became of messages. Its outbound's lock guards it.
type deliveries struct {
	events    DeliveryStates // that the host wants to hear of
	fates     []fate
	forgotten uint64        // newest id of which a fate was forgotten
	untold    uint64        // oldest id that is queued without an event, while messages are accepted; 0: none
	unheard   uint64        // newest id that the receiver, which is away, was asked about in vain
	lost      uint64        // messages that did not get to the receiver
	news      chan struct{} // closed when a message got further; nil when nobody waits
}

func (d *deliveries) note(f fate) {
	if n := len(d.fates); n > 0 {
		last := &d.fates[n-1]
		if last.kind == f.kind && last.reason == f.reason && last.inDoubt == f.inDoubt && last.Last+1 == f.First {
			last.Last = f.Last
			return
		}
	}
	if len(d.fates) == maxFates {
		d.forgotten = max(d.forgotten, d.fates[0].Last)
		d.fates = append(d.fates[:0], d.fates[1:]...)
	}
	d.fates = append(d.fates, f)
}

// find answers the fates of one message.
func (d *deliveries) find(id uint64, kind fateKind) (fate, bool) {
	for _, f := range d.fates {
		if f.kind == kind && f.First <= id && id <= f.Last {
			return f, true
		}
	}
	return fate{}, false
}

func (d *deliveries) progressed() {
	if d.news != nil {
		close(d.news)
		d.news = nil
	}
}

func (d *deliveries) wait() <-chan struct{} {
	if d.news == nil {
		d.news = make(chan struct{})
	}
	return d.news
}

// idsLocked turns numbers of the session into ids of the host.
func (o *outbound) idsLocked(r session.Range) session.Range {
	return session.Range{First: r.First + o.state.base, Last: r.Last + o.state.base}
}

// deliveredLocked tells that messages of the session got further.
func (o *outbound) deliveredLocked(state DeliveryState, r session.Range) {
	o.state.deliveries.progressed()
	if o.state.deliveries.events.Has(state) {
		o.raiseDeliveryLocked(state, o.idsLocked(r), nil)
	}
}

// queuedLocked tells that messages with these ids, and those that are untold yet, are in the channel.
func (o *outbound) queuedLocked(first, last uint64) {
	d := &o.state.deliveries
	if d.untold != 0 {
		first, d.untold = d.untold, 0
	}
	if d.events.Has(DeliveryQueued) && first != 0 {
		o.raiseDeliveryLocked(DeliveryQueued, session.Range{First: first, Last: last}, nil)
	}
}

// loseLocked counts messages of the session as lost and names them in an event.
func (o *outbound) loseLocked(l session.Loss) {
	l.Range = o.idsLocked(l.Range)
	o.lostLocked(l)
}

func (o *outbound) lostLocked(l session.Loss) {
	o.state.deliveries.note(fate{l.Range, fateLost, l.Reason, l.InDoubt})
	if !l.Reason.ByReceiver() {
		o.state.deliveries.lost += l.Len()
	}
	o.node.losses.add(directionOut, string(l.Reason), o.name, o.peer.id.String(), l.Len())
	o.raiseDeliveryLocked(DeliveryLost, l.Range, map[string]any{"reason": string(l.Reason), "in_doubt": l.InDoubt})
	o.state.deliveries.progressed()
}

func (o *outbound) raiseDeliveryLocked(state DeliveryState, r session.Range, fields map[string]any) {
	if fields == nil {
		fields = map[string]any{}
	}
	fields["channel"], fields["state"], fields["first"], fields["last"] = o.name, state.String(), r.First, r.Last
	if o.subscriber != nil {
		fields["peer"] = o.peer.id.String()
	}
	o.node.events.Push(EventDelivery, fields)
}

// restartedLocked tells that the receiver runs anew.
func (o *outbound) restartedLocked(untaken session.Range) {
	fields := map[string]any{"peer": o.peer.id.String(), "channel": o.name, "untaken": uint64(0)}
	if untaken.First != 0 {
		r := o.idsLocked(untaken)
		fields["untaken"], fields["first"], fields["last"] = r.Len(), r.First, r.Last
	}
	o.node.events.Push(EventReceiverRestarted, fields)
}

// await waits until a message has reached a state. ErrLost says that it never will.
func (o *outbound) await(ctx context.Context, id uint64, state DeliveryState) error {
	for {
		o.state.Lock()
		reached, err := o.reachedLocked(id, state)
		if !reached && err == nil && state == DeliveryTaken {
			o.awaitTakenLocked(id)
		}
		link := o.state.link
		news := o.state.deliveries.wait()
		o.state.Unlock()
		switch {
		case err == errByChat && link != nil:
			return link.flush(ctx, o.name)
		case err == errByChat:
			return fmt.Errorf("%w: the chat stream of message %d is over, and nobody knows more", ErrNotFound, id)
		case reached || err != nil:
			return err
		}
		select {
		case <-news:
		case <-ctx.Done():
			return contextError(ctx, fmt.Sprintf("waiting until message %d is %s", id, state))
		}
	}
}

// errByChat: what is left to know of a message is whether the chat stream took it.
var errByChat = fmt.Errorf("%w: %s confirms nothing but that the transport took a message", ErrUnsupported, ChatProtocol)

// reachedLocked tells whether a message has reached a state, or why it never will.
func (o *outbound) reachedLocked(id uint64, state DeliveryState) (bool, error) {
	s := &o.state
	last, sent, settled, taken := s.base, s.base, s.base, s.base
	if s.sender != nil {
		p := s.sender.Progress()
		last, sent, settled, taken = last+p.Last, sent+max(p.Sent, p.Settled), settled+p.Settled, taken+p.Taken
	}
	if o.kept != nil {
		last = o.kept.last
	}
	if id == 0 || id > last {
		return false, fmt.Errorf("%w: message %d was not sent on %q; the newest is %d", ErrArgument, id, o.name, last)
	}
	if state == DeliveryQueued {
		return true, nil // whatever became of it
	}
	if lost, known := s.deliveries.find(id, fateLost); known {
		if state <= DeliverySent && lost.reason.ByReceiver() {
			return true, nil // the receiver read what it refused
		}
		return false, lossError(id, lost)
	}
	if id <= s.deliveries.forgotten {
		return false, fmt.Errorf("%w: what became of message %d is no longer remembered", ErrNotFound, id)
	}
	if _, byChat := s.deliveries.find(id, fateChat); byChat && state == DeliverySent {
		return false, errByChat
	} else if byChat && state > DeliverySent {
		return false, fmt.Errorf("%w: message %d went by %s, which does not confirm that", ErrUnsupported, id, ChatProtocol)
	}
	switch state {
	case DeliverySent:
		return id <= sent, nil
	case DeliveryAccepted:
		return id <= settled, nil
	case DeliveryTaken:
		if _, unknown := s.deliveries.find(id, fateUntaken); unknown {
			if errors.Is(s.closing, ErrClosed) {
				return false, fmt.Errorf("%w: before the receiver of message %d said that its application took it", ErrClosed, id)
			}
			return false, fmt.Errorf("%w: the receiver accepted message %d, and the session ended before it said that its application took it", ErrLost, id)
		}
		if id > taken && id <= s.deliveries.unheard {
			return false, fmt.Errorf("%w: the receiver accepted message %d and has been away since for the whole resume window; nobody knows whether its application took it", ErrLost, id)
		}
		return id <= taken, nil
	}
	return true, nil
}

// awaitTakenLocked makes sure that the channel hears when its receiver takes a message: after a lost connection that needs a stream.
func (o *outbound) awaitTakenLocked(id uint64) {
	s := &o.state
	if s.sender == nil || id <= s.base {
		return
	}
	s.sender.Await(id - s.base)
	if s.stream == nil && s.closing == nil && !o.nothingToSendLocked() {
		o.tickLocked()
		o.startWriterLocked()
	}
}

func lossError(id uint64, f fate) error {
	switch {
	case f.reason == lossNodeClosed && f.inDoubt:
		return fmt.Errorf("%w: before message %d was acknowledged; it may have arrived", ErrClosed, id)
	case f.reason == lossNodeClosed:
		return fmt.Errorf("%w: before message %d was sent", ErrClosed, id)
	case f.inDoubt:
		return fmt.Errorf("%w: message %d, reason %s; it may have arrived", ErrLost, id, f.reason)
	}
	return fmt.Errorf("%w: message %d, reason %s; it did not arrive", ErrLost, id, f.reason)
}
