package node

import (
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"peerbus/node/session"
)

// ErrConfig is wrapped by every error of ParseConfig and ListenMultiaddrs.
var ErrConfig = errors.New("invalid configuration")

const (
	// maxReachabilityTimeout bounds how long CreateNode may wait for a verdict.
	maxReachabilityTimeout = 10 * time.Minute
	// defaultRelayReservation is how long a reservation at this node's relay service lasts (P2P-31).
	defaultRelayReservation = time.Hour
	minRelayReservation     = time.Second
	maxRelayReservation     = 24 * time.Hour
	// maxTokenBytes bounds relay.token.
	maxTokenBytes = 1024
	// maxPort is the highest TCP or UDP port.
	maxPort = 65535
	// maxLogNameBytes bounds the label that every log line of a node carries.
	maxLogNameBytes = 128
	// maxPathBytes is PATH_MAX of Linux.
	maxPathBytes = 4096

	defaultListenIP = "0.0.0.0"
	defaultLogName  = "pub"

	// PopJSON and PopBinary are the values of pop_messages (P2P-17).
	PopJSON   = "json"
	PopBinary = "binary"
)

// Config is a validated node configuration. ConfigKeys lists the JSON key behind each field.
type Config struct {
	IdentityDir    string
	PredefinedPort int
	ListenIPs      []string // canonical, each once
	// ListenAddrs, when not empty, replaces ListenIPs and both kinds of ports.
	ListenAddrs []ma.Multiaddr
	// ListenPorts are the ports of TCP, QUIC, WebTransport and WebRTC-direct; where the list
	// ends, PredefinedPort decides.
	ListenPorts []int
	// AnnounceAddrs are told to others besides what the node listens on.
	AnnounceAddrs []ma.Multiaddr
	Relay         RelayConfig
	TLS           TLSConfig
	Network       NetworkConfig
	DHT           DHTConfig
	MDNS          MDNSConfig
	WebRTC        WebRTCConfig
	Channel       ChannelConfig
	NAT           NATConfig
	Topics        TopicsConfig
	Limits        Limits
	LogName       string
	PopMessages   string
}

// RelayConfig says whether the node uses relays and whether it is one.
type RelayConfig struct {
	EnableClient, EnableService, WithBroadLimits bool
	StaticRelays                                 []peer.AddrInfo

	// Of the service: who may reserve, and for how long. A client shows Token to relays that ask for one.
	Allow       []peer.ID
	Token       string
	Reservation time.Duration
}

// TLSConfig holds the certificate of secure WebSocket: an automatic one, or one from files.
type TLSConfig struct {
	AutoTLS                   bool
	Domain, CertPath, KeyPath string
	CAPath                    string

	// Of automatic certificates.
	ForgeDomain, ForgeURL, ForgeToken string
	ACMEURL, Email, DNSServer         string
	PrivateAddresses                  bool
}

// Enabled tells whether the node serves secure WebSocket.
func (t TLSConfig) Enabled() bool { return t.AutoTLS || t.CertPath != "" }

// NetworkConfig holds what the node believes about the network around it.
type NetworkConfig struct {
	Isolated, ForcePublic, FloodSub bool
	PeerExchange                    bool
	ReachabilityTimeout             time.Duration
	DialFirst                       string // of the transports that a peer offers: dialFirstQUIC or dialFirstTCP
	BulkTCP                         bool   // channels of class bulk move from UDP to TCP
}

// DHTConfig configures the DHT. It runs once there are bootstrap peers or it is a server.
type DHTConfig struct {
	Enabled, Keep  bool
	Server         bool // answer others and keep their records
	Topics         bool // find the subscribers of subscribed topics
	Prefix         string
	BootstrapPeers []peer.AddrInfo
}

// MDNSConfig configures discovery on the local network.
type MDNSConfig struct {
	Enabled bool
	Service string // DNS-SD service type
}

// WebRTCConfig configures webrtc-direct and browser connections.
type WebRTCConfig struct {
	Enabled     bool
	STUNServers []string
	TURNServers []TURNServer
}

// TURNServer is one relay of ICE with its account.
type TURNServer struct {
	URLs                 []string
	Username, Credential string
}

// String leaves the account out, so that a logged configuration does not tell it.
func (s TURNServer) String() string { return fmt.Sprintf("%v (account hidden)", s.URLs) }

// ChannelConfig configures the acknowledged channels.
type ChannelConfig struct {
	Acknowledged bool
	ResumeWindow time.Duration

	Compression      Compression
	AcceptCompressed bool
	Progress         bool // of large messages, as events
	Durable          bool // messages are kept on disk
}

// NATConfig switches the means of NAT traversal.
type NATConfig struct {
	PortMapping, HolePunching, AutoNAT, AutoNATPrivate bool
}

// TopicsConfig configures publish/subscribe.
type TopicsConfig struct {
	PeerScoring bool
	Stall       time.Duration // how long a subscriber by gossip that takes nothing holds publishers back
}

