package node

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
)

func TestEntriesOfOneRelayAreMerged(t *testing.T) {
	config := configOf(t, `"relay": {"static_relays": [
		"/ip4/192.0.2.1/tcp/1/p2p/`+somePeer+`",
		{"ID": "`+anotherPeer+`", "Addrs": ["/ip6/2001:db8::1/tcp/2"]},
		{"ID": "`+somePeer+`", "Addrs": ["/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.1/udp/1/quic-v1/p2p/`+somePeer+`"]}]}`)
	want := []peer.AddrInfo{
		addrInfo(t, somePeer, "/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.1/udp/1/quic-v1"),
		addrInfo(t, anotherPeer, "/ip6/2001:db8::1/tcp/2"),
	}
	if got := config.Relay.StaticRelays; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestPeersThatCannotBeDialledAreRefused(t *testing.T) {
	for name, c := range map[string]struct{ entry, word string }{
		"no peer id":         {`"/ip4/192.0.2.1/tcp/1"`, "/p2p/<peer id>"},
		"no address":         {`"/p2p/` + somePeer + `"`, "/p2p/<peer id>"},
		"not a multiaddr":    {`"192.0.2.1:4001"`, "192.0.2.1:4001"},
		"a number":           {`1`, "the number 1"},
		"null":               {`null`, "null"},
		"object without ID":  {`{"Addrs": ["/ip4/192.0.2.1/tcp/1"]}`, "ID"},
		"object, bad ID":     {`{"ID": "x", "Addrs": ["/ip4/192.0.2.1/tcp/1"]}`, "ID"},
		"object, no Addrs":   {`{"ID": "` + somePeer + `"}`, "Addrs"},
		"object, empty":      {`{"ID": "` + somePeer + `", "Addrs": []}`, "Addrs"},
		"object, bad Addrs":  {`{"ID": "` + somePeer + `", "Addrs": ["x"]}`, "Addrs: entry 0"},
		"object, only an id": {`{"ID": "` + somePeer + `", "Addrs": ["/p2p/` + somePeer + `"]}`, "no way"},
		"two peers":          {`{"ID": "` + somePeer + `", "Addrs": ["/ip4/192.0.2.1/tcp/1/p2p/` + anotherPeer + `"]}`, "another peer"},
		"unknown member":     {`{"ID": "` + somePeer + `", "addrs": []}`, `"Addrs"`},
		"member twice":       {`{"ID": "` + somePeer + `", "ID": "` + somePeer + `"}`, "twice"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, key := range []string{"relay.static_relays", "dht.bootstrap_peers"} {
				message := mistakeOf(t, withIdentity(membersOf(key, "["+c.entry+"]")))
				expectWords(t, message, key, "entry 0", c.word)
			}
		})
	}
}

func TestOnlyBootstrapPeersMayStandBehindARelay(t *testing.T) {
	behind := `["/ip4/192.0.2.1/tcp/1/p2p/` + somePeer + `/p2p-circuit/p2p/` + anotherPeer + `"]`
	configOf(t, membersOf("dht.bootstrap_peers", behind))
	expectWords(t, mistakeOf(t, withIdentity(membersOf("relay.static_relays", behind))), "relay.static_relays", "/p2p-circuit")
}

func TestServerURIs(t *testing.T) {
	turn := func(uri string) string {
		return fmt.Sprintf(`[{"urls": [%q], "username": "u", "credential": "c"}]`, uri)
	}
	stun := func(uri string) string { return fmt.Sprintf("[%q]", uri) }
	for _, c := range []struct {
		key   string
		value func(string) string
		good  []string
		bad   []string
	}{
		{"webrtc.ice_config.stun_servers", stun,
			[]string{"stun:stun.example.org", "stun:192.0.2.1:3478", "stuns:[2001:db8::1]:5349", "stun:[::1]"},
			[]string{"", "stun.example.org:3478", "stun:", "stun://a.org", "stun:a.org:0", "stun:a.org:65536", "stun:a.org:x",
				"stun:2001:db8::1", "stun:[192.0.2.1]", "stun:[::1", "stun:a.org?transport=udp", "turn:a.org", "STUN:a.org", "stun:a b"}},
		{"webrtc.ice_config.turn_servers", turn,
			[]string{"turn:a.org", "turns:a.org:5349?transport=tcp", "turn:[::1]:3478?transport=udp"},
			[]string{"", "turn:", "turn:a.org?transport=sctp", "turn:a.org?x", "turn://a.org", "stun:a.org", "http:a.org"}},
	} {
		for _, uri := range c.good {
			configOf(t, membersOf(c.key, c.value(uri)))
		}
		for _, uri := range c.bad {
			t.Run(uri, func(t *testing.T) {
				expectWords(t, mistakeOf(t, withIdentity(membersOf(c.key, c.value(uri)))), c.key, "entry 0")
			})
		}
	}
}

func TestTURNServersNeedURLsAndAnAccount(t *testing.T) {
	for _, entry := range []string{
		`"turn:a.org"`, `{}`, `{"urls": [], "username": "u", "credential": "c"}`, `{"urls": "turn:a.org"}`,
		`{"urls": "turn:a.org", "username": "u"}`, `{"urls": "turn:a.org", "username": "u", "credential": 1}`,
		`{"urls": "turn:a.org", "user": "u", "credential": "c"}`,
	} {
		t.Run(entry, func(t *testing.T) {
			expectWords(t, mistakeOf(t, withIdentity(membersOf("webrtc.ice_config.turn_servers", "["+entry+"]"))),
				"webrtc.ice_config.turn_servers", "entry 0")
		})
	}
}

func TestAccountsOfTURNServersAreNeverShown(t *testing.T) {
	config := configOf(t, membersOf("webrtc.ice_config.turn_servers",
		`[{"urls": "turn:a.org", "username": "hidden1", "credential": "hidden2"}]`))
	wrong := mistakeOf(t, withIdentity(membersOf("webrtc.ice_config.turn_servers",
		`[{"urls": "turn:a.org", "username": "", "credential": "hidden2"}]`)))
	for _, shown := range []string{fmt.Sprintf("%v", config), fmt.Sprintf("%+v", config), wrong} {
		if strings.Contains(shown, "hidden1") || strings.Contains(shown, "hidden2") {
			t.Errorf("the account is shown in %s", shown)
		}
	}
}
