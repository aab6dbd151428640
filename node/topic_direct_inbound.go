package node

import (
	"context"

	"github.com/libp2p/go-libp2p/core/peer"

	"peerbus/node/session"
)

// directSubscription is the own subscription to a direct topic, from subscribing to unsubscribing: only while it lasts streams of
// publishers are served.
type directSubscription struct {
	topic   *directTopic
	numbers *authorNumbers
	ctx     context.Context // ends with it
	cancel  context.CancelFunc
}

// endUnsubscribed tells a publisher to give the session up; awaitFarewell closes the stream.
var endUnsubscribed = endOfStream{session.CloseRefused, "the topic is not subscribed to"}

func (ds *directTopics) guard(channel string, guard *topicGuard) {
	if d := ds.find(channel); d != nil {
		d.rules.Store(guard)
	}
}

func (d *directTopic) subscribe() error {
	s := &directSubscription{topic: d, numbers: newAuthorNumbers()}
	s.ctx, s.cancel = context.WithCancel(d.node.ctx)
	if !d.subscription.CompareAndSwap(nil, s) { // before the announcement, so that nobody who hears it is refused
		s.cancel()
		return nil
	}
	if err := d.announced.announce(); err != nil {
		d.unsubscribe()
		return err
	}
	return nil
}

// unsubscribe ends the streams of the publishers. What has not been acknowledged then is lost to them, and reported there.
func (d *directTopic) unsubscribe() {
	s := d.subscription.Swap(nil)
	if s == nil {
		return
	}
	d.announced.withdraw()
	s.cancel()
}

// judgeTopic refuses a stream of a topic that this node did not ask its publisher for.
func (in *inStream) judgeTopic(name channelName) error {
	d := in.node.topics.direct.find(name.text)
	if d == nil {
		return in.refuseTopic(lossBadChannel, "", "the topic is not open as direct here")
	}
	s := d.subscription.Load()
	if s == nil {
		return endOfStream{session.CloseRefused, endUnsubscribed.text}
	}
	publisher := in.Conn().RemotePeer()
	if guard := d.rules.Load(); guard != nil && !guard.admits(publisher) {
		return in.refuseTopic(lossNotMember, name.text, "the rules of the topic do not let this peer publish")
	}
	in.name, in.topic = name.text, s
	return nil
}

// refuseTopic counts on the topic only if this node has it: names of others are the peer's invention.
func (in *inStream) refuseTopic(reason, topic, text string) error {
	in.node.losses.add(directionIn, reason, topic, in.from, 1)
	return endOfStream{session.CloseRefused, text}
}

// untilUnsubscribed makes the end of the subscription that of the stream. The answer undoes it.
func (in *inStream) untilUnsubscribed() (stop func() bool) {
	if in.topic == nil {
		return func() bool { return true }
	}
	return context.AfterFunc(in.topic.ctx, func() {
		in.node.run("end of a subscription", func() { in.end(endUnsubscribed) })
	})
}

// refuses answers why the rules of the topic refuse a message, "" for those of direct channels.
func (s *directSubscription) refuses(publisher peer.ID, payload []byte) string {
	if s == nil {
		return ""
	}
	guard := s.topic.rules.Load()
	if guard == nil {
		return ""
	}
	return guard.refuses(publisher, payload)
}

// arrived notes the numbers of messages that go into the queue.
func (s *directSubscription) arrived(publisher peer.ID, first uint64, count int) {
	if s != nil && count > 0 {
		s.numbers.run(publisher, first, uint64(count))
	}
}

// heard tells whether messages of a publisher came, whose new session would be that of another process. The session that a new
// subscription begins may replace one of the subscription before, which is still being ended. For direct channels it is always true.
func (s *directSubscription) heard(publisher peer.ID) bool {
	return s == nil || s.numbers.of(publisher).Received > 0
}

// admits tells whether a peer may publish at all.
func (g *topicGuard) admits(author peer.ID) bool {
	_, allowed := g.allow[author]
	return g.allow == nil || allowed || author == g.node.id
}
