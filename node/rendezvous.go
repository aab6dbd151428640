package node

import (
	"context"
	"fmt"
	"strings"
	"sync"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/proto"

	"peerbus/node/envelope"
)

const (
	// roleMask and masterRole: bit 0 in a world, bit 1 master (POOL-49).
	roleMask   = 0b11
	masterRole = 0b11
	// noRoster is the update count before the first snapshot.
	noRoster = int64(-1)
)

// rendezvous holds the newest accepted snapshot of one topic. Accepted are lists from the topic's owner, or from a peer that the
// newest list, or the guard, names as master, with a larger update count than the last (POOL-53).
type rendezvous struct {
	node *Node
	name channelName

	state struct {
		sync.Mutex
		newest  Snapshot
		fetched bool  // the newest one; its copy on the topic may still come
		floor   int64 // the next list needs a larger update count: that of the newest one, or noRoster after a reset
		masters map[string]struct{}
	}
}

func newRendezvous(n *Node, name channelName) *rendezvous {
	r := &rendezvous{node: n, name: name}
	r.state.newest.UpdateCount, r.state.floor = noRoster, noRoster
	return r
}

// guardRendezvousLocked puts the validator before a rendezvous topic, for publishing and receiving alike.
func (t *topics) guardRendezvousLocked(name channelName) error {
	if t.state.joined[name.text] != nil {
		return nil
	}
	validate := func(_ context.Context, forwarder peer.ID, message *pubsub.Message) pubsub.ValidationResult {
		return t.validateRendezvous(name, forwarder, message)
	}
	if err := t.router.RegisterTopicValidator(name.text, pubsub.ValidatorEx(validate)); err != nil &&
		!strings.Contains(err.Error(), "duplicate validator") {
		return t.problem("guarding", name, err)
	}
	return nil
}

// enterRendezvousLocked makes the topic the node's one rendezvous; another one is left.
func (t *topics) enterRendezvousLocked(name channelName) error {
	if current := t.state.rendezvous; current != nil {
		t.unsubscribeLocked(current.name)
	}
	if err := t.guardRendezvousLocked(name); err != nil {
		return err
	}
	t.state.rendezvous = newRendezvous(t.node, name)
	return nil
}

func (t *topics) leaveRendezvousLocked(name channelName) {
	if current := t.state.rendezvous; current != nil && current.name.text == name.text {
		t.state.rendezvous = nil
	}
}

// validateRendezvous accepts a list or answers Ignore, which keeps it from spreading; Reject, which also blames the
// forwarder, only when that is the author: peers of the existing network forward without looking.
func (t *topics) validateRendezvous(name channelName, forwarder peer.ID, message *pubsub.Message) (verdict pubsub.ValidationResult) {
	verdict = pubsub.ValidationIgnore // after a panic, whose goroutine is the router's
	defer t.node.recoverPanic("rendezvous validator")
	author := message.GetFrom()
	snapshot, err := parseRoster(message.GetData(), name.owner, author.String())
	if author == t.node.id {
		if err != nil || snapshot.Skipped > 0 {
			return pubsub.ValidationReject
		}
		t.serveLater(name, snapshot)
		return pubsub.ValidationAccept
	}
	fresh, reason := false, ""
	t.state.Lock()
	current := t.state.rendezvous
	t.state.Unlock()
	switch {
	case err != nil:
		reason = lossDecodeError
	case current == nil || current.name.text != name.text:
		return pubsub.ValidationIgnore // left meanwhile
	default:
		fresh, reason = current.accept(snapshot, false)
	}
	switch {
	case fresh:
		t.node.losses.add(directionIn, lossRendezvousRefused, name.text, author.String(), uint64(snapshot.Skipped))
		t.serveLater(name, snapshot)
		return pubsub.ValidationAccept
	case reason == "":
		return pubsub.ValidationAccept
	}
	t.node.losses.add(directionIn, reason, name.text, author.String(), 1)
	t.node.log.Warn("rendezvous list refused", "channel", name.text, "author", author, "reason", reason, "error", err)
	if author == forwarder && reason != lossRendezvousStale {
		return pubsub.ValidationReject
	}
	return pubsub.ValidationIgnore
}

