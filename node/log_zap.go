package node

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"go.uber.org/zap/zapcore"
)

// zapCore passes on what zap loggers say.
type zapCore struct {
	handler slog.Handler
	fields  []zapcore.Field
}

// NewZapCore makes zap loggers write to a slog handler. It gets the first part of a logger's name as the attribute "logger",
// as from go-libp2p: "dht/RtRefreshManager" and "autotls.start" count as dht and autotls.
func NewZapCore(handler slog.Handler) zapcore.Core { return &zapCore{handler: handler} }

var slogLevels = map[zapcore.Level]slog.Level{
	zapcore.DebugLevel: slog.LevelDebug, zapcore.InfoLevel: slog.LevelInfo,
	zapcore.WarnLevel: slog.LevelWarn, zapcore.ErrorLevel: slog.LevelError,
}

func slogLevel(level zapcore.Level) slog.Level {
	if known, ok := slogLevels[level]; ok {
		return known
	}
	return slog.LevelError + 4 // panic and fatal
}

func (c *zapCore) named(logger string) slog.Handler {
	if i := strings.IndexAny(logger, "/."); i > 0 {
		logger = logger[:i]
	}
	return c.handler.WithAttrs([]slog.Attr{slog.String("logger", logger)})
}

func (c *zapCore) Enabled(zapcore.Level) bool { return true } // the name decides, see Check

func (c *zapCore) With(fields []zapcore.Field) zapcore.Core {
	return &zapCore{handler: c.handler, fields: slices.Concat(c.fields, fields)}
}

func (c *zapCore) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.named(entry.LoggerName).Enabled(context.Background(), slogLevel(entry.Level)) {
		return checked.AddCore(entry, c)
	}
	return checked
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
	return c.named(entry.LoggerName).Handle(context.Background(), record)
}

func (c *zapCore) Sync() error { return nil }
