package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// judgeInterval is how often addresses without a fresh verdict are asked for again. libp2p asks one peer at most every
	// two minutes.
	judgeInterval = 30 * time.Second
	// judgeRetry is the pause after news for which nobody could be asked: AutoNATv2 hears of a new peer by itself, perhaps later
	// than this package, hence judgeRetries.
	judgeRetry   = 200 * time.Millisecond
	judgeRetries = 10
	// judgeTimeout bounds one question.
	judgeTimeout = 30 * time.Second
	// verdictLife is how long a verdict on an address counts as fresh.
	verdictLife = 5 * time.Minute
)

// autonat is this package's own AutoNATv2, for the two cases that libp2p's does not serve: with nat.autonat_private it asks about
// private addresses and answers such questions, and on a node with network.force_public, where libp2p's stays off, it answers
// without asking: a relay of one's own is often the only one who can tell a node whether it is reachable.
type autonat struct {
	node    *Node
	nat     *autonatv2.AutoNAT
	dialler host.Host // dials back; another identity, so that it never meets an open connection
	state   struct {
		sync.Mutex
		verdicts map[string]addressVerdict // by address
	}
	news chan struct{} // holds a token when peers or addresses have changed
}

type addressVerdict struct {
	reachable bool
	at        time.Time
}

// startAutoNAT starts the own AutoNATv2 when the configuration needs it.
func (n *Node) startAutoNAT() error {
	c := n.config
	if !c.NAT.AutoNAT || !c.NAT.AutoNATPrivate && !c.Network.ForcePublic {
		return nil
	}
	dialler, err := libp2p.New(append(n.transportOptions(), libp2p.NoListenAddrs, libp2p.DisableRelay(), libp2p.DisableMetrics(),
		libp2p.UDPBlackHoleSuccessCounter(nil), libp2p.IPv6BlackHoleSuccessCounter(nil))...)
	if err != nil {
		return fmt.Errorf("%w: the host that dials back: %v", ErrInternal, err)
	}
	a := &autonat{node: n, dialler: dialler, news: make(chan struct{}, 1)}
	a.state.verdicts = map[string]addressVerdict{}
	n.autonat = a
	var options []autonatv2.AutoNATOption
	if c.NAT.AutoNATPrivate {
		options = append(options, autonatv2.AllowPrivateAddrs)
	}
	if a.nat, err = autonatv2.New(dialler, options...); err != nil {
		return fmt.Errorf("%w: AutoNATv2: %v", ErrInternal, err)
	}
	if err := a.nat.Start(n.host); err != nil {
		return fmt.Errorf("%w: AutoNATv2: %v", ErrInternal, err)
	}
	if !c.Network.ForcePublic {
		n.spawn("judge", a.run)
	}
	return nil
}

// close ends it; nil is fine.
func (a *autonat) close() {
	if a == nil {
		return
	}
	if a.nat != nil {
		a.nat.Close()
	}
	_ = a.dialler.Close()
}

// poke makes run look again; nil is fine.
func (a *autonat) poke() {
	if a == nil {
		return
	}
	select {
	case a.news <- struct{}{}:
	default:
	}
}

func (a *autonat) run() {
	quick := judgeRetries
	for a.node.ctx.Err() == nil {
		pause := judgeInterval
		switch err := a.ask(); {
		case err == nil && len(a.stale()) > 0:
			continue // each peer tells of one address; ErrNoPeers comes when all of them have been asked
		case errors.Is(err, autonatv2.ErrNoPeers) && quick > 0:
			pause = judgeRetry
			quick--
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-a.news:
			quick = judgeRetries
		case <-a.node.ctx.Done():
		}
		timer.Stop()
	}
}

// ask asks somebody about the addresses without a fresh verdict, and notes the answer, which is about one of them.
func (a *autonat) ask() error {
	stale := a.stale()
	if len(stale) == 0 {
		return nil
	}
	requests := make([]autonatv2.Request, len(stale))
	for i, addr := range stale {
		requests[i] = autonatv2.Request{Addr: addr, SendDialData: true}
	}
	ctx, cancel := context.WithTimeout(a.node.ctx, judgeTimeout)
	defer cancel()
	answer, err := a.nat.GetReachability(ctx, requests)
	if err != nil || answer.Addr == nil || answer.Reachability == network.ReachabilityUnknown {
		a.node.log.Debug("no verdict on the own addresses", "reason", err)
		return err
	}
	a.state.Lock()
	a.state.verdicts[answer.Addr.String()] = addressVerdict{answer.Reachability == network.ReachabilityPublic, time.Now()}
	a.state.Unlock()
	a.node.judged(a.sorted())
	return nil
}

// stale are the own direct addresses without a fresh verdict, those without any first.
func (a *autonat) stale() []ma.Multiaddr {
	a.state.Lock()
	defer a.state.Unlock()
	addrs := slices.DeleteFunc(slices.Clone(a.node.host.Addrs()), func(addr ma.Multiaddr) bool {
		return isRelayed(addr) || time.Since(a.state.verdicts[addr.String()].at) < verdictLife
	})
	slices.SortStableFunc(addrs, func(x, y ma.Multiaddr) int {
		return a.state.verdicts[x.String()].at.Compare(a.state.verdicts[y.String()].at)
	})
	return addrs
}

// sorted puts the own addresses into three lists by their verdicts.
func (a *autonat) sorted() (reachable, unreachable, unknown []ma.Multiaddr) {
	a.state.Lock()
	defer a.state.Unlock()
	for _, addr := range a.node.host.Addrs() {
		verdict, judged := a.state.verdicts[addr.String()]
		switch {
		case isRelayed(addr):
		case !judged:
			unknown = append(unknown, addr)
		case verdict.reachable:
			reachable = append(reachable, addr)
		default:
			unreachable = append(unreachable, addr)
		}
	}
	return reachable, unreachable, unknown
}
