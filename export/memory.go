package main

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"unsafe"

	"peerbus/node"
)

// cMemory gives payloads malloc'd buffers, so that the host gets the very memory that the stream was read into.
type cMemory struct{}

func (cMemory) Get(size int) []byte { return cSlice(C.pb_buffer_get(C.size_t(size)), size) }

func (cMemory) Slab() []byte { return cSlice(C.pb_slab_get(C.size_t(node.SlabBytes)), node.SlabBytes) }

func cSlice(buffer unsafe.Pointer, size int) []byte {
	if buffer == nil {
		panic(errNoMemory)
	}
	return unsafe.Slice((*byte)(buffer), size)
}

func (cMemory) Put(buffer []byte) { C.pb_buffer_put(unsafe.Pointer(unsafe.SliceData(buffer))) }

// cEnvironment reads a variable as the C library has it: Go's copy is from the start of the process.
func cEnvironment(name string) string {
	key := C.CString(name)
	defer C.free(unsafe.Pointer(key))
	return C.GoString(C.getenv(key))
}
