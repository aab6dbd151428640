package node

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// ReserveTimeout bounds one reservation, the way to the relay included (GEN-06).
	ReserveTimeout = time.Minute
	// relayRenewBefore is how long before its end a reservation is renewed (POOL-57), or half of its life if that is less.
	relayRenewBefore = 15 * time.Minute
	// relayBackoff is the first pause after every candidate has failed (NEW-16); it doubles up to maxRelayBackoff.
	relayBackoff    = 5 * time.Second
	maxRelayBackoff = 5 * time.Minute
	// relayBootDelay is how long relay.static_relays wait for a verdict on reachability that would make them needless (NEW-16).
	relayBootDelay = 10 * time.Second
)

// relays keeps the reservations of this node, and with them its /p2p-circuit addresses. Each keeper holds at most one
// reservation: those of ReserveOnRelay have one candidate each, the static one tries its candidates in turn.
//
//	asking --granted--> held --before the end--> renewed
//	  |  ^                |--connection ended, or not renewed until the end--> lost
//	  |  '--- at once: same candidate, then the next ones ----------------------'
//	  '--all candidates failed--> pause (relayBackoff, doubling) --> asking
type relays struct {
	node      *Node
	bootDelay time.Duration // relayBootDelay, but in tests
	backoff   time.Duration // relayBackoff, but in tests

	state struct {
		sync.Mutex
		asked   map[peer.ID]*relayKeeper // of ReserveOnRelay
		static  *relayKeeper             // of relay.static_relays or StartStaticRelay; nil: none
		records map[peer.ID]*relayRecord // of every relay tried; relays are named by the host, which bounds them
		access  map[peer.ID]struct{}     // peers that showed relay.token to this node's service
	}
	moved event.Emitter // makes libp2p look at the own addresses again; nil until started
}

func newRelays(n *Node) *relays {
	r := &relays{node: n, bootDelay: relayBootDelay, backoff: relayBackoff}
	r.state.asked = map[peer.ID]*relayKeeper{}
	r.state.records = map[peer.ID]*relayRecord{}
	r.state.access = map[peer.ID]struct{}{}
	return r
}

// start watches the connections to relays and begins to use those of the configuration.
func (r *relays) start() error {
	emitter, err := r.node.host.EventBus().Emitter(new(event.EvtAutoRelayAddrsUpdated))
	if err != nil {
		return fmt.Errorf("%w: announcing relay addresses: %v", ErrInternal, err)
	}
	r.moved = emitter
	r.node.host.Network().Notify(&network.NotifyBundle{
		DisconnectedF: func(_ network.Network, c network.Conn) {
			r.node.run("relay connection event", func() { r.disconnected(c.RemotePeer()) })
		},
	})
	return nil
}

// useConfigured starts the keeper of relay.static_relays.
func (r *relays) useConfigured() {
	if c := r.node.config.Relay; c.EnableClient && len(c.StaticRelays) > 0 {
		keeper := r.newKeeper(c.StaticRelays, true)
		r.state.Lock()
		r.state.static = keeper
		r.state.Unlock()
		r.node.spawn("static relays", keeper.whileNeeded)
	}
}

func (r *relays) close() {
	if r.moved != nil {
		_ = r.moved.Close() // fails only when closed before
	}
}

// ReserveOnRelay reserves a slot at a connected relay and answers when it ends. From then on the reservation is renewed in
// time, and made again after a loss, until the node disconnects from the relay or closes. Asking again renews it at once.
func (n *Node) ReserveOnRelay(ctx context.Context, id peer.ID) (time.Time, error) {
	if err := n.checkRelayClient(id); err != nil {
		return time.Time{}, err
	}
	if n.host.Network().Connectedness(id) != network.Connected {
		return time.Time{}, fmt.Errorf("%w: a reservation needs a direct connection to the relay %s; connect to it first", ErrNotConnected, id)
	}
	ctx, cancel := n.bind(ctx)
	defer cancel()
	granted, err := n.relays.ask(ctx, peer.AddrInfo{ID: id})
	if err != nil {
		n.relays.note(id, err, 0)
		return time.Time{}, err
	}
	n.relays.keepAsked(granted)
	return granted.expires, nil
}

// StartStaticRelay replaces relay.static_relays, or an earlier static relay, by this one and answers when the reservation
// there ends. When that fails, nothing changes.
func (n *Node) StartStaticRelay(ctx context.Context, info peer.AddrInfo) (time.Time, error) {
	if err := n.checkRelayClient(info.ID); err != nil {
		return time.Time{}, err
	}
	ctx, cancel := n.bind(ctx)
	defer cancel()
	granted, err := n.relays.ask(ctx, info)
	if err != nil {
		n.relays.note(info.ID, err, 0)
		return time.Time{}, err
	}
	n.relays.replaceStatic(info, granted)
	return granted.expires, nil
}

func (n *Node) checkRelayClient(id peer.ID) error {
	switch {
	case id == n.id:
		return fmt.Errorf("%w: a node cannot be its own relay", ErrArgument)
	case !n.config.Relay.EnableClient:
		return fmt.Errorf("%w: relay.enable_client is false; set it to true to be reached through relays", ErrUnsupported)
	}
	return nil
}

// keepAsked hands a reservation to the keeper of its relay, making that when there is none.
func (r *relays) keepAsked(granted *reservation) {
	r.state.Lock()
	keeper, known := r.state.asked[granted.relay]
	if !known {
		keeper = r.newKeeper([]peer.AddrInfo{{ID: granted.relay, Addrs: granted.ways}}, false)
		r.state.asked[granted.relay] = keeper
	}
	r.state.Unlock()
	r.holds(keeper, granted)
	if known {
		keeper.grant(granted)
	} else {
		r.node.spawn("relay", func() { keeper.run(granted) })
	}
}

