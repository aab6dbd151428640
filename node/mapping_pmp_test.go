package node

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	natpmp "github.com/jackpal/go-nat-pmp"
	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
)

// pmpRouter answers unless it is off, and forgets its mappings with that.
type pmpRouter struct {
	sync.Mutex
	off    bool
	mapped map[int]bool
	asked  []time.Time
}

var errSilence = errors.New("no answer")

func (r *pmpRouter) GetExternalAddress() (*natpmp.GetExternalAddressResult, error) {
	r.Lock()
	defer r.Unlock()
	r.asked = append(r.asked, time.Now())
	if r.off {
		return nil, errSilence
	}
	return &natpmp.GetExternalAddressResult{ExternalIPAddress: [4]byte{11, 0, 0, 1}}, nil
}

func (r *pmpRouter) AddPortMapping(_ string, internal, external, lifetime int) (*natpmp.AddPortMappingResult, error) {
	r.Lock()
	defer r.Unlock()
	if r.off {
		return nil, errSilence
	}
	r.mapped[internal] = lifetime > 0
	return &natpmp.AddPortMappingResult{MappedExternalPort: uint16(external)}, nil
}

func (r *pmpRouter) stop()   { r.set(true) }
func (r *pmpRouter) resume() { r.set(false) }

func (r *pmpRouter) set(off bool) {
	r.Lock()
	defer r.Unlock()
	r.off, r.mapped = off, map[int]bool{}
}

func (r *pmpRouter) has(port int) bool {
	r.Lock()
	defer r.Unlock()
	return r.mapped[port]
}

type lanListener struct{ network.Network }

func (lanListener) ListenAddresses() []ma.Multiaddr {
	return []ma.Multiaddr{ma.StringCast("/ip4/192.168.1.2/tcp/4001")}
}

// startMapper runs a mapper in the bubble's time, and answers how to end it.
func startMapper(r *pmpRouter) (*portMapper, func()) {
	n := &Node{log: slog.New(slog.DiscardHandler)}
	n.ctx, n.cancel = context.WithCancelCause(context.Background())
	m := &portMapper{NATManager: &router{}, node: n, network: lanListener{}, gateway: func() (pmpGateway, error) { return r, nil }}
	m.closing, m.ended = make(chan struct{}), make(chan struct{})
	go func() { defer close(m.ended); m.run() }()
	return m, func() { _ = m.Close() }
}

func (m *portMapper) maps() bool { return m.GetMapping(lanListener{}.ListenAddresses()[0]) != nil }

func TestARouterThatStopsIsNoticedAtTheNextRenewalAndOneThatReturnsMapsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &pmpRouter{mapped: map[int]bool{}}
		m, end := startMapper(r)
		after := func(d time.Duration) { time.Sleep(d); synctest.Wait() }
		after(pmpPatience)
		if !m.maps() || !m.HasDiscoveredNAT() {
			t.Fatal("not mapped")
		}
		r.stop()
		after(pmpRenewal)
		if m.maps() || m.HasDiscoveredNAT() {
			t.Error("still mapped although the router is silent")
		}
		r.resume()
		after(pmpRetry)
		if !m.maps() || !m.HasDiscoveredNAT() || !r.has(4001) {
			t.Error("not mapped again")
		}
		end()
		if r.has(4001) {
			t.Error("the mapping was not withdrawn")
		}
	})
}

func TestARouterThatRestartedIsGivenTheMappingAgainAtTheNextRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &pmpRouter{mapped: map[int]bool{}}
		m, end := startMapper(r)
		time.Sleep(pmpPatience)
		synctest.Wait()
		r.stop()
		r.resume()
		time.Sleep(pmpRenewal)
		synctest.Wait()
		if !m.maps() || !r.has(4001) {
			t.Error("not mapped")
		}
		end()
	})
}

func TestASilentRouterIsAskedLessAndLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &pmpRouter{off: true}
		_, end := startMapper(r)
		time.Sleep(time.Hour)
		synctest.Wait()
		for i, last := 2, r.asked[1].Sub(r.asked[0]); i < len(r.asked); i++ {
			pause := r.asked[i].Sub(r.asked[i-1])
			if pause != min(2*last, maxPMPRetry) {
				t.Errorf("pause %d is %s after %s", i, pause, last)
			}
			last = pause
		}
		if first := r.asked[1].Sub(r.asked[0]); first != pmpRetry || len(r.asked) < 12 {
			t.Errorf("asked %d times, first again after %s", len(r.asked), first)
		}
		end()
	})
}
