package node

import (
	"context"
	"errors"
	"sync"
	"time"

	"peerbus/node/session"
	"peerbus/node/store"
	"peerbus/queue"
)

// seenAhead is how many messages may be handed over before the disk has to hear of it again. So many more than necessary may be
// marked as redelivered after a crash.
const seenAhead = 1024

// confirmedBefore stands where a reason to refuse a message stands, and is none: the application was done with it.
var confirmedBefore = refusal{reason: "confirmed"}

// incoming is the receiving side of one durable channel. What the application confirmed is in the session's ledger; this puts it on
// disk, and only then the sender hears of it. The ids that the application knows count from base.
//
//	made --record on disk--> kept --another session of the sender: base grows--> made
//	                          ^
//	       taken up at the start of the node
type incoming struct {
	durables *durables
	channel  string
	peer     string

	state struct {
		sync.Mutex
		number   uint64 // of the record; 0: not on disk yet
		receiver *session.Receiver
		base     uint64
		kept     bool   // the receiver is on disk
		seen     uint64 // on disk: messages up to it may have been handed to the application
		ahead    uint64 // seen as it is to be on disk
		before   uint64 // messages up to it an earlier process may have handed over
		back     uint64 // the first message that waited when the queue closed; 0: none
		writing  bool   // by keepSoon
	}
}

// takeUpIncoming begins where an earlier process ended.
func (d *durables) takeUpIncoming(number uint64, record store.Incoming) {
	k := &incoming{durables: d, channel: record.Channel, peer: record.Peer}
	s := &k.state
	s.number, s.base, s.kept = number, record.Base, true
	s.seen, s.ahead, s.before = record.Seen, record.Seen, record.Seen
	s.receiver = d.node.inbounds.table.Restore(record.Peer, record.ReceiverState, time.Now())
	d.in.byName[record.Channel] = k
}

// incomingOf answers the receiving side of a channel, nil when it is not durable.
func (d *durables) incomingOf(channel string) *incoming {
	d.in.Lock()
	defer d.in.Unlock()
	return d.in.byName[channel]
}

// keep makes the session of a new stream durable on this side too, and waits until the disk knows it: a sender that was answered
// relies on that. nil: the session is none of those.
func (d *durables) keep(in *inStream, replaced bool) (*incoming, error) {
	if !d.receives {
		return nil, nil
	}
	if !in.receiver.Durable() {
		if replaced {
			d.forgetIncoming(in.name)
		}
		return nil, nil
	}
	d.in.Lock()
	k := d.in.byName[in.name]
	if k == nil {
		k = &incoming{durables: d, channel: in.name, peer: in.from}
		d.in.byName[in.name] = k
	}
	d.in.Unlock()
	if stored, err := k.begin(in.receiver); stored || err != nil {
		return k, err
	}
	err := k.putNow()
	if err != nil && !errors.Is(err, ErrClosed) {
		d.failed("receiving", in.name, err) // the sender tries again
	}
	return k, err
}

// begin makes a session the channel's present one, and tells whether the disk knows that already.
func (k *incoming) begin(r *session.Receiver) (stored bool, err error) {
	k.state.Lock()
	defer k.state.Unlock()
	s := &k.state
	if r.Retired() {
		return false, session.ErrFenced
	}
	if s.receiver != r {
		if s.receiver != nil {
			s.base += max(s.receiver.State().Expected-1, s.before)
		}
		s.receiver, s.kept, s.seen, s.ahead, s.before, s.back = r, false, 0, 0, 0, 0
	}
	return s.kept, nil
}

// forgetIncoming removes the record of a channel whose sender no longer keeps it.
func (d *durables) forgetIncoming(channel string) {
	d.in.Lock()
	k := d.in.byName[channel]
	delete(d.in.byName, channel)
	d.in.Unlock()
	if k == nil {
		return
	}
	k.state.Lock()
	number := k.state.number
	k.state.Unlock()
	d.store.Later(func(tx *store.Tx) error { return tx.DeleteIncoming(number) }, func(err error) {
		if err != nil {
			d.node.log.Error("the record of a channel stays on disk", "channel", channel, "reason", err)
		}
	})
}

