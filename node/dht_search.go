package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/routing"
	mh "github.com/multiformats/go-multihash"
)

// dhtPutTimeout bounds storing a record with one server.
const dhtPutTimeout = 10 * time.Second

func (d *dhtSource) name() string { return SourceDHT }

// find reports the peers that advertise the namespace, asking again until ctx ends.
func (d *dhtSource) find(ctx context.Context, namespace string, found func(peer.AddrInfo)) error {
	table, release, err := d.use()
	if err != nil {
		return err
	}
	defer release()
	key, err := dhtKey(namespace)
	if err != nil {
		return err
	}
	joined := table.joined
	for pause := searchRetry; ; pause = min(2*pause, searchRetryMax) {
		for info := range table.FindProvidersAsync(ctx, key, 0) {
			if len(info.Addrs) == 0 {
				info.Addrs = d.node.host.Peerstore().Addrs(info.ID)
			}
			found(info)
		}
		select {
		case <-ctx.Done():
			return table.problem()
		case <-joined:
			joined, pause = nil, searchRetry
		case <-time.After(pause):
		}
	}
}

// problem says why nothing could be found, if so.
func (t *dhtTable) problem() error {
	if t.server || t.RoutingTable().Size() > 0 {
		return nil
	}
	return fmt.Errorf("%w: no bootstrap peer of the DHT answered%s", ErrUnreachable, t.failures())
}

func (t *dhtTable) failures() string {
	t.attempt.Lock()
	defer t.attempt.Unlock()
	text := ""
	for id, reason := range t.attempt.failed {
		text += fmt.Sprintf("; %s: %s", id, clipText(reason, maxProblemBytes))
	}
	return text
}

// awaitJoin waits until the table can be asked.
func (t *dhtTable) awaitJoin(ctx context.Context) error {
	if t.server {
		return nil
	}
	select {
	case <-t.joined:
		return nil
	case <-ctx.Done():
		return t.problem()
	}
}

// locate looks for the addresses of one peer.
func (d *dhtSource) locate(ctx context.Context, id peer.ID) (peer.AddrInfo, error) {
	table, release, err := d.use()
	if err != nil {
		return peer.AddrInfo{}, err
	}
	defer release()
	if err := table.awaitJoin(ctx); err != nil {
		return peer.AddrInfo{}, err
	}
	info, err := table.FindPeer(ctx, id)
	switch {
	case err == nil && len(info.Addrs) > 0:
		return info, nil
	case err == nil, errors.Is(err, routing.ErrNotFound):
		return info, fmt.Errorf("%w: the DHT knows no address of %s", ErrNotFound, id)
	case ctx.Err() != nil:
		return info, contextError(ctx, "looking for "+id.String()+" in the DHT")
	}
	return info, fmt.Errorf("%w: asking the DHT for %s: %v", ErrUnreachable, id, err)
}

// advertise stores a record with the servers nearest to the namespace, until ctx ends; each attempt is reported.
func (d *dhtSource) advertise(ctx context.Context, namespace string, report func(error)) {
	table, release, err := d.use()
	if err != nil {
		report(err)
		return
	}
	defer release()
	retry := advertiseRetry
	for {
		pause := advertisePeriod
		err := d.store(ctx, table, namespace)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			pause, retry = retry, min(2*retry, advertisePeriod)
		} else {
			retry = advertiseRetry
		}
		report(err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// store puts the record. The DHT's own Provide hides whether any server took it.
func (d *dhtSource) store(ctx context.Context, table *dhtTable, namespace string) error {
	ctx, cancel := context.WithTimeout(ctx, advertiseTimeout)
	defer cancel()
	key, err := dhtKey(namespace)
	if err != nil {
		return err
	}
	if err := table.awaitJoin(ctx); err != nil {
		return err
	}
	self := peer.AddrInfo{ID: d.node.id, Addrs: d.node.host.Addrs()}
	if err := table.ProviderStore().AddProvider(ctx, key.Hash(), self); err != nil {
		return fmt.Errorf("%w: keeping the own record: %v", ErrInternal, err)
	}
	servers, err := table.GetClosestPeers(ctx, string(key.Hash()))
	if err != nil && len(servers) == 0 && !table.server {
		return fmt.Errorf("%w: looking for DHT servers: %v", ErrUnreachable, err)
	}
	if stored, err := d.put(ctx, table, key, self, servers); stored == 0 && !table.server {
		return fmt.Errorf("%w: none of %d DHT servers took the record: %v", ErrUnreachable, len(servers), err)
	}
	return nil
}

// put answers how many of the servers took the record, and the last failure.
func (d *dhtSource) put(ctx context.Context, table *dhtTable, key cid.Cid, self peer.AddrInfo, servers []peer.ID) (stored int, failure error) {
	outcomes := make(chan error, len(servers))
	for _, server := range servers {
		ran := d.node.spawn("DHT record", func() {
			err := ErrInternal // of a panic
			defer func() { outcomes <- err }()
			ctx, cancel := context.WithTimeout(ctx, dhtPutTimeout)
			defer cancel()
			err = table.messenger.PutProviderAddrs(ctx, server, key.Hash(), self)
		})
		if !ran {
			outcomes <- ErrClosed
		}
	}
	for range servers {
		if err := <-outcomes; err != nil {
			failure = err
		} else {
			stored++
		}
	}
	return stored, failure
}

// dhtKey is the one that go-libp2p's routing discovery uses.
func dhtKey(namespace string) (cid.Cid, error) {
	sum, err := mh.Sum([]byte(namespace), mh.SHA2_256, -1)
	if err != nil {
		return cid.Undef, fmt.Errorf("%w: hashing the namespace: %v", ErrInternal, err)
	}
	return cid.NewCidV1(cid.Raw, sum), nil
}
