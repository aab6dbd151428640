package node

import (
	"slices"
	"testing"
)

func TestListenMultiaddrs(t *testing.T) {
	for _, c := range []struct {
		name, members string
		want          []string
	}{
		{"random ports on every address by default", "", []string{
			"/ip4/0.0.0.0/tcp/0", "/ip4/0.0.0.0/tcp/0/ws", "/ip4/0.0.0.0/udp/0/quic-v1",
			"/ip4/0.0.0.0/udp/0/quic-v1/webtransport", "/ip4/0.0.0.0/udp/0/webrtc-direct"}},
		{"consecutive ports from a predefined one, on both families", `"predefined_port": 4001, "listen_ips": ["127.0.0.1", "::1"]`, []string{
			"/ip4/127.0.0.1/tcp/4001", "/ip4/127.0.0.1/tcp/4001/ws", "/ip4/127.0.0.1/udp/4002/quic-v1",
			"/ip4/127.0.0.1/udp/4003/quic-v1/webtransport", "/ip4/127.0.0.1/udp/4004/webrtc-direct",
			"/ip6/::1/tcp/4001", "/ip6/::1/tcp/4001/ws", "/ip6/::1/udp/4002/quic-v1",
			"/ip6/::1/udp/4003/quic-v1/webtransport", "/ip6/::1/udp/4004/webrtc-direct"}},
		{"no webrtc-direct when WebRTC is off", `"listen_ips": ["::1"], "webrtc": {"enabled": false}`, []string{
			"/ip6/::1/tcp/0", "/ip6/::1/tcp/0/ws", "/ip6/::1/udp/0/quic-v1", "/ip6/::1/udp/0/quic-v1/webtransport"}},
		{"given ports first, then the predefined ones", `"listen_ips": ["::1"], "predefined_port": 4000, "listen_ports": [9000, 0]`, []string{
			"/ip6/::1/tcp/9000", "/ip6/::1/tcp/9000/ws", "/ip6/::1/udp/0/quic-v1",
			"/ip6/::1/udp/4002/quic-v1/webtransport", "/ip6/::1/udp/4003/webrtc-direct"}},
		{"secure WebSocket with an own certificate",
			`"listen_ips": ["::1"], "webrtc": {"enabled": false}, "tls": {"domain": "a.org", "cert_path": "c", "key_path": "k"}`, []string{
				"/ip6/::1/tcp/0", "/ip6/::1/tcp/0/tls/ws", "/ip6/::1/udp/0/quic-v1", "/ip6/::1/udp/0/quic-v1/webtransport"}},
		{"secure WebSocket with an automatic certificate",
			`"listen_ips": ["::1"], "webrtc": {"enabled": false}, "tls": {"auto_tls": true}`, []string{
				"/ip6/::1/tcp/0", "/ip6/::1/tcp/0/tls/sni/*.libp2p.direct/ws", "/ip6/::1/udp/0/quic-v1", "/ip6/::1/udp/0/quic-v1/webtransport"}},
		{"each address once, in canonical form", `"listen_ips": ["::1", "0:0:0:0:0:0:0:1"], "webrtc": {"enabled": false}`, []string{
			"/ip6/::1/tcp/0", "/ip6/::1/tcp/0/ws", "/ip6/::1/udp/0/quic-v1", "/ip6/::1/udp/0/quic-v1/webtransport"}},
		{"full addresses replace addresses and ports",
			`"listen_ips": ["::1"], "predefined_port": 4001, "listen_addrs": ["/ip4/127.0.0.1/tcp/5", "/ip6zone/lo/ip6/::1/udp/6/quic-v1", "/ip4/127.0.0.1/tcp/5"]`,
			[]string{"/ip4/127.0.0.1/tcp/5", "/ip6zone/lo/ip6/::1/udp/6/quic-v1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			addrs, err := configOf(t, c.members).ListenMultiaddrs()
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, addr := range addrs {
				got = append(got, addr.String())
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

func TestPortsEndAtTheHighest(t *testing.T) {
	configOf(t, `"predefined_port": 65532`)
	configOf(t, `"predefined_port": 65533, "webrtc": {"enabled": false}`)
	configOf(t, `"predefined_port": 65535, "listen_ports": [0, 0, 0, 0]`)
	expectWords(t, mistakeOf(t, withIdentity(`"predefined_port": 65533`)), "predefined_port", "65533", "at most 65532")
	expectWords(t, mistakeOf(t, withIdentity(`"predefined_port": 65534, "webrtc": {"enabled": false}`)), "at most 65533")
}

func TestWebRTCNeedsItsOwnUDPPort(t *testing.T) {
	configOf(t, `"listen_ports": [4000, 4000, 4000, 4001]`)
	configOf(t, `"listen_ports": [4000, 4000, 4000, 4000], "webrtc": {"enabled": false}`)
	for _, ports := range []string{`[4000, 4001, 4002, 4001]`, `[4000, 4001, 4002, 4002]`} {
		expectWords(t, mistakeOf(t, withIdentity(`"listen_ports": `+ports)), "listen_ports", "WebRTC-direct")
	}
	expectWords(t, mistakeOf(t, withIdentity(`"predefined_port": 4000, "listen_ports": [1, 4003]`)), "listen_ports", "4003")
}

func TestListenAddressesOfUnknownTransportsAreRefused(t *testing.T) {
	for _, addr := range []string{
		"", "127.0.0.1:4001", "/ip4/127.0.0.1", "/ip4/127.0.0.1/udp/1", "/ip4/127.0.0.1/udp/1/quic", "/dns4/a.org/tcp/1",
		"/ip4/127.0.0.1/tcp/1/p2p/" + somePeer, "/ip4/127.0.0.1/tcp/1/p2p-circuit", "/tcp/1", "/unix/socket",
		"/ip6zone/lo/ip4/127.0.0.1/tcp/1",
	} {
		t.Run(addr, func(t *testing.T) {
			expectWords(t, mistakeOf(t, withIdentity(`"listen_addrs": ["`+addr+`"]`)), "listen_addrs", "entry 0")
		})
	}
}

func TestMappedAddressesAreIPv4(t *testing.T) {
	if got := configOf(t, `"listen_ips": ["::ffff:127.0.0.1"]`).ListenIPs; !slices.Equal(got, []string{"127.0.0.1"}) {
		t.Errorf("got %q", got)
	}
}

func TestListenMultiaddrsOfAHandMadeConfigReportErrors(t *testing.T) {
	config := defaultConfig()
	config.PredefinedPort = maxPort
	if addrs, err := config.ListenMultiaddrs(); err == nil {
		t.Errorf("got %v", addrs)
	}
	config = defaultConfig()
	config.ListenIPs = []string{"localhost"}
	if addrs, err := config.ListenMultiaddrs(); err == nil {
		t.Errorf("got %v", addrs)
	}
}
