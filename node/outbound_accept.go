package node

import (
	"fmt"

	"peerbus/node/session"
)

// lentFrom is the size from which a payload is not copied if its memory is lent: below, the copy costs less than a second write.
const lentFrom = 256 << 10

// acceptLocked puts a message into the session, and of those that follow as many as find room at once. It answers the id of the
// first one and how many it took; their ids follow each other.
func (o *outbound) acceptLocked(m outMessage, more batch) (first uint64, taken int, err error) {
	first, waits, err := o.placeLocked(m)
	if err != nil {
		return 0, 0, err
	}
	for taken = 1; taken <= len(more.payloads) && o.followsLocked(first+uint64(taken)); taken++ {
		_, small, err := o.placeLocked(outMessage{payload: more.payloads[taken-1], loan: more.loan(taken - 1)})
		if err != nil {
			break
		}
		waits = waits || small
	}
	if waits {
		o.queuedLocked(0, first+uint64(taken)-1)
		o.acceptedLocked(true)
	}
	return first, taken, nil
}

// followsLocked tells whether the next message of the channel gets this id: others send too while a large one is copied.
func (o *outbound) followsLocked(id uint64) bool {
	s := &o.state
	return s.closing == nil && s.sender != nil && s.base+s.sender.Progress().Last+1 == id
}

// placeLocked copies a message into the session. The caller calls acceptedLocked for small ones.
func (o *outbound) placeLocked(m outMessage) (id uint64, small bool, err error) {
	s := &o.state
	if o.peer.full(s.class, len(m.body())) && s.sender.Held() > 0 {
		return 0, false, fmt.Errorf("%w: %d bytes wait to be sent to %s or to be acknowledged", errPeerFull, o.peer.held.Load(), o.peer.id)
	}
	if m.packed != nil {
		m.fit(s.sender)
	}
	body := m.body()
	if len(body) < soloBytes {
		if id, err = m.accept(s.sender); err == nil {
			o.countPackedLocked(m)
			if s.deliveries.untold == 0 {
				s.deliveries.untold = id + s.base
			}
		}
		o.accountLocked()
		return id + s.base, true, err
	}
	if m.loan != nil && m.packed == nil && len(body) >= lentFrom {
		return o.lendLocked(m)
	}
	r, err := m.reserve(s.sender)
	if err != nil {
		return 0, false, err
	}
	id = r.ID + s.base
	o.countPackedLocked(m)
	o.queuedLocked(id, id)
	o.fillLocked(s.sender, r, body)
	o.acceptedLocked(false)
	return id, false, nil
}

// lendLocked is placeLocked for what is not copied.
func (o *outbound) lendLocked(m outMessage) (id uint64, small bool, err error) {
	id, err = o.state.sender.Lend(session.Attributes{}, m.payload, m.loan.release)
	if err != nil {
		return 0, false, err
	}
	m.loan.used = true
	id += o.state.base
	o.queuedLocked(id, id)
	o.acceptedLocked(false)
	return id, false, nil
}

// acceptedLocked sets going what new messages need.
func (o *outbound) acceptedLocked(small bool) {
	s := &o.state
	if s.sender == nil {
		return // the session ended while the message was copied, and told of it
	}
	o.accountLocked()
	if s.stream == nil && s.expiry == nil {
		o.tickLocked()
	}
	if !small || !o.sendLoneLocked() {
		if s.class == ClassControl {
			o.urgeLocked()
		}
		o.startWriterLocked()
	}
}

// fillLocked copies a large payload without holding the lock.
func (o *outbound) fillLocked(sender *session.Sender, r *session.Reservation, payload []byte) {
	o.state.Unlock()
	copy(r.Payload, payload)
	o.state.Lock()
	sender.Fill(r)
}

// accountLocked keeps the peer's sum of held bytes right. It is called after everything that may change what the sender holds.
func (o *outbound) accountLocked() {
	held := 0
	if o.state.sender != nil {
		held = o.state.sender.Held()
	}
	if held != o.state.held {
		change, bulk := int64(held-o.state.held), int64(0)
		if o.state.class == ClassBulk {
			bulk = change
		}
		o.peer.account(change, bulk)
		o.state.held = held
	}
}
