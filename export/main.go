// Package main is the C border of peerbus: shim.c holds the public symbols of include/peerbus.h, and each enters Go at the
// function go_<name> here, which checks its arguments, calls package node and encodes the answer.
//
// What it guarantees: no panic leaves a go_ function (guard), no wait lacks a deadline, and every returned text or batch is
// malloc'd memory that the host owns. What it owns: the table of slots (library.go), the operations of each node
// (operations.go), the wake descriptors (wake.go) and the batches until they are handed over (batch.go).
//
// Life of a slot; CreateNode and CloseNode are the only transitions:
//
//	never used --CreateNode--> creating --> running --CloseNode--> closed --CreateNode--> creating ...
//	                              |fails: back to what it was
package main

// #cgo CFLAGS: -I${SRCDIR}/../include -O2
// #include "shim.h"
import "C"

// Version of the library.
const Version = C.PEERBUS_VERSION

func main() {}
