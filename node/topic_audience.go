package node

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// audience is who wants a direct topic, at one moment. It does not change; a new one takes its place.
type audience struct {
	subscribers []*subscriber
	gossip      []MissedSubscriber // those who are not subscribers
}

// changedLocked makes the audience anew and tells who waits for that.
func (d *directTopic) changedLocked() {
	a := &audience{}
	for _, s := range d.state.members {
		a.subscribers = append(a.subscribers, s)
	}
	for id := range d.state.gossip {
		if d.state.members[id] == nil {
			a.gossip = append(a.gossip, MissedSubscriber{id, lossGossipOnly})
		}
	}
	d.audience.Store(a)
	close(d.state.changed)
	d.state.changed = make(chan struct{})
}

// present are the subscribers that announce themselves now.
func (d *directTopic) present() (present []*subscriber) {
	for _, s := range d.audience.Load().subscribers {
		if s.awaySince.Load() == 0 {
			present = append(present, s)
		}
	}
	return present
}

// counted answers how many there are, and a channel that is closed when it changes.
func (d *directTopic) counted() (int, <-chan struct{}) {
	d.state.Lock()
	defer d.state.Unlock()
	return len(d.present()), d.state.changed
}

// joined: pub/sub says that a peer announces itself.
func (d *directTopic) joined(id peer.ID) {
	d.state.Lock()
	defer d.state.Unlock()
	s := d.state.members[id]
	came := s == nil
	if d.state.closed || came && len(d.state.members) >= maxSubscribers && !d.evictLocked() {
		return
	}
	if came {
		if s = d.node.outbounds.obtainSubscriber(d.name.text, id); s == nil {
			return
		}
		d.state.members[id] = s
	}
	if s.leaving != nil {
		s.leaving.Stop()
		s.leaving = nil
	}
	if s.returned() || came {
		d.changedLocked()
		d.pushEvent(EventTopicPeerJoined, id)
	}
}

// heard notes whether a peer announced itself or took that back; joined or left follows. pubsub's event loop calls it.
func (d *directTopic) heard(id peer.ID, announced bool) {
	for _, s := range d.audience.Load().subscribers {
		if s.id == id {
			s.withdrew.Store(!announced)
		}
	}
}

// left: pub/sub says that a peer no longer announces itself, or that its stream has ended, perhaps before its connection has.
func (d *directTopic) left(id peer.ID) {
	d.state.Lock()
	defer d.state.Unlock()
	s := d.state.members[id]
	switch {
	case s == nil || s.leaving != nil:
		return
	case s.refusedAt.Load() != 0 || s.withdrew.Load():
		d.removeLocked(s)
	case d.node.isConnected(id):
		s.leaving = time.AfterFunc(leaveGrace, func() { d.node.run("leave of a subscriber", func() { d.leaveFinally(s) }) })
		return
	default:
		s.awaySince.Store(time.Now().UnixNano())
	}
	d.changedLocked()
	d.pushEvent(EventTopicPeerLeft, id)
}

func (d *directTopic) leaveFinally(s *subscriber) {
	d.state.Lock()
	defer d.state.Unlock()
	if s.leaving == nil || d.state.members[s.id] != s {
		return
	}
	if s.withdrew.Load() || d.node.isConnected(s.id) {
		d.removeLocked(s)
	} else {
		s.leaving = nil
		s.awaySince.Store(time.Now().UnixNano())
	}
	d.changedLocked()
	d.pushEvent(EventTopicPeerLeft, s.id)
}

func (d *directTopic) removeLocked(s *subscriber) {
	delete(d.state.members, s.id)
	if s.leaving != nil {
		s.leaving.Stop()
		s.leaving = nil
	}
	s.returned()
	s.end()
}

// forget is for a peer that this node has disconnected.
func (d *directTopic) forget(id peer.ID) {
	d.state.Lock()
	defer d.state.Unlock()
	s := d.state.members[id]
	if s == nil {
		return
	}
	wasThere := s.awaySince.Load() == 0
	d.removeLocked(s)
	d.changedLocked()
	if wasThere {
		d.pushEvent(EventTopicPeerLeft, id)
	}
}

// evictLocked makes room: the subscriber that has been away longest is no longer reported.
func (d *directTopic) evictLocked() bool {
	var oldest *subscriber
	for _, s := range d.state.members {
		if since := s.awaySince.Load(); since != 0 && (oldest == nil || since < oldest.awaySince.Load()) {
			oldest = s
		}
	}
	if oldest != nil {
		d.removeLocked(oldest)
	}
	return oldest != nil
}

func (d *directTopic) joinedGossip(id peer.ID) {
	d.state.Lock()
	defer d.state.Unlock()
	if len(d.state.gossip) < maxSubscribers {
		d.state.gossip[id] = struct{}{}
		d.changedLocked()
	}
}

func (d *directTopic) leftGossip(id peer.ID) {
	d.state.Lock()
	defer d.state.Unlock()
	delete(d.state.gossip, id)
	d.changedLocked()
}

func (d *directTopic) pushEvent(kind string, id peer.ID) {
	d.node.events.Push(kind, map[string]any{"channel": d.name.text, "peer": id.String()})
}
