package webrtc

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/pion/logging"
)

// loggers gives pion, which would write to stderr, the log of the host. What pion calls an error is mostly a peer that went
// away, so everything is debug.
type loggers struct{ log *slog.Logger }

func (l loggers) NewLogger(scope string) logging.LeveledLogger {
	return logger{l.log.With("pion", scope)}
}

type logger struct{ log *slog.Logger }

func (l logger) write(text string) { l.log.Debug(text) }

func (l logger) writef(format string, args ...any) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug(fmt.Sprintf(format, args...))
	}
}

func (logger) Trace(string)                     {}
func (logger) Tracef(string, ...any)            {}
func (l logger) Debug(text string)              { l.write(text) }
func (l logger) Debugf(format string, a ...any) { l.writef(format, a...) }
func (l logger) Info(text string)               { l.write(text) }
func (l logger) Infof(format string, a ...any)  { l.writef(format, a...) }
func (l logger) Warn(text string)               { l.write(text) }
func (l logger) Warnf(format string, a ...any)  { l.writef(format, a...) }
func (l logger) Error(text string)              { l.write(text) }
func (l logger) Errorf(format string, a ...any) { l.writef(format, a...) }
