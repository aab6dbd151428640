package node

import (
	"context"
	"strings"
	"sync"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
)

// subscriptionWatch follows who subscribes to a name of pub/sub, and can announce an own subscription. It takes no messages.
type subscriptionWatch struct {
	topics  *topics
	name    string
	handle  *pubsub.Topic
	watcher *pubsub.TopicEventHandler
	cancel  context.CancelFunc
	ended   chan struct{} // closed when the watching has ended

	own struct {
		sync.Mutex
		end pubsub.RelayCancelFunc // nil: not announced
	}
}

// watchSubscriptions tells of those who subscribe now, too. Nothing may have joined the name.
func (t *topics) watchSubscriptions(name string, joined, left func(peer.ID)) (*subscriptionWatch, error) {
	if strings.HasPrefix(name, directAnnouncement) {
		if err := t.router.RegisterTopicValidator(name, refuseAll, pubsub.WithValidatorInline(true)); err != nil {
			return nil, t.problem("guarding", channelName{text: name}, err)
		}
	}
	handle, err := t.router.Join(name)
	if err != nil {
		return nil, t.problem("joining", channelName{text: name}, err)
	}
	watcher, err := handle.EventHandler()
	if err != nil {
		_ = handle.Close()
		return nil, t.problem("watching", channelName{text: name}, err)
	}
	ctx, cancel := context.WithCancel(t.node.ctx)
	w := &subscriptionWatch{topics: t, name: name, handle: handle, watcher: watcher, cancel: cancel, ended: make(chan struct{})}
	if !t.node.spawn("subscription watcher", func() { defer close(w.ended); w.watch(ctx, joined, left) }) {
		close(w.ended)
	}
	return w, nil
}

// refuseAll is for names under which nothing is published.
func refuseAll(context.Context, peer.ID, *pubsub.Message) pubsub.ValidationResult {
	return pubsub.ValidationReject
}

func (w *subscriptionWatch) watch(ctx context.Context, joined, left func(peer.ID)) {
	for {
		e, err := w.watcher.NextPeerEvent(ctx)
		if err != nil {
			return
		}
		if e.Type == pubsub.PeerJoin {
			joined(e.Peer)
		} else {
			left(e.Peer)
		}
	}
}

// announce tells connected peers, now and later, of an own subscription.
func (w *subscriptionWatch) announce() error {
	w.own.Lock()
	defer w.own.Unlock()
	if w.own.end != nil {
		return nil
	}
	end, err := w.handle.Relay() // takes part in the topic without a queue for its messages
	if err != nil {
		return w.topics.problem("announcing", channelName{text: w.name}, err)
	}
	w.own.end = end
	return nil
}

// withdraw ends announce.
func (w *subscriptionWatch) withdraw() {
	w.own.Lock()
	defer w.own.Unlock()
	if w.own.end != nil {
		w.own.end()
		w.own.end = nil
	}
}

// stop gives the name back.
func (w *subscriptionWatch) stop() {
	w.withdraw()
	w.cancel()
	<-w.ended
	w.watcher.Cancel()
	_ = w.handle.Close() // fails only with a subscription
	if strings.HasPrefix(w.name, directAnnouncement) {
		_ = w.topics.router.UnregisterTopicValidator(w.name) // fails only when there is none
	}
}
