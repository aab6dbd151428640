package node

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"peerbus/queue"
)

// patience is how long a test waits for what must happen. It fails a test, it never makes one pass.
const patience = 20 * time.Second

// quietConfig is that of a node which listens on 127.0.0.1 and asks nobody else for anything.
func quietConfig(dir string) Config {
	c := defaultConfig()
	c.IdentityDir = dir
	c.ListenIPs = []string{"127.0.0.1"}
	c.NAT = NATConfig{}
	c.DHT = DHTConfig{}
	return c
}

// startNode runs a node until the end of the test, on TCP unless change says otherwise.
func startNode(t testing.TB, change ...func(*Options)) *Node {
	t.Helper()
	options := Options{Config: quietConfig(t.TempDir()), Version: "test"}
	options.Config.ListenAddrs = addrsOf(t, "/ip4/127.0.0.1/tcp/0")
	for _, f := range change {
		f(&options)
	}
	options.tune = withoutUpgrade(options.tune)
	n, err := New(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return n
}

// withoutUpgrade begins no WebRTC connection by itself: a test of relayed connections may take longer than browserDelay.
// startRelayed is for those that want it.
func withoutUpgrade(tune func(*Node)) func(*Node) {
	return func(n *Node) {
		n.webrtc.upgradeDelay, n.webrtc.browserDelay = time.Hour, time.Hour
		if tune != nil {
			tune(n)
		}
	}
}

// overChat makes a node speak chat only.
func overChat(o *Options) { o.Config.Channel.Acknowledged = false }

// protocols are the means by which direct messages travel between two nodes.
var protocols = map[string]func(*Options){"chat": overChat, "acknowledged": func(*Options) {}}

func limits(change func(*Limits)) func(*Options) {
	return func(o *Options) { change(&o.Config.Limits) }
}

// startPair is two connected nodes.
func startPair(t *testing.T, change ...func(*Options)) (*Node, *Node) {
	t.Helper()
	a, b := startNode(t, change...), startNode(t, change...)
	connect(t, a, b)
	return a, b
}

// connect dials and waits until both list each other.
func connect(t *testing.T, from, to *Node) {
	t.Helper()
	if _, err := from.Connect(within(t), to.Addresses()); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "both list each other", func() bool { return lists(from, to.id) && lists(to, from.id) })
}

func lists(n *Node, id peer.ID) bool {
	for _, known := range n.Peers() {
		if known.ID == id.String() {
			return true
		}
	}
	return false
}

// startRawHost is a libp2p host without any protocol of this package.
func startRawHost(t *testing.T, options ...libp2p.Option) host.Host {
	t.Helper()
	options = append(options, libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableRelay())
	h, err := libp2p.New(options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// dialRaw connects a raw host to a node.
func dialRaw(t *testing.T, h host.Host, n *Node) {
	t.Helper()
	if err := h.Connect(within(t), peer.AddrInfo{ID: n.id, Addrs: n.host.Addrs()}); err != nil {
		t.Fatal(err)
	}
}

func openChat(t *testing.T, h host.Host, n *Node) network.Stream {
	t.Helper()
	s, err := h.NewStream(within(t), n.id, ChatProtocol)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func atOnce() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// waitUntil is for conditions that no event announces.
func waitUntil(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func directChannel(from, to peer.ID, suffix string) string {
	return from.String() + directMark + to.String() + "-" + suffix
}

func topicName(owner peer.ID, name string) string { return owner.String() + topicMark + name }

// receive takes exactly count messages, of all channels. It waits for patience since the last one came: how long all take
// depends on how many they are and on the machine.
func receive(t testing.TB, n *Node, count int) []queue.Message {
	t.Helper()
	var got []queue.Message
	for len(got) < count {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		more, err := n.queue.Receive(ctx, "", count-len(got), 0)
		cancel()
		if err != nil {
			t.Fatalf("after %d of %d messages: %v; losses %v", len(got), count, err, n.losses.totals())
		}
		got = append(got, more...)
	}
	return got
}

// eventOf waits for an event of a kind ("": any) that has the given fields, and drops those before it.
func eventOf(t testing.TB, n *Node, kind string, fields map[string]any) Event {
	t.Helper()
	ctx := within(t)
	for {
		events, err := n.events.Pop(ctx, 1)
		if err != nil || len(events) == 0 {
			t.Fatalf("no event %s %v came: %v", kind, fields, err)
		}
		if e := events[0]; (kind == "" || e.Type == kind) && hasFields(e, fields) {
			return e
		}
	}
}

func hasFields(e Event, fields map[string]any) bool {
	for name, want := range fields {
		if e.Fields[name] != want {
			return false
		}
	}
	return true
}

// expectLosses compares all losses of a direction.
func expectLosses(t testing.TB, n *Node, direction string, want map[string]uint64) {
	t.Helper()
	if got := n.losses.totals()[direction]; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("losses %q are %v, want %v", direction, got, want)
	}
}

func sum(counts map[string]uint64) uint64 {
	total := uint64(0)
	for _, count := range counts {
		total += count
	}
	return total
}

// ownGoroutines are the stacks of goroutines that run code of this package, without tests.
func ownGoroutines() []string {
	buffer := make([]byte, 8<<20)
	var own []string
	for _, stack := range strings.Split(string(buffer[:runtime.Stack(buffer, true)]), "\n\n") {
		if strings.Contains(stack, "peerbus/node.(*") && !strings.Contains(stack, "testing.tRunner") {
			own = append(own, stack)
		}
	}
	return own
}

// expectNoGoroutines waits until none is left, since those that libp2p runs for a handler end a moment after it.
func expectNoGoroutines(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(patience); len(ownGoroutines()) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("goroutines are left:\n%s", strings.Join(ownGoroutines(), "\n\n"))
		}
	}
}

// vectorBytes are bytes with their meanings: [["0a05", "1 sender, 5 bytes"], ...].
type vectorBytes []byte

func (v *vectorBytes) UnmarshalJSON(text []byte) error {
	var parts [][2]string
	if err := json.Unmarshal(text, &parts); err != nil {
		return err
	}
	for _, part := range parts {
		piece, err := hex.DecodeString(part[0])
		if err != nil {
			return err
		}
		*v = append(*v, piece...)
	}
	return nil
}

func readVectors(t testing.TB, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "tests", "vectors", path))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatal(err)
	}
}

func addrsOf(t testing.TB, texts ...string) []ma.Multiaddr {
	t.Helper()
	addrs := make([]ma.Multiaddr, len(texts))
	for i, text := range texts {
		addr, err := ma.NewMultiaddr(text)
		if err != nil {
			t.Fatal(err)
		}
		addrs[i] = addr
	}
	return addrs
}