// serveLater keeps a list of an own topic for peers that join later.
func (t *topics) serveLater(name channelName, snapshot Snapshot) {
	if name.owner == t.node.id.String() {
		t.served.keep(name.text, snapshot)
	}
}

// accept stores the list, or answers why not. It is neither fresh nor refused when it is on the topic what was fetched before.
func (r *rendezvous) accept(s Snapshot, fetched bool) (fresh bool, reason string) {
	r.state.Lock()
	defer r.state.Unlock()
	_, listed := r.state.masters[s.Author]
	if s.Author != r.name.owner && !r.publishesLocked(s.Author, listed) {
		return false, lossRendezvousRefused
	}
	if r.state.fetched && !fetched && s.Author == r.state.newest.Author && s.UpdateCount == r.state.newest.UpdateCount {
		r.state.fetched = false
		return false, ""
	}
	if s.UpdateCount <= r.state.floor {
		return false, lossRendezvousStale
	}
	s.Listed, s.After = listed, r.state.newest.UpdateCount
	r.state.newest, r.state.floor, r.state.fetched = s, s.UpdateCount, fetched
	r.state.masters = map[string]struct{}{}
	for _, entry := range s.Peers {
		if entry.Misc&roleMask == masterRole {
			r.state.masters[entry.ID] = struct{}{}
		}
	}
	r.node.events.Push(EventRendezvousUpdated, map[string]any{
		"channel": r.name.text, "peer": s.Author, "update_count": s.UpdateCount, "peers": len(s.Peers),
	})
	return true, ""
}

// publishesLocked judges an author that is not the owner. A guard knows lists that no snapshot told of.
func (r *rendezvous) publishesLocked(author string, listed bool) bool {
	if g := r.node.guard.get(); g != nil {
		return g.Publishes(author, r.state.newest.UpdateCount, listed)
	}
	return listed
}

// ResetRendezvous makes the next list of somebody who may publish it count, whatever its update count.
func (n *Node) ResetRendezvous() {
	n.topics.state.Lock()
	current := n.topics.state.rendezvous
	n.topics.state.Unlock()
	if current == nil {
		return
	}
	current.state.Lock()
	defer current.state.Unlock()
	current.state.floor = noRoster
}

// Rendezvous is the newest accepted list; ok is false before the first. Callers must not change it.
func (n *Node) Rendezvous() (newest Snapshot, ok bool) {
	n.topics.state.Lock()
	current := n.topics.state.rendezvous
	n.topics.state.Unlock()
	if current == nil {
		return Snapshot{}, false
	}
	current.state.Lock()
	defer current.state.Unlock()
	return current.state.newest, current.state.newest.UpdateCount != noRoster
}

// parseRoster decodes the envelope and its list.
func parseRoster(data []byte, owner, author string) (Snapshot, error) {
	var message envelope.Message
	if err := proto.Unmarshal(data, &message); err != nil {
		return Snapshot{}, fmt.Errorf("%w: not an envelope: %v", ErrArgument, err)
	}
	switch {
	case message.GetContentType() != envelope.TypeWorldAgentsList:
		return Snapshot{}, fmt.Errorf("%w: content type %q instead of %q", ErrArgument, message.GetContentType(), envelope.TypeWorldAgentsList)
	case message.GetSender() != author:
		return Snapshot{}, fmt.Errorf("%w: sender %q is not the author %s", ErrArgument, message.GetSender(), author)
	}
	snapshot, err := ParseRoster([]byte(message.GetJsonContent()))
	snapshot.Owner, snapshot.Author = owner, author
	return snapshot, err
}
