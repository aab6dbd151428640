package node

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"google.golang.org/protobuf/proto"

	"peerbus/node/envelope"
)

const (
	// maxRosterPeers bounds the entries of a rendezvous list that are kept.
	maxRosterPeers = 65536
	// roleMask and masterRole: bit 0 in a world, bit 1 master (POOL-49).
	roleMask   = 0b11
	masterRole = 0b11
	// noRoster is the update count before the first snapshot.
	noRoster = int64(-1)
)

// Roster is a rendezvous list (P2P-21).
type Roster struct {
	Peers       []RosterPeer `json:"peers"`
	UpdateCount int64        `json:"update_count"`
}

// RosterPeer is one entry. Nil Addrs and ConnectedAt are written as null.
type RosterPeer struct {
	ID          string   `json:"id"`
	Addrs       []string `json:"addrs"`
	ConnectedAt *string  `json:"connected_at"`
	Direction   string   `json:"direction"`
	Misc        int64    `json:"misc"`
	Relayed     bool     `json:"relayed"`
}

// rendezvous holds the newest accepted snapshot of one topic. Accepted are lists from the topic's owner, or from a peer
// that the accepted list names as master, with a larger update count than the last (POOL-53).
type rendezvous struct {
	node *Node
	name channelName

	state struct {
		sync.Mutex
		roster  Roster
		masters map[string]struct{}
	}
}

func newRendezvous(n *Node, name channelName) *rendezvous {
	r := &rendezvous{node: n, name: name}
	r.state.roster.UpdateCount = noRoster
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
	roster, skipped, err := parseRoster(message.GetData(), name.text, author.String())
	if author == t.node.id {
		if err != nil || skipped > 0 {
			return pubsub.ValidationReject
		}
		return pubsub.ValidationAccept
	}
	reason := ""
	t.state.Lock()
	current := t.state.rendezvous
	t.state.Unlock()
	switch {
	case err != nil:
		reason = lossDecodeError
	case current == nil || current.name.text != name.text:
		return pubsub.ValidationIgnore // left meanwhile
	default:
		reason = current.accept(roster, author.String())
	}
	if reason == "" {
		t.node.losses.add(directionIn, lossRendezvousRefused, name.text, author.String(), uint64(skipped))
		return pubsub.ValidationAccept
	}
	t.node.losses.add(directionIn, reason, name.text, author.String(), 1)
	t.node.log.Warn("rendezvous list refused", "channel", name.text, "author", author, "reason", reason, "error", err)
	if author == forwarder && reason != lossRendezvousStale {
		return pubsub.ValidationReject
	}
	return pubsub.ValidationIgnore
}

// accept stores the list, or answers why not.
func (r *rendezvous) accept(roster Roster, author string) string {
	r.state.Lock()
	defer r.state.Unlock()
	if _, master := r.state.masters[author]; !master && author != r.name.owner {
		return lossRendezvousRefused
	}
	if roster.UpdateCount <= r.state.roster.UpdateCount {
		return lossRendezvousStale
	}
	r.state.roster = roster
	r.state.masters = map[string]struct{}{}
	for _, entry := range roster.Peers {
		if entry.Misc&roleMask == masterRole {
			r.state.masters[entry.ID] = struct{}{}
		}
	}
	r.node.events.Push(EventRendezvousUpdated, map[string]any{
		"channel": r.name.text, "peer": author, "update_count": roster.UpdateCount, "peers": len(roster.Peers),
	})
	return ""
}

// Rendezvous is the newest accepted list; ok is false before the first.
func (n *Node) Rendezvous() (roster Roster, ok bool) {
	n.topics.state.Lock()
	current := n.topics.state.rendezvous
	n.topics.state.Unlock()
	if current == nil {
		return Roster{}, false
	}
	current.state.Lock()
	defer current.state.Unlock()
	return current.state.roster, current.state.roster.UpdateCount != noRoster
}

// parseRoster decodes the envelope and its list. Entries that are malformed or repeat an id are left out and counted in
// skipped.
func parseRoster(data []byte, channel, author string) (roster Roster, skipped int, err error) {
	var message envelope.Message
	if err := proto.Unmarshal(data, &message); err != nil {
		return roster, 0, fmt.Errorf("not an envelope: %w", err)
	}
	switch {
	case message.GetContentType() != envelope.TypeWorldAgentsList:
		return roster, 0, fmt.Errorf("content type %q instead of %q", message.GetContentType(), envelope.TypeWorldAgentsList)
	case message.GetSender() != author:
		return roster, 0, fmt.Errorf("sender %q is not the author %s", message.GetSender(), author)
	}
	var list struct {
		Peers       *[]json.RawMessage `json:"peers"`
		UpdateCount *int64             `json:"update_count"`
	}
	if err := json.Unmarshal([]byte(message.GetJsonContent()), &list); err != nil {
		return roster, 0, fmt.Errorf("malformed list: %w", err)
	}
	switch {
	case list.Peers == nil || list.UpdateCount == nil:
		return roster, 0, fmt.Errorf("a list needs peers and update_count")
	case *list.UpdateCount < 0:
		return roster, 0, fmt.Errorf("update_count %d is negative", *list.UpdateCount)
	case len(*list.Peers) > maxRosterPeers:
		return roster, 0, fmt.Errorf("%d peers, at most %d are taken", len(*list.Peers), maxRosterPeers)
	}
	roster = Roster{Peers: make([]RosterPeer, 0, len(*list.Peers)), UpdateCount: *list.UpdateCount}
	seen := make(map[string]struct{}, len(*list.Peers))
	for _, raw := range *list.Peers {
		entry, err := parseRosterPeer(raw)
		if _, repeated := seen[entry.ID]; err != nil || repeated {
			skipped++
			continue
		}
		seen[entry.ID] = struct{}{}
		roster.Peers = append(roster.Peers, entry)
	}
	return roster, skipped, nil
}

func parseRosterPeer(raw json.RawMessage) (RosterPeer, error) {
	var entry RosterPeer
	if err := json.Unmarshal(raw, &entry); err != nil {
		return entry, err
	}
	if _, err := peer.Decode(entry.ID); err != nil {
		return entry, err
	}
	for _, text := range entry.Addrs {
		if _, err := ma.NewMultiaddr(text); err != nil {
			return entry, err
		}
	}
	if entry.ConnectedAt != nil {
		if _, err := time.Parse(time.RFC3339, *entry.ConnectedAt); err != nil {
			return entry, err
		}
	}
	if entry.Misc < 0 {
		return entry, fmt.Errorf("misc %d is negative", entry.Misc)
	}
	return entry, nil
}
