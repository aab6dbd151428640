package session

import (
	"container/list"
	"fmt"
	"sync"
	"time"
)

// TableOptions bound the sessions that a node remembers. Zero values mean the defaults.
type TableOptions struct {
	Instance     ID // drawn at random when zero
	PeerSessions int
	Sessions     int
	Keep         time.Duration // how long a session without a stream is remembered, at least DefaultKeep
	Receiver     ReceiverOptions
}

// A Table finds the Receiver of a peer's session. A session is only ever found by the peer that opened it. The table is safe
// for concurrent use.
type Table struct {
	options TableOptions
	durable ID // the instance of durable sessions, which outlives the process; zero: there are none
	state   struct {
		sync.Mutex
		peers    map[string]*peerTable
		detached *list.List // of *entry, the longest without a stream first
		count    int
		forgot   time.Time // when a session was last forgotten before its time, of any peer
	}
}

type peerTable struct {
	sessions map[ID]*entry
	channels map[string]ID // the newest session of each channel
	detached *list.List    // of *entry, the longest without a stream first
	forgot   time.Time
}

type entry struct {
	receiver *Receiver
	peer     string
	since    time.Time // without a stream since then
	global   *list.Element
	own      *list.Element // both nil while a stream is attached
}

// NewTable makes an empty table.
func NewTable(o TableOptions) *Table {
	if o.Instance.IsZero() {
		o.Instance = NewID()
	}
	setDefault(&o.PeerSessions, DefaultPeerSessions)
	setDefault(&o.Sessions, DefaultSessions)
	o.Keep = max(o.Keep, DefaultKeep)
	o.Receiver.fill()
	t := &Table{options: o}
	t.state.peers = map[string]*peerTable{}
	t.state.detached = list.New()
	return t
}

// Instance is this receiver's id, for peers that want to learn it early.
func (t *Table) Instance() ID { return t.options.Instance }

// Len is the number of sessions.
func (t *Table) Len() int {
	t.state.Lock()
	defer t.state.Unlock()
	return t.state.count
}

// Opened says what an OPEN led to.
type Opened struct {
	*Stream
	Fenced *Stream // the stream that was attached, nil if none; its reader may not notice by itself
	Fresh  bool    // the session is new here
	// Replaced: the same peer had an unfinished session on this channel: its process restarted, or gave the session up.
	Replaced bool
}

// Open takes the OPEN frame of a stream that the peer opened. The stream before it, if the session has one, is fenced: the
// caller closes it with CloseFenced. Release must follow when the new stream ends.
func (t *Table) Open(peer string, open Open, now time.Time) (Opened, error) {
	t.state.Lock()
	defer t.state.Unlock()
	owner := t.state.peers[peer]
	if owner != nil {
		if e := owner.sessions[open.Session]; e != nil {
			stream, fenced, err := e.receiver.attach(open)
			if err != nil {
				return Opened{}, err
			}
			t.unlistLocked(e)
			return Opened{Stream: stream, Fenced: fenced}, nil
		}
	}
	return t.beginLocked(peer, open, now)
}

func (t *Table) beginLocked(peer string, open Open, now time.Time) (Opened, error) {
	old := t.durableLocked(peer, open.Channel)
	if old == nil {
		if err := t.makeRoomLocked(peer, now); err != nil {
			return Opened{}, err
		}
	}
	receiver := t.newReceiver(open)
	receiver.forgetful = t.forgetfulLocked(peer, now)
	stream, _, err := receiver.attach(open)
	if err != nil {
		return Opened{}, err
	}
	owner := t.ownerLocked(peer)
	_, replaced := owner.channels[open.Channel]
	owner.sessions[open.Session] = &entry{receiver: receiver, peer: peer}
	owner.channels[open.Channel] = open.Session
	t.state.count++
	opened := Opened{Stream: stream, Fresh: true, Replaced: replaced}
	if old != nil {
		opened.Fenced = old.receiver.retire()
		t.forgetLocked(old)
	}
	return opened, nil
}

// durableLocked answers the durable session of a channel, nil if there is none. On disk there is one at most: a new session of
// the channel ends it.
func (t *Table) durableLocked(peer, channel string) *entry {
	owner := t.state.peers[peer]
	if owner == nil {
		return nil
	}
	if e := owner.sessions[owner.channels[channel]]; e != nil && e.receiver.durable {
		return e
	}
	return nil
}

func (t *Table) newReceiver(open Open) *Receiver {
	instance := t.options.Instance
	durable := open.Durable && !t.durable.IsZero()
	if durable {
		instance = t.durable
	}
	r := newReceiver(open, instance, t.options.Receiver)
	r.durable, r.state.ack.steady = durable, durable
	return r
}

