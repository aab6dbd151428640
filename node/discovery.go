package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// DiscoveryTimeout bounds FindPeer and Advertise, and the look-up within ConnectTo (GEN-06).
	DiscoveryTimeout = ConnectTimeout
	// MaxFoundPeers bounds the peers that one FindPeers reports.
	MaxFoundPeers = 1000
	// maxNamespaceBytes bounds a namespace, like a channel.
	maxNamespaceBytes = 255
	// searchRetry to searchRetryMax are the pauses between the questions of one search.
	searchRetry    = time.Second
	searchRetryMax = 10 * time.Second
	// foundTTL is how long the addresses of a found peer may be dialled.
	foundTTL = 10 * time.Minute
	// topicNamespace is put before the name of a topic, as go-libp2p-pubsub does.
	topicNamespace = "floodsub:"
)

// Sources of found peers.
const (
	SourceDHT  = "dht"
	SourceMDNS = "mdns"
)

// A source finds peers and lets others find this node. Its functions work until ctx ends.
type source interface {
	name() string
	// find reports peers, possibly several times. An error says why nothing could be found.
	find(ctx context.Context, namespace string, found func(peer.AddrInfo)) error
	// locate answers the addresses of one peer, at least one.
	locate(ctx context.Context, id peer.ID) (peer.AddrInfo, error)
	// advertise reports each attempt: nil when others can find this node.
	advertise(ctx context.Context, namespace string, report func(error))
}

// FoundPeer is a peer that a search reports.
type FoundPeer struct {
	ID        string   `json:"peer"`
	Addresses []string `json:"addresses"` // each with /p2p/<id>; empty: nobody knows one now
	Source    string   `json:"source"`    // the first that reported it
}

// discovery searches and advertises with the sources that the configuration switches on. Without any it keeps nothing and
// runs nothing.
type discovery struct {
	node    *Node
	dht     *dhtSource  // nil: off
	mdns    *mdnsSource // nil: off
	sources []source

	searches struct {
		sync.Mutex
		running, total, found int
	}
	advertised struct {
		sync.Mutex
		byNamespace map[string]*advertisement
	}
}

func newDiscovery(n *Node) *discovery {
	d := &discovery{node: n, dht: newDHTSource(n), mdns: newMDNSSource(n)}
	if d.dht != nil {
		d.sources = append(d.sources, d.dht)
	}
	if d.mdns != nil {
		d.sources = append(d.sources, d.mdns)
	}
	d.advertised.byNamespace = map[string]*advertisement{}
	return d
}

func (d *discovery) start() error {
	if d.dht != nil {
		if err := d.dht.start(); err != nil {
			return err
		}
	}
	if d.mdns != nil {
		return d.mdns.start()
	}
	return nil
}

func (d *discovery) close() {
	if d.dht != nil {
		d.dht.close()
	}
}

// avoid keeps discovery from dialling an expelled peer.
func (d *discovery) avoid(id peer.ID) {
	if d.dht != nil {
		d.dht.avoid(id)
	}
}

// addressesChanged is called after own addresses changed.
func (d *discovery) addressesChanged() {
	if d.mdns != nil {
		d.mdns.addressesChanged()
	}
}

func (d *discovery) checkOn() error {
	if len(d.sources) == 0 {
		return fmt.Errorf("%w: discovery is off; set dht.bootstrap_peers (with dht.enabled), dht.server or mdns.enabled", ErrUnsupported)
	}
	return nil
}

// namespaceOf is what the sources know a name by: a topic is found under the name that pubsub uses, anything else as it is.
func namespaceOf(name string) (string, error) {
	switch {
	case len(name) > maxNamespaceBytes:
		return "", fmt.Errorf("%w: a namespace of %d bytes, at most %d", ErrArgument, len(name), maxNamespaceBytes)
	case !utf8.ValidString(name):
		return "", fmt.Errorf("%w: the namespace is not valid UTF-8", ErrArgument)
	case strings.Contains(name, topicMark):
		if _, err := parseTopic(name); err != nil {
			return "", err
		}
		return topicNamespace + name, nil
	}
	return name, nil
}

// FindPeers looks for the peers that advertise a namespace or subscribe to a topic, until ctx ends or most are found, and
// calls found once for each, never from two goroutines at once. The empty namespace stands for every node of the network
// on the LAN. Reaching the deadline is no error; that no source could be asked is one.
func (n *Node) FindPeers(ctx context.Context, name string, most int, found func(FoundPeer)) ([]FoundPeer, error) {
	namespace, err := namespaceOf(name)
	if err != nil {
		return nil, err
	}
	if most < 1 || most > MaxFoundPeers {
		return nil, fmt.Errorf("%w: a search reports 1 to %d peers, not %d", ErrArgument, MaxFoundPeers, most)
	}
	sources, err := n.found.sourcesFor(namespace)
	if err != nil {
		return nil, err
	}
	n.found.count(func() { n.found.searches.running++; n.found.searches.total++ })
	defer n.found.count(func() { n.found.searches.running-- })
	ctx, cancel := n.bind(ctx)
	defer cancel()
	s := &search{node: n, most: most, report: found, enough: cancel}
	problems := s.run(ctx, namespace, sources)
	if n.ctx.Err() != nil {
		return nil, ErrClosed
	}
	s.got.Lock()
	defer s.got.Unlock()
	if errors.Is(context.Cause(ctx), ErrCancelled) {
		return nil, ErrCancelled
	}
	if len(problems) == len(sources) && len(s.got.peers) == 0 {
		return nil, errors.Join(problems...)
	}
	return s.got.peers, nil
}

