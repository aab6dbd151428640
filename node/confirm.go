package node

import (
	"errors"
	"fmt"

	"peerbus/node/session"
	"peerbus/queue"
)

// Confirmation names a received message that the application is done with.
type Confirmation struct {
	Channel string
	ID      uint64
}

// Confirm says that the application is done with messages of durable channels: they never come again, and their senders forget
// them. It returns when that is on disk, and how many of the messages are of durable channels; the others need no confirmation.
// After ErrStore they may come again. After any other error none of them is confirmed.
func (n *Node) Confirm(list []Confirmation) (int, error) {
	if err := n.Usable(); err != nil {
		return 0, err
	}
	if !n.durables.receives {
		for _, c := range list {
			if err := CheckChannel(c.Channel); err != nil {
				return 0, err
			}
		}
		return 0, nil
	}
	groups, count, err := n.durables.group(list)
	if err != nil {
		return 0, err
	}
	var puts []*incomingPut
	for _, g := range groups {
		g.receiver.Confirm(g.sequences...)
		if g.receiver.Unstored() {
			puts = append(puts, &incomingPut{in: g.in})
		}
	}
	if len(puts) == 0 {
		return count, nil
	}
	return count, n.durables.putNow(puts)
}

// confirmGroup is messages of one session.
type confirmGroup struct {
	in           *incoming
	receiver     *session.Receiver
	base, before uint64
	sequences    []uint64
}

// group sorts confirmations by session. Those of a session that its sender has given up are counted, and need nothing.
func (d *durables) group(list []Confirmation) (groups map[string]*confirmGroup, count int, err error) {
	groups = map[string]*confirmGroup{}
	for _, c := range list {
		g, known := groups[c.Channel]
		if !known {
			if err := CheckChannel(c.Channel); err != nil {
				return nil, 0, err
			}
			g = d.incomingOf(c.Channel).group()
			groups[c.Channel] = g
		}
		if g == nil {
			continue
		}
		if c.ID == 0 {
			return nil, 0, fmt.Errorf("%w: the ids of %q count from 1", ErrArgument, c.Channel)
		}
		if count++; c.ID > g.base {
			g.sequences = append(g.sequences, c.ID-g.base)
		}
	}
	for channel, g := range groups {
		if g == nil {
			delete(groups, channel)
		} else if err := g.receiver.Confirmable(g.sequences, g.before); err != nil {
			return nil, 0, confirmError(err)
		}
	}
	return groups, count, nil
}

func (k *incoming) group() *confirmGroup {
	if k == nil {
		return nil
	}
	k.state.Lock()
	defer k.state.Unlock()
	return &confirmGroup{in: k, receiver: k.state.receiver, base: k.state.base, before: k.state.before}
}

func confirmError(err error) error {
	if errors.Is(err, session.ErrScattered) {
		return fmt.Errorf("%w: %w", ErrWouldBlock, err)
	}
	return fmt.Errorf("%w: %w", ErrArgument, err)
}

// ConfirmTaken confirms messages that were handed over by a call whose hosts cannot confirm, or refused by the node's guard.
// Nobody waits for the disk.
func (n *Node) ConfirmTaken(messages []queue.Message) {
	if !n.durables.receives {
		return
	}
	for i := range messages {
		n.confirmTaken(&messages[i])
	}
}

func (n *Node) confirmTaken(m *queue.Message) {
	if m.Source != nil && m.Source.Kept {
		m.Source.Evicted(m.Sequence)
	}
}
