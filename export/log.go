package main

// #include "shim.h"
import "C"

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/libp2p/go-libp2p/gologshim"
	"golang.org/x/sys/unix"

	"peerbus/node"
)

const (
	// levelFatal is above every level that is used: silence.
	levelFatal = slog.LevelError + 4
	// maxLogLine is how much of a line is written: PIPE_BUF of Linux, so that lines of several writers do not mix.
	maxLogLine = 4096
	stderrFD   = 2

	libraryLogger = "peerbus"
	loggerKey     = "logger" // go-libp2p names its subsystem in this attribute
)

// loggerAliases are names of the existing network's library for our own logger.
var loggerAliases = map[string]string{"unailib": libraryLogger}

var levelNames = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "warning": slog.LevelWarn,
	"error": slog.LevelError, "dpanic": levelFatal, "panic": levelFatal, "fatal": levelFatal,
}

// logSink writes the lines of all loggers to one descriptor.
type logSink struct {
	levels atomic.Pointer[map[string]slog.Level]
	out    struct {
		sync.Mutex
		fd      int
		dropped uint64
	}
}

var theLog = newLogSink()

func newLogSink() *logSink {
	s := &logSink{}
	s.levels.Store(&map[string]slog.Level{})
	s.out.fd = stderrFD
	return s
}

func init() { gologshim.SetDefaultHandler(&logHandler{sink: theLog}) }

func logger() *slog.Logger { return slog.New(&logHandler{sink: theLog, name: libraryLogger}) }

// configure takes the levels of InitializeLibrary; whatever is malformed is passed over (P2P-02).
func (s *logSink) configure(text string) {
	var given map[string]any
	if json.Unmarshal([]byte(text), &given) != nil {
		return
	}
	levels := make(map[string]slog.Level, len(given))
	for name, value := range given {
		if alias, known := loggerAliases[name]; known {
			name = alias
		}
		word, _ := value.(string)
		if level, known := levelNames[strings.ToLower(word)]; known {
			levels[name] = level
			setZapLevel(name, strings.ToLower(word))
		}
	}
	s.levels.Store(&levels)
}

func (s *logSink) enabled(name string, level slog.Level) bool {
	least, set := (*s.levels.Load())[name]
	if !set {
		least = levelFatal
	}
	return level >= least
}

// write puts out one line, or counts it when the descriptor has no room.
func (s *logSink) write(line []byte) {
	s.out.Lock()
	defer s.out.Unlock()
	if s.out.dropped > 0 {
		note := fmt.Appendf(nil, "level=WARN logger=%s msg=\"%d log lines were dropped, nobody read them\"\n", libraryLogger, s.out.dropped)
		if !s.putLocked(note) {
			s.out.dropped++
			return
		}
		s.out.dropped = 0
	}
	if len(line) > maxLogLine {
		line = append(line[:maxLogLine-len("...\n")], "...\n"...)
	}
	if !s.putLocked(line) {
		s.out.dropped++
	}
}

// putLocked writes if the descriptor takes a line right now; it has no other place to report a failure than the count.
func (s *logSink) putLocked(line []byte) bool {
	ready := []unix.PollFd{{Fd: int32(s.out.fd), Events: unix.POLLOUT}}
	if n, err := unix.Poll(ready, 0); n != 1 || err != nil || ready[0].Revents&unix.POLLOUT == 0 {
		return false
	}
	n, err := unix.Write(s.out.fd, line)
	return err == nil && n == len(line)
}

//export go_SetLogDescriptor
func go_SetLogDescriptor(fd C.int, problem *C.char) (code C.int) {
	var none *instance
	defer guard("SetLogDescriptor", &none, &code, problem)
	target := int(fd)
	if target == -1 {
		target = stderrFD
	} else if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || flags&unix.O_ACCMODE == unix.O_RDONLY {
		return fail(problem, fmt.Errorf("%w: descriptor %d is not open for writing", node.ErrArgument, fd))
	}
	theLog.out.Lock()
	defer theLog.out.Unlock()
	theLog.out.fd = target
	return C.PEERBUS_OK
}

// logHandler formats records of one logger as lines of key=value.
type logHandler struct {
	sink   *logSink
	name   string
	suffix []byte // attributes that With added
	group  string
}

func (h *logHandler) Enabled(_ context.Context, level slog.Level) bool {
	return h.sink.enabled(h.name, level)
}

func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	var line bytes.Buffer
	fmt.Fprintf(&line, "time=%s level=%s logger=%s msg=%s", r.Time.UTC().Format("2006-01-02T15:04:05.000000Z"), r.Level, h.name, quoted(r.Message))
	line.Write(h.suffix)
	r.Attrs(func(a slog.Attr) bool {
		h.appendAttr(&line, a)
		return true
	})
	line.WriteByte('\n')
	h.sink.write(line.Bytes())
	return nil
}

func (h *logHandler) appendAttr(line *bytes.Buffer, a slog.Attr) {
	value := a.Value.Resolve()
	if value.Kind() == slog.KindGroup {
		inner := *h
		inner.group = h.group + a.Key + "."
		for _, member := range value.Group() {
			inner.appendAttr(line, member)
		}
		return
	}
	line.WriteByte(' ')
	line.WriteString(h.group + a.Key)
	line.WriteByte('=')
	line.WriteString(quoted(value.String()))
}

// quoted keeps a value on one line.
func quoted(text string) string {
	if text == "" || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == '"' || r == '=' || !strconv.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	made := *h
	var added bytes.Buffer
	for _, a := range attrs {
		if a.Key == loggerKey && h.group == "" {
			made.name = a.Value.String()
			continue
		}
		h.appendAttr(&added, a)
	}
	made.suffix = append(bytes.Clone(h.suffix), added.Bytes()...)
	return &made
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	made := *h
	made.group = h.group + name + "."
	return &made
}
