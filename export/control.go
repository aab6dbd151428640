package main

// #include "shim.h"
import "C"

import (
	"context"
	"fmt"
	"unsafe"

	"github.com/libp2p/go-libp2p/core/peer"

	"peerbus/node"
)

//export go_ConfigureRuntime
func go_ConfigureRuntime(text *C.char, length C.size_t) *C.char {
	return control("ConfigureRuntime", nil, nil, func() (any, error) {
		config, err := textArgument("configJSON", text, length)
		if err != nil {
			return nil, err
		}
		return configureRuntime(config)
	})
}

//export go_DumpStacks
func go_DumpStacks() (answer *C.char) {
	defer func() {
		if value := recover(); value != nil {
			failed("DumpStacks", nil, value)
		}
	}()
	return cText(allStacks())
}

//export go_CreateNode
func go_CreateNode(number C.int, text *C.char, length C.size_t) *C.char {
	return control("CreateNode", nil, nil, func() (any, error) {
		if _, _, err := slotOf(number); err != nil {
			return nil, err
		}
		config, err := textArgument("configJSON", text, length)
		if err != nil {
			return nil, err
		}
		return createNode(number, config)
	})
}

//export go_CloseNode
func go_CloseNode(number C.int) *C.char {
	return control("CloseNode", nil, nil, func() (any, error) { return closeNode(number) })
}

//export go_GetNodeAddresses
func go_GetNodeAddresses(number C.int, text *C.char, length C.size_t) *C.char {
	return onNode("GetNodeAddresses", number, func(i *instance) (any, error) {
		id, err := textArgument("peerID", text, length)
		if err != nil {
			return nil, err
		}
		if id == "" {
			return i.node.Addresses(), nil
		}
		decoded, err := peerArgument(text, length)
		if err != nil {
			return nil, err
		}
		return i.node.AddressesOf(decoded)
	})
}

//export go_GetReachability
func go_GetReachability(number C.int) *C.char {
	return onNode("GetReachability", number, func(i *instance) (any, error) {
		return i.node.Reachability() == node.ReachPublic, nil
	})
}

//export go_GetStatistics
func go_GetStatistics(number C.int) *C.char {
	return onNode("GetStatistics", number, func(i *instance) (any, error) { return i.node.Statistics(), nil })
}

//export go_ConnectTo
func go_ConnectTo(number C.int, text *C.char, length C.size_t) *C.char {
	return onNode("ConnectTo", number, func(i *instance) (any, error) {
		addresses, err := textArgument("addrsJSON", text, length)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(i.node.Context(), node.ConnectTimeout)
		defer cancel()
		return connect(ctx, i, addresses)
	})
}

func connect(ctx context.Context, i *instance, addressesText string) (any, error) {
	addresses, err := addressesArgument(addressesText)
	if err != nil {
		return nil, err
	}
	reached, err := i.node.Connect(ctx, addresses)
	if err != nil {
		return nil, err
	}
	return map[string]any{"ID": reached.ID, "Addrs": reached.Addrs}, nil
}

//export go_DisconnectFrom
func go_DisconnectFrom(number C.int, text *C.char, length C.size_t) *C.char {
	return onNode("DisconnectFrom", number, func(i *instance) (any, error) {
		id, err := peerArgument(text, length)
		if err != nil {
			return nil, err
		}
		return disconnect(i, id)
	})
}

func disconnect(i *instance, id peer.ID) (any, error) {
	if id == i.node.ID() {
		return "Cannot disconnect from self", nil
	}
	if err := i.node.Disconnect(id); err != nil {
		return nil, err
	}
	return "disconnected from " + id.String(), nil
}

//export go_GetConnectedPeers
func go_GetConnectedPeers(number C.int) *C.char {
	return onNode("GetConnectedPeers", number, func(i *instance) (any, error) { return i.node.Peers(), nil })
}

//export go_SendMessageToPeer
func go_SendMessageToPeer(number C.int, channel *C.char, channelLength C.size_t, data *C.char, length C.int) *C.char {
	return onNode("SendMessageToPeer", number, func(i *instance) (any, error) {
		name, err := textArgument("channel", channel, channelLength)
		if err != nil {
			return nil, err
		}
		if length < 0 {
			return nil, fmt.Errorf("%w: a length of %d bytes", node.ErrArgument, length)
		}
		if data == nil {
			return nil, fmt.Errorf("%w: data is NULL", node.ErrArgument)
		}
		payload, err := bytesArgument(unsafe.Pointer(data), uint64(length), i.maxMessage())
		if err != nil {
			return nil, err
		}
		return sendOrPublish(i, name, payload)
	})
}

func sendOrPublish(i *instance, channel string, payload []byte) (any, error) {
	ctx, cancel := context.WithTimeout(i.node.Context(), node.SendTimeout)
	defer cancel()
	if node.IsTopic(channel) {
		published, err := i.node.Publish(ctx, channel, payload)
		return map[string]int{"peers": published.Peers}, err
	}
	if len(payload) == 0 { // programs of the existing network rely on it
		return nil, fmt.Errorf("%w: an empty message; peerbus_send can carry one on an acknowledged channel", node.ErrArgument)
	}
	if err := i.node.SendAndWait(ctx, channel, payload); err != nil {
		return nil, err
	}
	return "sent", nil
}

