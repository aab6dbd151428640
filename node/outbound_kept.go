package node

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"peerbus/node/session"
	"peerbus/node/store"
)

const (
	// feedBytes is how much is read from the disk at a time.
	feedBytes = 1 << 20
	// keptBatchBytes and keptBatchMessages bound what one call puts on disk with its first message.
	keptBatchBytes    = 4 << 20
	keptBatchMessages = 4096
	// generationsPerStart is how many streams a process may open for one session.
	generationsPerStart = 1 << 32
)

// kept is what makes an outbound durable: every message is on disk before it has an id, and stays there until it is settled.
// The session's window holds only what may have gone to a stream; the rest waits on disk and is fed to it as there is room.
//
//	1 .... settled .... exposed .... last .... next
//	 removed | in the window | on disk  | being written
//
// The outbound's lock guards it. Changes of the disk go through the store, whose goroutine takes that lock; so nobody waits for the
// store with the lock held.
type kept struct {
	durables *durables
	number   uint64        // of the record; 0: the channel is not on disk yet
	record   store.Channel // as it is on disk once the changes in hand are
	last     uint64        // newest id on disk
	next     uint64        // newest id given out

	feeding, pruning bool
	paused           bool // disconnected by us: the next message or connection goes on
	told             bool // the host knows whether the receiver is durable
	begun            bool // a message was given to it, by this process or an earlier one: it stays durable
}

// newKeptLocked makes a new channel durable. The store is open.
func (o *outbound) newKeptLocked() {
	o.kept = &kept{durables: o.node.durables, record: store.Channel{Name: o.name, Session: session.NewID(), Starts: 1}}
	o.state.sender, _ = session.RestoreSender(o.node.keptOptions(o.name), o.kept.state(), nil)
}

// setDurable makes a channel durable, or not. That is open until its first message, and what is on disk stays durable.
func (o *outbound) setDurable(on bool) error {
	if on {
		if err := o.node.durables.obtain(); err != nil {
			return err
		}
	}
	o.state.Lock()
	defer o.state.Unlock()
	s := &o.state
	switch {
	case on == (o.kept != nil):
		return nil
	case s.closing != nil:
		return s.closing
	case on && (s.sender != nil || s.link != nil || s.base > 0):
		return fmt.Errorf("%w: messages were sent on %q; make it durable before the first one", ErrArgument, o.name)
	case on:
		o.newKeptLocked()
		return nil
	case o.kept.begun:
		return fmt.Errorf("%w: messages of %q are on disk; it stays durable", ErrArgument, o.name)
	}
	o.kept, s.sender = nil, nil
	return nil
}

// beginKeptLocked tells whether the channel is durable, and settles that it stays so.
func (o *outbound) beginKeptLocked() bool {
	if o.kept == nil {
		return false
	}
	o.kept.begun = true
	return true
}

func (o *outbound) isKept() bool {
	o.state.Lock()
	defer o.state.Unlock()
	return o.kept != nil
}

func (k *kept) state() session.SenderState {
	return session.SenderState{
		Session: k.record.Session, Instance: k.record.Instance, Born: k.record.Born, Generation: k.record.Starts * generationsPerStart,
		Settled: k.record.Settled - k.record.Base, Taken: k.record.Taken - k.record.Base,
	}
}

// takeUp begins where an earlier process ended.
func (o *outbound) takeUp(number uint64, record store.Channel, exposed []session.Kept) {
	o.state.Lock()
	defer o.state.Unlock()
	if o.kept == nil {
		o.newKeptLocked()
	}
	k, s := o.kept, &o.state
	k.begun, k.number, k.record, k.last, k.next = true, number, record, record.Last, record.Last
	s.base, s.deliveries.forgotten = record.Base, record.Lost
	var out session.Outcome
	s.sender, out = session.RestoreSender(o.node.keptOptions(o.name), k.state(), exposed)
	s.counted = s.sender.Progress().Last
	o.applyLocked(out)
}

// resume sends what is left.
func (o *outbound) resume() {
	o.state.Lock()
	defer o.state.Unlock()
	if o.kept != nil && !o.nothingToSendLocked() {
		o.startWriterLocked()
	}
}

