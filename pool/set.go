package pool

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Options describe a set of pools.
type Options struct {
	// MaxConnections is the budget that the pools divide.
	MaxConnections int
	Networks       []NetworkOptions
	Pools          []PoolOptions // in declared order
	// Rules route a new peer to the pool of the first rule that fits. With CustomRouting the host routes instead: it takes
	// Unrouted and answers with Route.
	Rules         []Rule
	CustomRouting bool

	// PublicKey (PEM or JWK) verifies tokens. Policy "" is PolicyToken with a key and no policy without one.
	PublicKey string
	Policy    Policy
	// Token is the own token, "" for none.
	Token string
	// InspectorNodeID is the node id whose inspector bit counts; "" for nobody's.
	InspectorNodeID string
	// KeepRefused leaves refused peers connected, strangers excepted.
	KeepRefused bool

	// Emit takes each event, in order. It is called with the set's lock held: it must not block nor call the set. nil: nobody.
	Emit func(Event)
	// Panicked is told of a recovered panic of a worker. nil: nobody.
	Panicked func(where string, value any, stack []byte)
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// NetworkOptions put one network under the set.
type NetworkOptions struct {
	Name    string
	Network Network
	// Limit is the network's own hard limit of connections; 0: DefaultConnectionLimit.
	Limit int
	// MembersOnly: peers in none of the allow sets that the network's rules name are strangers.
	MembersOnly bool
	// RefuseRelayed refuses connections through a relay.
	RefuseRelayed bool
}

// PoolOptions declare one pool.
type PoolOptions struct {
	Name     string
	Network  string
	Capacity Capacity
}

// Policy says how received messages are judged (POOL-06).
type Policy string

const (
	// PolicyToken asks for a valid token in every message.
	PolicyToken Policy = "token"
	// PolicyNone judges by sender and membership only.
	PolicyNone Policy = "none"
)

// Set is one budget of connections divided into pools over one or more networks.
type Set struct {
	budget   int
	networks []*networkState
	pools    []*poolState
	byName   struct {
		networks map[string]*networkState
		pools    map[string]*poolState
	}
	custom    bool
	policy    Policy
	verifier  *Verifier // nil without a key
	emit      func(Event)
	now       func() time.Time
	token     atomic.Pointer[string]
	inspector atomic.Pointer[string]
	keep      atomic.Bool
	activity  activity
	counts    counters
	work      *disconnector

	state struct {
		sync.RWMutex
		closed    bool
		members   map[string]*member
		roles     roleTable
		addresses addressBook
		allow     map[string]map[string]struct{}                      // allow sets by name
		guests    map[string]map[string]struct{}                      // by network: senders heard without a place
		guestSets []string                                            // allow sets whose peers are heard on every network
		refused   map[refusalKey]Refusal                              // since the last update
		last      Changes                                             // of the last update
		lost      func(*member)                                       // hears of pooled peers that were lost, with the lock held; nil: nobody
		masters   func(author string, newest int64, listed bool) bool // see publishes, with the lock held; nil: no lists of masters
	}
}

type poolState struct {
	name     string
	capacity int
	network  *networkState

	// Guarded by the lock of the set.
	members map[string]*member
	flagged map[string]*member  // lost or misplaced
	added   map[string]struct{} // since the last update
	left    []string            // who lost its place with the world since the last update
}

type networkState struct {
	name          string
	network       Network
	limit         int
	membersOnly   bool
	refuseRelayed bool
	rules         []*rule

	// Guarded by the lock of the set.
	live     map[string]*connection
	unplaced map[string]*connection // those of live that no pool holds
	touched  map[string]struct{}    // peers with an event while a query runs; nil when none does
	unsynced bool                   // the last query failed
}

// member is a peer in a pool.
type member struct {
	pool      *poolState
	info      PeerInfo
	live      bool
	misplaced string // why a live peer does not belong here any more
	removing  bool   // Remove disconnects it
	verified  atomic.Pointer[verifiedToken]
}

// New makes a set. It takes the connections that the networks have already; a network that cannot be asked is tried again by
// Update, which reports the failure.
func New(o Options) (*Set, error) {
	s := &Set{budget: o.MaxConnections, custom: o.CustomRouting, emit: o.Emit, now: o.Now}
	if s.now == nil {
		s.now = time.Now
	}
	s.activity.start = time.Now()
	s.keep.Store(o.KeepRefused)
	s.inspector.Store(&o.InspectorNodeID)
	s.state.members = map[string]*member{}
	s.state.roles = newRoleTable()
	s.state.addresses = newAddressBook()
	s.state.allow = map[string]map[string]struct{}{}
	s.state.guests = map[string]map[string]struct{}{}
	s.state.refused = map[refusalKey]Refusal{}
	if err := errors.Join(s.SetToken(o.Token), s.setPolicy(o), s.addNetworks(o.Networks)); err != nil {
		return nil, err
	}
	if err := s.addPools(o); err != nil {
		return nil, err
	}
	if err := s.addRules(o.Rules); err != nil {
		return nil, err
	}
	s.work = newDisconnector(s, o.Panicked)
	for _, n := range s.networks {
		n.unsynced = s.sync(n) != nil
	}
	return s, nil
}

func (s *Set) setPolicy(o Options) error {
	s.policy = o.Policy
	if o.PublicKey != "" {
		verifier, err := NewVerifier(o.PublicKey)
		if err != nil {
			return err
		}
		verifier.now = s.now
		s.verifier = verifier
	}
	switch {
	case o.Policy == "" && s.verifier != nil:
		s.policy = PolicyToken
	case o.Policy == PolicyToken && s.verifier == nil:
		return fmt.Errorf("%w: the policy \"token\" needs a public key", ErrArgument)
	case o.Policy != "" && o.Policy != PolicyToken && o.Policy != PolicyNone:
		return fmt.Errorf("%w: policy %.64q; there are \"token\" and \"none\"", ErrArgument, o.Policy)
	}
	return nil
}

func (s *Set) addNetworks(networks []NetworkOptions) error {
	s.byName.networks = map[string]*networkState{}
	for _, o := range networks {
		switch {
		case o.Name == "" || o.Network == nil:
			return fmt.Errorf("%w: a network needs a name and a node", ErrArgument)
		case s.byName.networks[o.Name] != nil:
			return fmt.Errorf("%w: two networks are named %q", ErrArgument, o.Name)
		case o.Limit < 0:
			return fmt.Errorf("%w: network %q has the connection limit %d", ErrArgument, o.Name, o.Limit)
		}
		n := &networkState{
			name: o.Name, network: o.Network, limit: o.Limit, membersOnly: o.MembersOnly, refuseRelayed: o.RefuseRelayed,
			live: map[string]*connection{}, unplaced: map[string]*connection{},
		}
		if n.limit == 0 {
			n.limit = DefaultConnectionLimit
		}
		s.networks = append(s.networks, n)
		s.byName.networks[o.Name] = n
	}
	return nil
}

func (s *Set) addPools(o Options) error {
	forms := make([]Capacity, len(o.Pools))
	for i, p := range o.Pools {
		forms[i] = p.Capacity
	}
	capacities, err := Capacities(o.MaxConnections, forms)
	if err != nil {
		return err
	}
	s.byName.pools = map[string]*poolState{}
	for i, p := range o.Pools {
		n := s.byName.networks[p.Network]
		switch {
		case n == nil:
			return fmt.Errorf("%w: pool %q is on network %q, which is not given", ErrArgument, p.Name, p.Network)
		case p.Name == "" || s.byName.pools[p.Name] != nil:
			return fmt.Errorf("%w: the pool name %q is empty or used twice", ErrArgument, p.Name)
		}
		added := &poolState{
			name: p.Name, capacity: capacities[i], network: n,
			members: map[string]*member{}, flagged: map[string]*member{}, added: map[string]struct{}{},
		}
		s.pools = append(s.pools, added)
		s.byName.pools[p.Name] = added
	}
	return nil
}

func (s *Set) pool(name string) (*poolState, error) {
	if p := s.byName.pools[name]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("%w: there is no pool %.64q", ErrNotFound, name)
}

func (s *Set) networkByName(name string) (*networkState, error) {
	if n := s.byName.networks[name]; n != nil {
		return n, nil
	}
	return nil, fmt.Errorf("%w: there is no network %.64q", ErrNotFound, name)
}

// Network is the network of that name.
func (s *Set) Network(name string) (Network, error) {
	n, err := s.networkByName(name)
	if err != nil {
		return nil, err
	}
	return n.network, nil
}

// Policy is how received messages are judged, "" for not at all.
func (s *Set) Policy() Policy { return s.policy }

// SetToken replaces the token of later messages; "" is none. On error the old one stays.
func (s *Set) SetToken(token string) error {
	if err := checkOwnToken(token); err != nil {
		return err
	}
	s.token.Store(&token)
	return nil
}

// SetInspectorNodeID names the node id whose inspector bit counts; "" for nobody's.
func (s *Set) SetInspectorNodeID(id string) { s.inspector.Store(&id) }

// SetKeepRefused says whether refused peers, strangers excepted, stay connected. The next Update tries to place them again.
func (s *Set) SetKeepRefused(keep bool) { s.keep.Store(keep) }

// Close ends the workers and takes no more events. It returns when the disconnections in progress have ended or timed out.
// Idempotent; the networks stay open.
func (s *Set) Close() {
	s.state.Lock()
	s.state.closed = true
	s.state.Unlock()
	s.work.close()
}

// CloseTransports closes the set and every network, the last declared one first.
func (s *Set) CloseTransports() error {
	s.Close()
	var problems []error
	for i := len(s.networks) - 1; i >= 0; i-- {
		if err := s.networks[i].network.Close(); err != nil {
			problems = append(problems, fmt.Errorf("closing network %s: %w", s.networks[i].name, err))
		}
	}
	return errors.Join(problems...)
}

// String lists the pools with their capacity, number of peers and peer ids.
func (s *Set) String() string {
	s.state.RLock()
	defer s.state.RUnlock()
	var text strings.Builder
	fmt.Fprintf(&text, "[ConnectionPools] max_con=%d, pool_count=%d", s.budget, len(s.pools))
	for _, p := range s.pools {
		fmt.Fprintf(&text, "\n\tpool=%s, max_con=%d, current_con=%d, peer_ids=(%s)",
			p.name, p.capacity, len(p.members), strings.Join(sortedKeys(p.members), ", "))
	}
	return text.String()
}