func (r *relays) replaceStatic(info peer.AddrInfo, granted *reservation) {
	keeper := r.newKeeper([]peer.AddrInfo{info}, false)
	r.state.Lock()
	former := r.state.static
	r.state.static = keeper
	r.state.Unlock()
	if former != nil {
		former.cancel(errReplaced)
	}
	r.holds(keeper, granted)
	r.node.spawn("static relay", func() { keeper.run(granted) })
}

// forget drops the relay, because the host disconnects from it.
func (r *relays) forget(id peer.ID) {
	r.state.Lock()
	defer r.state.Unlock()
	for _, keeper := range r.keepersLocked() {
		if !slices.ContainsFunc(keeper.state.candidates, func(c peer.AddrInfo) bool { return c.ID == id }) {
			continue
		}
		keeper.state.candidates = slices.DeleteFunc(slices.Clone(keeper.state.candidates), func(c peer.AddrInfo) bool { return c.ID == id })
		if len(keeper.state.candidates) == 0 {
			keeper.cancel(errDisconnectedRelay)
		}
	}
	delete(r.state.asked, id)
	if r.state.static != nil && len(r.state.static.state.candidates) == 0 {
		r.state.static = nil
	}
}

func (r *relays) keepersLocked() []*relayKeeper {
	all := make([]*relayKeeper, 0, len(r.state.asked)+1)
	for _, keeper := range r.state.asked {
		all = append(all, keeper)
	}
	if r.state.static != nil {
		all = append(all, r.state.static)
	}
	return all
}

// uses tells whether the peer is a relay of this node: such a peer needs no application protocol.
func (r *relays) uses(id peer.ID) bool {
	r.state.Lock()
	defer r.state.Unlock()
	for _, keeper := range r.keepersLocked() {
		if slices.ContainsFunc(keeper.state.candidates, func(c peer.AddrInfo) bool { return c.ID == id }) {
			return true
		}
	}
	return false
}

// disconnected wakes the keeper whose relay has gone.
func (r *relays) disconnected(id peer.ID) {
	r.state.Lock()
	defer r.state.Unlock()
	delete(r.state.access, id)
	for _, keeper := range r.keepersLocked() {
		if held := keeper.state.held; held != nil && held.relay == id {
			keeper.poke()
		}
	}
}

// holds publishes a reservation: new, back again, or renewed.
func (r *relays) holds(k *relayKeeper, granted *reservation) {
	r.state.Lock()
	renewed := k.state.held != nil && k.state.held.relay == granted.relay
	k.state.held = granted
	record := r.recordLocked(granted.relay)
	record.failure, record.failures, record.retry = "", 0, time.Time{}
	record.roundTrip = granted.roundTrip
	r.state.Unlock()
	r.node.log.Info("relay reservation", "relay", granted.relay, "expires", granted.expires, "renewed", renewed)
	r.node.events.Push(EventRelayReserved, map[string]any{
		"relay": granted.relay.String(), "expires": FormatExpiry(granted.expires), "renewed": renewed,
	})
	r.publish()
}

// loses takes a reservation back.
func (r *relays) loses(k *relayKeeper, reason error) {
	r.state.Lock()
	held := k.state.held
	k.state.held = nil
	if held != nil {
		r.recordLocked(held.relay).lost++
	}
	r.state.Unlock()
	if held == nil {
		return
	}
	r.node.log.Info("relay reservation lost", "relay", held.relay, "reason", reason)
	r.node.events.Push(EventRelayLost, map[string]any{"relay": held.relay.String(), "reason": reason.Error()})
	r.publish()
}

// publish makes libp2p compute the own addresses now instead of at its next tick, and tell the peers.
func (r *relays) publish() {
	if r.node.ctx.Err() == nil {
		_ = r.moved.Emit(event.EvtAutoRelayAddrsUpdated{}) // fails only once closed
	}
}

// note records a failed attempt at a relay; retry 0: nobody tries again.
func (r *relays) note(id peer.ID, err error, retry time.Duration) {
	r.state.Lock()
	record := r.recordLocked(id)
	record.failure, record.retry = err.Error(), time.Now().Add(retry)
	record.failures++
	r.state.Unlock()
	r.node.log.Info("relay failed", "relay", id, "reason", err, "retry", retry)
	r.node.events.Push(EventRelayFailed, map[string]any{
		"relay": id.String(), "reason": err.Error(), "retry_ms": retry.Milliseconds(),
	})
}

func (r *relays) recordLocked(id peer.ID) *relayRecord {
	record := r.state.records[id]
	if record == nil {
		record = &relayRecord{}
		r.state.records[id] = record
	}
	return record
}

// relayRecord is what is known of a relay besides its reservation.
type relayRecord struct {
	failure   string // of the last attempt; "": it succeeded
	failures  int    // in a row
	retry     time.Time
	lost      int // reservations
	roundTrip time.Duration
}

// circuitAddresses are the own addresses through relays.
func (r *relays) circuitAddresses() []ma.Multiaddr {
	r.state.Lock()
	defer r.state.Unlock()
	var all []ma.Multiaddr
	for _, keeper := range r.keepersLocked() {
		if held := keeper.state.held; held != nil {
			all = append(all, held.circuits...)
		}
	}
	return all
}

// FormatExpiry writes the end of a reservation as P2P-22 wants it.
func FormatExpiry(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// backoff doubles from first to maxRelayBackoff, with a quarter of jitter so that the clients of a relay that restarts do
// not come back at the same moment.
type backoff struct {
	first time.Duration
	tries int
}

func (b *backoff) next() time.Duration {
	pause := min(b.first<<min(b.tries, 16), maxRelayBackoff)
	b.tries++
	return pause - pause/8 + rand.N(pause/4+1)
}