func (i *instance) maxMessage() uint64 { return uint64(i.node.Config().Limits.MessageBytes) }

//export go_MessageQueueLength
func go_MessageQueueLength(number C.int) (count C.int) {
	i, err := lookUp(number)
	defer func() {
		if value := recover(); value != nil {
			failed("MessageQueueLength", i, value)
			count = -1
		}
	}()
	if err != nil {
		return -1
	}
	return C.int(i.node.Queue().Len())
}

//export go_PopMessages
func go_PopMessages(number C.int) (answer *C.char) {
	i, err := lookUp(number)
	defer func() {
		if value := recover(); value != nil {
			failed("PopMessages", i, value)
			answer = reply(nil, panicError("PopMessages", value))
		}
	}()
	if err != nil {
		return reply(nil, err)
	}
	return popMessages(i)
}

//export go_SubscribeToTopic
func go_SubscribeToTopic(number C.int, channel *C.char, channelLength C.size_t) *C.char {
	return onNode("SubscribeToTopic", number, func(i *instance) (any, error) {
		name, err := textArgument("channel", channel, channelLength)
		if err != nil {
			return nil, err
		}
		return subscribe(i, name)
	})
}

func subscribe(i *instance, channel string) (any, error) {
	if err := i.node.Subscribe(channel); err != nil {
		return nil, err
	}
	return "subscribed to " + channel, nil
}

//export go_UnsubscribeFromTopic
func go_UnsubscribeFromTopic(number C.int, channel *C.char, channelLength C.size_t) *C.char {
	return onNode("UnsubscribeFromTopic", number, func(i *instance) (any, error) {
		name, err := textArgument("channel", channel, channelLength)
		if err != nil {
			return nil, err
		}
		return unsubscribe(i, name)
	})
}

func unsubscribe(i *instance, channel string) (any, error) {
	if err := i.node.Unsubscribe(channel); err != nil {
		return nil, err
	}
	return "unsubscribed from " + channel, nil
}

//export go_GetTopicPeers
func go_GetTopicPeers(number C.int) *C.char {
	return onNode("GetTopicPeers", number, func(i *instance) (any, error) { return i.node.TopicPeers(), nil })
}

//export go_SetTopicRules
func go_SetTopicRules(number C.int, channel *C.char, channelLength C.size_t, text *C.char, length C.size_t) *C.char {
	return onNode("SetTopicRules", number, func(i *instance) (any, error) {
		name, err := textArgument("channel", channel, channelLength)
		if err != nil {
			return nil, err
		}
		given, err := textArgument("rulesJSON", text, length)
		if err != nil {
			return nil, err
		}
		rules, err := node.ParseTopicRules(given)
		if err != nil {
			return nil, err
		}
		return "set", i.node.SetTopicRules(name, rules)
	})
}

//export go_WaitForTopicPeers
func go_WaitForTopicPeers(number C.int, channel *C.char, channelLength C.size_t, count, timeoutMs C.int) *C.char {
	return onNode("WaitForTopicPeers", number, func(i *instance) (any, error) {
		name, err := textArgument("channel", channel, channelLength)
		if err != nil {
			return nil, err
		}
		if count < 0 {
			return nil, fmt.Errorf("%w: count is %d", node.ErrArgument, count)
		}
		timeout, err := timeoutArgument(timeoutMs)
		if err != nil {
			return nil, err
		}
		call := newCallContext(i.node.Context(), timeout)
		defer call.end()
		return waitForTopicPeers(call, i, name, int(count))
	})
}

func waitForTopicPeers(ctx context.Context, i *instance, channel string, count int) (any, error) {
	peers, err := i.node.WaitForTopicPeers(ctx, channel, count)
	if err != nil {
		return nil, err
	}
	return map[string]int{"peers": peers}, nil
}

//export go_GetRendezvousPeers
func go_GetRendezvousPeers(number C.int) *C.char {
	return onNode("GetRendezvousPeers", number, func(i *instance) (any, error) {
		newest, ok := i.node.Rendezvous()
		if !ok {
			return empty{}, nil
		}
		return newest.Roster(), nil
	})
}

//export go_PopEvents
func go_PopEvents(number, maxEvents, timeoutMs C.int) *C.char {
	return onNode("PopEvents", number, func(i *instance) (any, error) {
		most, err := countArgument("maxEvents", maxEvents, maxPopEvents)
		if err != nil {
			return nil, err
		}
		timeout, err := timeoutArgument(timeoutMs)
		if err != nil {
			return nil, err
		}
		return i.popEvents(most, timeout)
	})
}

//export go_StartOperation
func go_StartOperation(number C.int, function *C.char, functionLength C.size_t, argument *C.char, argumentLength C.size_t, timeoutMs C.int) *C.char {
	return onNode("StartOperation", number, func(i *instance) (any, error) {
		name, err := textArgument("function", function, functionLength)
		if err != nil {
			return nil, err
		}
		given, err := textArgument("argument", argument, argumentLength)
		if err != nil {
			return nil, err
		}
		timeout, err := timeoutArgument(timeoutMs)
		if err != nil {
			return nil, err
		}
		return i.startOperation(name, given, timeout)
	})
}

//export go_CancelOperation
func go_CancelOperation(number C.int, operation C.longlong) *C.char {
	return onNode("CancelOperation", number, func(i *instance) (any, error) {
		return i.cancelOperation(int64(operation))
	})
}