func (t *Table) ownerLocked(peer string) *peerTable {
	owner := t.state.peers[peer]
	if owner == nil {
		owner = &peerTable{sessions: map[ID]*entry{}, channels: map[string]ID{}, detached: list.New()}
		t.state.peers[peer] = owner
	}
	return owner
}

// forgetfulLocked tells whether a session of the peer that is still worth resuming may have been forgotten.
func (t *Table) forgetfulLocked(peer string, now time.Time) bool {
	forgot := t.state.forgot
	if owner := t.state.peers[peer]; owner != nil && owner.forgot.After(forgot) {
		forgot = owner.forgot
	}
	return now.Sub(forgot) < t.options.Keep
}

// makeRoomLocked forgets the session that was longest without a stream: of the same peer when that one has too many, of any
// when the table is full.
func (t *Table) makeRoomLocked(peer string, now time.Time) error {
	if owner := t.state.peers[peer]; owner != nil && len(owner.sessions) >= t.options.PeerSessions {
		if !t.evictLocked(owner.detached, &owner.forgot, now) {
			return fmt.Errorf("%w: %s has %d streams open", ErrTooManySessions, peer, len(owner.sessions))
		}
	}
	if t.state.count >= t.options.Sessions && !t.evictLocked(t.state.detached, &t.state.forgot, now) {
		return fmt.Errorf("%w: %d streams of all peers are open", ErrTooManySessions, t.state.count)
	}
	return nil
}

func (t *Table) evictLocked(from *list.List, forgot *time.Time, now time.Time) bool {
	oldest := from.Front()
	for oldest != nil && !oldest.Value.(*entry).forgettable() {
		oldest = oldest.Next()
	}
	if oldest == nil {
		return false
	}
	*forgot = now
	t.forgetLocked(oldest.Value.(*entry))
	return true
}

// Release notes that a stream has ended. The session is remembered for a while.
func (t *Table) Release(st *Stream, peer string, now time.Time) {
	t.state.Lock()
	defer t.state.Unlock()
	e := t.findLocked(st, peer)
	if !st.receiver.detach(st) || e == nil {
		return
	}
	owner := t.state.peers[peer]
	e.since = now
	e.global = t.state.detached.PushBack(e)
	e.own = owner.detached.PushBack(e)
	if st.phase == streamFinished && owner.channels[e.receiver.channel] == e.receiver.session {
		delete(owner.channels, e.receiver.channel)
	}
}

// Forget drops the session of a stream that was released: its sender was told that it is over.
func (t *Table) Forget(st *Stream, peer string) {
	t.state.Lock()
	defer t.state.Unlock()
	if e := t.findLocked(st, peer); e != nil && e.global != nil {
		t.forgetLocked(e)
	}
}

func (t *Table) findLocked(st *Stream, peer string) *entry {
	owner := t.state.peers[peer]
	if owner == nil {
		return nil
	}
	e := owner.sessions[st.receiver.session]
	if e == nil || e.receiver != st.receiver {
		return nil
	}
	return e
}

// Sweep forgets the sessions that were without a stream for too long, and answers when to call it again: the zero time when
// there is none.
func (t *Table) Sweep(now time.Time) time.Time {
	t.state.Lock()
	defer t.state.Unlock()
	for oldest, next := t.state.detached.Front(), (*list.Element)(nil); ; oldest = next {
		if oldest == nil {
			return time.Time{}
		}
		e := oldest.Value.(*entry)
		if next = oldest.Next(); !e.forgettable() {
			continue
		}
		if end := e.since.Add(t.options.Keep); now.Before(end) {
			return end
		}
		t.forgetLocked(e)
	}
}

func (t *Table) unlistLocked(e *entry) {
	if e.global == nil {
		return
	}
	t.state.detached.Remove(e.global)
	t.state.peers[e.peer].detached.Remove(e.own)
	e.global, e.own = nil, nil
}

// forgettable tells whether a session may be forgotten to make room, or after a while. A durable one may not: nobody could tell
// then what was confirmed.
func (e *entry) forgettable() bool { return !e.receiver.durable || e.receiver.isFinished() }

func (r *Receiver) isFinished() bool {
	r.state.Lock()
	defer r.state.Unlock()
	return r.state.finished
}

func (t *Table) forgetLocked(e *entry) {
	t.unlistLocked(e)
	owner := t.state.peers[e.peer]
	id := e.receiver.session
	delete(owner.sessions, id)
	if owner.channels[e.receiver.channel] == id {
		delete(owner.channels, e.receiver.channel)
	}
	t.state.count--
	if len(owner.sessions) == 0 {
		if owner.forgot.After(t.state.forgot) {
			t.state.forgot = owner.forgot
		}
		delete(t.state.peers, e.peer)
	}
}
