package main

// #include "shim.h"
import "C"

import (
	"context"

	"github.com/libp2p/go-libp2p/core/peer"

	"peerbus/node"
)

//export go_InitiateWebRTCConnection
func go_InitiateWebRTCConnection(number C.int, text *C.char, length C.size_t) *C.char {
	return onNode("InitiateWebRTCConnection", number, func(i *instance) (any, error) {
		id, err := peerArgument(text, length)
		if err != nil {
			return nil, err
		}
		return i.node.InitiateWebRTC(i.node.Context(), id)
	})
}

func initiateWebRTC(ctx context.Context, i *instance, argument string) (any, error) {
	id, err := decodePeer(argument)
	if err != nil {
		return nil, err
	}
	return i.node.InitiateWebRTC(ctx, id)
}

//export go_CloseWebRTCConnection
func go_CloseWebRTCConnection(number C.int, text *C.char, length C.size_t) *C.char {
	return onNode("CloseWebRTCConnection", number, func(i *instance) (any, error) {
		id, err := peerArgument(text, length)
		if err != nil {
			return nil, err
		}
		return closeWebRTC(i, id), nil
	})
}

func closeWebRTC(i *instance, id peer.ID) string {
	if i.node.CloseWebRTC(id) {
		return "closed the WebRTC connection with " + id.String()
	}
	return "no WebRTC connection with " + id.String()
}

//export go_GetWebRTCConnections
func go_GetWebRTCConnections(number C.int) *C.char {
	return onNode("GetWebRTCConnections", number, func(i *instance) (any, error) {
		type connection struct {
			Peer  string `json:"peer_id"`
			State string `json:"state"`
		}
		list := []connection{}
		for _, s := range i.node.WebRTCSessions() {
			state := "other"
			if s.State == node.WebRTCOpen && !s.Doubtful {
				state = "open"
			}
			list = append(list, connection{s.Peer, state})
		}
		return list, nil
	})
}

//export go_UpdateICEConfig
func go_UpdateICEConfig(number C.int, text *C.char, length C.size_t) *C.char {
	return onNode("UpdateICEConfig", number, func(i *instance) (any, error) {
		config, err := textArgument("configJSON", text, length)
		if err != nil {
			return nil, err
		}
		if err := i.node.UpdateICE([]byte(config)); err != nil {
			return nil, err
		}
		return map[string]bool{"updated": true}, nil
	})
}
