package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	dht "github.com/libp2p/go-libp2p-kad-dht"
	dhtpb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p-kad-dht/records"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// dhtRecordValidity is how long a server of ours keeps a record that its owner does not renew; three times advertisePeriod,
// so that a record outlives two lost renewals, and a node that left is found for no longer.
const dhtRecordValidity = 3 * advertisePeriod

// dhtSource finds peers in the DHT. The table of peers exists while somebody uses it: a search, an advertisement, or the
// node itself, which holds it until the first verdict on reachability, or for good with dht.keep, dht.server or dht.topics.
//
//	closed --use--> joining --a bootstrap peer answers--> joined
//	   ^-------- last use ends ----/------------------------/
type dhtSource struct {
	node *Node

	state struct {
		sync.Mutex
		table *dhtTable // nil: closed
		users int
	}
	foreigners struct {
		sync.Mutex
		until map[peer.ID]time.Time
	}
}

// dhtTable is one life of the DHT.
type dhtTable struct {
	*dht.IpfsDHT
	messenger *dhtpb.ProtocolMessenger
	joined    chan struct{} // closed when a bootstrap peer is in the table
	server    bool
	cancel    context.CancelFunc // ends joining

	attempt struct {
		sync.Mutex
		failed map[peer.ID]string // bootstrap peers that the last attempt did not reach, with the reason
	}
}

// newDHTSource answers nil when no DHT is configured.
func newDHTSource(n *Node) *dhtSource {
	if c := n.config.DHT; !c.Enabled || (len(c.BootstrapPeers) == 0 && !c.Server) {
		return nil
	}
	d := &dhtSource{node: n}
	d.foreigners.until = map[peer.ID]time.Time{}
	return d
}

// start holds the table for the node itself, as long as the configuration says.
func (d *dhtSource) start() error {
	c := d.node.config.DHT
	lasting := c.Keep || c.Server || c.Topics
	verdict := d.node.reach.decided()
	select {
	case <-verdict:
		if !lasting {
			return nil
		}
	default:
	}
	_, release, err := d.use()
	if err != nil || lasting {
		return err
	}
	d.node.spawn("DHT until the verdict", func() {
		defer release()
		select {
		case <-verdict:
		case <-d.node.ctx.Done():
		}
	})
	return nil
}

// use opens the table, or shares the open one, until release is called.
func (d *dhtSource) use() (table *dhtTable, release func(), err error) {
	d.state.Lock()
	defer d.state.Unlock()
	if d.node.ctx.Err() != nil {
		return nil, nil, ErrClosed
	}
	if d.state.table == nil {
		if d.state.table, err = d.open(); err != nil {
			return nil, nil, err
		}
	}
	d.state.users++
	return d.state.table, sync.OnceFunc(d.release), nil
}

func (d *dhtSource) release() {
	d.state.Lock()
	d.state.users--
	table := d.state.table
	if d.state.users > 0 || table == nil {
		d.state.Unlock()
		return
	}
	d.state.table = nil
	d.state.Unlock()
	d.shut(table)
}

// close is for the end of the node, whoever still uses the table.
func (d *dhtSource) close() {
	d.state.Lock()
	table := d.state.table
	d.state.table = nil
	d.state.Unlock()
	if table != nil {
		d.shut(table)
	}
}

func (d *dhtSource) shut(table *dhtTable) {
	table.cancel()
	if err := table.Close(); err != nil {
		d.node.log.Warn("closing the DHT failed", "reason", err)
	}
}

func (d *dhtSource) open() (*dhtTable, error) {
	c := d.node.config.DHT
	mode := dht.ModeClient
	if c.Server {
		mode = dht.ModeServer
	}
	options := []dht.Option{
		dht.Mode(mode),
		dht.ProtocolPrefix(protocol.ID(c.Prefix)),
		dht.Datastore(newDHTStore()),
		dht.ProviderManagerOpts(records.ProvideValidity(dhtRecordValidity), records.ProviderAddrTTL(dhtRecordValidity)),
		dht.BootstrapPeers(c.BootstrapPeers...),
		dht.RoutingTableFilter(func(_ any, id peer.ID) bool { return d.admits(id) }),
	}
	if c.Prefix != publicDHTPrefix {
		options = append(options, dht.DisableValues()) // only provider records are used
	}
	made, err := dht.New(dhtHost{d.node.host, d}, options...)
	if err != nil {
		return nil, fmt.Errorf("%w: starting the DHT: %v", ErrInternal, err)
	}
	table := &dhtTable{IpfsDHT: made, joined: make(chan struct{}), server: c.Server}
	if table.messenger, err = dhtpb.NewProtocolMessenger(made.MessageSender()); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: starting the DHT: %v", ErrInternal, err), made.Close())
	}
	ctx, cancel := context.WithCancel(d.node.ctx)
	table.cancel = cancel
	d.node.spawn("DHT joining", func() { d.join(ctx, table) })
	return table, nil
}

// DHTStatus describes the DHT for a diagnosis.
type DHTStatus struct {
	State  string            `json:"state"` // "off", "closed", "joining" or "joined"
	Server bool              `json:"server"`
	Prefix string            `json:"prefix"`
	Peers  int               `json:"peers"`  // in the routing table
	Failed map[string]string `json:"failed"` // bootstrap peers that the last attempt did not reach, with the reason
}

func (d *dhtSource) status(c DHTConfig) DHTStatus {
	s := DHTStatus{State: "off", Prefix: c.Prefix, Failed: map[string]string{}}
	if d == nil {
		return s
	}
	s.Server = c.Server
	d.state.Lock()
	table := d.state.table
	d.state.Unlock()
	if table == nil {
		s.State = "closed"
		return s
	}
	s.Peers = table.RoutingTable().Size()
	s.State = "joining"
	if s.Peers > 0 || c.Server && len(c.BootstrapPeers) == 0 {
		s.State = "joined"
	}
	table.attempt.Lock()
	defer table.attempt.Unlock()
	for id, reason := range table.attempt.failed {
		s.Failed[id.String()] = reason
	}
	return s
}