// foresee makes sure that the disk knows, before a message is handed over, that it may be. While the disk fails it holds the
// sender up.
func (k *incoming) foresee(ctx context.Context, last uint64) error {
	k.state.Lock()
	known := last <= k.state.seen
	if !known {
		k.state.ahead = max(k.state.ahead, last+seenAhead)
	}
	k.state.Unlock()
	if known {
		return nil
	}
	err := k.putNow()
	for ; err != nil && !errors.Is(err, ErrClosed) && ctx.Err() == nil; err = k.putNow() {
		k.durables.failed("receiving", k.channel, err)
		select {
		case <-time.After(storeRetry):
		case <-ctx.Done():
		}
	}
	return err
}

// origin is what the queue tells about the channel's messages.
func (k *incoming) origin(r *session.Receiver) *queue.Source {
	return &queue.Source{
		Left: func(uint64) {}, Kept: true, Back: k.cameBack,
		Evicted: func(sequence uint64) { r.Confirm(sequence); k.keepSoon() },
	}
}

// label numbers messages as the application knows them, and answers which ones it must not get again.
func (k *incoming) label(r *session.Receiver, fresh []queue.Message, refused []refusal) {
	k.state.Lock()
	base, before := k.state.base, k.state.before
	k.state.Unlock()
	for i := range fresh {
		m := &fresh[i]
		m.ID, m.Again = base+m.Sequence, m.Sequence <= before
		if r.Has(m.Sequence) {
			refused[i] = confirmedBefore
		}
	}
}

// cameBack hears which message was the first one that waited when the queue closed.
func (k *incoming) cameBack(sequence uint64) {
	k.state.Lock()
	defer k.state.Unlock()
	if k.state.back == 0 || sequence < k.state.back {
		k.state.back = sequence
	}
}

// closing writes what the application was really given: the queue is closed.
func (k *incoming) closing() {
	k.state.Lock()
	s := &k.state
	given := s.receiver.State().Expected - 1
	if s.back > 0 {
		given = min(given, s.back-1)
	}
	s.ahead = max(s.before, given)
	kept := s.kept
	k.state.Unlock()
	if kept {
		p := &incomingPut{in: k}
		k.durables.store.Later(p.write, p.done)
	}
}

// keepSoon puts on disk what nobody waits for, if there is something.
func (k *incoming) keepSoon() {
	k.state.Lock()
	defer k.state.Unlock()
	if k.state.writing || !k.state.receiver.Unstored() {
		return
	}
	p := &incomingPut{in: k}
	k.state.writing = k.durables.store.Later(p.write, func(err error) {
		p.done(err)
		k.state.Lock()
		k.state.writing = false
		k.state.Unlock()
		if err != nil {
			k.durables.failed("confirmations", k.channel, err)
			k.durables.retry("durable channel", k.keepSoon)
			return
		}
		k.keepSoon()
	})
}

// putNow writes the record and waits for that.
func (k *incoming) putNow() error {
	p := &incomingPut{in: k}
	return k.durables.putNow([]*incomingPut{p})
}

func (d *durables) putNow(puts []*incomingPut) error {
	err := d.store.Await(func(tx *store.Tx) error {
		for _, p := range puts {
			if err := p.write(tx); err != nil {
				return err
			}
		}
		return nil
	})
	for _, p := range puts {
		p.done(err)
	}
	if err != nil {
		return storeError(err)
	}
	return nil
}

// incomingPut is one writing of a record.
type incomingPut struct {
	in       *incoming
	receiver *session.Receiver
	state    session.ReceiverState
	ahead    uint64
	created  bool
}

func (p *incomingPut) write(tx *store.Tx) (err error) {
	s := &p.in.state
	s.Lock()
	defer s.Unlock()
	if s.number == 0 {
		if s.number, err = tx.NewIncoming(); err != nil {
			return err
		}
		p.created = true
	}
	p.receiver, p.state, p.ahead = s.receiver, s.receiver.State(), s.ahead
	return tx.PutIncoming(s.number, store.Incoming{Peer: p.in.peer, ReceiverState: p.state, Base: s.base, Seen: s.ahead})
}

func (p *incomingPut) done(err error) {
	s := &p.in.state
	s.Lock()
	defer s.Unlock()
	switch {
	case err == nil && s.receiver == p.receiver:
		s.kept, s.seen = true, max(s.seen, p.ahead)
		p.receiver.Stored(p.state)
	case err != nil && p.created:
		s.number = 0
	}
}
