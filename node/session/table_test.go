package session

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestAPeerEvictsOnlyItsOwnSessions(t *testing.T) {
	now := time.Unix(1, 0)
	table := NewTable(TableOptions{PeerSessions: 2, Sessions: 100})
	other := mustOpen(t, table, "other", testOpen(9, 1), now)
	table.Release(other.Stream, "other", now)
	for i := range byte(10) {
		open := testOpen(i+1, 1)
		open.Channel = fmt.Sprint("channel ", i)
		opened := mustOpen(t, table, "flood", open, now)
		if opened.accept.Forgetful != (i > 1) {
			t.Errorf("session %d: forgetful %v", i, opened.accept.Forgetful)
		}
		table.Release(opened.Stream, "flood", now)
	}
	if flood := table.state.peers["flood"]; table.Len() != 3 || len(flood.sessions) != 2 || len(flood.channels) != 2 {
		t.Errorf("%d sessions, %d of the flooding peer on %d channels", table.Len(), len(flood.sessions), len(flood.channels))
	}
	if back := mustOpen(t, table, "other", testOpen(9, 2), now); back.Fresh {
		t.Error("the other peer's session is gone")
	}
	if new := mustOpen(t, table, "other", testOpen(8, 1), now); new.accept.Forgetful {
		t.Error("forgetful towards a peer of which nothing was forgotten")
	}
	later := now.Add(DefaultKeep)
	if opened := mustOpen(t, table, "flood", testOpen(99, 1), later); opened.accept.Forgetful != true {
		t.Error("evicted just now, but not forgetful")
	}
}

func TestForgetfulnessOutlivesThePeersSessionsAndThenEnds(t *testing.T) {
	now := time.Unix(1, 0)
	table := NewTable(TableOptions{PeerSessions: 1})
	for i := range byte(2) {
		table.Release(mustOpen(t, table, "peer", testOpen(i+1, 1), now).Stream, "peer", now)
	}
	table.state.Lock()
	table.forgetLocked(table.state.peers["peer"].sessions[ID{2}])
	table.state.Unlock()
	opened := mustOpen(t, table, "peer", testOpen(3, 1), now.Add(DefaultKeep-1))
	if !opened.accept.Forgetful {
		t.Error("the table forgot that it forgot")
	}
	table.Release(opened.Stream, "peer", now)
	table.Sweep(now.Add(DefaultKeep))
	if mustOpen(t, table, "peer", testOpen(4, 1), now.Add(DefaultKeep)).accept.Forgetful {
		t.Error("forgetful for ever")
	}
}

func TestSessionsWithAStreamAreNeverEvicted(t *testing.T) {
	now := time.Unix(1, 0)
	table := NewTable(TableOptions{PeerSessions: 1, Sessions: 2})
	mine := mustOpen(t, table, "a", testOpen(1, 1), now)
	if _, err := table.Open("a", testOpen(2, 1), now); !errors.Is(err, ErrTooManySessions) {
		t.Errorf("%v", err)
	}
	mustOpen(t, table, "b", testOpen(1, 1), now)
	if _, err := table.Open("c", testOpen(1, 1), now); !errors.Is(err, ErrTooManySessions) {
		t.Errorf("%v", err)
	}
	table.Release(mine.Stream, "a", now)
	if mustOpen(t, table, "c", testOpen(1, 1), now); table.Len() != 2 {
		t.Errorf("%d sessions", table.Len())
	}
}

func TestSessionsAreForgottenInTime(t *testing.T) {
	now := time.Unix(1, 0)
	table := NewTable(TableOptions{})
	first := mustOpen(t, table, "a", testOpen(1, 1), now)
	mustOpen(t, table, "b", testOpen(1, 1), now)
	if next := table.Sweep(now.Add(time.Hour)); !next.IsZero() || table.Len() != 2 {
		t.Errorf("%d sessions, next %v", table.Len(), next)
	}
	table.Release(first.Stream, "a", now)
	if next := table.Sweep(now.Add(DefaultKeep - 1)); !next.Equal(now.Add(DefaultKeep)) || table.Len() != 2 {
		t.Errorf("%d sessions, next %v", table.Len(), next)
	}
	mustOpen(t, table, "a", testOpen(1, 2), now) // back in time
	if table.Sweep(now.Add(DefaultKeep)); table.Len() != 2 {
		t.Errorf("%d sessions", table.Len())
	}
}

func TestANewSessionOnAChannelTellsThatTheSenderStartedAnew(t *testing.T) {
	now := time.Unix(1, 0)
	table := NewTable(TableOptions{})
	first := mustOpen(t, table, "a", testOpen(1, 1), now)
	if first.Replaced || mustOpen(t, table, "b", testOpen(2, 1), now).Replaced {
		t.Error("replaced nothing")
	}
	second := mustOpen(t, table, "a", testOpen(2, 1), now)
	if !second.Replaced || !second.Fresh {
		t.Errorf("%+v", second)
	}
	if _, err := second.Take(Head{Type: TypeFinish}, nil); err != nil {
		t.Fatal(err)
	}
	table.Release(second.Stream, "a", now)
	if mustOpen(t, table, "a", testOpen(3, 1), now).Replaced {
		t.Error("a finished session was replaced")
	}
}

func TestASessionBelongsToThePeerThatOpenedIt(t *testing.T) {
	table := NewTable(TableOptions{})
	mine := mustOpen(t, table, "alice", testOpen(1, 1), time.Unix(1, 0))
	theirs := mustOpen(t, table, "mallory", testOpen(1, 2), time.Unix(1, 0))
	if mine.Receiver() == theirs.Receiver() || !theirs.Fresh {
		t.Error("two peers share a session")
	}
	if due, _ := mine.Receiver().AckDue(time.Unix(1, 0)); !due {
		t.Error("the other peer's stream fenced ours")
	}
}

func TestASessionKeepsItsChannel(t *testing.T) {
	table := NewTable(TableOptions{})
	mustOpen(t, table, "peer", testOpen(1, 1), time.Unix(1, 0))
	other := testOpen(1, 2)
	other.Channel = "another"
	if _, err := table.Open("peer", other, time.Unix(1, 0)); !errors.Is(err, ErrViolation) {
		t.Errorf("%v", err)
	}
}
