package pool

import (
	"errors"
	"strings"
	"testing"

	"peerbus/node"
)

func TestARosterReplacesBothLists(t *testing.T) {
	c := newWorld(t)
	roster := Snapshot{Owner: worldNode, Author: worldNode, UpdateCount: 4, Peers: []Entry{
		entry(unknown, 1, "/ip4/127.0.0.1/tcp/1"), entry(masterA, 3), {ID: agentA, Misc: 1}, entry(agentB, 0), entry("bad", 1), entry(masterA, 7),
	}}
	must(t, c.ApplyRoster(roster))
	wantList(t, "agents", c.WorldAgents(), unknown)
	wantList(t, "masters", c.WorldMasters(), masterA)
	if c.RendezvousTag() != 4 || c.FirstWorldMaster() != masterA || c.Role(masterA) != 3 {
		t.Fatal("tag, first master and roles follow")
	}
	if got := c.Counts()[ReasonRendezvousEntry]; got != 3 {
		t.Fatalf("%d entries counted as left out, want the public one, the bad one and the repeated one", got)
	}
	if events := c.events.of(EventRendezvousApplied); len(events) != 1 || events[0].Peers != 2 || events[0].Skipped != 3 {
		t.Fatalf("events: %+v", events)
	}
}

func TestRostersAreTakenFromOwnerAndMastersInOrder(t *testing.T) {
	c := newWorld(t)
	from := func(author string, count int64) error {
		return c.ApplyRoster(Snapshot{Owner: worldNode, Author: author, UpdateCount: count, Peers: []Entry{entry(masterA, 3)}})
	}
	wantError(t, from(agentA, 1), ErrRefused)
	wantError(t, from("", 1), ErrRefused)
	must(t, from(masterB, 1))
	wantError(t, from(masterB, 2), ErrRefused) // listed no more
	must(t, from(masterA, 1000))
	wantError(t, from(worldNode, 1000), ErrStale)
	wantError(t, from(worldNode, 5), ErrStale)
	if c.RendezvousTag() != 1000 {
		t.Fatalf("tag %d", c.RendezvousTag())
	}
	counts := c.Counts()
	if counts[ReasonRendezvousRefused] != 3 || counts[ReasonRendezvousStale] != 2 {
		t.Fatalf("counts: %v", counts)
	}
	c.ResetRendezvousTag()
	if c.RendezvousTag() != -1 {
		t.Fatal("the tag is reset")
	}
	wantError(t, from(agentA, 7), ErrRefused)
	must(t, from(worldNode, 2))
	wantError(t, from(worldNode, 1), ErrStale)
}

func TestMastersOfTheHostMayPublishUnlessANewerRosterSaysOtherwise(t *testing.T) {
	c := newWorld(t)
	must(t, c.SetWorldMastersList([]Entry{entry(masterB, 3)}))
	may := func(want bool, author string, newest int64, listed bool) {
		t.Helper()
		if c.publishes(author, newest, listed) != want {
			t.Fatalf("%s after roster %d, listed there %v: not %v", author, newest, listed, want)
		}
	}
	may(true, masterB, -1, false)
	may(false, masterA, -1, false)
	may(false, masterB, 3, false) // roster 3 waits to be applied, and does not name it
	may(true, masterA, 3, true)
	roster := Snapshot{Owner: worldNode, Author: masterA, UpdateCount: 4, Listed: true, After: 3}
	must(t, c.ApplyRoster(roster))
	roster.UpdateCount = 5
	wantError(t, c.ApplyRoster(roster), ErrRefused) // 4 is newer than what named it, and names nobody
	may(false, masterA, 4, true)
	must(t, c.AddToWorldMastersList(masterA, nil, 3))
	may(true, masterA, 4, false)
	must(t, c.SetWorldMastersList(nil))
	may(false, masterA, 4, true) // an expelled master cannot freeze the lists
	c.ResetRendezvousTag()
	may(false, masterA, 4, true)
	roster.UpdateCount = 4
	wantError(t, c.ApplyRoster(roster), ErrRefused) // nor bring back its own by a reset
}

