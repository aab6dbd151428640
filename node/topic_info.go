package node

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// TopicInfo is how this node takes part in a topic.
type TopicInfo struct {
	Channel     string            `json:"channel"`
	Mode        TopicMode         `json:"mode"`
	Overflow    TopicOverflow     `json:"overflow,omitempty"`
	Subscribed  bool              `json:"subscribed"`
	Published   uint64            `json:"published"` // direct: since it was opened as such
	Last        uint64            `json:"last"`      // direct: number of the newest publication
	Subscribers []TopicSubscriber `json:"subscribers"`
	Publishers  []TopicPublisher  `json:"publishers"`
	Losses      []TopicLoss       `json:"losses"`
}

// TopicSubscriber is one that this node publishes to.
type TopicSubscriber struct {
	Peer         string `json:"peer"`
	State        string `json:"state"` // "connected", "away", or why it misses messages: a reason of MissedSubscriber
	Accepted     uint64 `json:"accepted"`
	Taken        uint64 `json:"taken"`
	Waiting      uint64 `json:"waiting"`
	WaitingBytes int    `json:"waiting_bytes"`
	Dropped      uint64 `json:"dropped"`
}

// TopicPublisher is one whose messages this node received on the topic while it was subscribed.
type TopicPublisher struct {
	Peer     string `json:"peer"`
	Received uint64 `json:"received"`
	Missing  uint64 `json:"missing"`
	Exact    bool   `json:"exact"` // otherwise Missing also counts what it published on topics that this node does not subscribe to
	Last     uint64 `json:"last"`
}

// TopicLoss counts what was lost on the topic since the node started: on the way to that peer, or of what came from it.
type TopicLoss struct {
	Direction string `json:"direction"` // "in", "out"
	Reason    string `json:"reason"`    // of GEN-02
	Peer      string `json:"peer"`      // "": nobody was there, or too many peers are to be told apart
	Count     uint64 `json:"count"`
}

// TopicInfo answers that of a topic which was opened, subscribed to or published on.
func (n *Node) TopicInfo(channel string) (TopicInfo, error) {
	name, err := parseTopic(channel)
	if err != nil {
		return TopicInfo{}, err
	}
	info, err := n.topicInfo(name)
	if err == nil {
		info.Losses = n.losses.ofTopic(name.text)
		info.sort()
	}
	return info, err
}

func (n *Node) topicInfo(name channelName) (TopicInfo, error) {
	if d := n.topics.direct.find(name.text); d != nil {
		return d.info(), nil
	}
	n.topics.state.Lock()
	joined := n.topics.state.joined[name.text]
	subscribed := joined != nil && joined.subscription != nil
	n.topics.state.Unlock()
	if joined == nil {
		return TopicInfo{}, fmt.Errorf("%w: topic %q was neither opened, nor subscribed to, nor published on", ErrNotFound, name.text)
	}
	info := TopicInfo{Channel: name.text, Mode: TopicGossip, Subscribed: subscribed, Subscribers: []TopicSubscriber{}}
	for _, id := range joined.listPeers() {
		info.Subscribers = append(info.Subscribers, TopicSubscriber{Peer: id.String(), State: "connected"})
	}
	info.Publishers = publishersOf(joined.numbers.all(), func(author peer.ID, count AuthorCount) TopicPublisher {
		// Numbers go on over all topics of an author, so those that came on others are no holes.
		return TopicPublisher{Received: count.Received, Missing: n.topics.authors.of(author).Missing, Last: count.Last}
	})
	return info, nil
}

func (d *directTopic) info() TopicInfo {
	d.publishing.Lock()
	info := TopicInfo{Channel: d.name.text, Mode: TopicDirect, Overflow: *d.overflow.Load(), Published: d.publishing.published,
		Last: d.publishing.last, Subscribers: []TopicSubscriber{}, Publishers: []TopicPublisher{}}
	d.publishing.Unlock()
	audience := d.audience.Load()
	for _, s := range audience.subscribers {
		info.Subscribers = append(info.Subscribers, s.info())
	}
	for _, g := range audience.gossip {
		info.Subscribers = append(info.Subscribers, TopicSubscriber{Peer: g.Peer.String(), State: g.Reason})
	}
	if s := d.subscription.Load(); s != nil {
		info.Subscribed = true
		info.Publishers = publishersOf(s.numbers.all(), func(_ peer.ID, count AuthorCount) TopicPublisher {
			return TopicPublisher{Received: count.Received, Missing: count.Missing, Last: count.Last, Exact: true}
		})
	}
	return info
}

func (s *subscriber) info() TopicSubscriber {
	channel := s.out.info()
	state := s.misses(time.Now())
	switch {
	case state != "":
	case s.awaySince.Load() != 0:
		state = "away"
	default:
		state = "connected"
	}
	return TopicSubscriber{s.id.String(), state, channel.Accepted, channel.Taken, channel.Waiting, channel.WaitingBytes, s.dropped.Load()}
}

func publishersOf(counts map[peer.ID]AuthorCount, describe func(peer.ID, AuthorCount) TopicPublisher) []TopicPublisher {
	publishers := make([]TopicPublisher, 0, len(counts))
	for author, count := range counts {
		p := describe(author, count)
		p.Peer = author.String()
		publishers = append(publishers, p)
	}
	return publishers
}

func (i *TopicInfo) sort() {
	slices.SortFunc(i.Subscribers, func(a, b TopicSubscriber) int { return cmp.Compare(a.Peer, b.Peer) })
	slices.SortFunc(i.Publishers, func(a, b TopicPublisher) int { return cmp.Compare(a.Peer, b.Peer) })
	slices.SortFunc(i.Losses, func(a, b TopicLoss) int {
		return cmp.Or(cmp.Compare(a.Direction, b.Direction), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Peer, b.Peer))
	})
}
