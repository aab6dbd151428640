package node

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"peerbus/node/session"
)

const (
	somePeer    = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"
	anotherPeer = "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X"
)

// withIdentity completes the members of an object to a configuration.
func withIdentity(members string) string {
	if members != "" {
		members = ", " + members
	}
	return `{"identity_dir": "id"` + members + `}`
}

// configOf parses what must be right.
func configOf(t *testing.T, members string) Config {
	t.Helper()
	config, err := ParseConfig([]byte(withIdentity(members)), nil, DefaultLimits())
	if err != nil {
		t.Fatalf("ParseConfig(%s): %v", members, err)
	}
	return config
}

// mistakeOf parses what must be wrong.
func mistakeOf(t *testing.T, text string) string {
	t.Helper()
	config, err := ParseConfig([]byte(text), nil, DefaultLimits())
	if err == nil {
		t.Fatalf("ParseConfig(%s) accepted %+v", text, config)
	}
	if !errors.Is(err, ErrConfig) {
		t.Fatalf("ParseConfig(%s): %v does not wrap ErrConfig", text, err)
	}
	return err.Error()
}

func expectWords(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("%q does not name %q", text, word)
		}
	}
}

func TestOnlyTheIdentityDirectoryIsRequired(t *testing.T) {
	want := defaultConfig()
	want.IdentityDir = "id"
	if got := configOf(t, ""); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want the defaults %+v", got, want)
	}
	for _, text := range []string{`{}`, `{"identity_dir": null}`, `{"identity_dir": ""}`} {
		expectWords(t, mistakeOf(t, text), "identity_dir", "required")
	}
}

func TestNullMeansTheDefaultForEveryKeyAndGroup(t *testing.T) {
	want := configOf(t, "")
	for path := range keyGroups {
		if strings.Contains(path, ".") {
			continue
		}
		if got := configOf(t, fmt.Sprintf("%q: null", path)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s null: got %+v", path, got)
		}
	}
	for _, key := range ConfigKeys() {
		if key.Path == "identity_dir" {
			continue
		}
		if got := configOf(t, membersOf(key.Path, "null")); !reflect.DeepEqual(got, want) {
			t.Errorf("%s null: got %+v", key.Path, got)
		}
	}
}

// membersOf writes a dotted path and its value as members of the root object.
func membersOf(path, value string) string {
	nested := strings.Replace(nestedForm(path), "...", value, 1)
	return strings.TrimSuffix(strings.TrimPrefix(nested, "{"), "}")
}

