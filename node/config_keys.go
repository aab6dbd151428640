package node

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"peerbus/node/session"
)

// ConfigKey describes one key of the JSON text of CreateNode.
type ConfigKey struct {
	Path    string // dotted: "relay.enable_client" is {"relay": {"enable_client": ...}}
	Type    string
	Default string // as JSON
	Doc     string
	Python  string // the argument of the Python classes that sets it
}

const (
	typeText       = "text"
	typeInteger    = "integer"
	typeBoolean    = "boolean"
	typeTexts      = "list of texts"
	typeIntegers   = "list of integers"
	typePeers      = "list of peers"
	typeTURNServer = "list of TURN servers"
)

// ConfigKeys lists every key, in the order of the documentation.
func ConfigKeys() []ConfigKey {
	keys := make([]ConfigKey, len(configKeys))
	for i, key := range configKeys {
		keys[i] = key.ConfigKey
	}
	return keys
}

// configKey is a key together with what puts its value, which is never nil, into a Config.
type configKey struct {
	ConfigKey
	set func(*Config, any) error
}

var configKeys = slices.Concat([]configKey{
	textKey("identity_dir", "identity_dir", "directory of the node's key, created if absent; required",
		checkPath, func(c *Config) *string { return &c.IdentityDir }),
	{ConfigKey{"predefined_port", typeInteger, "0",
		"TCP and WebSocket port; QUIC, WebTransport and WebRTC-direct take the next three; 0: random ports", "port"},
		setPredefinedPort},
	listKey("listen_ips", "ips", typeTexts, `["`+defaultListenIP+`"]`, "IPv4 and IPv6 addresses to listen on; empty: the default",
		listenIPOf, func(c *Config) *[]string { return &c.ListenIPs }),
	listKey("listen_addrs", "listen_addrs", typeTexts, "[]", "multiaddrs to listen on, instead of listen_ips and the ports",
		listenAddrOf, func(c *Config) *[]ma.Multiaddr { return &c.ListenAddrs }),
	listKey("listen_ports", "listen_ports", typeIntegers, "[]",
		"ports of TCP, QUIC, WebTransport and WebRTC-direct, in this order; missing ones follow predefined_port",
		portOf, func(c *Config) *[]int { return &c.ListenPorts }),
	listKey("announce_addrs", "", typeTexts, "[]",
		"multiaddrs told to others besides those of the listeners, e.g. the public address in front of a cloud machine",
		announceAddrOf, func(c *Config) *[]ma.Multiaddr { return &c.AnnounceAddrs }),

	boolKey("relay.enable_client", "enable_relay_client", "use relays to be reached, and reach others through theirs",
		func(c *Config) *bool { return &c.Relay.EnableClient }),
	boolKey("relay.enable_service", "enable_relay_service", "be a relay for others once reachable",
		func(c *Config) *bool { return &c.Relay.EnableService }),
	boolKey("relay.with_broad_limits", "use_broad_limits", "relayed circuits have no limits of data and time",
		func(c *Config) *bool { return &c.Relay.WithBroadLimits }),
	listKey("relay.static_relays", "static_relays", typePeers, "[]",
		`relays used automatically: multiaddrs ending in /p2p/<peer id>, or {"ID": ..., "Addrs": [...]}`,
		relayOf, func(c *Config) *[]peer.AddrInfo { return &c.Relay.StaticRelays }),
	listKey("relay.allow", "", typeTexts, "[]", "peer ids that may reserve at the relay service; with neither this nor relay.token everybody may",
		peerIDOf, func(c *Config) *[]peer.ID { return &c.Relay.Allow }),
	textKey("relay.token", "", "secret that lets its holders reserve at the relay service; as a client, the secret to show to relays",
		checkToken, func(c *Config) *string { return &c.Relay.Token }),
	{ConfigKey{"relay.reservation_ms", typeInteger, fmt.Sprint(defaultRelayReservation.Milliseconds()),
		fmt.Sprintf("how long a reservation at the relay service lasts, %d to %d", minRelayReservation.Milliseconds(),
			maxRelayReservation.Milliseconds()), ""},
		setRelayReservation},

	boolKey("tls.auto_tls", "enable_tls", "obtain a certificate for secure WebSocket automatically",
		func(c *Config) *bool { return &c.TLS.AutoTLS }),
	textKey("tls.domain", "domain_name", "DNS name of the certificate, announced as /dns4/<domain>/...",
		checkDomain, func(c *Config) *string { return &c.TLS.Domain }),
	textKey("tls.cert_path", "tls_cert_path", "PEM file of the certificate chain",
		checkPath, func(c *Config) *string { return &c.TLS.CertPath }),
	textKey("tls.key_path", "tls_key_path", "PEM file of the certificate's private key",
		checkPath, func(c *Config) *string { return &c.TLS.KeyPath }),

	textKey("tls.ca_path", "", "PEM file of authorities to trust besides the system's, for secure WebSocket, tls.acme_url and tls.forge_url",
		checkPath, func(c *Config) *string { return &c.TLS.CAPath }),
	textKey("tls.forge_domain", "", "domain below which automatic certificates are issued; see docs/certificates.md",
		checkDomain, func(c *Config) *string { return &c.TLS.ForgeDomain }),
	textKey("tls.forge_url", "", "registration endpoint of tls.forge_domain, an https URL; required for another domain than the default",
		checkHTTPS, func(c *Config) *string { return &c.TLS.ForgeURL }),
	textKey("tls.forge_token", "", "secret that the registration endpoint asks for, if any",
		checkSecret, func(c *Config) *string { return &c.TLS.ForgeToken }),
	textKey("tls.acme_url", "", "ACME directory that signs automatic certificates, an https URL; empty: Let's Encrypt",
		checkHTTPS, func(c *Config) *string { return &c.TLS.ACMEURL }),
	textKey("tls.email", "", "contact that is given to the ACME server",
		checkSecret, func(c *Config) *string { return &c.TLS.Email }),
	textKey("tls.dns_server", "", "DNS server, host:port, asked for the records of tls.forge_domain; empty: the system's",
		checkHostPort, func(c *Config) *string { return &c.TLS.DNSServer }),
	boolKey("tls.private_addresses", "", "request and announce an automatic certificate for private addresses too; for an own forge",
		func(c *Config) *bool { return &c.TLS.PrivateAddresses }),

	boolKey("network.isolated", "is_isolated", "disconnect peers that do not speak the application's protocols",
		func(c *Config) *bool { return &c.Network.Isolated }),
	boolKey("network.force_public", "knows_is_public", "publicly reachable, without asking others",
		func(c *Config) *bool { return &c.Network.ForcePublic }),
	boolKey("network.flood_sub", "flood_sub", "publish by FloodSub only, not by GossipSub",
		func(c *Config) *bool { return &c.Network.FloodSub }),
	boolKey("network.peer_exchange", "", "take part in GossipSub's peer exchange: name other subscribers to a pruned peer, and connect to those named to us",
		func(c *Config) *bool { return &c.Network.PeerExchange }),
	textKey("network.dial_first", "", `which transport of a peer is dialled first, "quic" or "tcp"; the others follow at short intervals`,
		checkDialFirst, func(c *Config) *string { return &c.Network.DialFirst }),
	boolKey("network.bulk_tcp", "", "channels of class bulk open a connection over TCP beside one over UDP and move to it, when both sides listen on TCP",
		func(c *Config) *bool { return &c.Network.BulkTCP }),
	{ConfigKey{"network.reachability_timeout_ms", typeInteger, "0",
		fmt.Sprintf("how long CreateNode waits for a verdict on reachability, up to %d; 0: not at all",
			maxReachabilityTimeout.Milliseconds()), "reachability_timeout_ms"},
		setReachabilityTimeout},

	boolKey("dht.enabled", "dht_enabled", "run a DHT client once there are bootstrap peers; see docs/discovery.md",
		func(c *Config) *bool { return &c.DHT.Enabled }),
	boolKey("dht.keep", "dht_keep", "keep the DHT client after the verdict on reachability, also while nothing uses it",
		func(c *Config) *bool { return &c.DHT.Keep }),
	boolKey("dht.server", "", "answer the DHT requests of others and keep their records; for nodes that others reach",
		func(c *Config) *bool { return &c.DHT.Server }),
	boolKey("dht.topics", "", "find the subscribers of subscribed topics through the DHT and connect to them",
		func(c *Config) *bool { return &c.DHT.Topics }),
	textKey("dht.prefix", "", "prefix of the DHT's protocol, one per network: nodes with different prefixes do not meet",
		checkDHTPrefix, func(c *Config) *string { return &c.DHT.Prefix }),
	listKey("dht.bootstrap_peers", "dht_bootstrap_peers", typePeers, "[]", "peers of the DHT; written like relay.static_relays",
		peerOf, func(c *Config) *[]peer.AddrInfo { return &c.DHT.BootstrapPeers }),

	boolKey("mdns.enabled", "", "announce this node on the local network and find others there, by multicast DNS",
		func(c *Config) *bool { return &c.MDNS.Enabled }),
	textKey("mdns.service", "", "DNS-SD service type, one per network; the default is that of libp2p",
		checkMDNSService, func(c *Config) *string { return &c.MDNS.Service }),

	boolKey("webrtc.enabled", "webrtc_enabled", "listen on webrtc-direct, open and accept WebRTC connections",
		func(c *Config) *bool { return &c.WebRTC.Enabled }),
	listKey("webrtc.ice_config.stun_servers", "ice_stun_servers", typeTexts, "[]", "URIs stun:host[:port] or stuns:",
		stunURIOf, func(c *Config) *[]string { return &c.WebRTC.STUNServers }),
	listKey("webrtc.ice_config.turn_servers", "ice_turn_servers", typeTURNServer, "[]",
		`objects {"urls": [...], "username": ..., "credential": ...} with URIs turn:host[:port][?transport=udp|tcp] or turns:`,
		turnServerOf, func(c *Config) *[]TURNServer { return &c.WebRTC.TURNServers }),

	boolKey("nat.autonat_private", "", "ask and answer about private addresses, too: for networks without public ones",
		func(c *Config) *bool { return &c.NAT.AutoNATPrivate }),
	boolKey("nat.port_mapping", "port_mapping", "map ports by UPnP and NAT-PMP",
		func(c *Config) *bool { return &c.NAT.PortMapping }),
	boolKey("nat.hole_punching", "hole_punching", "turn relayed connections into direct ones",
		func(c *Config) *bool { return &c.NAT.HolePunching }),
	boolKey("nat.autonat", "autonat", "ask peers whether they reach this node",
		func(c *Config) *bool { return &c.NAT.AutoNAT }),

	boolKey("topics.peer_scoring", "topics_peer_scoring", "score peers by what they do wrong on topics; gossip only",
		func(c *Config) *bool { return &c.Topics.PeerScoring }),
	{ConfigKey{"topics.stall_ms", typeInteger, fmt.Sprint(defaultTopicStall.Milliseconds()),
		fmt.Sprintf("how long a gossip subscriber that takes nothing holds publishers back before it misses messages, 1 to %d",
			maxTopicStall.Milliseconds()), ""},
		setTopicStall},
	boolKey("channel.acknowledged", "acknowledged", "speak /peerbus/channel/1.0.0, which loses nothing, with peers that do; otherwise chat with everyone",
		func(c *Config) *bool { return &c.Channel.Acknowledged }),
	{ConfigKey{"channel.resume_ms", typeInteger, fmt.Sprint(session.DefaultResumeWindow.Milliseconds()),
		fmt.Sprintf("how long unacknowledged messages wait for a lost peer to return before they are lost and reported, 1 to %d",
			session.MaxResumeWindow.Milliseconds()), "resume_ms"},
		setResumeWindow},
	listKey("channel.compression", "", typeTexts, "[]",
		`codecs to compress messages with, "zstd", "lz4" and "gzip", the first that the peer takes; empty: messages travel as they are`,
		codecOf, func(c *Config) *[]session.Codec { return &c.Channel.Compression.Codecs }),
	{ConfigKey{"channel.compress_above", typeInteger, fmt.Sprint(defaultCompressAbove),
		fmt.Sprintf("bytes from which a message is compressed, 0 to %d", maxCompressAbove), ""}, setCompressAbove},
	boolKey("channel.progress", "", "tell by events how much of a large message was sent or received so far",
		func(c *Config) *bool { return &c.Channel.Progress }),
	boolKey("channel.accept_compressed", "", "let peers send compressed messages; they are unpacked up to limits.message_bytes",
		func(c *Config) *bool { return &c.Channel.AcceptCompressed }),
	boolKey("channel.durable", "durable", "keep what is sent on direct channels on disk until the receiving program confirmed it, unless their handles choose otherwise, and confirm what is received: docs/durable-channels.md",
		func(c *Config) *bool { return &c.Channel.Durable }),
}, limitConfigKeys(), []configKey{
	textKey("log.name", "log_sub", "label of the node in log lines and filters; empty: the default",
		checkLogName, func(c *Config) *string { return &c.LogName }),
	textKey("pop_messages", "", `layout that PopMessages answers in, "json" or "binary"`,
		checkPopMessages, func(c *Config) *string { return &c.PopMessages }),
})

