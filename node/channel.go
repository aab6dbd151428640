package node

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// MaxChannelName is the longest channel name in bytes: the chat frame has one byte for its length.
	MaxChannelName = 255

	directMark       = "::dm:"
	topicMark        = "::ps:"
	rendezvousSuffix = ":rv"
)

// channelName is a parsed channel name: "<owner>::dm:<target>-<suffix>" or "<owner>::ps:<name>".
type channelName struct {
	text   string
	owner  string
	target peer.ID // direct channels only
	topic  bool
}

func (c channelName) rendezvous() bool { return c.topic && strings.HasSuffix(c.text, rendezvousSuffix) }

func parseChannel(text string) (channelName, error) {
	switch {
	case text == "":
		return channelName{}, fmt.Errorf("%w: the channel name is empty", ErrArgument)
	case len(text) > MaxChannelName:
		return channelName{}, fmt.Errorf("%w: the channel name has %d bytes, at most %d fit", ErrArgument, len(text), MaxChannelName)
	case !utf8.ValidString(text):
		return channelName{}, fmt.Errorf("%w: the channel name is not UTF-8", ErrArgument)
	case strings.Count(text, directMark)+strings.Count(text, topicMark) != 1:
		return channelName{}, fmt.Errorf("%w: channel %q needs exactly one of %q and %q", ErrArgument, text, directMark, topicMark)
	}
	if owner, _, found := strings.Cut(text, topicMark); found {
		return channelName{text: text, owner: owner, topic: true}, nil
	}
	owner, rest, _ := strings.Cut(text, directMark)
	id, _, _ := strings.Cut(rest, "-")
	target, err := peer.Decode(id)
	if err != nil {
		return channelName{}, fmt.Errorf("%w: channel %q: %q between %q and \"-\" is not a peer id: %v", ErrArgument, text, id, directMark, err)
	}
	return channelName{text: text, owner: owner, target: target}, nil
}

// checkOutgoing refuses a direct channel that the receiver would refuse.
func (c channelName) checkOutgoing(self peer.ID) error {
	switch {
	case c.target == self:
		return fmt.Errorf("%w: channel %q leads to this node itself", ErrArgument, c.text)
	case c.owner != self.String():
		return fmt.Errorf("%w: channel %q must begin with the own peer id %s", ErrArgument, c.text, self)
	}
	return nil
}

// IsTopic tells a topic from a direct channel.
func IsTopic(channel string) bool { return strings.Contains(channel, topicMark) }

// CheckChannel answers why the text is no channel name, if so.
func CheckChannel(text string) error {
	_, err := parseChannel(text)
	return err
}
