package main

import (
	"log"
	"log/slog"
	"regexp"
	"strings"

	golog "github.com/ipfs/go-log/v2"

	"peerbus/node"
)

// standardLogger is the name under which lines of Go's plain log package appear (zeroconf and net/http write there).
const standardLogger = "stdlog"

// Dependencies log in three ways: go-libp2p by slog (see the init of log.go), the DHT and the certificate manager by zap,
// zeroconf by the plain log package. All of them would print to stderr by themselves.
func init() {
	golog.SetPrimaryCore(node.NewZapCore(&logHandler{sink: theLog}))
	log.SetFlags(0)
	log.SetOutput(plainLog{theLog})
}

// setZapLevel lets the loggers of that name, and those below it, log from the level on. zap would otherwise throw the lines
// away before they come here.
func setZapLevel(name, level string) {
	// The pattern is sound and the level known: nothing to report.
	_ = golog.SetLogLevelRegex("^"+regexp.QuoteMeta(name)+"($|[/.])", level)
}

// plainLog takes the lines of the plain log package, which knows no levels: all of them are warnings.
type plainLog struct{ sink *logSink }

func (w plainLog) Write(line []byte) (int, error) {
	slog.New(&logHandler{sink: w.sink, name: standardLogger}).Warn(strings.TrimRight(string(line), "\n"))
	return len(line), nil
}