// boolKey is a switch.
func boolKey(path, python, doc string, field func(*Config) *bool) configKey {
	defaults := defaultConfig()
	shape := ConfigKey{path, typeBoolean, fmt.Sprint(*field(&defaults)), doc, python}
	return configKey{shape, func(c *Config, value any) error {
		given, err := booleanOf(value)
		if err == nil {
			*field(c) = given
		}
		return err
	}}
}

// textKey is a text that check accepts. An empty one is the default: hosts pass "" for "none".
func textKey(path, python, doc string, check func(string) error, field func(*Config) *string) configKey {
	defaults := defaultConfig()
	shape := ConfigKey{path, typeText, fmt.Sprintf("%q", *field(&defaults)), doc, python}
	return configKey{shape, func(c *Config, value any) error {
		given, ok := value.(string)
		if !ok {
			return fmt.Errorf("expected a text, got %s", describeJSON(value))
		}
		if given == "" {
			*field(c) = *field(&defaults)
			return nil
		}
		*field(c) = given
		return check(given)
	}}
}

// listKey is a list whose entries parse turns into values. An empty list is the default.
func listKey[T any](path, python, kind, asJSON, doc string, parse func(any) (T, error), field func(*Config) *[]T) configKey {
	defaults := defaultConfig()
	shape := ConfigKey{path, kind, asJSON, doc, python}
	return configKey{shape, func(c *Config, value any) error {
		given, ok := value.([]any)
		if !ok {
			return fmt.Errorf("expected a %s, got %s", kind, describeJSON(value))
		}
		if len(given) == 0 {
			*field(c) = *field(&defaults)
			return nil
		}
		parsed, err := entriesOf(given, parse)
		if err == nil {
			*field(c) = parsed
		}
		return err
	}}
}

