package node

import (
	"time"

	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
)

// Limits of the relay service (P2P-31).
const (
	relayReservations    = 1024
	relayCircuits        = 32
	relayBuffer          = 4096
	relayReservationsIP  = 1024
	relayReservationsASN = 1024
	relayReservationTTL  = time.Hour
)

func relayServiceOptions(c Config) []relayv2.Option {
	resources := relayv2.DefaultResources()
	resources.MaxReservations = relayReservations
	resources.MaxCircuits = relayCircuits
	resources.BufferSize = relayBuffer
	resources.MaxReservationsPerIP = relayReservationsIP
	resources.MaxReservationsPerASN = relayReservationsASN
	resources.ReservationTTL = relayReservationTTL
	options := []relayv2.Option{relayv2.WithResources(resources)}
	if c.Relay.WithBroadLimits {
		options = append(options, relayv2.WithInfiniteLimits())
	}
	return options
}
