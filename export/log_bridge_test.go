package main

import (
	"log"
	"strings"
	"testing"

	golog "github.com/ipfs/go-log/v2"

	"peerbus/node"
)

func TestTheLogsOfTheDHTGoToTheSinkAtTheLevelOfTheirLogger(t *testing.T) {
	parent, below := golog.Logger("dhttest"), golog.Logger("dhttest/refresh")
	sink, reader := capture(t, `{"dhttest":"info"}`)
	golog.SetPrimaryCore(node.NewZapCore(&logHandler{sink: sink}))
	t.Cleanup(func() { golog.SetPrimaryCore(node.NewZapCore(&logHandler{sink: theLog})) })
	golog.Logger("other").Error("unseen")
	parent.Debug("unseen")
	parent.Infow("joined", "peer", "x y", "count", 2)
	if line := readLine(t, reader); !strings.HasSuffix(line, `level=INFO logger=dhttest msg=joined count=2 peer="x y"`+"\n") {
		t.Errorf("got %q", line)
	}
	below.With("bucket", 7).Warn("slow")
	if line := readLine(t, reader); !strings.HasSuffix(line, `level=WARN logger=dhttest msg=slow bucket=7`+"\n") {
		t.Errorf("got %q", line)
	}
}

func TestThePlainLogIsSilentUntilTheHostNamesIt(t *testing.T) {
	sink, reader := capture(t, `{"stdlog":"warn"}`)
	was := log.Writer()
	t.Cleanup(func() { log.SetOutput(was) })
	if taken, ok := was.(plainLog); !ok || taken.sink != theLog {
		t.Errorf("the plain log goes to %T", was)
	}
	silent, _ := capture(t, `{}`)
	log.SetOutput(plainLog{silent})
	log.Print("unseen")
	log.SetOutput(plainLog{sink})
	log.Print("no interface")
	if line := readLine(t, reader); !strings.Contains(line, `level=WARN logger=stdlog msg="no interface"`) {
		t.Errorf("got %q", line)
	}
}
