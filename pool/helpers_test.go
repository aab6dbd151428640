package pool

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

var errBroken = errors.New("broken network")

// fakeNetwork is a network in memory: what the test connects is live, and each disconnection is reported to the set.
type fakeNetwork struct {
	id, name string
	set      *Set

	state struct {
		sync.Mutex
		live         map[string]PeerInfo
		disconnected []string
		sent         []fakeMessage
		subscribed   []string
		unsubscribed []string
		roster       *Snapshot
		broken       bool          // every call fails
		hold         chan struct{} // Disconnect waits for it, if not nil
		asked        func()        // runs while Peers is being answered, if not nil
		address      string        // that Connect answers
		spared       string        // a peer that the network needs
	}
}

type fakeMessage struct {
	channel string
	payload []byte
}

func newFakeNetwork(id string) *fakeNetwork {
	n := &fakeNetwork{id: id}
	n.state.live = map[string]PeerInfo{}
	return n
}

func (n *fakeNetwork) attach(s *Set, name string) { n.set, n.name = s, name }

func (n *fakeNetwork) connect(t testing.TB, id, direction string) {
	t.Helper()
	info := PeerInfo{ID: id, Addrs: []string{"/ip4/127.0.0.1/tcp/1"}, Direction: direction}
	n.state.Lock()
	n.state.live[id] = info
	n.state.Unlock()
	if err := n.set.Connected(n.name, info); err != nil {
		t.Fatal(err)
	}
}

func (n *fakeNetwork) drop(t testing.TB, id string) {
	t.Helper()
	n.state.Lock()
	delete(n.state.live, id)
	n.state.Unlock()
	if err := n.set.Disconnected(n.name, id); err != nil {
		t.Fatal(err)
	}
}

func (n *fakeNetwork) setBroken(broken bool) {
	n.state.Lock()
	defer n.state.Unlock()
	n.state.broken = broken
}

func (n *fakeNetwork) failure() error {
	n.state.Lock()
	defer n.state.Unlock()
	if n.state.broken {
		return errBroken
	}
	return nil
}

func (n *fakeNetwork) Spares(id string) bool {
	n.state.Lock()
	defer n.state.Unlock()
	return id == n.state.spared
}

func (n *fakeNetwork) ID() string { return n.id }

func (n *fakeNetwork) Usable() error { return n.failure() }

func (n *fakeNetwork) Peers() ([]PeerInfo, error) {
	if err := n.failure(); err != nil {
		return nil, err
	}
	n.state.Lock()
	var peers []PeerInfo
	for _, info := range n.state.live {
		peers = append(peers, info)
	}
	asked := n.state.asked
	n.state.Unlock()
	if asked != nil {
		asked()
	}
	return peers, nil
}

func (n *fakeNetwork) Connect(_ context.Context, addresses []string) (string, string, error) {
	n.state.Lock()
	defer n.state.Unlock()
	return "reached", n.state.address, nil
}

func (n *fakeNetwork) Disconnect(ctx context.Context, id string) error {
	n.state.Lock()
	hold, broken := n.state.hold, n.state.broken
	n.state.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if broken {
		return errBroken
	}
	n.state.Lock()
	delete(n.state.live, id)
	n.state.disconnected = append(n.state.disconnected, id)
	n.state.Unlock()
	return n.set.Disconnected(n.name, id)
}

func (n *fakeNetwork) Reserve(context.Context, string) (time.Time, error) {
	return time.Unix(0, 0), n.failure()
}

func (n *fakeNetwork) Send(_ context.Context, channel string, payload []byte) error {
	n.state.Lock()
	defer n.state.Unlock()
	n.state.sent = append(n.state.sent, fakeMessage{channel, payload})
	return nil
}

func (n *fakeNetwork) Publish(ctx context.Context, channel string, payload []byte) (int, error) {
	return 1, n.Send(ctx, channel, payload)
}

