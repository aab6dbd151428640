package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"

	"peerbus/node"
)

const (
	// maxStackBytes bounds a dump of all stacks.
	maxStackBytes   = 16 << 20
	firstStackBytes = 256 << 10
)

// minProcs is how many threads may run Go code when the process has one processor and GOMAXPROCS says nothing. A thread of the
// host keeps its share after a call, while it is in C again, until Go's monitor takes it back, some 70 us later at the soonest.
const minProcs = 2

func init() {
	if runtime.GOMAXPROCS(0) < minProcs && os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(minProcs)
	}
}

// configureRuntime applies the knobs that a host cannot reach through the environment.
func configureRuntime(text string) (any, error) {
	var knobs struct {
		MaxProcs    *int   `json:"max_procs"`
		GCPercent   *int   `json:"gc_percent"`
		MemoryLimit *int64 `json:"memory_limit_bytes"`
	}
	if err := decodeStrict(text, &knobs); err != nil {
		return nil, fmt.Errorf("%w: %v; the keys are max_procs, gc_percent and memory_limit_bytes", node.ErrArgument, err)
	}
	if knobs.MaxProcs != nil && (*knobs.MaxProcs < 1 || *knobs.MaxProcs > 4*runtime.NumCPU()) {
		return nil, fmt.Errorf("%w: max_procs %d; 1 .. %d are possible", node.ErrArgument, *knobs.MaxProcs, 4*runtime.NumCPU())
	}
	if knobs.GCPercent != nil && *knobs.GCPercent < -1 {
		return nil, fmt.Errorf("%w: gc_percent %d; -1 turns collection off, otherwise it is a percentage", node.ErrArgument, *knobs.GCPercent)
	}
	if knobs.MemoryLimit != nil && *knobs.MemoryLimit < 1 {
		return nil, fmt.Errorf("%w: memory_limit_bytes %d must be positive", node.ErrArgument, *knobs.MemoryLimit)
	}
	if knobs.MaxProcs != nil {
		runtime.GOMAXPROCS(*knobs.MaxProcs)
	}
	percent := debug.SetGCPercent(-1) // the only way to read it
	if knobs.GCPercent != nil {
		percent = *knobs.GCPercent
	}
	debug.SetGCPercent(percent)
	if knobs.MemoryLimit != nil {
		debug.SetMemoryLimit(*knobs.MemoryLimit)
	}
	return map[string]any{
		"max_procs":          runtime.GOMAXPROCS(0),
		"gc_percent":         percent,
		"memory_limit_bytes": debug.SetMemoryLimit(-1),
	}, nil
}

// decodeStrict decodes one JSON object and refuses unknown keys and trailing text.
func decodeStrict(text string, into any) error {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return fmt.Errorf("text behind the object")
	}
	return nil
}

// allStacks is every goroutine's stack.
func allStacks() []byte {
	for size := firstStackBytes; ; size *= 2 {
		space := make([]byte, size)
		if n := runtime.Stack(space, true); n < size || size >= maxStackBytes {
			return space[:n]
		}
	}
}

var dumpOnce sync.Once

// dumpStacksOnce puts every stack into the log, at the first panic only.
func dumpStacksOnce() {
	dumpOnce.Do(func() {
		for stack := range bytes.SplitSeq(allStacks(), []byte("\n\n")) {
			logger().Error("goroutine", "stack", string(stack)) // one line each: a line has its bound
		}
	})
}
