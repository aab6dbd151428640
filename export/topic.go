package main

// #include "shim.h"
import "C"

import "peerbus/node"

//export go_OpenTopic
func go_OpenTopic(number C.int, channel *C.char, channelLength C.size_t, text *C.char, length C.size_t) *C.char {
	return onNode("OpenTopic", number, func(i *instance) (any, error) {
		name, err := textArgument("channel", channel, channelLength)
		if err != nil {
			return nil, err
		}
		given, err := textArgument("options", text, length)
		if err != nil {
			return nil, err
		}
		options, err := node.ParseTopicOptions(given)
		if err != nil {
			return nil, err
		}
		return "open", i.node.OpenTopic(name, options)
	})
}

//export go_GetTopicInfo
func go_GetTopicInfo(number C.int, channel *C.char, channelLength C.size_t) *C.char {
	return onNode("GetTopicInfo", number, func(i *instance) (any, error) {
		name, err := textArgument("channel", channel, channelLength)
		if err != nil {
			return nil, err
		}
		return i.node.TopicInfo(name)
	})
}
