package main

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"peerbus/node"
	"peerbus/pool"
	"peerbus/queue"
)

func TestEveryFailureHasItsCode(t *testing.T) {
	for _, c := range []struct {
		err  error
		code string
	}{
		{errNotInitialized, "NOT_INITIALIZED"},
		{errNoNode, "NO_NODE"},
		{errInUse, "IN_USE"},
		{errLimit, "LIMIT"},
		{errNoMemory, "NO_MEMORY"},
		{node.ErrGuarded, "IN_USE"},
		{pool.ErrNoPolicy, "INVALID_CONFIG"},
		{pool.ErrKey, "INVALID_ARGUMENT"},
		{pool.ErrFull, "REFUSED"},
		{pool.ErrOtherPool, "REFUSED"},
		{pool.ErrStale, "REFUSED"},
		{pool.ErrNotPooled, "NOT_FOUND"},
		{pool.ErrClosed, "CLOSED"},
		{node.ErrInternal, "INTERNAL"},
		{node.ErrIdentity, "IDENTITY"},
		{node.ErrConfig, "INVALID_CONFIG"},
		{node.ErrUnsupported, "UNSUPPORTED"},
		{node.ErrClosed, "CLOSED"},
		{queue.ErrClosed, "CLOSED"},
		{node.ErrInterrupted, "INTERRUPTED"},
		{queue.ErrInterrupted, "INTERRUPTED"},
		{node.ErrCancelled, "CANCELLED"},
		{node.ErrTimeout, "TIMEOUT"},
		{context.DeadlineExceeded, "TIMEOUT"},
		{node.ErrWouldBlock, "WOULD_BLOCK"},
		{node.ErrTooLarge, "TOO_LARGE"},
		{node.ErrArgument, "INVALID_ARGUMENT"},
		{node.ErrNotConnected, "NOT_CONNECTED"},
		{node.ErrPeerClosed, "PEER_CLOSED"},
		{node.ErrLost, "LOST"},
		{node.ErrStore, "STORE"},
		{node.ErrRefused, "REFUSED"},
		{node.ErrNotFound, "NOT_FOUND"},
		{node.ErrUnreachable, "UNREACHABLE"},
	} {
		if got := codeName(codeOf(fmt.Errorf("doing something: %w", c.err))); got != c.code {
			t.Errorf("%v: got %s, want %s", c.err, got, c.code)
		}
	}
	if got := codeName(codeOf(errors.New("anything else"))); got != "INTERNAL" {
		t.Errorf("an unknown error: got %s", got)
	}
}

func TestEnvelopesSayWhatHappened(t *testing.T) {
	if got := envelopeOf([]string{}, nil); got.State != "Success" || got.Code != "" {
		t.Errorf("an empty list is a success: %+v", got)
	}
	if got := envelopeOf(empty{}, nil); got.State != "Empty" || got.Message != nil {
		t.Errorf("nothing there: %+v", got)
	}
	if got := envelopeOf("ignored", node.ErrTimeout); got.State != "Error" || got.Code != "TIMEOUT" || got.Message != node.ErrTimeout.Error() {
		t.Errorf("an error: %+v", got)
	}
}
