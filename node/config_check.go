package node

import (
	"slices"
	"strings"
)

// contradiction is a pair of settings that cannot both be meant.
type contradiction struct {
	path   string
	holds  func(Config) bool
	advice string
}

// contradictions holds those of P2P-09 and the same idea for listen_addrs.
var contradictions = []contradiction{
	{"tls.domain", hasPartOfCertificate,
		"tls.domain, tls.cert_path and tls.key_path belong together, give all three or none"},
	{"tls.auto_tls", func(c Config) bool { return c.TLS.AutoTLS && c.TLS.Domain != "" },
		"an automatic certificate brings its own domain, leave tls.domain out or set tls.auto_tls to false"},
	{"tls.auto_tls", func(c Config) bool { return c.TLS.AutoTLS && !c.DHT.Enabled },
		"an automatic certificate needs a reachable node, which dht.enabled finds out, set it to true"},
	{"tls.forge_url", func(c Config) bool {
		return c.TLS.AutoTLS && c.TLS.ForgeDomain != defaultForgeDomain && c.TLS.ForgeURL == ""
	}, "tls.forge_domain names an own forge, name its registration endpoint too"},
	{"relay.enable_service", func(c Config) bool { return c.Relay.EnableService && !c.Relay.EnableClient },
		"a relay needs relay.enable_client, set it to true"},
	{"relay.enable_service", func(c Config) bool {
		return c.Relay.EnableService && !c.DHT.Enabled && !c.Network.ForcePublic
	}, "a relay must know that it is reachable, set dht.enabled or network.force_public to true"},
	{"dht.keep", func(c Config) bool { return c.DHT.Keep && !c.DHT.Enabled },
		"there is no DHT to keep, set dht.enabled to true or dht.keep to false"},
	{"dht.server", func(c Config) bool { return c.DHT.Server && !c.DHT.Enabled },
		"a DHT server is part of the DHT, set dht.enabled to true or dht.server to false"},
	{"dht.topics", func(c Config) bool { return c.DHT.Topics && !c.DHT.Enabled },
		"topics are looked up in the DHT, set dht.enabled to true or dht.topics to false"},
	{"dht.prefix", func(c Config) bool { return c.Network.Isolated && c.DHT.Prefix == publicDHTPrefix },
		"an isolated node has nobody to talk to in the public DHT, name the prefix of its own network"},
	{"channel.durable", func(c Config) bool { return c.Channel.Durable && !c.Channel.Acknowledged },
		"durable channels are acknowledged ones, set channel.acknowledged to true"},
	{"listen_addrs", func(c Config) bool { return !c.WebRTC.Enabled && c.listensOn("webrtc-direct") },
		"it names webrtc-direct, set webrtc.enabled to true or remove that address"},
	{"listen_addrs", func(c Config) bool { return !c.TLS.Enabled() && (c.listensOn("tls") || c.listensOn("wss")) },
		"secure WebSocket needs a certificate, set tls.domain, tls.cert_path and tls.key_path, or tls.auto_tls"},
	{"listen_addrs", func(c Config) bool {
		return c.TLS.Enabled() && len(c.ListenAddrs) > 0 && !c.listensOn("tls") && !c.listensOn("wss")
	}, "none of them uses the certificate, add one that ends in /tls/ws, or leave tls out"},
	{"listen_ports", func(c Config) bool { return len(c.ListenPorts) > listenPorts },
		"at most four ports: TCP, QUIC, WebTransport, WebRTC-direct"},
}

// idleSettings would have no effect beside another one. They are mistakes only if the host's own
// text gives both: a defaults file speaks to nodes of many kinds.
var idleSettings = []struct {
	path, other string
	holds       func(Config) bool
	advice      string
}{
	{"relay.static_relays", "relay.enable_client", func(c Config) bool { return len(c.Relay.StaticRelays) > 0 && !c.Relay.EnableClient },
		"relays are used only with relay.enable_client, set it to true or leave them out"},
	{"dht.bootstrap_peers", "dht.enabled", func(c Config) bool { return len(c.DHT.BootstrapPeers) > 0 && !c.DHT.Enabled },
		"bootstrap peers are used only with dht.enabled, set it to true or leave them out"},
	{"listen_ports", "listen_addrs", func(c Config) bool { return len(c.ListenPorts) > 0 && len(c.ListenAddrs) > 0 },
		"listen_addrs carries its own ports, give only one of the two"},
}

func (p *configParser) checkContradictions() {
	for _, rule := range contradictions {
		if rule.holds(p.config) {
			p.problem(rule.path, "%s", rule.advice)
		}
	}
	for _, rule := range idleSettings {
		if p.given[rule.path] == fromText && p.given[rule.other] == fromText && rule.holds(p.config) {
			p.problem(rule.path, "%s", rule.advice)
		}
	}
}

func hasPartOfCertificate(c Config) bool {
	parts := []string{c.TLS.Domain, c.TLS.CertPath, c.TLS.KeyPath}
	return slices.Contains(parts, "") && strings.Join(parts, "") != ""
}

// listensOn tells whether a full listen address uses the protocol.
func (c Config) listensOn(protocol string) bool {
	for _, addr := range c.ListenAddrs {
		for _, component := range addr {
			if component.Protocol().Name == protocol {
				return true
			}
		}
	}
	return false
}
