package main

// #include "shim.h"
import "C"

import (
	"context"
	"fmt"

	"github.com/libp2p/go-libp2p/core/peer"

	"peerbus/node"
)

//export go_ReserveOnRelay
func go_ReserveOnRelay(number C.int, text *C.char, length C.size_t) *C.char {
	return onNode("ReserveOnRelay", number, func(i *instance) (any, error) {
		relay, err := textArgument("relayPeerID", text, length)
		if err != nil {
			return nil, err
		}
		return reserve(i.node.Context(), i, relay)
	})
}

func reserve(ctx context.Context, i *instance, relay string) (any, error) {
	id, err := peer.Decode(relay)
	if err != nil {
		return nil, fmt.Errorf("%w: %q is not a peer id: %v", node.ErrArgument, relay, err)
	}
	expires, err := i.node.ReserveOnRelay(ctx, id)
	if err != nil {
		return nil, err
	}
	return node.FormatExpiry(expires), nil
}

//export go_StartStaticRelay
func go_StartStaticRelay(number C.int, text *C.char, length C.size_t) *C.char {
	return onNode("StartStaticRelay", number, func(i *instance) (any, error) {
		info, err := textArgument("addrInfoJSON", text, length)
		if err != nil {
			return nil, err
		}
		return startStaticRelay(i.node.Context(), i, info)
	})
}

func startStaticRelay(ctx context.Context, i *instance, text string) (any, error) {
	info, err := node.ParseRelay([]byte(text))
	if err != nil {
		return nil, err
	}
	expires, err := i.node.StartStaticRelay(ctx, info)
	if err != nil {
		return nil, err
	}
	return node.FormatExpiry(expires), nil
}
