package main

// #include "shim.h"
import "C"

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"peerbus/node"
)

//export go_FindPeers
func go_FindPeers(number C.int, name *C.char, nameLength C.size_t, maxPeers, timeoutMs C.int) *C.char {
	return onNode("FindPeers", number, func(i *instance) (any, error) {
		namespace, err := textArgument("name", name, nameLength)
		if err != nil {
			return nil, err
		}
		most, err := countArgument("maxPeers", maxPeers, node.MaxFoundPeers)
		if err != nil {
			return nil, err
		}
		timeout, err := timeoutArgument(timeoutMs)
		if err != nil {
			return nil, err
		}
		return i.findPeers(namespace, most, timeout)
	})
}

func (i *instance) findPeers(namespace string, most int, timeout time.Duration) (any, error) {
	return i.operate("FindPeers", timeout, func(ctx context.Context, operation int64) (any, error) {
		found, err := i.node.FindPeers(ctx, namespace, most, func(p node.FoundPeer) {
			i.node.Events().Push(node.EventPeerFound, map[string]any{
				"operation": operation, "namespace": namespace, "peer": p.ID, "addresses": p.Addresses, "source": p.Source,
			})
		})
		if err != nil {
			return nil, err
		}
		return map[string]any{"peers": append([]node.FoundPeer{}, found...)}, nil
	})
}

//export go_FindPeer
func go_FindPeer(number C.int, text *C.char, length C.size_t) *C.char {
	return onNode("FindPeer", number, func(i *instance) (any, error) {
		id, err := peerArgument(text, length)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(i.node.Context(), node.DiscoveryTimeout)
		defer cancel()
		return findPeer(ctx, i, id)
	})
}

func findPeer(ctx context.Context, i *instance, id peer.ID) (any, error) {
	addresses, err := i.node.FindPeer(ctx, id)
	if err != nil {
		return nil, err
	}
	return addresses, nil
}

//export go_Advertise
func go_Advertise(number C.int, name *C.char, nameLength C.size_t) *C.char {
	return onNode("Advertise", number, func(i *instance) (any, error) {
		namespace, err := textArgument("name", name, nameLength)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(i.node.Context(), node.DiscoveryTimeout)
		defer cancel()
		return advertise(ctx, i, namespace)
	})
}

func advertise(ctx context.Context, i *instance, namespace string) (any, error) {
	if err := i.node.Advertise(ctx, namespace); err != nil {
		return nil, err
	}
	return "advertising " + namespace, nil
}

//export go_StopAdvertising
func go_StopAdvertising(number C.int, name *C.char, nameLength C.size_t) *C.char {
	return onNode("StopAdvertising", number, func(i *instance) (any, error) {
		namespace, err := textArgument("name", name, nameLength)
		if err != nil {
			return nil, err
		}
		if err := i.node.StopAdvertising(namespace); err != nil {
			return nil, err
		}
		return "no longer advertising " + namespace, nil
	})
}