func (n *fakeNetwork) Subscribe(channel string) error {
	n.state.Lock()
	defer n.state.Unlock()
	n.state.subscribed = append(n.state.subscribed, channel)
	return nil
}

func (n *fakeNetwork) Unsubscribe(channel string) error {
	n.state.Lock()
	defer n.state.Unlock()
	if n.state.broken {
		return errBroken
	}
	n.state.unsubscribed = append(n.state.unsubscribed, channel)
	return nil
}

func (n *fakeNetwork) Rendezvous() (Snapshot, bool) {
	n.state.Lock()
	defer n.state.Unlock()
	if n.state.roster == nil {
		return Snapshot{}, false
	}
	return *n.state.roster, true
}

func (n *fakeNetwork) ResetRendezvous() {}

func (n *fakeNetwork) Close() error { return n.failure() }

// disconnects waits for the workers of the set and answers whom the network disconnected.
func (n *fakeNetwork) disconnects() []string {
	n.set.work.state.ended.Wait()
	n.state.Lock()
	defer n.state.Unlock()
	answer := slices.Clone(n.state.disconnected)
	slices.Sort(answer)
	return answer
}

// recorder collects events.
type recorder struct {
	sync.Mutex
	events []Event
}

func (r *recorder) emit(e Event) {
	r.Lock()
	defer r.Unlock()
	r.events = append(r.events, e)
}

func (r *recorder) of(kind EventKind) []Event {
	r.Lock()
	defer r.Unlock()
	var answer []Event
	for _, e := range r.events {
		if e.Kind == kind {
			answer = append(answer, e)
		}
	}
	return answer
}

// clock is a time that the test moves.
type clock struct {
	sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.Lock()
	defer c.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.Lock()
	defer c.Unlock()
	c.at = c.at.Add(d)
}

// nodeConn is a preset over two fake networks.
type nodeConn struct {
	*NodeConn
	public, private *fakeNetwork
	events          *recorder
	clock           *clock
}

const ownPublic, ownPrivate = "own-public", "own-private"

func newNodeConn(t testing.TB, change func(*NodeConnOptions)) nodeConn {
	t.Helper()
	c := nodeConn{public: newFakeNetwork(ownPublic), private: newFakeNetwork(ownPrivate), events: &recorder{}, clock: newClock()}
	o := NodeConnOptions{MaxConnections: 100, Public: c.public, World: c.private}
	o.Common.Emit = c.events.emit
	o.Common.Now = c.clock.now
	if change != nil {
		change(&o)
	}
	made, err := NewNodeConn(o)
	if err != nil {
		t.Fatal(err)
	}
	c.NodeConn = made
	c.public.attach(made.Set, NetworkPublic)
	c.private.attach(made.Set, NetworkWorld)
	t.Cleanup(made.Close)
	return c
}

func (c nodeConn) update(t testing.TB) Changes {
	t.Helper()
	changes, err := c.Update()
	if err != nil {
		t.Fatal(err)
	}
	return changes
}

// somePeer answers the n-th valid peer id.
func somePeer(n int) string {
	seed := make([]byte, ed25519.SeedSize)
	binary.BigEndian.PutUint64(seed, uint64(n)+1)
	public := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	key, err := crypto.UnmarshalEd25519PublicKey(public)
	if err != nil {
		panic(err)
	}
	id, err := peer.IDFromPublicKey(key)
	if err != nil {
		panic(err)
	}
	return id.String()
}

func entry(id string, misc int64, addrs ...string) Entry {
	return Entry{ID: id, Misc: misc, Addrs: append([]string{}, addrs...)}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

func wantPool(t testing.TB, s *Set, id, want string) {
	t.Helper()
	if got, _ := s.PoolOf(id); got != want {
		t.Fatalf("%s is in pool %q, want %q", id, got, want)
	}
}

func wantList(t testing.TB, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("%s: got %q, want %q", what, got, want)
	}
}
