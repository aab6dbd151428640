package main

// #include "shim.h"
import "C"

import "context"

//export go_Diagnose
func go_Diagnose(number C.int) *C.char {
	return onNode("Diagnose", number, func(i *instance) (any, error) { return diagnose(i.node.Context(), i, "") })
}

func diagnose(ctx context.Context, i *instance, _ string) (any, error) { return i.node.Diagnose(ctx) }