// defaultConfig is the one place of the defaults of P2P-04.
func defaultConfig() Config {
	return Config{
		ListenIPs: []string{defaultListenIP},
		Relay:     RelayConfig{EnableClient: true, Reservation: defaultRelayReservation},
		DHT:       DHTConfig{Enabled: true, Prefix: defaultDHTPrefix},
		MDNS:      MDNSConfig{Service: defaultMDNSService},
		Network:   NetworkConfig{DialFirst: dialFirstQUIC, BulkTCP: true},
		TLS:       TLSConfig{ForgeDomain: defaultForgeDomain},
		WebRTC:    WebRTCConfig{Enabled: true},
		NAT:       NATConfig{PortMapping: true, HolePunching: true, AutoNAT: true},
		Topics:    TopicsConfig{PeerScoring: true, Stall: defaultTopicStall},
		Channel: ChannelConfig{Acknowledged: true, ResumeWindow: session.DefaultResumeWindow,
			Compression: Compression{Above: defaultCompressAbove}, AcceptCompressed: true},
		Limits:      DefaultLimits(),
		LogName:     defaultLogName,
		PopMessages: PopJSON,
	}
}

// ParseConfig reads the JSON text of CreateNode. A key that is absent or null there is taken from
// defaults (the content of the file that PEERBUS_NODE_DEFAULTS names, or nil), then from base for
// the limits, then from the table of ConfigKeys. The error names the first few mistakes, each with
// its full key.
func ParseConfig(text, defaults []byte, base Limits) (Config, error) {
	p := configParser{config: defaultConfig(), given: map[string]configSource{}}
	limits, err := base.complete()
	if err != nil {
		return Config{}, err
	}
	p.config.Limits = limits
	if defaults != nil {
		p.read(fromDefaults, defaults)
	}
	p.read(fromText, text)
	if !p.problems.any() {
		p.finish()
	}
	if p.problems.any() {
		return Config{}, fmt.Errorf("%w: %s", ErrConfig, p.problems.text())
	}
	return p.config, nil
}

// configSource says which document a key was given in.
type configSource int

const (
	notGiven configSource = iota
	fromDefaults
	fromText
)

// mark is put before the mistakes of a document.
func (s configSource) mark() string {
	if s == fromDefaults {
		return "in the PEERBUS_NODE_DEFAULTS file: "
	}
	return ""
}

// configParser applies documents to a Config, one after the other.
type configParser struct {
	config   Config
	given    map[string]configSource
	problems configProblems
	source   configSource
}

func (p *configParser) read(source configSource, text []byte) {
	p.source = source
	root, err := decodeJSONObject(text)
	if err != nil {
		p.problem("", "%v", err)
		return
	}
	p.apply("", root)
}

// apply sets the members of the group at prefix ("" or ending in a dot).
func (p *configParser) apply(prefix string, group jsonObject) {
	seen := make(map[string]bool, len(group))
	for _, m := range group {
		if seen[m.name] {
			p.problem(prefix+m.name, "given twice")
			continue
		}
		seen[m.name] = true
		p.applyMember(prefix, m)
	}
}

func (p *configParser) applyMember(prefix string, m jsonMember) {
	path := prefix + m.name
	key, isKey := keyByPath[path]
	isGroup := keyGroups[path]
	if !(isKey || isGroup) || hasDot(m.name) {
		p.unknown(prefix, m.name)
		return
	}
	if m.value == nil {
		return
	}
	if isGroup {
		if group, ok := m.value.(jsonObject); ok {
			p.apply(path+".", group)
		} else {
			p.problem(path, "expected an object, got %s", describeJSON(m.value))
		}
		return
	}
	if err := key.set(&p.config, m.value); err != nil {
		p.problem(path, "%v", err)
		return
	}
	p.given[path] = p.source
}

// unknown looks for the nearest key only while the answer will be shown: the search is the one
// costly step of reading a configuration.
func (p *configParser) unknown(prefix, name string) {
	if p.problems.full() {
		p.problems.add("")
		return
	}
	path := prefix + name
	if _, dotted := keyByPath[path]; dotted {
		p.problem(path, "keys are nested, write %s", nestedForm(path))
		return
	}
	p.problem(path, "unknown key, the nearest known one is %q", nearestKey(prefix, name))
}

// problem records a mistake; an empty path is about the whole document.
func (p *configParser) problem(path, format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	if path != "" {
		message = clipText(path, maxShownKeyBytes) + ": " + message
	}
	p.problems.add(p.source.mark() + message)
}

// removeRepeated joins the entries of one peer, and keeps one of equal listen addresses: a node
// cannot bind a port twice.
func (c *Config) removeRepeated() {
	c.Relay.StaticRelays = mergePeers(c.Relay.StaticRelays)
	c.DHT.BootstrapPeers = mergePeers(c.DHT.BootstrapPeers)
	c.ListenIPs = withoutRepeated(c.ListenIPs, func(ip string) string { return ip })
	c.ListenAddrs = withoutRepeated(c.ListenAddrs, ma.Multiaddr.String)
}

// finish checks what only the whole configuration shows.
func (p *configParser) finish() {
	p.source = fromText
	p.config.removeRepeated()
	if p.config.IdentityDir == "" {
		p.problem("identity_dir", "required: name the directory that keeps the node's key")
	}
	p.fitLimits()
	p.checkContradictions()
	if p.problems.any() {
		return
	}
	if _, err := p.config.listenMultiaddrs(); err != nil {
		p.problem("", "%v", err)
	}
}
