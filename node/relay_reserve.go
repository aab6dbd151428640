package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// preferredRelayTimeout bounds the first attempt at a relay by its WebSocket on port 443 alone (NEW-16).
	preferredRelayTimeout = 5 * time.Second
	// maxCircuitAddresses bounds the own addresses through one relay.
	maxCircuitAddresses = 16
	preferredRelayPort  = "443"
)

// reservation is what a relay granted.
type reservation struct {
	relay    peer.ID
	made     time.Time
	expires  time.Time
	circuits []ma.Multiaddr // <address of the relay>/p2p/<relay>/p2p-circuit
	ways     []ma.Multiaddr // to the relay, for coming back when the peerstore has forgotten it

	limitDuration time.Duration // of a relayed connection; 0: no limit
	limitData     uint64        // bytes in each direction; 0: no limit
	roundTrip     time.Duration // of the request
}

// renewal is when to ask again.
func (r *reservation) renewal() time.Time {
	return r.expires.Add(-min(relayRenewBefore, r.expires.Sub(r.made)/2))
}

// ask makes or renews a reservation, connecting to the relay when needed.
func (r *relays) ask(ctx context.Context, info peer.AddrInfo) (*reservation, error) {
	ctx, cancel := context.WithTimeout(ctx, ReserveTimeout)
	defer cancel()
	if err := r.approach(ctx, info); err != nil {
		return nil, err
	}
	if err := r.showToken(ctx, info.ID); err != nil {
		return nil, err
	}
	type answer struct {
		granted *client.Reservation
		err     error
	}
	began := time.Now()
	answers := make(chan answer, 1)
	if !r.node.spawn("reservation", func() {
		// Its stream has a deadline of its own, which is not that of ctx: hence the goroutine.
		granted, err := client.Reserve(network.WithNoDial(ctx, "reservation"), r.node.host, peer.AddrInfo{ID: info.ID})
		answers <- answer{granted, err}
	}) {
		return nil, ErrClosed
	}
	select {
	case got := <-answers:
		if got.err != nil {
			return nil, r.reserveError(ctx, info.ID, got.err)
		}
		return r.assemble(info, got.granted, began), nil
	case <-ctx.Done():
		return nil, contextError(ctx, "reserving a slot at the relay "+info.ID.String())
	}
}

func (r *relays) assemble(info peer.AddrInfo, granted *client.Reservation, began time.Time) *reservation {
	made := time.Now()
	ways := r.waysTo(info)
	return &reservation{
		relay: info.ID, made: made, expires: granted.Expiration,
		circuits: circuitsThrough(info.ID, append(slices.Clone(granted.Addrs), ways...)), ways: ways,
		limitDuration: granted.LimitDuration, limitData: granted.LimitData, roundTrip: made.Sub(began),
	}
}

// waysTo are the addresses that lead to a relay: the one in use, those given, those known.
func (r *relays) waysTo(info peer.AddrInfo) []ma.Multiaddr {
	var ways []ma.Multiaddr
	for _, c := range r.node.host.Network().ConnsToPeer(info.ID) {
		if c.Stat().Direction == network.DirOutbound { // the remote end of an inbound one is no listener
			ways = append(ways, c.RemoteMultiaddr())
		}
	}
	ways = append(append(ways, info.Addrs...), r.node.host.Peerstore().Addrs(info.ID)...)
	return slices.DeleteFunc(bareAddresses(ways), func(addr ma.Multiaddr) bool { return isRelayed(addr) || lacksCertificate(addr) })
}

// bareAddresses strips /p2p/<id> and keeps each address once.
func bareAddresses(addrs []ma.Multiaddr) []ma.Multiaddr {
	bare := make([]ma.Multiaddr, 0, len(addrs))
	for _, addr := range addrs {
		if without, _ := peer.SplitAddr(addr); without != nil && !ma.Contains(bare, without) {
			bare = append(bare, without)
		}
	}
	return bare
}

