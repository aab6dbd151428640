package pool

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// relayMark is in every address of a relayed connection.
const relayMark = "/p2p-circuit"

// Outgoing is a direct message to send (POOL-35).
type Outgoing struct {
	Peer        string
	Trail       string // after "~" at the end of the channel; "" for none
	ContentType string
	Content     Content
	Network     string // "": that of the peer's pool
}

// DirectChannel is the channel of a direct message.
func DirectChannel(own, peer, contentType, trail string) string {
	channel := own + "::dm:" + peer + "-" + contentType
	if trail != "" {
		channel += "~" + trail
	}
	return channel
}

// Send wraps the content, with the own token, and sends it to one peer. Errors: ErrNotPooled when no network is given and the
// peer is in no pool, ErrNotFound for an unknown network, else those of the network.
func (s *Set) Send(ctx context.Context, o Outgoing) error {
	s.activity.markSent(o.ContentType)
	n, err := s.networkFor(o)
	if err != nil {
		return err
	}
	channel := DirectChannel(n.network.ID(), o.Peer, o.ContentType, o.Trail)
	return n.network.Send(ctx, channel, s.wrapFor(n, o.ContentType, channel, o.Content))
}

func (s *Set) networkFor(o Outgoing) (*networkState, error) {
	if err := checkPeerID(o.Peer); err != nil {
		return nil, err
	}
	if o.Network != "" {
		return s.networkByName(o.Network)
	}
	if n := s.networkOfMember(o.Peer); n != nil {
		return n, nil
	}
	return nil, fmt.Errorf("%w: %.128q; name a network to send to it", ErrNotPooled, o.Peer)
}

// wrapFor adds the sender, the token and the inspector bit, which a node never sets itself.
func (s *Set) wrapFor(n *networkState, contentType, channel string, content Content) []byte {
	return wrap(n.network.ID(), contentType, channel, *s.token.Load()+"0", s.now(), content)
}

func (s *Set) networkOfMember(id string) *networkState {
	s.state.RLock()
	defer s.state.RUnlock()
	if m := s.state.members[id]; m != nil {
		return m.pool.network
	}
	return nil
}

// networkOfPeer is the network whose own id it is, else that of the peer's pool, else nil.
func (s *Set) networkOfPeer(id string) *networkState {
	for _, n := range s.networks {
		if n.network.ID() == id {
			return n
		}
	}
	return s.networkOfMember(id)
}

func (s *Set) networkOfTopic(id, defaultNetwork string) (*networkState, error) {
	if n := s.networkOfPeer(id); n != nil {
		return n, nil
	}
	if defaultNetwork == "" {
		return nil, fmt.Errorf("%w: %.128q; name a default network", ErrNotPooled, id)
	}
	return s.networkByName(defaultNetwork)
}

// Subscribe subscribes to a topic of a peer, on the network whose own id it is, that of its pool, or the default one.
func (s *Set) Subscribe(peerID, channel, defaultNetwork string) error {
	n, err := s.networkOfTopic(peerID, defaultNetwork)
	if err != nil {
		return err
	}
	return n.network.Subscribe(channel)
}

// Unsubscribe ends a subscription; networks as in Subscribe.
func (s *Set) Unsubscribe(peerID, channel, defaultNetwork string) error {
	n, err := s.networkOfTopic(peerID, defaultNetwork)
	if err != nil {
		return err
	}
	return n.network.Unsubscribe(channel)
}

// Publish wraps the content as Send does and publishes it on a topic, on the network whose own id peerID is or that of its
// pool. It answers how many connected subscribers there were.
func (s *Set) Publish(ctx context.Context, peerID, channel, contentType string, content Content) (int, error) {
	n := s.networkOfPeer(peerID)
	if n == nil {
		return 0, fmt.Errorf("%w: %.128q, so no network is known to publish on", ErrNotPooled, peerID)
	}
	s.activity.markSent(contentType)
	return n.network.Publish(ctx, channel, s.wrapFor(n, contentType, channel, content))
}

// Connect dials a peer and answers its id and whether the connection goes through a relay. It places nobody: the connection
// event does.
func (s *Set) Connect(ctx context.Context, network string, addresses []string) (id string, relayed bool, err error) {
	n, err := s.networkByName(network)
	if err != nil {
		return "", false, err
	}
	if len(addresses) == 0 {
		return "", false, fmt.Errorf("%w: the list of addresses is empty", ErrArgument)
	}
	id, address, err := n.network.Connect(ctx, addresses)
	if err != nil {
		return "", false, err
	}
	return id, strings.Contains(address, relayMark), nil
}

// Disconnect disconnects a peer without touching pools; the event of the lost connection does.
func (s *Set) Disconnect(ctx context.Context, network, id string) error {
	n, err := s.networkByName(network)
	if err != nil {
		return err
	}
	return n.network.Disconnect(ctx, id)
}

// Reserve makes a reservation on a connected relay and answers when it expires.
func (s *Set) Reserve(ctx context.Context, network, id string) (time.Time, error) {
	n, err := s.networkByName(network)
	if err != nil {
		return time.Time{}, err
	}
	return n.network.Reserve(ctx, id)
}
