package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"peerbus/queue"
)

// TopicMode is how a node takes part in a topic (docs/topics.md).
type TopicMode string

// The modes.
const (
	TopicGossip TopicMode = "gossip" // by GossipSub, the default
	TopicDirect TopicMode = "direct" // from the publisher to each subscriber, over acknowledged channels
)

// TopicOverflow says what happens to a message for a subscriber of a direct topic that has no room.
type TopicOverflow string

// The overflow policies.
const (
	OverflowBlock      TopicOverflow = "block"       // publishing waits
	OverflowDropNewest TopicOverflow = "drop_newest" // that subscriber misses the message
	OverflowDropOldest TopicOverflow = "drop_oldest" // it misses the oldest messages that are not on their way yet
)

// TopicOptions are how a topic is opened.
type TopicOptions struct {
	Mode     TopicMode     `json:"mode"`
	Overflow TopicOverflow `json:"overflow"` // direct only; "": as it was, at first OverflowBlock
}

// ParseTopicOptions reads the JSON text of OpenTopic.
func ParseTopicOptions(text string) (TopicOptions, error) {
	var o TopicOptions
	decoder := json.NewDecoder(bytes.NewReader([]byte(text)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&o); err != nil {
		return o, fmt.Errorf("%w: options: %v; expected {\"mode\",\"overflow\"}", ErrArgument, err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return o, fmt.Errorf("%w: options: text after the object", ErrArgument)
	}
	return o, o.fill()
}

func (o *TopicOptions) fill() error {
	if o.Mode == "" {
		o.Mode = TopicGossip
	}
	switch {
	case o.Mode != TopicGossip && o.Mode != TopicDirect:
		return fmt.Errorf("%w: mode %q; there are %q and %q", ErrArgument, o.Mode, TopicGossip, TopicDirect)
	case o.Mode == TopicGossip && o.Overflow != "":
		return fmt.Errorf("%w: overflow is for the mode %q; peerbus_set_policy sets what a full receive queue does", ErrArgument, TopicDirect)
	case o.Mode == TopicGossip:
		return nil
	case o.Overflow == "":
		return nil
	case o.Overflow != OverflowBlock && o.Overflow != OverflowDropNewest && o.Overflow != OverflowDropOldest:
		return fmt.Errorf("%w: overflow %q; there are %q, %q and %q", ErrArgument, o.Overflow, OverflowBlock, OverflowDropNewest, OverflowDropOldest)
	}
	return nil
}

// OpenTopic chooses how this node takes part in a topic from now on, as publisher and as subscriber. A topic that is subscribed to
// keeps its mode.
func (n *Node) OpenTopic(channel string, o TopicOptions) error {
	name, err := parseTopic(channel)
	if err != nil {
		return err
	}
	if err := o.fill(); err != nil {
		return err
	}
	if o.Mode == TopicDirect {
		return n.topics.openDirect(name, o.Overflow)
	}
	return n.topics.openGossip(name)
}

func (t *topics) openDirect(name channelName, overflow TopicOverflow) error {
	switch {
	case name.rendezvous():
		return fmt.Errorf("%w: %q is a rendezvous topic, which travels by gossip", ErrArgument, name.text)
	case !t.node.config.Channel.Acknowledged:
		return fmt.Errorf("%w: direct topics travel over acknowledged channels, and channel.acknowledged is false", ErrUnsupported)
	}
	t.state.Lock()
	defer t.state.Unlock()
	if d := t.direct.find(name.text); d != nil {
		if overflow != "" {
			d.setOverflow(overflow)
		}
		return nil
	}
	if joined := t.state.joined[name.text]; joined != nil && joined.subscription != nil {
		return modeInUse(name, TopicGossip)
	}
	if overflow == "" {
		overflow = OverflowBlock
	}
	d, err := t.direct.open(name, overflow)
	if err != nil {
		return err
	}
	d.rules.Store(t.guardLocked(name))
	t.node.queue.Reconsider(name.text)
	return nil
}

func (t *topics) openGossip(name channelName) error {
	t.state.Lock()
	defer t.state.Unlock()
	d := t.direct.find(name.text)
	if d == nil {
		return nil
	}
	if d.subscription.Load() != nil {
		return modeInUse(name, TopicDirect)
	}
	t.direct.close(d)
	t.node.queue.Reconsider(name.text)
	return nil
}

func modeInUse(name channelName, mode TopicMode) error {
	return fmt.Errorf("%w: %q is subscribed to as a %s topic; unsubscribe first", ErrRefused, name.text, mode)
}

// defaultPolicy: direct channels and direct topics hold their sender, gossip, which nothing can hold, drops what is oldest (P2P-18).
// The queue calls it with its lock held.
func (n *Node) defaultPolicy(channel string) queue.Policy {
	if !IsTopic(channel) || n.topics.direct.find(channel) != nil {
		return queue.Block
	}
	return queue.DropOldest
}