func (d *discovery) count(change func()) {
	d.searches.Lock()
	defer d.searches.Unlock()
	change()
}

// sourcesFor answers who can be asked: the DHT has no list of all its nodes.
func (d *discovery) sourcesFor(namespace string) ([]source, error) {
	if err := d.checkOn(); err != nil {
		return nil, err
	}
	if namespace != "" {
		return d.sources, nil
	}
	if d.mdns == nil {
		return nil, fmt.Errorf("%w: only mDNS finds peers without a namespace; set mdns.enabled, or name a namespace", ErrUnsupported)
	}
	return []source{d.mdns}, nil
}

// search is one FindPeers.
type search struct {
	node   *Node
	most   int
	report func(FoundPeer)
	enough func() // ends the search
	got    struct {
		sync.Mutex
		peers []FoundPeer
		ended bool
	}
}

// run asks the sources side by side and answers their errors.
func (s *search) run(ctx context.Context, namespace string, sources []source) []error {
	outcomes := make(chan error, len(sources))
	for _, asked := range sources {
		ran := s.node.spawn("search by "+asked.name(), func() {
			err := ErrInternal // of a panic
			defer func() { outcomes <- err }()
			err = asked.find(ctx, namespace, func(info peer.AddrInfo) { s.add(info, asked.name()) })
		})
		if !ran {
			outcomes <- ErrClosed
		}
	}
	var problems []error
	for range sources {
		if err := <-outcomes; err != nil {
			problems = append(problems, err)
		}
	}
	s.got.Lock()
	defer s.got.Unlock()
	s.got.ended = true
	return problems
}

func (s *search) add(info peer.AddrInfo, from string) {
	id := info.ID.String()
	s.got.Lock()
	defer s.got.Unlock()
	known := func(p FoundPeer) bool { return p.ID == id }
	if info.ID == s.node.id || s.got.ended || len(s.got.peers) >= s.most || slices.ContainsFunc(s.got.peers, known) {
		return
	}
	s.node.host.Peerstore().AddAddrs(info.ID, info.Addrs, foundTTL)
	peer := FoundPeer{ID: id, Addresses: withPeerID(learnedAddresses(info.Addrs), info.ID), Source: from}
	s.got.peers = append(s.got.peers, peer)
	s.node.found.count(func() { s.node.found.searches.found++ })
	s.report(peer)
	if len(s.got.peers) == s.most {
		s.enough()
	}
}

// FindPeer answers the addresses of a peer, each with /p2p/<id>, from whichever source answers first. A connected peer's
// are known.
func (n *Node) FindPeer(ctx context.Context, id peer.ID) ([]string, error) {
	if id == n.id || len(n.host.Network().ConnsToPeer(id)) > 0 {
		return n.AddressesOf(id)
	}
	info, err := n.locate(ctx, id)
	if err != nil {
		return nil, err
	}
	return withPeerID(learnedAddresses(info.Addrs), id), nil
}

func (n *Node) locate(ctx context.Context, id peer.ID) (peer.AddrInfo, error) {
	if err := n.found.checkOn(); err != nil {
		return peer.AddrInfo{}, err
	}
	ctx, cancel := n.bind(ctx)
	defer cancel()
	type outcome struct {
		info peer.AddrInfo
		err  error
	}
	outcomes := make(chan outcome, len(n.found.sources))
	for _, asked := range n.found.sources {
		ran := n.spawn("look-up by "+asked.name(), func() {
			o := outcome{err: ErrInternal} // of a panic
			defer func() { outcomes <- o }()
			o.info, o.err = asked.locate(ctx, id)
		})
		if !ran {
			outcomes <- outcome{err: ErrClosed}
		}
	}
	var problems []error
	for range n.found.sources {
		o := <-outcomes
		if o.err == nil {
			n.host.Peerstore().AddAddrs(id, o.info.Addrs, foundTTL)
			return o.info, nil
		}
		problems = append(problems, o.err)
	}
	return peer.AddrInfo{}, errors.Join(problems...)
}

// resolve completes the target of a connection that is named by its id only. What is known already is dialled beside what
// discovery finds.
func (n *Node) resolve(ctx context.Context, info *peer.AddrInfo) error {
	if len(info.Addrs) > 0 || len(n.host.Network().ConnsToPeer(info.ID)) > 0 {
		return nil
	}
	info.Addrs = n.host.Peerstore().Addrs(info.ID)
	located, err := n.locate(ctx, info.ID)
	switch {
	case err == nil:
		info.Addrs = append(info.Addrs, located.Addrs...)
	case len(info.Addrs) > 0:
		n.log.Debug("dialling known addresses, discovery found none", "peer", info.ID, "reason", err)
	default:
		return fmt.Errorf("no address of %s is known, and discovery found none: %w", info.ID, err)
	}
	return nil
}

// DiscoveryStatus is what a diagnosis shows of discovery.
type DiscoveryStatus struct {
	DHT        DHTStatus  `json:"dht"`
	MDNS       MDNSStatus `json:"mdns"`
	Searches   int        `json:"searches"` // so far
	Running    int        `json:"searches_running"`
	Found      int        `json:"found"`      // peers that searches reported so far
	Advertised []string   `json:"advertised"` // names, as Advertise took them
}

// DiscoveryStatus describes discovery at this moment.
func (n *Node) DiscoveryStatus() DiscoveryStatus {
	d := n.found
	s := DiscoveryStatus{DHT: d.dht.status(n.config.DHT), MDNS: d.mdns.status(n.config.MDNS), Advertised: d.advertisedNames()}
	d.count(func() { s.Searches, s.Running, s.Found = d.searches.total, d.searches.running, d.searches.found })
	return s
}
