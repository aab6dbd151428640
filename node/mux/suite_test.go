package mux

import (
	"testing"

	suite "github.com/libp2p/go-libp2p/p2p/muxer/testsuite"
)

func TestTheSuiteOfLibp2p(t *testing.T) { suite.SubtestAll(t, Transport{}) }