func TestTheNewestRosterOfTheNetworkIsAppliedOnce(t *testing.T) {
	c := newWorld(t)
	apply := func(want bool) {
		t.Helper()
		if applied, err := c.ApplyNewestRoster(); applied != want || err != nil {
			t.Fatalf("applied %v, error %v", applied, err)
		}
	}
	apply(false)
	c.private.state.roster = &Snapshot{Owner: worldNode, Author: worldNode, UpdateCount: 0}
	apply(true)
	apply(false)
	c.ResetRendezvousTag()
	apply(true)
	c.private.state.roster = &Snapshot{Owner: worldNode, Author: worldNode, UpdateCount: -5}
	_, err := c.ApplyNewestRoster()
	wantError(t, err, ErrStale)
}

func TestRostersInJSON(t *testing.T) {
	at := "2026-01-02T03:04:05Z"
	text, err := EncodeRoster([]Entry{
		{ID: agentA, Misc: 1, Addrs: []string{"/ip4/127.0.0.1/tcp/1"}, ConnectedAt: &at, Direction: Inbound, Relayed: true},
		{ID: masterA, Misc: 3},
	}, 9)
	must(t, err)
	want := `{"peers":[{"id":"` + agentA + `","addrs":["/ip4/127.0.0.1/tcp/1"],"connected_at":"` + at +
		`","direction":"inbound","misc":1,"relayed":true},{"id":"` + masterA +
		`","addrs":null,"connected_at":null,"direction":"","misc":3,"relayed":false}],"update_count":9}`
	if string(text) != want {
		t.Fatalf("got  %s\nwant %s", text, want)
	}
	roster, err := node.ParseRoster(text)
	must(t, err)
	if roster.UpdateCount != 9 || len(roster.Peers) != 2 || roster.Skipped != 0 || roster.Peers[1].Addrs != nil {
		t.Fatalf("%+v", roster)
	}
	for name, e := range map[string]Entry{
		"foreign id": entry("x", 1), "address that is none": entry(agentA, 1, "here"), "bad role": entry(agentA, 2),
		"bad time": {ID: agentA, ConnectedAt: new(string)},
	} {
		if _, err := EncodeRoster([]Entry{e}, 1); !errors.Is(err, ErrArgument) {
			t.Errorf("%s: got error %v", name, err)
		}
	}
	_, err = EncodeRoster(nil, -1)
	wantError(t, err, ErrArgument)
}

func TestMalformedRostersAreRefused(t *testing.T) {
	for _, text := range []string{
		"", "null", "[]", "{}", `{"peers":[]}`, `{"update_count":1}`, `{"peers":[],"update_count":-1}`,
		`{"peers":{},"update_count":1}`, `{"peers":[],"update_count":1.5}`, `{"peers":[],"update_count":1e40}`,
		`{"peers":[` + strings.Repeat("0,", node.MaxRosterPeers) + `0],"update_count":1}`,
	} {
		if _, err := node.ParseRoster([]byte(text)); !errors.Is(err, ErrArgument) {
			t.Errorf("%.60s: got error %v", text, err)
		}
	}
	roster, err := node.ParseRoster([]byte(`{"peers":[1,{"id":"x"},{"id":"` + agentA + `","misc":"1"},{"id":"` + agentA + `","misc":1}],"update_count":1}`))
	must(t, err)
	if roster.Skipped != 3 || len(roster.Peers) != 1 {
		t.Fatalf("%+v", roster)
	}
}

func TestListsInJSON(t *testing.T) {
	list, err := ParseList([]byte(`[{"id":"` + agentA + `","addrs":["x"],"misc":1,"more":true}]`))
	if err != nil || len(list) != 1 || list[0].Misc != 1 {
		t.Fatalf("%+v, error %v", list, err)
	}
	if list, err := ParseList([]byte("null")); len(list) != 0 || err != nil {
		t.Fatalf("%+v, error %v", list, err)
	}
	for _, text := range []string{"", "{}", `[1]`, `[{"id":"x","misc":1}]`, `[{"id":"` + agentA + `","misc":1.5}]`} {
		if _, err := ParseList([]byte(text)); !errors.Is(err, ErrArgument) {
			t.Errorf("%s: got error %v", text, err)
		}
	}
}

func TestOnlyTheRosterOfTheOwnWorldCounts(t *testing.T) {
	c := newWorld(t)
	wantError(t, c.ApplyRoster(Snapshot{Owner: unknown, Author: unknown, UpdateCount: 1}), ErrRefused)
	wantList(t, "agents", c.WorldAgents(), sorted(agentA, agentB)...)
}
