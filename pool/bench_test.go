package pool

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

// crowdID is as long as a peer id.
func crowdID(i int) string { return fmt.Sprintf("12D3KooW%044d", i) }

// crowd is a set with that many pooled peers in one pool.
func crowd(b testing.TB, peers int, change func(*Options)) (*Set, *fakeNetwork) {
	b.Helper()
	n := newFakeNetwork("own")
	o := Options{
		MaxConnections: 2*peers + 100, Networks: []NetworkOptions{{Name: "n", Network: n, Limit: 4 * peers}},
		Pools: []PoolOptions{{"p", "n", Ratio(1)}}, Rules: []Rule{{Pool: "p"}}, Policy: PolicyNone,
	}
	if change != nil {
		change(&o)
	}
	s, err := New(o)
	must(b, err)
	b.Cleanup(s.Close)
	n.attach(s, "n")
	for i := range peers {
		must(b, s.Connected("n", PeerInfo{ID: crowdID(i), Addrs: []string{"/ip4/127.0.0.1/tcp/1"}, Direction: Inbound}))
	}
	_, err = s.Update()
	must(b, err)
	return s, n
}

func BenchmarkConnectionEvent(b *testing.B) {
	for _, peers := range []int{10, 10000} {
		b.Run(fmt.Sprint(peers, " pooled"), func(b *testing.B) {
			s, _ := crowd(b, peers, nil)
			info := PeerInfo{ID: "the one", Addrs: []string{"/ip4/127.0.0.1/tcp/1"}, Direction: Inbound}
			b.ReportAllocs()
			for b.Loop() { // lost and returned: two events
				_ = s.Connected("n", info)
				_ = s.Disconnected("n", info.ID)
			}
		})
	}
}

func BenchmarkUpdateWithOneChange(b *testing.B) {
	for _, peers := range []int{10, 10000} {
		b.Run(fmt.Sprint(peers, " pooled"), func(b *testing.B) {
			s, n := crowd(b, peers, nil)
			info := PeerInfo{ID: "the one", Direction: Inbound}
			for b.Loop() {
				_ = s.Connected("n", info)
				_, _ = s.Update()
				_, _ = s.Remove(b.Context(), info.ID)
				n.state.disconnected = n.state.disconnected[:0]
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	for _, algorithm := range []string{AlgorithmRS256, AlgorithmEdDSA, AlgorithmES256} {
		a := newAuthority(b, algorithm)
		token := a.issue(b, Request{NodeID: "node", CVHash: "cv", Peers: []string{somePeer(1), somePeer(2)}, PeersAsText: true})
		b.Run(algorithm+" uncached", func(b *testing.B) {
			for b.Loop() {
				_, _ = a.verifier.check(token, somePeer2)
			}
		})
		b.Run(algorithm+" cached", func(b *testing.B) {
			for b.Loop() {
				_, _ = a.verifier.Verify(token, somePeer2)
			}
		})
	}
}

var somePeer2 = somePeer(2)

func BenchmarkCheck(b *testing.B) {
	a := newAuthority(b, AlgorithmRS256)
	sender := crowdID(1)
	for name, change := range map[string]func(*Options){
		"without tokens": nil,
		"with tokens": func(o *Options) {
			o.Policy, o.PublicKey = PolicyToken, a.publicKey
		},
	} {
		a.clock.at = time.Now()
		data := message(sender, a.issue(b, Request{NodeID: "node", CVHash: "cv", Peers: []string{sender}, PeersAsText: true})+"0")
		b.Run(name, func(b *testing.B) {
			s, _ := crowd(b, 10000, change)
			b.ReportAllocs()
			for b.Loop() {
				if v := s.Check("n", sender, someChannel, data); v.Reason != "" {
					b.Fatal(v.Reason)
				}
			}
		})
	}
}

func BenchmarkRoster(b *testing.B) {
	for _, peers := range []int{100, 10000} {
		b.Run(fmt.Sprint(peers, " peers"), func(b *testing.B) {
			c := newNodeConn(b, nil)
			must(b, c.SetWorld(worldNode))
			roster := Snapshot{Owner: worldNode, Author: worldNode}
			for i := range peers {
				roster.Peers = append(roster.Peers, entry(somePeer(i+100), 1, "/ip4/127.0.0.1/tcp/4001"))
			}
			for b.Loop() {
				roster.UpdateCount++
				must(b, c.ApplyRoster(roster))
			}
		})
	}
}

func BenchmarkMemoryPerPooledPeer(b *testing.B) {
	const peers = 10000
	var held *Set
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		held, _ = crowd(b, peers, nil)
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/peers, "B/peer")
	}
	runtime.KeepAlive(held)
}
