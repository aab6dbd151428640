package node

import (
	"context"
	"encoding/json"
	"maps"
	"sync"
	"time"
)

// Event types, as the header lists them.
const (
	EventPeerConnected     = "peer_connected"
	EventPeerDisconnected  = "peer_disconnected"
	EventAddressesChanged  = "addresses_changed"
	EventAddressesJudged   = "addresses_judged"
	EventReachability      = "reachability"
	EventPortMapping       = "port_mapping"
	EventTopicPeerJoined   = "topic_peer_joined"
	EventTopicPeerLeft     = "topic_peer_left"
	EventRendezvousUpdated = "rendezvous_updated"
	EventMessagesLost      = "messages_lost"
	EventConnectionDirect  = "connection_direct"
	EventTopicsMoved       = "topics_moved"
	EventHolePunch         = "hole_punch"
	EventRelayReserved     = "relay_reserved"
	EventRelayLost         = "relay_lost"
	EventRelayFailed       = "relay_failed"
	EventWritable          = "writable"
	EventWebRTCChanged     = "webrtc_changed"
	EventDelivery          = "delivery"
	EventProgress          = "progress"
	EventReceiverRestarted = "receiver_restarted"
	EventSenderRestarted   = "sender_restarted"
	EventChannelDurable    = "channel_durable"
	EventStoreFailed       = "store_failed"
	EventOperation         = "operation"
	EventPeerFound         = "peer_found"
	EventAdvertised        = "advertised"
	EventAdvertiseFailed   = "advertise_failed"
	EventNodeFailed        = "node_failed"
	EventEventsLost        = "events_lost"
)

// Event is one thing that happened to the node; Fields depend on Type.
type Event struct {
	Type   string
	Time   time.Time
	Fields map[string]any

	exempt bool   // does not count against the bound
	key    string // of PushOnce
}

// MarshalJSON puts type and time beside the fields.
func (e Event) MarshalJSON() ([]byte, error) {
	flat := make(map[string]any, len(e.Fields)+2)
	maps.Copy(flat, e.Fields)
	flat["type"] = e.Type
	flat["time"] = e.Time.UTC().Format(time.RFC3339Nano)
	return json.Marshal(flat)
}

// Events is the bounded event queue of one node. An event that finds it full is counted, and the next one that is taken
// after the gap is preceded by an events_lost event. PushMust and PushOnce are exempt from the bound: their callers bound
// the number of operations and of channels.
type Events struct {
	limit int
	wake  func(readable bool)

	state struct {
		sync.Mutex
		waiting     []Event
		bounded     int                 // of waiting, those that count against limit
		keys        map[string]struct{} // of waiting, those of PushOnce
		lost        uint64
		lostTotal   uint64
		news        chan struct{} // closed and replaced when something changes for waiters
		waiters     int
		interrupted uint64 // generation of Interrupt
		pending     bool   // an interruption that nobody has taken
		closed      bool
	}
}

// NewEvents makes a queue of at most limit events. wake is called with the lock held when the queue turns readable or
// ceases to be; it must not block. nil is fine.
func NewEvents(limit int, wake func(readable bool)) *Events {
	e := &Events{limit: limit, wake: wake}
	e.state.news = make(chan struct{})
	e.state.keys = map[string]struct{}{}
	return e
}

// Push adds an event, or counts it as lost when the queue is full.
func (e *Events) Push(kind string, fields map[string]any) {
	e.state.Lock()
	defer e.state.Unlock()
	s := &e.state
	if s.bounded >= e.limit && !s.closed {
		s.lost++
		s.lostTotal++
		return
	}
	if s.lost > 0 {
		e.addLocked(lostEvents(s.lost))
		s.lost = 0
	}
	if e.addLocked(Event{Type: kind, Fields: fields}) {
		s.bounded++
	}
}