func TestWholeConfigurationIsRead(t *testing.T) {
	config := configOf(t, `
		"predefined_port": 4000, "listen_ips": ["127.0.0.1", "::1"], "listen_ports": [5000, 5001],
		"announce_addrs": ["/ip4/203.0.113.7/tcp/4001"],
		"relay": {"enable_service": true, "with_broad_limits": true,
			"static_relays": ["/ip4/192.0.2.1/tcp/443/ws/p2p/`+somePeer+`"],
			"allow": ["`+anotherPeer+`"], "token": "secret", "reservation_ms": 5000},
		"tls": {"domain": "node.example.org", "cert_path": "cert.pem", "key_path": "key.pem"},
		"network": {"isolated": true, "force_public": true, "flood_sub": true, "peer_exchange": true, "reachability_timeout_ms": 1500,
			"dial_first": "tcp", "bulk_tcp": false},
		"dht": {"keep": true, "server": true, "topics": true, "prefix": "/my-network", "bootstrap_peers": [{"ID": "`+anotherPeer+`", "Addrs": ["/dns4/example.org/tcp/4001"]}]},
		"mdns": {"enabled": true, "service": "_my-network._udp"},
		"webrtc": {"enabled": true, "ice_config": {"stun_servers": ["stun:192.0.2.3:3478"], "turn_servers": [
			{"urls": "turn:turn.example.org:3478?transport=udp", "username": "u", "credential": "c"}]}},
		"topics": {"peer_scoring": false, "stall_ms": 2500},
		"nat": {"port_mapping": false, "hole_punching": false, "autonat": false},
		"channel": {"acknowledged": false, "resume_ms": 1500, "compression": ["lz4", "gzip"], "compress_above": 0, "accept_compressed": false},
		"limits": {"channels": 7}, "log": {"name": "world"}, "pop_messages": "binary"`)
	limits := DefaultLimits()
	limits.Channels, limits.PeerChannels = 7, 3
	want := Config{
		IdentityDir: "id", PredefinedPort: 4000,
		ListenIPs: []string{"127.0.0.1", "::1"}, ListenPorts: []int{5000, 5001},
		AnnounceAddrs: addrsOf(t, "/ip4/203.0.113.7/tcp/4001"),
		Relay: RelayConfig{EnableClient: true, EnableService: true, WithBroadLimits: true,
			StaticRelays: []peer.AddrInfo{addrInfo(t, somePeer, "/ip4/192.0.2.1/tcp/443/ws")},
			Allow:        []peer.ID{addrInfo(t, anotherPeer).ID}, Token: "secret", Reservation: 5 * time.Second},
		TLS: TLSConfig{ForgeDomain: defaultForgeDomain, Domain: "node.example.org", CertPath: "cert.pem", KeyPath: "key.pem"},
		Network: NetworkConfig{Isolated: true, ForcePublic: true, FloodSub: true, PeerExchange: true, ReachabilityTimeout: 1500 * time.Millisecond,
			DialFirst: dialFirstTCP},
		MDNS: MDNSConfig{Enabled: true, Service: "_my-network._udp"},
		DHT: DHTConfig{Enabled: true, Keep: true, Server: true, Topics: true, Prefix: "/my-network",
			BootstrapPeers: []peer.AddrInfo{addrInfo(t, anotherPeer, "/dns4/example.org/tcp/4001")}},
		WebRTC: WebRTCConfig{Enabled: true, STUNServers: []string{"stun:192.0.2.3:3478"}, TURNServers: []TURNServer{
			{URLs: []string{"turn:turn.example.org:3478?transport=udp"}, Username: "u", Credential: "c"}}},
		Topics: TopicsConfig{Stall: 2500 * time.Millisecond},
		Channel: ChannelConfig{ResumeWindow: 1500 * time.Millisecond,
			Compression: Compression{Codecs: []session.Codec{session.CodecLZ4, session.CodecGzip}}},
		Limits: limits, LogName: "world", PopMessages: PopBinary,
	}
	if !reflect.DeepEqual(config, want) {
		t.Errorf("got  %+v\nwant %+v", config, want)
	}
}

func addrInfo(t *testing.T, id string, addrs ...string) peer.AddrInfo {
	t.Helper()
	decoded, err := peer.Decode(id)
	if err != nil {
		t.Fatal(err)
	}
	info := peer.AddrInfo{ID: decoded}
	for _, addr := range addrs {
		info.Addrs = append(info.Addrs, ma.StringCast(addr))
	}
	return info
}

