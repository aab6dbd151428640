package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

const (
	// dhtJoinRetry to dhtJoinRetryMax are the pauses between attempts to reach the bootstrap peers.
	dhtJoinRetry    = time.Second
	dhtJoinRetryMax = time.Minute
	// foreignerMemory is how long the DHT of an isolated node does not dial a peer that was expelled.
	foreignerMemory = 10 * time.Minute
	// maxForeigners bounds the memory of expelled peers.
	maxForeigners = 1024
)

// join tries the bootstrap peers until one answers. What happens to the table after that is the DHT's own business.
func (d *dhtSource) join(ctx context.Context, table *dhtTable) {
	for pause := dhtJoinRetry; len(d.node.config.DHT.BootstrapPeers) > 0; pause = min(2*pause, dhtJoinRetryMax) {
		if d.tryBootstrap(ctx, table) {
			close(table.joined)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// tryBootstrap asks all bootstrap peers at once, so that a dead one delays nothing.
func (d *dhtSource) tryBootstrap(ctx context.Context, table *dhtTable) bool {
	var wait sync.WaitGroup
	var outcome struct {
		sync.Mutex
		reached int
		failed  map[peer.ID]string
	}
	outcome.failed = map[peer.ID]string{}
	ctx, cancel := context.WithTimeout(ctx, ConnectTimeout)
	defer cancel()
	for _, info := range d.node.config.DHT.BootstrapPeers {
		if info.ID == d.node.id {
			continue
		}
		wait.Add(1)
		ran := d.node.spawn("DHT bootstrap", func() {
			defer wait.Done()
			err := d.bootstrap(ctx, table, info)
			outcome.Lock()
			defer outcome.Unlock()
			if err != nil {
				outcome.failed[info.ID] = err.Error()
				d.node.log.Warn("bootstrap peer not reached", "peer", info.ID, "reason", err)
				return
			}
			outcome.reached++
		})
		if !ran {
			wait.Done()
		}
	}
	wait.Wait()
	table.attempt.Lock()
	defer table.attempt.Unlock()
	table.attempt.failed = outcome.failed
	return outcome.reached > 0
}

func (d *dhtSource) bootstrap(ctx context.Context, table *dhtTable, info peer.AddrInfo) error {
	if err := (dhtHost{d.node.host, d}).Connect(ctx, info); err != nil {
		return err
	}
	if _, err := table.messenger.GetClosestPeers(ctx, info.ID, d.node.id); err != nil {
		return fmt.Errorf("connected, but it does not answer as a DHT server of %s: %w", d.node.config.DHT.Prefix, err)
	}
	_, err := table.RoutingTable().TryAddPeer(info.ID, true, false)
	return err
}

// admits keeps the table of an isolated node inside its network.
func (d *dhtSource) admits(id peer.ID) bool {
	return !d.node.config.Network.Isolated || d.node.namedByHost(id) || d.node.speaksApplication(id)
}

// avoid keeps the DHT from dialling an expelled peer again.
func (d *dhtSource) avoid(id peer.ID) {
	d.foreigners.Lock()
	defer d.foreigners.Unlock()
	now := time.Now()
	for other, until := range d.foreigners.until {
		if now.After(until) || len(d.foreigners.until) >= maxForeigners {
			delete(d.foreigners.until, other)
		}
	}
	d.foreigners.until[id] = now.Add(foreignerMemory)
}

func (d *dhtSource) avoids(id peer.ID) bool {
	d.foreigners.Lock()
	defer d.foreigners.Unlock()
	return time.Now().Before(d.foreigners.until[id])
}

var errDHTRefused = errors.New("this node disconnected the peer")

// dhtHost keeps the DHT from dialling peers that this node has just disconnected or expelled.
type dhtHost struct {
	host.Host
	source *dhtSource
}

func (h dhtHost) allows(id peer.ID) bool {
	return !h.source.node.gate.refused(id) && !h.source.avoids(id)
}

func (h dhtHost) Connect(ctx context.Context, info peer.AddrInfo) error {
	if !h.allows(info.ID) {
		return errDHTRefused
	}
	return h.Host.Connect(ctx, info)
}

func (h dhtHost) NewStream(ctx context.Context, id peer.ID, protocols ...protocol.ID) (network.Stream, error) {
	if !h.allows(id) {
		ctx = network.WithNoDial(ctx, "DHT")
	}
	return h.Host.NewStream(ctx, id, protocols...)
}
