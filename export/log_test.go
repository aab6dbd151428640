package main

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
)

// capture makes a sink that writes into a pipe, and a function that reads what has been written.
func capture(t *testing.T, levels string) (*logSink, *os.File) {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reader.Close(); writer.Close() })
	sink := newLogSink()
	sink.out.fd = int(writer.Fd())
	sink.configure(levels)
	return sink, reader
}

func readLine(t *testing.T, reader *os.File) string {
	t.Helper()
	space := make([]byte, 2*maxLogLine)
	n, err := reader.Read(space)
	if err != nil {
		t.Fatal(err)
	}
	return string(space[:n])
}

func TestLoggersAreSilentUntilTheHostNamesThem(t *testing.T) {
	sink, reader := capture(t, `{"swarm2":"info","unailib":"WARN","nonsense":7,"other":"loudest"}`)
	write := func(name string, level slog.Level, text string) {
		log := slog.New(&logHandler{sink: sink}).With(loggerKey, name)
		log.Log(t.Context(), level, text)
	}
	write("nobody", slog.LevelError, "unseen")
	write("other", slog.LevelError, "unseen")
	write("swarm2", slog.LevelDebug, "unseen")
	write("peerbus", slog.LevelInfo, "unseen")
	write("peerbus", slog.LevelWarn, "seen")
	if line := readLine(t, reader); !strings.Contains(line, "level=WARN logger=peerbus msg=seen") {
		t.Errorf("got %q", line)
	}
}

func TestAttributesStayOnOneLine(t *testing.T) {
	sink, reader := capture(t, `{"peerbus":"debug"}`)
	log := slog.New(&logHandler{sink: sink, name: "peerbus"}).With("node", "a b").WithGroup("conn")
	log.Info("line\nbreak", "peer", "x", slog.Group("in", "n", 1))
	line := readLine(t, reader)
	if want := `msg="line\nbreak" node="a b" conn.peer=x conn.in.n=1` + "\n"; !strings.HasSuffix(line, want) {
		t.Errorf("got %q, want the end %q", line, want)
	}
}

func TestLinesThatFindTheDescriptorFullAreCounted(t *testing.T) {
	sink, reader := capture(t, `{"peerbus":"debug"}`)
	log := slog.New(&logHandler{sink: sink, name: "peerbus"})
	const lines = 64
	for range lines {
		log.Info(strings.Repeat("x", 2*maxLogLine))
	}
	if sink.out.dropped == 0 {
		t.Fatal("nothing was dropped, so the pipe never was full")
	}
	space := make([]byte, lines*maxLogLine)
	n, err := reader.Read(space)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := n, (lines-int(sink.out.dropped))*maxLogLine; got != want {
		t.Fatalf("%d bytes were written, want %d: whole lines, cut to their bound", got, want)
	}
	dropped := sink.out.dropped
	log.Info("room again")
	if line := readLine(t, reader); !strings.Contains(line, fmt.Sprintf("%d log lines were dropped", dropped)) {
		t.Errorf("got %q", line)
	}
}

func TestMalformedLogConfigurationChangesNothing(t *testing.T) {
	for _, text := range []string{"", "{", "[]", "null", `"debug"`} {
		sink, _ := capture(t, text)
		if sink.enabled("peerbus", slog.LevelError) {
			t.Errorf("%q switched a logger on", text)
		}
	}
}