func TestMistakesNameTheKeyAndWhatToDo(t *testing.T) {
	for _, c := range []struct {
		name, members string
		words         []string
	}{
		{"a slip in a top-level key", `"identity_dri": "x"`, []string{"identity_dri", `"identity_dir"`}},
		{"a slip in a nested key", `"relay": {"enable_clinet": true}`, []string{"relay.enable_clinet", `"relay.enable_client"`}},
		{"a slip in a group", `"realy": {"enable_client": true}`, []string{"realy", `"relay"`}},
		{"a key at the wrong level", `"enable_client": true`, []string{`"relay.enable_client"`}},
		{"a group at the wrong level", `"ice_config": {}`, []string{`"webrtc.ice_config"`}},
		{"a nested key too deep", `"webrtc": {"stun_servers": []}`, []string{"webrtc.stun_servers", `"webrtc.ice_config.stun_servers"`}},
		{"the name of a Python argument", `"is_isolated": true`, []string{`"network.isolated"`}},
		{"a short Python argument", `"ips": []`, []string{`"listen_ips"`}},
		{"an unknown limit", `"limits": {"chanels": 3}`, []string{"limits.chanels", `"limits.channels"`}},
		{"other case", `"Identity_Dir": "x"`, []string{`"identity_dir"`}},
		{"a dotted key", `"relay.enable_client": true`, []string{`{"relay": {"enable_client": ...}}`}},
		{"nothing similar in the group", `"limits": {"x": 1}`, []string{"limits.x", `nearest known one is "limits.`}},
		{"an unknown key with null", `"nonsense": null`, []string{"nonsense", "unknown key"}},
		{"a repeated key", `"identity_dir": "y"`, []string{"identity_dir", "twice"}},
		{"a repeated nested key", `"nat": {"autonat": true, "autonat": false}`, []string{"nat.autonat", "twice"}},
		{"a repeated group", `"nat": {}, "nat": {}`, []string{"nat", "twice"}},
		{"a text for a number", `"predefined_port": "4001"`, []string{"predefined_port", "whole number", `the text "4001"`}},
		{"a fraction", `"predefined_port": 4001.5`, []string{"predefined_port", "whole number", "4001.5"}},
		{"a number beyond 64 bits", `"predefined_port": 99999999999999999999`, []string{"predefined_port", "0 to 65535"}},
		{"a number for a switch", `"nat": {"autonat": 1}`, []string{"nat.autonat", "true or false", "the number 1"}},
		{"a list for a text", `"log": {"name": ["pub"]}`, []string{"log.name", "a text", "a list"}},
		{"a text for a list", `"listen_ips": "127.0.0.1"`, []string{"listen_ips", "list of texts", "127.0.0.1"}},
		{"a switch for a group", `"relay": true`, []string{"relay", "an object", "true"}},
		{"a negative port", `"predefined_port": -1`, []string{"predefined_port", "0 to 65535", "-1"}},
		{"too high a port", `"listen_ports": [0, 65536]`, []string{"listen_ports", "entry 1", "65535"}},
		{"five ports", `"listen_ports": [1, 2, 3, 4, 5]`, []string{"listen_ports", "four"}},
		{"a name for an address", `"listen_ips": ["::1", "localhost"]`, []string{"listen_ips", "entry 1", "localhost", "not a name"}},
		{"an address with a zone", `"listen_ips": ["fe80::1%eth0"]`, []string{"listen_ips", "/ip6zone/eth0/ip6/fe80::1"}},
		{"a multicast address", `"listen_ips": ["224.0.0.1"]`, []string{"listen_ips", "multicast"}},
		{"a number for an address", `"listen_ips": [null]`, []string{"listen_ips", "entry 0", "null"}},
		{"too long a wait", `"network": {"reachability_timeout_ms": 600001}`, []string{"network.reachability_timeout_ms", "600000"}},
		{"an unknown layout", `"pop_messages": "xml"`, []string{"pop_messages", `"json"`, `"binary"`, `"xml"`}},
		{"an unknown transport", `"network": {"dial_first": "udp"}`, []string{"network.dial_first", `"quic"`, `"tcp"`, `"udp"`}},
		{"a wildcard domain", `"tls": {"domain": "*.example.org"}`, []string{"tls.domain", "DNS name"}},
		{"an IP address as domain", `"tls": {"domain": "192.0.2.1"}`, []string{"tls.domain", "DNS name"}},
		{"a network without slash", `"dht": {"prefix": "net"}`, []string{"dht.prefix", `"/my-network"`, `"net"`}},
		{"a network with blanks", `"dht": {"prefix": "/my net"}`, []string{"dht.prefix", "ASCII"}},
		{"no service type", `"mdns": {"service": "net"}`, []string{"mdns.service", "_my-network._udp"}},
		{"a plain URL", `"tls": {"acme_url": "http://a.org/dir"}`, []string{"tls.acme_url", "https://"}},
		{"a DNS server without port", `"tls": {"dns_server": "192.0.2.1"}`, []string{"tls.dns_server", "host:port"}},
		{"a line break in a token", `"tls": {"forge_token": "a\nb"}`, []string{"tls.forge_token", "printable"}},
		{"a path with NUL", `"tls": {"cert_path": "a\u0000b"}`, []string{"tls.cert_path", "NUL"}},
		{"a line break in the label", `"log": {"name": "a\nb"}`, []string{"log.name", "control characters"}},
		{"a lone surrogate", `"log": {"name": "\udc80"}`, []string{"not Unicode"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			expectWords(t, mistakeOf(t, withIdentity(c.members)), c.words...)
		})
	}
}