// circuitsThrough are the addresses of a peer that a relay with these addresses gives. They are announced wherever the relay
// is, on private networks and loopback too: who can reach the relay can use them.
func circuitsThrough(relay peer.ID, addrs []ma.Multiaddr) []ma.Multiaddr {
	tail, err := ma.NewMultiaddr("/p2p/" + relay.String() + "/p2p-circuit")
	if err != nil {
		return nil
	}
	var circuits []ma.Multiaddr
	for _, addr := range preferRoutable(slices.DeleteFunc(bareAddresses(addrs), isRelayed)) {
		if len(circuits) < maxCircuitAddresses {
			circuits = append(circuits, addr.Encapsulate(tail))
		}
	}
	return circuits
}

// approach connects to a relay unless that is done, over its secure WebSocket on port 443 if it has one: that passes most
// firewalls (NEW-16).
func (r *relays) approach(ctx context.Context, info peer.AddrInfo) error {
	h := r.node.host
	if h.Network().Connectedness(info.ID) == network.Connected {
		return nil
	}
	r.node.forgetFailedDials(info)
	preferred := slices.DeleteFunc(slices.Clone(info.Addrs), func(a ma.Multiaddr) bool { return !passesFirewalls(a) })
	if len(preferred) > 0 && len(preferred) < len(info.Addrs) {
		first, cancel := context.WithTimeout(ctx, preferredRelayTimeout)
		err := h.Connect(first, peer.AddrInfo{ID: info.ID, Addrs: preferred})
		cancel()
		if err == nil {
			return nil
		}
	}
	if err := h.Connect(ctx, info); err != nil {
		return r.node.connectError(ctx, info.ID, err)
	}
	return nil
}

func passesFirewalls(addr ma.Multiaddr) bool {
	port, err := addr.ValueForProtocol(ma.P_TCP)
	return err == nil && port == preferredRelayPort && (hasProtocol(addr, ma.P_WS) || hasProtocol(addr, ma.P_WSS))
}

// reserveError says why a relay gave no slot.
func (r *relays) reserveError(ctx context.Context, id peer.ID, err error) error {
	if ctx.Err() != nil {
		return contextError(ctx, "reserving a slot at the relay "+id.String())
	}
	if spoken, lookup := r.node.host.Peerstore().SupportsProtocols(id, proto.ProtoIDv2Hop); lookup == nil && len(spoken) == 0 {
		return fmt.Errorf("%w: %s is no relay, or believes that it is not reachable; a relay has relay.enable_service, and network.force_public when nobody tells it that it is",
			ErrRefused, id)
	}
	var refusal client.ReservationError
	if !errors.As(err, &refusal) {
		return fmt.Errorf("%w: reserving at %s: %v", ErrPeerClosed, id, err)
	}
	switch refusal.Status {
	case pbv2.Status_PERMISSION_DENIED:
		return fmt.Errorf("%w: the relay %s does not admit this node; ask for a place in its relay.allow, or for its relay.token", ErrRefused, id)
	case pbv2.Status_RESERVATION_REFUSED, pbv2.Status_RESOURCE_LIMIT_EXCEEDED:
		return fmt.Errorf("%w: the relay %s has no free slot (%s); try another one", ErrRefused, id, refusal.Status)
	}
	return fmt.Errorf("%w: reserving at %s: %v", ErrPeerClosed, id, err)
}

// ParseRelay reads the argument of StartStaticRelay: {"ID": ..., "Addrs": [...]}.
func ParseRelay(text []byte) (peer.AddrInfo, error) {
	root, err := decodeJSONObject(text)
	if err != nil {
		return peer.AddrInfo{}, fmt.Errorf("%w: %v", ErrArgument, err)
	}
	info, err := relayOf(root)
	if err != nil {
		return peer.AddrInfo{}, fmt.Errorf("%w: %v", ErrArgument, err)
	}
	return info, nil
}