func setPredefinedPort(c *Config, value any) error {
	port, err := portOf(value)
	c.PredefinedPort = port
	return err
}

func setReachabilityTimeout(c *Config, value any) error {
	milliseconds, err := integerOf(value, 0, maxReachabilityTimeout.Milliseconds())
	c.Network.ReachabilityTimeout = time.Duration(milliseconds) * time.Millisecond
	return err
}

func setRelayReservation(c *Config, value any) error {
	milliseconds, err := integerOf(value, minRelayReservation.Milliseconds(), maxRelayReservation.Milliseconds())
	c.Relay.Reservation = time.Duration(milliseconds) * time.Millisecond
	return err
}

func setResumeWindow(c *Config, value any) error {
	milliseconds, err := integerOf(value, 1, session.MaxResumeWindow.Milliseconds())
	c.Channel.ResumeWindow = time.Duration(milliseconds) * time.Millisecond
	return err
}

func setTopicStall(c *Config, value any) error {
	milliseconds, err := integerOf(value, 1, maxTopicStall.Milliseconds())
	c.Topics.Stall = time.Duration(milliseconds) * time.Millisecond
	return err
}

// integerOf accepts a JSON number without fraction and exponent.
func integerOf(value any, lowest, highest int64) (int64, error) {
	number, ok := value.(json.Number)
	if !ok || strings.ContainsAny(number.String(), ".eE") {
		return 0, fmt.Errorf("expected a whole number, got %s", describeJSON(value))
	}
	given, err := number.Int64()
	if err != nil || given < lowest || given > highest {
		return 0, fmt.Errorf("expected %d to %d, got %s", lowest, highest, clipText(number.String(), maxShownValueBytes))
	}
	return given, nil
}