func TestOnlyOneJSONObjectIsRead(t *testing.T) {
	deep := strings.Repeat("[", 5000) + strings.Repeat("]", 5000)
	for name, c := range map[string]struct{ text, word string }{
		"nothing":          {"", "empty"},
		"blanks":           {" \n", "empty"},
		"not an object":    {`["identity_dir"]`, "a list"},
		"null":             {`null`, "null"},
		"cut short":        {`{"identity_dir": "x"`, "line 1, column"},
		"a slip":           {"{\"identity_dir\": \"x\",\n \"nat\" {}}", "line 2, column 8"},
		"trailing comma":   {`{"listen_ports": [1,]}`, "not JSON"},
		"trailing garbage": {withIdentity("") + "x", "not JSON"},
		"two objects":      {withIdentity("") + withIdentity(""), "not JSON"},
		"not UTF-8":        {"{\"identity_dir\": \"\xff\"}", "UTF-8"},
		"nested deeply":    {withIdentity(`"nat": ` + deep), "deeper"},
		"too deep to scan": {strings.Repeat(`{"a":`, 20000), "not JSON"},
		"too long":         {withIdentity(`"log": {"name": "` + strings.Repeat("x", maxConfigBytes) + `"}`), "at most"},
	} {
		t.Run(name, func(t *testing.T) { expectWords(t, mistakeOf(t, c.text), c.word) })
	}
}

func TestSeveralMistakesAreReportedTogetherAndBounded(t *testing.T) {
	message := mistakeOf(t, withIdentity(`"predefined_port": -1, "nat": {"autonat": 0}, "relay": []`))
	expectWords(t, message, "predefined_port", "nat.autonat", "relay: ")

	var members []string
	for i := range 1000 {
		members = append(members, fmt.Sprintf(`"%s%d": 1`, strings.Repeat("k", 500), i))
	}
	message = mistakeOf(t, withIdentity(strings.Join(members, ",")))
	expectWords(t, message, "and 995 more")
	if len(message) > maxShownProblems*(maxProblemBytes+2)+100 {
		t.Errorf("the message has %d bytes", len(message))
	}
}

func TestContradictionsAreRefusedWithAdvice(t *testing.T) {
	for _, c := range []struct {
		members string
		words   []string
	}{
		{`"tls": {"domain": "a.org"}`, []string{"tls.domain", "tls.cert_path", "tls.key_path"}},
		{`"tls": {"cert_path": "c", "key_path": "k"}`, []string{"tls.domain", "all three or none"}},
		{`"tls": {"auto_tls": true, "domain": "a.org", "cert_path": "c", "key_path": "k"}`, []string{"tls.auto_tls", "tls.domain"}},
		{`"tls": {"auto_tls": true}, "dht": {"enabled": false}`, []string{"tls.auto_tls", "dht.enabled"}},
		{`"tls": {"auto_tls": true, "forge_domain": "a.org"}`, []string{"tls.forge_url", "endpoint"}},
		{`"tls": {"domain": "a.org", "cert_path": "c", "key_path": "k"}, "listen_addrs": ["/ip4/127.0.0.1/tcp/0"]`, []string{"listen_addrs", "/tls/ws"}},
		{`"relay": {"enable_client": false, "enable_service": true}`, []string{"relay.enable_service", "relay.enable_client"}},
		{`"relay": {"enable_service": true}, "dht": {"enabled": false}`, []string{"relay.enable_service", "dht.enabled", "network.force_public"}},
		{`"dht": {"enabled": false, "keep": true}`, []string{"dht.keep", "dht.enabled"}},
		{`"dht": {"enabled": false, "server": true}`, []string{"dht.server", "dht.enabled"}},
		{`"dht": {"enabled": false, "topics": true}`, []string{"dht.topics", "dht.enabled"}},
		{`"dht": {"prefix": "/ipfs"}, "network": {"isolated": true}`, []string{"dht.prefix", "isolated"}},
		{`"webrtc": {"enabled": false}, "listen_addrs": ["/ip4/127.0.0.1/udp/0/webrtc-direct"]`, []string{"listen_addrs", "webrtc.enabled"}},
		{`"listen_addrs": ["/ip4/127.0.0.1/tcp/0/tls/ws"]`, []string{"listen_addrs", "tls.cert_path"}},
		{`"listen_addrs": ["/ip4/127.0.0.1/tcp/0"], "listen_ports": [1]`, []string{"listen_ports", "listen_addrs"}},
		{`"relay": {"enable_client": false, "static_relays": ["/ip4/192.0.2.1/tcp/1/p2p/` + somePeer + `"]}`, []string{"relay.static_relays", "relay.enable_client"}},
		{`"dht": {"enabled": false, "bootstrap_peers": ["/ip4/192.0.2.1/tcp/1/p2p/` + somePeer + `"]}`, []string{"dht.bootstrap_peers", "dht.enabled"}},
	} {
		t.Run(c.members, func(t *testing.T) {
			expectWords(t, mistakeOf(t, withIdentity(c.members)), c.words...)
		})
	}
}

