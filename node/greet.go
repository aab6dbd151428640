package node

import (
	"context"
	"errors"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multistream"
)

// greetUnknown greets a peer that named neither protocol: either it is infrastructure, or a node that has just started, whose
// libp2p tells its protocols a moment later.
func (n *Node) greetUnknown(ctx context.Context, id peer.ID) error {
	err := n.exchangeHello(ctx, id)
	var unspoken multistream.ErrNotSupported[protocol.ID]
	if errors.As(err, &unspoken) {
		return nil
	}
	return err
}