// nothingToSendLocked tells whether the channel needs no stream.
func (o *outbound) nothingToSendLocked() bool {
	switch {
	case o.kept != nil && o.kept.paused:
		return true
	case o.state.sender.Awaits():
		return false
	case o.kept == nil:
		return o.state.sender.Unsettled() == 0
	}
	return o.kept.last <= o.state.base+o.state.sender.Progress().Settled
}

// sendKept puts the first of some messages on disk, waiting for room until ctx ends, and of the others those that find room at
// once. It answers the id of the first and how many it took. The disk decides how long writing takes.
func (o *outbound) sendKept(ctx context.Context, payloads [][]byte) (first uint64, taken int, err error) {
	if err := o.checkKept(payloads); err != nil {
		return 0, 0, err
	}
	d := o.kept.durables
	p := &keptPut{out: o, cost: store.OutCost(len(payloads[0])), end: make(chan error, 1)}
	if err := d.room.reserve(ctx, d, o.name, p.cost); err != nil {
		return 0, 0, err
	}
	for taken = 1; taken < min(len(payloads), keptBatchMessages); taken++ {
		cost := store.OutCost(len(payloads[taken]))
		if p.cost+cost > keptBatchBytes || !d.room.try(cost) {
			break
		}
		p.cost += cost
	}
	p.payloads = payloads[:taken]
	if !d.store.Do(p.write, p.done) {
		d.room.giveBack(p.cost)
		return 0, 0, ErrClosed
	}
	if err := <-p.end; err != nil {
		return 0, 0, err
	}
	return p.first, taken, nil
}

func (o *outbound) checkKept(payloads [][]byte) error {
	o.state.Lock()
	defer o.state.Unlock()
	if o.state.closing != nil {
		return o.state.closing
	}
	for _, payload := range payloads {
		if most := o.state.sender.MaxMessage(); len(payload) > most {
			return fmt.Errorf("%w: %d bytes, channel %q takes at most %d", ErrTooLarge, len(payload), o.name, most)
		}
	}
	return nil
}

// keptPut is one sendKept on its way to the disk.
type keptPut struct {
	out      *outbound
	payloads [][]byte // the host's memory
	cost     int64
	first    uint64
	created  bool // the channel's record
	direct   bool // into the window at once: nothing else waits on disk
	end      chan error
}

func (p *keptPut) write(tx *store.Tx) error {
	number, record, err := p.begin(tx)
	if err != nil {
		return err
	}
	for i, payload := range p.payloads {
		if err := tx.PutOut(number, store.OutMessage{ID: p.first + uint64(i), Payload: payload}); err != nil {
			return err
		}
	}
	return tx.PutChannel(number, record)
}

// begin gives out the ids.
func (p *keptPut) begin(tx *store.Tx) (uint64, store.Channel, error) {
	s, k := &p.out.state, p.out.kept
	s.Lock()
	defer s.Unlock()
	if k.number == 0 {
		number, err := tx.NewChannel()
		if err != nil {
			return 0, k.record, err
		}
		k.number, p.created = number, true
	}
	p.direct = s.sender.Accepting() && s.base+s.sender.Progress().Last == k.last
	p.first = k.next + 1
	k.next += uint64(len(p.payloads))
	k.record.Last = k.next
	if p.direct {
		k.record.Exposed = k.next
	}
	return k.number, k.record, nil
}

func (p *keptPut) done(err error) {
	s, k := &p.out.state, p.out.kept
	s.Lock()
	switch {
	case err != nil:
		k.next, k.record.Last = k.last, k.last
		k.record.Exposed = min(k.record.Exposed, k.last)
		if p.created {
			k.number = 0
		}
		err = storeError(err)
	case s.base >= p.first:
		k.last = max(k.last, p.first+uint64(len(p.payloads))-1)
		err = fmt.Errorf("%w: the peer ended channel %q while the message was written", ErrRefused, p.out.name)
	default:
		k.last = p.first + uint64(len(p.payloads)) - 1
		p.out.queuedLocked(p.first, k.last)
		p.out.storedLocked(p)
	}
	s.Unlock()
	if err != nil {
		k.durables.room.giveBack(p.cost)
	}
	p.end <- err
}