func TestSettingsThatGoTogetherAreAccepted(t *testing.T) {
	for _, members := range []string{
		`"relay": {"enable_service": true}`,
		`"relay": {"enable_service": true}, "dht": {"enabled": false}, "network": {"force_public": true, "isolated": true}`,
		`"relay": {"enable_client": false, "static_relays": []}, "dht": {"enabled": false, "bootstrap_peers": []}`,
		`"tls": {"auto_tls": true, "domain": "", "cert_path": "", "key_path": ""}`,
		`"listen_addrs": ["/ip4/127.0.0.1/tcp/0"], "listen_ips": ["127.0.0.1"], "predefined_port": 4001, "listen_ports": []`,
		`"listen_addrs": ["/ip4/127.0.0.1/tcp/0/tls/ws"], "tls": {"domain": "a.org", "cert_path": "c", "key_path": "k"}`,
		`"log": {"name": ""}, "pop_messages": ""`,
	} {
		configOf(t, members)
	}
}

func TestNodeDefaultsStandInForAbsentAndNullKeys(t *testing.T) {
	defaults := []byte(`{"identity_dir": "file", "predefined_port": 7000, "nat": {"autonat": false, "port_mapping": false},
		"listen_ips": ["127.0.0.1"], "limits": {"channels": 10, "events": 20}}`)
	base := DefaultLimits()
	base.Channels, base.ChannelMessages = 500, 600
	config, err := ParseConfig([]byte(`{"predefined_port": null, "nat": {"autonat": true}, "limits": {"events": 30},
		"listen_ips": null, "network": null}`), defaults, base)
	if err != nil {
		t.Fatal(err)
	}
	want := defaultConfig()
	want.IdentityDir, want.PredefinedPort, want.ListenIPs = "file", 7000, []string{"127.0.0.1"}
	want.NAT.PortMapping = false
	want.Limits.Channels, want.Limits.PeerChannels, want.Limits.Events, want.Limits.ChannelMessages = 10, 5, 30, 600
	if !reflect.DeepEqual(config, want) {
		t.Errorf("got  %+v\nwant %+v", config, want)
	}
}

func TestMistakesInTheNodeDefaultsSayWhereTheyAre(t *testing.T) {
	for _, defaults := range []string{``, `[]`, `{"nat": {"autonat": 1}}`, `{"autonta": true}`} {
		_, err := ParseConfig([]byte(withIdentity("")), []byte(defaults), DefaultLimits())
		if !errors.Is(err, ErrConfig) {
			t.Fatalf("defaults %q: %v", defaults, err)
		}
		expectWords(t, err.Error(), "PEERBUS_NODE_DEFAULTS")
	}
}

func TestNodeDefaultsMayNameRelaysForNodesThatUseNone(t *testing.T) {
	defaults := []byte(`{"relay": {"static_relays": ["/ip4/192.0.2.1/tcp/1/p2p/` + somePeer + `"]}}`)
	text := []byte(withIdentity(`"relay": {"enable_client": false}`))
	if _, err := ParseConfig(text, defaults, DefaultLimits()); err != nil {
		t.Error(err)
	}
}

