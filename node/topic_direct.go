package node

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// directAnnouncement begins the name under which subscribers of a direct topic announce themselves: pub/sub tells every connected
// peer of a subscription, and nothing is ever published under that name. Publishers of gossip do not take them for their own.
const directAnnouncement = "/peerbus/direct/1.0.0/"

// directTopics are the topics that this node has opened as direct.
type directTopics struct {
	node  *Node
	state struct {
		sync.RWMutex
		open   map[string]*directTopic
		closed bool
	}
}

// directTopic is one of them: its subscribers (topic_subscriber.go), the own publications (topic_direct_publish.go) and the own
// subscription (topic_direct_inbound.go). The messages travel by an outbound for each subscriber and an inStream for each
// publisher; it owns neither.
type directTopic struct {
	node  *Node
	name  channelName
	rules atomic.Pointer[topicGuard] // nil: none

	announced *subscriptionWatch // of those who want it direct
	gossip    *subscriptionWatch // of those who want it by gossip, which it does not reach

	overflow     atomic.Pointer[TopicOverflow]
	audience     atomic.Pointer[audience]
	subscription atomic.Pointer[directSubscription] // nil: not subscribed

	publishing struct {
		sync.Mutex        // orders the publications; outbounds' locks are taken within it
		last       uint64 // number of the newest publication
		published  uint64
		pace       pace

		takers    []*subscriber // memory of tryPublish
		gathering []*outbound
	}
	gather topicGather
	state  struct {
		sync.Mutex
		members map[peer.ID]*subscriber
		gossip  map[peer.ID]struct{}
		changed chan struct{} // closed and replaced when the audience changes
		closed  bool
	}
}

func newDirectTopics(n *Node) *directTopics {
	ds := &directTopics{node: n}
	ds.state.open = map[string]*directTopic{}
	return ds
}

func (ds *directTopics) find(channel string) *directTopic {
	ds.state.RLock()
	defer ds.state.RUnlock()
	return ds.state.open[channel]
}

func (ds *directTopics) all() []*directTopic {
	ds.state.RLock()
	defer ds.state.RUnlock()
	return slices.Collect(maps.Values(ds.state.open))
}

// open makes a topic direct. The lock of topics is held, so nobody else opens it meanwhile.
func (ds *directTopics) open(name channelName, overflow TopicOverflow) (*directTopic, error) {
	ds.state.RLock()
	count, closed := len(ds.state.open), ds.state.closed
	ds.state.RUnlock()
	switch {
	case closed:
		return nil, ErrClosed
	case count >= maxTopics:
		return nil, fmt.Errorf("%w: %d topics are open as direct, at most %d can", ErrRefused, count, maxTopics)
	}
	d := &directTopic{node: ds.node, name: name, gather: topicGather{node: ds.node}}
	d.setOverflow(overflow)
	// Numbers go on growing when the node starts anew, as those of gossip do.
	d.publishing.last = uint64(time.Now().UnixNano())
	d.state.members = map[peer.ID]*subscriber{}
	d.state.gossip = map[peer.ID]struct{}{}
	d.state.changed = make(chan struct{})
	d.audience.Store(&audience{})
	var err error
	t := ds.node.topics
	if d.announced, err = t.watchSubscriptions(directAnnouncement+name.text, d.joined, d.left); err != nil {
		return nil, err
	}
	t.leaveLocked(name.text)
	if d.gossip, err = t.watchSubscriptions(name.text, d.joinedGossip, d.leftGossip); err != nil {
		d.announced.stop()
		return nil, err
	}
	if !ds.add(d) {
		d.close()
		return nil, ErrClosed
	}
	return d, nil
}

// add answers false once the node closes.
func (ds *directTopics) add(d *directTopic) bool {
	ds.state.Lock()
	defer ds.state.Unlock()
	if !ds.state.closed {
		ds.state.open[d.name.text] = d
	}
	return !ds.state.closed
}

// close makes a topic gossip again.
func (ds *directTopics) close(d *directTopic) {
	ds.state.Lock()
	delete(ds.state.open, d.name.text)
	ds.state.Unlock()
	d.close()
}

func (d *directTopic) close() {
	d.announced.stop()
	d.gossip.stop()
	d.state.Lock()
	d.state.closed = true
	members := slices.Collect(maps.Values(d.state.members))
	clear(d.state.members)
	d.changedLocked()
	d.state.Unlock()
	for _, s := range members {
		s.end()
	}
}

// leave ends the subscriptions of a node that closes, so that publishers do not wait for its return.
func (ds *directTopics) leave() {
	ds.state.Lock()
	ds.state.closed = true
	ds.state.Unlock()
	for _, d := range ds.all() {
		d.unsubscribe()
	}
}

// disconnected forgets a subscriber that this node has disconnected.
func (ds *directTopics) disconnected(id peer.ID) {
	for _, d := range ds.all() {
		d.forget(id)
	}
}

func (d *directTopic) setOverflow(overflow TopicOverflow) { d.overflow.Store(&overflow) }
