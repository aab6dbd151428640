package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Why a reservation ends that could have gone on.
var (
	errReplaced          = fmt.Errorf("%w: another static relay took its place", ErrCancelled)
	errDisconnectedRelay = fmt.Errorf("%w: this node disconnected from the relay", ErrCancelled)
	errPublic            = fmt.Errorf("%w: this node is publicly reachable", ErrCancelled)
	errRelayGone         = fmt.Errorf("%w: the connection to the relay ended", ErrPeerClosed)
)

// relayKeeper holds a reservation at one of its candidates at a time; the diagram is at relays.
type relayKeeper struct {
	relays *relays
	ctx    context.Context
	cancel context.CancelCauseFunc
	gone   chan struct{}     // holds one token when a connection to the held relay has ended
	grants chan *reservation // one that ReserveOnRelay made beside the keeper
	state  struct {          // guarded by the lock of relays
		candidates []peer.AddrInfo
		held       *reservation // nil: asking, or pausing
	}
	configured bool // of relay.static_relays: needless while the node is public
}

func (r *relays) newKeeper(candidates []peer.AddrInfo, configured bool) *relayKeeper {
	k := &relayKeeper{relays: r, gone: make(chan struct{}, 1), grants: make(chan *reservation, 1), configured: configured}
	k.ctx, k.cancel = context.WithCancelCause(r.node.ctx)
	k.state.candidates = candidates
	return k
}

func (k *relayKeeper) poke() {
	select {
	case k.gone <- struct{}{}:
	default:
	}
}

// grant replaces the held reservation; of two that wait the newer one counts.
func (k *relayKeeper) grant(granted *reservation) {
	select {
	case <-k.grants:
	default:
	}
	k.grants <- granted
}

// candidate is the one whose turn it is; false: none is left.
func (k *relayKeeper) candidate(turn int) (info peer.AddrInfo, count int, ok bool) {
	k.relays.state.Lock()
	defer k.relays.state.Unlock()
	all := k.state.candidates
	if len(all) == 0 {
		return peer.AddrInfo{}, 0, false
	}
	return all[turn%len(all)], len(all), true
}

// whileNeeded runs the configured relays unless the node is publicly reachable. Until the first verdict, but no longer than
// the boot delay, it only connects, so that there is somebody to ask for one.
func (k *relayKeeper) whileNeeded() {
	k.awaitVerdict()
	reach := k.relays.node.reach
	for k.ctx.Err() == nil {
		verdict, changed := reach.watch()
		if verdict != ReachPublic {
			k.runUntilPublic()
			continue
		}
		select {
		case <-changed:
		case <-k.ctx.Done():
		}
	}
}

func (k *relayKeeper) awaitVerdict() {
	n := k.relays.node
	if !n.mayBeJudged() {
		return
	}
	ctx, cancel := context.WithTimeout(k.ctx, k.relays.bootDelay)
	defer cancel()
	if first, _, ok := k.candidate(0); ok {
		if err := k.relays.approach(ctx, first); err != nil {
			n.log.Info("relay not reached before the verdict", "relay", first.ID, "reason", err)
		}
	}
	select {
	case <-n.reach.state.first:
	case <-ctx.Done():
	}
}

// runUntilPublic is run under a context that ends with the verdict that makes relays needless.
func (k *relayKeeper) runUntilPublic() {
	ctx, cancel := context.WithCancelCause(k.ctx)
	defer cancel(nil)
	k.relays.node.spawn("relay need", func() {
		for ctx.Err() == nil {
			verdict, changed := k.relays.node.reach.watch()
			if verdict == ReachPublic {
				cancel(errPublic)
			}
			select {
			case <-changed:
			case <-ctx.Done():
			}
		}
	})
	k.keep(ctx, nil)
}

// run keeps a reservation until the keeper is cancelled. granted is one that was made already, or nil.
func (k *relayKeeper) run(granted *reservation) { k.keep(k.ctx, granted) }

func (k *relayKeeper) keep(ctx context.Context, granted *reservation) {
	defer func() {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, ErrClosed) {
			k.relays.loses(k, cause)
		}
	}()
	pauses := backoff{first: k.relays.backoff}
	for turn, failed := 0, 0; ctx.Err() == nil; {
		info, candidates, ok := k.candidate(turn)
		if !ok {
			return
		}
		if granted == nil {
			failed++
			var pause time.Duration
			if failed >= candidates {
				pause, failed = pauses.next(), 0
			}
			granted = k.obtain(ctx, info, pause)
			turn++
		}
		if granted != nil {
			pauses.tries, failed = 0, 0
			k.hold(ctx, granted)
			granted = nil
			turn = k.turnOf(info) // the same relay first: peers know the address through it
		}
	}
}

// turnOf is where the candidate stands by now.
func (k *relayKeeper) turnOf(info peer.AddrInfo) int {
	k.relays.state.Lock()
	defer k.relays.state.Unlock()
	for i, candidate := range k.state.candidates {
		if candidate.ID == info.ID {
			return i
		}
	}
	return 0
}

// obtain asks a candidate once. When it fails and a pause is given it waits that long, or until a reservation that was made
// beside it comes.
func (k *relayKeeper) obtain(ctx context.Context, info peer.AddrInfo, pause time.Duration) *reservation {
	granted, err := k.relays.ask(ctx, info)
	if err == nil {
		k.relays.holds(k, granted)
		return granted
	}
	if ctx.Err() != nil {
		return nil
	}
	k.relays.note(info.ID, err, pause)
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case granted := <-k.grants:
		return granted
	case <-timer.C:
	case <-ctx.Done():
	}
	return nil
}

// hold renews a published reservation until it is lost or ctx ends.
func (k *relayKeeper) hold(ctx context.Context, granted *reservation) {
	retry := backoff{first: k.relays.backoff}
	next := granted.renewal()
	for {
		timer := time.NewTimer(time.Until(next))
		select {
		case <-timer.C:
			renewed, err := k.relays.ask(ctx, peer.AddrInfo{ID: granted.relay, Addrs: granted.ways})
			switch {
			case err == nil:
				granted, retry.tries = renewed, 0
				k.relays.holds(k, granted)
				next = granted.renewal()
			case ctx.Err() != nil:
			case !time.Now().Before(granted.expires):
				k.relays.loses(k, fmt.Errorf("%w: not renewed until its end: %w", ErrTimeout, err))
				return
			default:
				pause := min(retry.next(), time.Until(granted.expires))
				k.relays.note(granted.relay, err, pause)
				next = time.Now().Add(pause)
			}
		case granted = <-k.grants:
			next = granted.renewal()
		case <-k.gone:
			if k.relays.node.host.Network().Connectedness(granted.relay) != network.Connected {
				timer.Stop()
				k.relays.loses(k, errRelayGone)
				return
			}
			next = time.Now() // back already: whether the relay kept the reservation, only asking tells
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}
