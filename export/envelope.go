package main

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"encoding/json"
	"runtime/debug"
	"unsafe"
)

// envelope is what every control function answers.
type envelope struct {
	State   string `json:"state"`
	Message any    `json:"message,omitempty"`
	Code    string `json:"code,omitempty"`
}

// empty is an answer that becomes {"state":"Empty"}.
type empty struct{}

func envelopeOf(answer any, err error) envelope {
	switch {
	case err != nil:
		return envelope{State: "Error", Message: err.Error(), Code: codeName(codeOf(err))}
	case answer == empty{}:
		return envelope{State: "Empty"}
	}
	return envelope{State: "Success", Message: answer}
}

// reply encodes an answer for the host.
func reply(answer any, err error) *C.char {
	text, encodingErr := json.Marshal(envelopeOf(answer, err))
	if encodingErr != nil {
		text, _ = json.Marshal(envelopeOf(nil, panicError("encoding the answer", encodingErr))) // two plain texts always encode
	}
	return cText(text)
}

// cText copies into malloc'd memory with a NUL behind; nil when malloc fails.
func cText(text []byte) *C.char {
	memory := (*C.char)(C.malloc(C.size_t(len(text) + 1)))
	if memory == nil {
		return nil
	}
	space := unsafe.Slice((*byte)(unsafe.Pointer(memory)), len(text)+1)
	copy(space, text)
	space[len(text)] = 0
	return memory
}

// control runs a control function. A panic becomes INTERNAL and fails the node that it worked on.
func control(function string, i *instance, err error, f func() (any, error)) (answer *C.char) {
	defer func() {
		if value := recover(); value != nil {
			failed(function, i, value)
			answer = reply(nil, panicError(function, value))
		}
	}()
	if err != nil {
		return reply(nil, err)
	}
	result, err := f()
	return reply(result, err)
}

// onNode is control for functions that need a running node.
func onNode(function string, number C.int, f func(*instance) (any, error)) *C.char {
	i, err := lookUp(number)
	return control(function, i, err, func() (any, error) { return f(i) })
}

// guard is deferred by data functions: a panic becomes INTERNAL and fails the node.
func guard(function string, i **instance, code *C.int, problem *C.char) {
	if value := recover(); value != nil {
		failed(function, *i, value)
		*code = fail(problem, panicError(function, value))
	}
}

func failed(function string, i *instance, value any) {
	if i != nil {
		i.node.Fail(function, value, debug.Stack())
		return
	}
	logger().Error("panic", "where", function, "value", value, "stack", string(debug.Stack()))
	dumpStacksOnce()
}
