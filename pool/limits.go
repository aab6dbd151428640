package pool

import "time"

// Limits. What a peer can make grow is bounded here or by the connections of its network.
const (
	// DefaultConnectionLimit is the hard limit of a network that states none (GEN-07); it bounds unlimited pools.
	DefaultConnectionLimit = 1000
	// MaxBudget bounds max_connections and slots, so that capacities stay small integers.
	MaxBudget = 1 << 24
	// MaxTokenBytes bounds a token, before anything of it is decoded.
	MaxTokenBytes = 16 << 10
	// maxTokenPeers bounds the peer ids of one token.
	maxTokenPeers = 256
	// maxCachedTokenBytes bounds the raw tokens of the verification cache; the least recently used go first.
	maxCachedTokenBytes = 32 << 20
	// maxCachedPerPeer is how many tokens of one peer are cached: the present one and the one it renews.
	maxCachedPerPeer = 2
	// failureBurst and failuresPerSecond limit the failed verifications that one peer can cause.
	failureBurst      = 20
	failuresPerSecond = 10
	// maxFailingPeers bounds the peers whose failures are remembered.
	maxFailingPeers = 4096
	// badTokenMemory is how long a refused token is refused without looking at it again.
	badTokenMemory = time.Minute
	// maxPeerIDBytes bounds what the host may use as a peer id.
	maxPeerIDBytes = 128
	// maxRefusals bounds the peers of one GetRefused; counters stay exact.
	maxRefusals = 4096
	// addressLifetime is how long addresses of an unconnected peer stay known: as long as the tokens of the network live.
	addressLifetime = 24 * time.Hour
	// addressSweep is how many new address entries pass before expired ones are swept out.
	addressSweep = 1024
	// disconnectTimeout bounds one disconnection of a refused peer, disconnectWorkers how many run side by side.
	disconnectTimeout = 10 * time.Second
	disconnectWorkers = 8
)

// Timers of a node in a world (POOL-57). The host runs them; they are named here so that every binding uses the same.
const (
	RendezvousInterval     = 10 * time.Second              // and at once on join, leave, role or address change
	InterviewTimeout       = 45 * time.Second              // of a new public peer
	AcknowledgementTimeout = 45 * time.Second              // connected without acknowledgement
	ProfileInterval        = 10 * time.Second              // of the dynamic profile
	TokenRenewalInterval   = 23*time.Hour + 30*time.Minute // tokens live 24 h
	AddressCheckInterval   = 5 * time.Minute               // besides events
	AliveInterval          = 150 * time.Second             // of the report to the root
	RelayRenewalMargin     = 15 * time.Minute              // left on a reservation when it is renewed, with backoff
)
