package node

import (
	"context"
	"math/rand"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	libp2pdiscovery "github.com/libp2p/go-libp2p/core/discovery"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	dialbackoff "github.com/libp2p/go-libp2p/p2p/discovery/backoff"
)

const (
	// A subscriber that was found is dialled again after topicRedial to topicRedialMax, for at most topicDialTimeout each.
	topicRedial      = 5 * time.Second
	topicRedialMax   = 10 * time.Minute
	topicDialTimeout = ConnectTimeout
	// maxTopicCandidates bounds the found subscribers that are remembered.
	maxTopicCandidates = 1000
)

// topicOptions let pubsub advertise the subscribed topics in the DHT, and look there for subscribers while it has few.
func (d *discovery) topicOptions() []pubsub.Option {
	if d.dht == nil || !d.node.config.DHT.Topics {
		return nil
	}
	connector := pubsub.WithDiscoverConnector(func(host.Host) (*dialbackoff.BackoffConnector, error) {
		pauses := dialbackoff.NewExponentialBackoff(topicRedial, topicRedialMax, dialbackoff.FullJitter, time.Second, 2, 0, rand.New(rand.NewSource(rand.Int63())))
		return dialbackoff.NewBackoffConnector(dhtHost{d.node.host, d.dht}, maxTopicCandidates, topicDialTimeout, pauses)
	})
	return []pubsub.Option{pubsub.WithDiscovery(topicDiscovery{d}, connector)}
}

// topicDiscovery is the discovery that pubsub uses; it makes the namespace of a topic itself.
type topicDiscovery struct{ *discovery }

var _ libp2pdiscovery.Discovery = topicDiscovery{}

// Advertise is called again after the answered time.
func (t topicDiscovery) Advertise(ctx context.Context, namespace string, _ ...libp2pdiscovery.Option) (time.Duration, error) {
	table, release, err := t.dht.use()
	if err != nil {
		return advertiseRetry, err
	}
	defer release()
	if err := t.dht.store(ctx, table, namespace); err != nil {
		return advertiseRetry, err
	}
	return advertisePeriod, nil
}

// FindPeers is called again as long as there are too few subscribers, so one question is enough.
func (t topicDiscovery) FindPeers(ctx context.Context, namespace string, _ ...libp2pdiscovery.Option) (<-chan peer.AddrInfo, error) {
	table, release, err := t.dht.use()
	if err != nil {
		return nil, err
	}
	key, err := dhtKey(namespace)
	if err == nil {
		err = table.awaitJoin(ctx)
	}
	if err != nil {
		release()
		return nil, err
	}
	peers := make(chan peer.AddrInfo)
	asked := t.node.spawn("topic search", func() {
		defer release()
		defer close(peers)
		for info := range table.FindProvidersAsync(ctx, key, 0) {
			if info.ID == t.node.id {
				continue
			}
			select {
			case peers <- info:
			case <-ctx.Done():
			}
		}
	})
	if !asked {
		release()
		return nil, ErrClosed
	}
	return peers, nil
}