// storedLocked sends what is on disk now.
func (o *outbound) storedLocked(p *keptPut) {
	k := o.kept
	k.paused = false
	if p.direct {
		for i, payload := range p.payloads {
			if !o.admitLocked(p.first+uint64(i), session.Kept{Payload: payload}) {
				break
			}
		}
	}
	o.accountLocked()
	o.feedLocked()
	if o.state.closing == nil {
		o.startWriterLocked()
	}
}

// admitLocked puts a stored message into the window, if it is the next one and there is room. One that can never go is lost.
func (o *outbound) admitLocked(id uint64, m session.Kept) bool {
	sender := o.state.sender
	if o.state.base+sender.Progress().Last+1 != id {
		return false
	}
	if m.Missing {
		o.applyLocked(sender.Forgo(session.ReasonDamaged))
		return true
	}
	_, err := sender.Accept(m.Attributes, m.Payload)
	if errors.Is(err, session.ErrTooLarge) {
		o.applyLocked(sender.Forgo(session.ReasonTooLarge))
		return true
	}
	return err == nil
}

// feedLocked brings messages from the disk into the window when that has room and the receiver listens.
func (o *outbound) feedLocked() {
	k := o.kept
	if k.feeding || !o.hungryLocked() {
		return
	}
	f := &keptFeed{out: o}
	k.feeding = k.durables.store.Do(f.write, f.done)
}

func (o *outbound) hungryLocked() bool {
	sender, limits := o.state.sender, o.node.config.Limits
	if !sender.Accepting() || o.state.base+sender.Progress().Last >= o.kept.last {
		return false
	}
	return sender.Held() == 0 || int64(sender.Held()) <= limits.ChannelSendBytes/2 &&
		sender.Unsettled() <= uint64(limits.SendMessages)/2 && !o.peer.full(o.state.class, 0)
}

// keptFeed is one reading of messages. That they may have gone to a stream is on disk before they do.
type keptFeed struct {
	out      *outbound
	messages []store.OutMessage
}

func (f *keptFeed) write(tx *store.Tx) error {
	s, k := &f.out.state, f.out.kept
	s.Lock()
	number, first, last := k.number, s.base+s.sender.Progress().Last+1, k.last
	s.Unlock()
	f.messages = tx.Out(number, first, last, feedBytes)
	if len(f.messages) == 0 {
		return nil
	}
	s.Lock()
	k.record.Exposed = max(k.record.Exposed, f.messages[len(f.messages)-1].ID)
	record := k.record
	s.Unlock()
	return tx.PutChannel(number, record)
}

func (f *keptFeed) done(err error) {
	o := f.out
	o.state.Lock()
	defer o.state.Unlock()
	o.kept.feeding = false
	if err != nil {
		o.kept.durables.failed("sending", o.name, err)
		o.kept.durables.retry("durable channel", func() {
			o.state.Lock()
			defer o.state.Unlock()
			o.feedLocked()
		})
		return
	}
	for _, m := range f.messages {
		if !o.admitLocked(m.ID, keptMessage(m)) {
			break
		}
	}
	o.accountLocked()
	o.feedLocked()
	o.startWriterLocked()
}

// keepAnswer puts the receiver's answer to a stream on disk before messages follow: only with it a later process knows what the
// receiver's numbers mean.
func (o *outbound) keepAnswer(body []byte) error {
	accept, err := session.ParseAccept(body)
	if err != nil {
		return nil // the session says so
	}
	o.state.Lock()
	r := o.kept.record
	o.state.Unlock()
	if r.Instance == accept.Instance && r.Born == accept.Born && r.Durable == accept.Durable {
		return nil
	}
	err = o.kept.durables.store.Await(func(tx *store.Tx) error {
		o.state.Lock()
		k := o.kept
		k.record.Instance, k.record.Born, k.record.Durable = accept.Instance, accept.Born, accept.Durable
		number, record := k.number, k.record
		o.state.Unlock()
		return tx.PutChannel(number, record)
	})
	if err != nil {
		return storeError(err)
	}
	return nil
}

// appliedLocked follows every outcome of the session: what is settled leaves the disk, and what waits there takes its place.
func (o *outbound) appliedLocked(out session.Outcome) {
	k, p := o.kept, o.state.sender.Progress()
	for _, loss := range out.Lost {
		k.record.Lost = max(k.record.Lost, o.state.base+loss.Last)
	}
	settled, taken := o.state.base+p.Settled, o.state.base+p.Taken
	if settled > k.record.Settled || taken > k.record.Taken {
		k.record.Settled, k.record.Taken = settled, taken
		o.pruneLocked()
	}
	o.feedLocked()
}

