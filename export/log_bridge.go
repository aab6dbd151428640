package main

import (
	"context"
	"log"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"

	golog "github.com/ipfs/go-log/v2"
	"go.uber.org/zap/zapcore"
)

// standardLogger is the name under which lines of Go's plain log package appear (zeroconf and net/http write there).
const standardLogger = "stdlog"

// Dependencies log in three ways: go-libp2p by slog (see the init of log.go), the DHT and the certificate manager by zap,
// zeroconf by the plain log package. All of them would print to stderr by themselves.
func init() {
	golog.SetPrimaryCore(&zapCore{sink: theLog})
	log.SetFlags(0)
	log.SetOutput(plainLog{theLog})
}

// setZapLevel lets the loggers of that name, and those below it, log from the level on. zap would otherwise throw the lines
// away before they come here.
func setZapLevel(name, level string) {
	// The pattern is sound and the level known: nothing to report.
	_ = golog.SetLogLevelRegex("^"+regexp.QuoteMeta(name)+"($|[/.])", level)
}

// zapCore writes what zap loggers say to the sink. "dht/RtRefreshManager" and "autotls.start" count as dht and autotls.
type zapCore struct {
	sink   *logSink
	fields []zapcore.Field
}

var slogLevels = map[zapcore.Level]slog.Level{
	zapcore.DebugLevel: slog.LevelDebug, zapcore.InfoLevel: slog.LevelInfo,
	zapcore.WarnLevel: slog.LevelWarn, zapcore.ErrorLevel: slog.LevelError,
}

func slogLevel(level zapcore.Level) slog.Level {
	if known, ok := slogLevels[level]; ok {
		return known
	}
	return levelFatal
}

func (c *zapCore) Enabled(zapcore.Level) bool { return true } // the name decides, see Check

func (c *zapCore) With(fields []zapcore.Field) zapcore.Core {
	return &zapCore{sink: c.sink, fields: append(slices.Clone(c.fields), fields...)}
}

func (c *zapCore) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.sink.enabled(firstName(entry.LoggerName), slogLevel(entry.Level)) {
		return checked.AddCore(entry, c)
	}
	return checked
}

func firstName(logger string) string {
	if i := strings.IndexAny(logger, "/."); i > 0 {
		return logger[:i]
	}
	return logger
}

func (c *zapCore) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	encoded := zapcore.NewMapObjectEncoder()
	for _, field := range slices.Concat(c.fields, fields) {
		field.AddTo(encoded)
	}
	record := slog.NewRecord(entry.Time, slogLevel(entry.Level), entry.Message, 0)
	for _, name := range slices.Sorted(maps.Keys(encoded.Fields)) {
		record.AddAttrs(slog.Any(name, encoded.Fields[name]))
	}
	return (&logHandler{sink: c.sink, name: firstName(entry.LoggerName)}).Handle(context.Background(), record)
}

func (c *zapCore) Sync() error { return nil }

// plainLog takes the lines of the plain log package, which knows no levels: all of them are warnings.
type plainLog struct{ sink *logSink }

func (w plainLog) Write(line []byte) (int, error) {
	slog.New(&logHandler{sink: w.sink, name: standardLogger}).Warn(strings.TrimRight(string(line), "\n"))
	return len(line), nil
}
