package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestACallWithoutTimeoutNeverWaits(t *testing.T) {
	call := newCallContext(t.Context(), 0)
	defer call.end()
	if call.Err() != context.DeadlineExceeded {
		t.Errorf("got %v", call.Err())
	}
	<-call.Done()
}

func TestACallsTimerStartsWhenItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		call := newCallContext(t.Context(), time.Second)
		defer call.end()
		time.Sleep(time.Hour) // fake time: nobody has waited yet
		if call.Err() != nil {
			t.Fatalf("got %v before the first wait", call.Err())
		}
		began := time.Now()
		<-call.Done()
		if waited := time.Since(began); waited != time.Second {
			t.Errorf("waited %s", waited)
		}
	})
}

func TestACallEndsWithItsNode(t *testing.T) {
	parent, cancel := context.WithCancel(t.Context())
	call := newCallContext(parent, time.Hour)
	defer call.end()
	cancel()
	<-call.Done()
	if call.Err() != context.Canceled {
		t.Errorf("got %v", call.Err())
	}
}