// TestEveryFieldHasExactlyOneKey changes one key at a time and looks which fields follow.
func TestEveryFieldHasExactlyOneKey(t *testing.T) {
	samples := map[string]string{
		"predefined_port": "4001", "listen_ips": `["127.0.0.1"]`, "listen_addrs": `["/ip4/127.0.0.1/tcp/0"]`,
		"listen_ports": "[1]", "network.reachability_timeout_ms": "1", "announce_addrs": `["/ip4/192.0.2.1/tcp/1"]`,
		"relay.reservation_ms": "5000", "relay.allow": `["` + somePeer + `"]`, "tls.domain": `"a.org"`, "tls.forge_domain": `"a.org"`,
		"tls.forge_url": `"https://a.org"`, "tls.acme_url": `"https://a.org/dir"`, "tls.dns_server": `"192.0.2.1:53"`, "pop_messages": `"binary"`,
		"network.dial_first":             `"tcp"`,
		"channel.compression":            `["zstd"]`,
		"dht.prefix":                     `"/sample"`,
		"mdns.service":                   `"_sample._udp"`,
		"relay.static_relays":            `["/ip4/192.0.2.1/tcp/1/p2p/` + somePeer + `"]`,
		"dht.bootstrap_peers":            `["/ip4/192.0.2.1/tcp/1/p2p/` + somePeer + `"]`,
		"webrtc.ice_config.stun_servers": `["stun:192.0.2.1"]`,
		"webrtc.ice_config.turn_servers": `[{"urls": ["turn:192.0.2.1"], "username": "u", "credential": "c"}]`,
		typeBoolean + "true":             "false",
		typeBoolean + "false":            "true",
		typeInteger:                      "77",
		typeText:                         `"sample"`,
	}
	before := leavesOf(reflect.ValueOf(defaultConfig()), "")
	keyOf := map[string]string{}
	for _, key := range configKeys {
		sample := firstOf(samples, key.Path, key.Type+key.Default, key.Type)
		value, err := decodeJSONObject([]byte(`{"v": ` + sample + `}`))
		if err != nil {
			t.Fatalf("%s: sample %q: %v", key.Path, sample, err)
		}
		config := defaultConfig()
		if err := key.set(&config, value[0].value); err != nil {
			t.Errorf("%s: %v", key.Path, err)
		}
		changed := 0
		for field, leaf := range leavesOf(reflect.ValueOf(config), "") {
			if !reflect.DeepEqual(leaf, before[field]) {
				changed++
				keyOf[field] += key.Path
			}
		}
		if changed != 1 {
			t.Errorf("%s changes %d fields", key.Path, changed)
		}
	}
	for field := range before {
		if path := keyOf[field]; path == "" || keyByPath[path].Path != path {
			t.Errorf("field %s has the keys %q", field, path)
		}
	}
}

func firstOf(samples map[string]string, names ...string) string {
	for _, name := range names {
		if sample, ok := samples[name]; ok {
			return sample
		}
	}
	return ""
}

// leavesOf flattens a struct into its fields that are no structs.
func leavesOf(value reflect.Value, name string) map[string]any {
	if value.Kind() != reflect.Struct {
		return map[string]any{name: value.Interface()}
	}
	leaves := map[string]any{}
	for i := range value.NumField() {
		for field, leaf := range leavesOf(value.Field(i), name+"."+value.Type().Field(i).Name) {
			leaves[field] = leaf
		}
	}
	return leaves
}

func TestEveryKeyIsDocumentedAndItsDefaultIsTheDefault(t *testing.T) {
	paths := map[string]bool{}
	for _, key := range configKeys {
		if key.Doc == "" || key.Type == "" || key.Default == "" || paths[key.Path] {
			t.Errorf("%+v is incomplete or repeated", key.ConfigKey)
		}
		paths[key.Path] = true
		value, err := decodeJSONObject([]byte(`{"v": ` + key.Default + `}`))
		if err != nil {
			t.Fatalf("%s: the default %q: %v", key.Path, key.Default, err)
		}
		config := defaultConfig()
		if err := key.set(&config, value[0].value); err != nil {
			t.Errorf("%s refuses its own default: %v", key.Path, err)
		}
		if want := defaultConfig(); !reflect.DeepEqual(config, want) {
			t.Errorf("%s: its stated default makes %+v", key.Path, config)
		}
	}
	if len(ConfigKeys()) != len(configKeys) {
		t.Errorf("ConfigKeys lists %d of %d keys", len(ConfigKeys()), len(configKeys))
	}
}

func TestDefaultsAreNotSharedBetweenNodes(t *testing.T) {
	configOf(t, "").ListenIPs[0] = "changed"
	if got := configOf(t, "").ListenIPs[0]; got != defaultListenIP {
		t.Errorf("the next node listens on %s", got)
	}
	configOf(t, `"listen_ips": []`).ListenIPs[0] = "changed"
	if got := configOf(t, `"listen_ips": []`).ListenIPs[0]; got != defaultListenIP {
		t.Errorf("the next node with an empty list listens on %s", got)
	}
}