// PushMust adds an event whatever the bound.
func (e *Events) PushMust(kind string, fields map[string]any) {
	e.state.Lock()
	defer e.state.Unlock()
	e.addLocked(Event{Type: kind, Fields: fields, exempt: true})
}

// PushOnce adds an event whatever the bound, unless one with that key still waits.
func (e *Events) PushOnce(kind, key string, fields map[string]any) {
	e.state.Lock()
	defer e.state.Unlock()
	if _, waiting := e.state.keys[key]; waiting {
		return
	}
	if e.addLocked(Event{Type: kind, Fields: fields, exempt: true, key: key}) {
		e.state.keys[key] = struct{}{}
	}
}

func (e *Events) addLocked(event Event) bool {
	if e.state.closed {
		return false
	}
	event.Time = time.Now()
	e.state.waiting = append(e.state.waiting, event)
	e.announceLocked()
	return true
}

func lostEvents(count uint64) Event {
	return Event{Type: EventEventsLost, Time: time.Now(), Fields: map[string]any{"count": count}, exempt: true}
}

func (e *Events) announceLocked() {
	if e.wake != nil {
		e.wake(true)
	}
	if e.state.waiters > 0 {
		close(e.state.news)
		e.state.news = make(chan struct{})
	}
}

// Pop takes up to max events, waiting for the first one until ctx ends; then it returns none and no error.
func (e *Events) Pop(ctx context.Context, max int) ([]Event, error) {
	s := &e.state
	s.Lock()
	defer s.Unlock()
	generation := s.interrupted
	for {
		switch {
		case s.interrupted != generation:
			return nil, ErrInterrupted
		case len(s.waiting) > 0 || s.lost > 0:
			return e.takeLocked(max), nil
		case s.pending:
			s.pending = false
			e.settleLocked()
			return nil, ErrInterrupted
		case s.closed:
			return nil, ErrClosed
		case ctx.Err() != nil:
			return nil, nil
		}
		e.waitLocked(ctx)
	}
}

func (e *Events) waitLocked(ctx context.Context) {
	s := &e.state
	news := s.news
	s.waiters++
	s.Unlock()
	select {
	case <-news:
	case <-ctx.Done():
	}
	s.Lock()
	s.waiters--
}

func (e *Events) takeLocked(max int) []Event {
	s := &e.state
	count := min(max, len(s.waiting))
	taken := make([]Event, count, count+1)
	copy(taken, s.waiting)
	clear(s.waiting[:count])
	s.waiting = s.waiting[count:]
	for _, event := range taken {
		if !event.exempt {
			s.bounded--
		}
		delete(s.keys, event.key)
	}
	if len(s.waiting) == 0 {
		s.waiting = nil
		if s.lost > 0 && count < max {
			taken = append(taken, lostEvents(s.lost))
			s.lost = 0
		}
	}
	e.settleLocked()
	return taken
}

// settleLocked takes the wake-up back once nothing waits.
func (e *Events) settleLocked() {
	s := &e.state
	if e.wake != nil && len(s.waiting) == 0 && s.lost == 0 && !s.pending && !s.closed {
		e.wake(false)
	}
}

// Interrupt ends every Pop that waits now with ErrInterrupted; if none waits, the next one.
func (e *Events) Interrupt() {
	e.state.Lock()
	defer e.state.Unlock()
	if e.state.waiters == 0 {
		e.state.pending = true
	} else {
		e.state.interrupted++
	}
	e.announceLocked()
	e.settleLocked()
}

// Close ends every Pop with ErrClosed once the waiting events are taken. The queue stays readable from then on.
func (e *Events) Close() {
	e.state.Lock()
	defer e.state.Unlock()
	if !e.state.closed {
		e.state.closed = true
		e.announceLocked()
	}
}

// Lost is the number of events that found the queue full.
func (e *Events) Lost() uint64 {
	e.state.Lock()
	defer e.state.Unlock()
	return e.state.lostTotal
}