// tellDurableLocked tells the host whether the receiver keeps the channel too.
func (o *outbound) tellDurableLocked(before bool) {
	if now := o.state.sender.Durable(); !o.kept.told || now != before {
		o.kept.told = true
		o.node.events.Push(EventChannelDurable, map[string]any{"peer": o.peer.id.String(), "channel": o.name, "receiver": now})
	}
}

// pruneLocked removes settled messages from the disk. Nobody waits for it, unless for the room: a message that is sent again
// because it was not removed in time is one that the receiver discards.
func (o *outbound) pruneLocked() {
	k := o.kept
	if k.pruning || k.number == 0 {
		return
	}
	p := &keptPrune{out: o}
	if k.durables.room.wanted() {
		k.pruning = k.durables.store.Do(p.write, p.done)
	} else {
		k.pruning = k.durables.store.Later(p.write, p.done)
	}
}

type keptPrune struct {
	out     *outbound
	settled uint64
	cost    int64
}

func (p *keptPrune) write(tx *store.Tx) (err error) {
	s, k := &p.out.state, p.out.kept
	s.Lock()
	number, record := k.number, k.record
	s.Unlock()
	p.settled = record.Settled
	if p.cost, err = tx.DeleteOut(number, record.Settled); err != nil {
		return err
	}
	return tx.PutChannel(number, record)
}

func (p *keptPrune) done(err error) {
	o := p.out
	o.state.Lock()
	defer o.state.Unlock()
	o.kept.pruning = false
	if err != nil {
		o.kept.durables.failed("removing what was delivered", o.name, err)
		return // the next outcome tries again
	}
	o.kept.durables.room.giveBack(p.cost)
	if o.kept.record.Settled > p.settled {
		o.pruneLocked()
	}
}

// renewKeptLocked follows the end of a session by the peer's word: what waited for it is lost, and the next message begins
// another.
func (o *outbound) renewKeptLocked() {
	s, k := &o.state, o.kept
	last := s.base + s.sender.Progress().Last
	if k.next > last {
		o.lostLocked(session.Loss{Range: session.Range{First: last + 1, Last: k.next}, Reason: session.ReasonRefused})
	}
	s.base = k.next
	k.record = store.Channel{
		Name: o.name, Session: session.NewID(), Starts: k.record.Starts, Base: s.base,
		Exposed: s.base, Settled: s.base, Taken: s.base, Last: s.base, Lost: s.base,
	}
	s.sender, _ = session.RestoreSender(o.node.keptOptions(o.name), k.state(), nil)
	s.counted = 0
	o.accountLocked()
	o.pruneLocked()
	s.deliveries.progressed()
}

// pauseKeptLocked leaves everything on disk until the next message or connection, or the next process.
func (o *outbound) pauseKeptLocked() {
	o.kept.paused = true
	if stream := o.state.stream; stream != nil {
		o.state.stream = nil
		o.state.sender.StreamLost(stream.generation, stream.progressed)
		o.node.spawn("channel reset", func() { _ = stream.Reset() })
	}
	if o.state.stopOpening != nil {
		o.state.stopOpening()
	}
	o.poke()
}

// comeBackLocked goes on with a paused channel.
func (o *outbound) comeBackLocked() {
	o.kept.paused = false
	if o.state.closing == nil && !o.nothingToSendLocked() {
		o.startWriterLocked()
	}
}

// What a durable channel guarantees besides: what was sent is on disk, and arrives once and for good when the receiver keeps it too.
var (
	keptGuarantees    = append(slices.Clone(acknowledgedGuarantees), "kept")
	durableGuarantees = append(slices.Clone(keptGuarantees), "durable")
)

func (o *outbound) keptInfoLocked(info *ChannelInfo) {
	info.Last = o.kept.last
	info.Waiting = info.Last - info.Accepted
	info.Guarantees = keptGuarantees
	if o.state.sender.Durable() || o.kept.record.Durable {
		info.Guarantees = durableGuarantees
	}
}
