package main

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"peerbus/node"
	"peerbus/pool"
)

// deafNetwork is a network on which nothing happens.
type deafNetwork struct{ id string }

func (n deafNetwork) ID() string                        { return n.id }
func (n deafNetwork) Peers() ([]pool.PeerInfo, error)   { return nil, nil }
func (n deafNetwork) Spares(string) bool                { return false }
func (n deafNetwork) Subscribe(string) error            { return nil }
func (n deafNetwork) Unsubscribe(string) error          { return nil }
func (n deafNetwork) Rendezvous() (pool.Snapshot, bool) { return pool.Snapshot{}, false }
func (n deafNetwork) ResetRendezvous()                  {}
func (n deafNetwork) Usable() error                     { return nil }
func (n deafNetwork) Close() error                      { return nil }
func (n deafNetwork) Connect(context.Context, []string) (string, string, error) {
	return "", "", node.ErrUnreachable
}
func (n deafNetwork) Disconnect(context.Context, string) error             { return nil }
func (n deafNetwork) Send(context.Context, string, []byte) error           { return nil }
func (n deafNetwork) Publish(context.Context, string, []byte) (int, error) { return 0, nil }
func (n deafNetwork) Reserve(context.Context, string) (t time.Time, e error) {
	return t, node.ErrNotConnected
}

func deafSet(t testing.TB) *poolSet {
	t.Helper()
	_, public, err := pool.GenerateKey(pool.AlgorithmEdDSA)
	if err != nil {
		t.Fatal(err)
	}
	p, err := newPoolSet()
	if err != nil {
		t.Fatal(err)
	}
	p.preset, err = pool.NewNodeConn(pool.NodeConnOptions{
		MaxConnections: 100, Public: deafNetwork{"u"}, World: deafNetwork{"w"}, Common: pool.Options{PublicKey: public},
	})
	if err != nil {
		t.Fatal(err)
	}
	p.set = p.preset.Set
	t.Cleanup(p.close)
	return p
}

func TestNumbersOfPoolSetsAreNeverUsedAgain(t *testing.T) {
	first, second := deafSet(t), deafSet(t)
	if first.number == second.number {
		t.Fatalf("two sets have the number %d", first.number)
	}
	first.keep()
	if !first.drop() || first.drop() {
		t.Error("a set is dropped once")
	}
	if third := deafSet(t); third.number <= second.number {
		t.Errorf("number %d after %d", third.number, second.number)
	}
}

func TestOpenPoolSetsAreBounded(t *testing.T) {
	var kept []*poolSet
	defer func() {
		for _, p := range kept {
			p.drop()
		}
	}()
	for {
		p, err := newPoolSet()
		if errors.Is(err, errLimit) {
			break
		}
		if err != nil || len(kept) > maxPoolSets {
			t.Fatalf("%d sets, %v", len(kept), err)
		}
		p.keep()
		kept = append(kept, p)
	}
	if len(kept) != maxPoolSets {
		t.Errorf("%d sets are open, at most %d should be", len(kept), maxPoolSets)
	}
}

func TestEveryQueryAnswersWhatItsArgumentsAllow(t *testing.T) {
	p := deafSet(t)
	arguments := map[string]string{
		"count_by_role": `{"role":1}`, "find_by_role": `{"mask":1,"value":1,"discard_self":true}`, "unrouted": `{"network":"p2p_world"}`,
		"route_of": `{"network":"p2p_public","info":{"id":"x","direction":"inbound"}}`, "verify_token": `{"token":"x","peer":"y"}`,
		"size": `{"pools":["in_all_universe_public"]}`, "is_connected": `{"peer":"x","pools":["nowhere"]}`,
	}
	for name, ask := range poolQueries {
		text := arguments[name]
		if text == "" {
			text = "{}"
		}
		answer, err := ask(p, text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := json.Marshal(envelopeOf(answer, err)); err != nil {
			t.Errorf("%s answers what is no JSON: %v", name, err)
		}
		for _, bad := range []string{"", "7", "[]", `{"no such argument":1}`, `{} {}`} {
			if _, err := ask(p, bad); !errors.Is(err, node.ErrArgument) {
				t.Errorf("%s of %q: %v", name, bad, err)
			}
		}
	}
	for _, text := range []string{`{}`, `{"role":1,"mask":1,"value":1}`, `{"mask":1}`, `{"role":1,"mask":1}`} {
		if _, err := poolQueries["count_by_role"](p, text); !errors.Is(err, node.ErrArgument) {
			t.Errorf("count_by_role of %s: %v", text, err)
		}
	}
}

// FuzzPoolsText: whatever a host passes as configuration, arguments or value is taken or refused with a code.
func FuzzPoolsText(f *testing.F) {
	for name := range poolQueries {
		f.Add(name, `{"peer":"x","network":"p2p_world","pools":[],"role":1}`)
	}
	for name := range poolSettings {
		f.Add(name, `{"peer":"x","role":1,"addrs":["a"],"name":"n","network":"p2p_world","peers":[]}`)
	}
	f.Add("role", `{"peer":"x","role":1}`)
	f.Add("addresses", `{"peer":"x","addrs":null}`)
	f.Add("config", `{"max_connections":10,"networks":[],"pools":[{"name":"a","network":"n","capacity":{"ratio":1}}],"rules":[{"pool":"a"}]}`)
	f.Add("config", `{"max_connections":1e3,"preset":"node_conn","public":0,"world":1,"capacity":"many"}`)
	p := deafSet(f)
	f.Fuzz(func(t *testing.T, name, text string) {
		if ask := poolQueries[name]; ask != nil {
			if _, err := ask(p, text); err != nil && codeName(codeOf(err)) == "INTERNAL" {
				t.Errorf("query %s of %q: %v", name, text, err)
			}
		}
		if change := poolSettings[name]; change != nil {
			if err := change(p, text); err != nil && codeName(codeOf(err)) == "INTERNAL" {
				t.Errorf("setting %s of %q: %v", name, text, err)
			}
		}
		config, err := parsePoolsConfig(text)
		if (config == nil) == (err == nil) || err != nil && codeName(codeOf(err)) == "INTERNAL" {
			t.Errorf("configuration %q: %v, %v", text, config, err)
		}
		if entries, err := pool.ParseList([]byte(text)); err == nil && len(entries) > 0 {
			_ = p.preset.SetWorldAgentsList(entries)
		}
	})
}
