package node

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	ma "github.com/multiformats/go-multiaddr"
)

const testDomain = "node.example.org"

// authority signs certificates for one test.
type authority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	dir  string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, key: newECKey(t), dir: t.TempDir()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(raw); err != nil {
		t.Fatal(err)
	}
	a.write("ca.pem", "CERTIFICATE", raw)
	return a
}

func newECKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

// write replaces a file in one step, as certificate tools do.
func (a *authority) write(name, kind string, raw []byte) {
	a.t.Helper()
	temporary := a.path(name + ".new")
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw})
	if err := errors.Join(os.WriteFile(temporary, text, 0o600), os.Rename(temporary, a.path(name))); err != nil {
		a.t.Fatal(err)
	}
}

// issue writes a certificate and its key, of which only replaces one if asked.
func (a *authority) issue(serial int64, domain string, until time.Time, only ...string) {
	a.t.Helper()
	key := newECKey(a.t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: domain}, DNSNames: []string{domain},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	if len(only) == 0 || slices.Contains(only, "cert.pem") {
		a.write("cert.pem", "CERTIFICATE", raw)
	}
	if len(only) == 0 || slices.Contains(only, "key.pem") {
		a.write("key.pem", "PRIVATE KEY", private)
	}
}

func (a *authority) config() TLSConfig {
	return TLSConfig{Domain: testDomain, CertPath: a.path("cert.pem"), KeyPath: a.path("key.pem")}
}

// secureNode serves secure WebSocket with the authority's certificate.
func (a *authority) secureNode(change ...func(*Options)) *Node {
	return startNode(a.t, append([]func(*Options){func(o *Options) {
		o.Config.TLS = a.config()
		o.Config.ListenAddrs = addrsOf(a.t, "/ip4/127.0.0.1/tcp/0/tls/ws")
	}}, change...)...)
}

// dialable is the node's address of secure WebSocket with the IP address in the place of the name, which no test resolves.
func dialable(t *testing.T, n *Node) string {
	t.Helper()
	return "/ip4/127.0.0.1/tcp/" + securePort(t, n) + "/tls/sni/" + testDomain + "/ws/p2p/" + n.id.String()
}

func securePort(t *testing.T, n *Node) string {
	t.Helper()
	for _, addr := range n.host.Addrs() {
		if name, err := addr.ValueForProtocol(ma.P_DNS4); err == nil && name == testDomain {
			port, err := addr.ValueForProtocol(ma.P_TCP)
			if err != nil {
				t.Fatal(err)
			}
			return port
		}
	}
	t.Fatalf("no address of the domain among %v", n.host.Addrs())
	return ""
}

// served is the serial number of the certificate that a handshake gets.
func (a *authority) served(n *Node) int64 {
	a.t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	conn, err := tls.Dial("tcp", net.JoinHostPort("127.0.0.1", securePort(a.t, n)), &tls.Config{RootCAs: roots, ServerName: testDomain})
	if err != nil {
		a.t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

func tomorrow() time.Time { return time.Now().Add(24 * time.Hour) }

func TestSecureWebSocketServesTheOwnCertificateAndAnnouncesItsDomain(t *testing.T) {
	a := newAuthority(t)
	a.issue(7, testDomain, tomorrow())
	n := a.secureNode()
	loaded := eventOf(t, n, EventCertificateLoaded, map[string]any{"source": "files"})
	if names := loaded.Fields["names"].([]string); !slices.Equal(names, []string{testDomain}) {
		t.Errorf("the event names %v", names)
	}
	want := "/dns4/" + testDomain + "/tcp/" + securePort(t, n) + "/tls/ws/p2p/" + n.id.String()
	if !slices.Contains(n.Addresses(), want) {
		t.Errorf("announced are %v, want %s", n.Addresses(), want)
	}
	dialler := startNode(t, func(o *Options) { o.Config.TLS.CAPath = a.path("ca.pem") })
	if _, err := dialler.Connect(within(t), []string{dialable(t, n)}); err != nil {
		t.Errorf("a dialler that trusts the authority: %v", err)
	}
	stranger := startNode(t)
	if _, err := stranger.Connect(within(t), []string{dialable(t, n)}); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a dialler that does not: %v", err)
	}
}

func TestAChangedCertificateIsServedAtTheNextHandshake(t *testing.T) {
	a := newAuthority(t)
	a.issue(7, testDomain, tomorrow())
	n := a.secureNode()
	if got := a.served(n); got != 7 {
		t.Fatalf("served is number %d", got)
	}
	a.issue(8, testDomain, tomorrow())
	if got := a.served(n); got != 8 {
		t.Errorf("after the change number %d is served", got)
	}
	eventOf(t, n, EventCertificateRenewed, map[string]any{"source": "files"})
}

func TestTheOldCertificateStaysInUseWhileTheNewFilesDoNotFitTogether(t *testing.T) {
	a := newAuthority(t)
	a.issue(7, testDomain, tomorrow())
	n := a.secureNode()
	a.issue(8, testDomain, tomorrow(), "cert.pem")
	if got := a.served(n); got != 7 {
		t.Errorf("with half a change number %d is served", got)
	}
	a.issue(9, testDomain, tomorrow())
	if got := a.served(n); got != 9 {
		t.Errorf("after all of it number %d is served", got)
	}
}

func TestLastingTroubleWithTheFilesIsReportedOnceAndHealed(t *testing.T) {
	a := newAuthority(t)
	a.issue(7, testDomain, tomorrow())
	n := newNode(Options{Config: quietConfig(t.TempDir())})
	n.config.TLS = a.config()
	c, err := newCertificateFiles(n)
	if err != nil {
		t.Fatal(err)
	}
	c.grace = 0
	for _, trouble := range []struct {
		cause func()
		words string
	}{
		{func() { a.issue(8, testDomain, tomorrow(), "cert.pem") }, "no certificate and its key"},
		{func() { a.issue(9, "elsewhere.example.org", tomorrow()) }, "is not for tls.domain"},
		{func() { _ = os.Remove(a.path("key.pem")) }, "cannot be read"},
		{func() { a.issue(10, testDomain, time.Now().Add(-time.Hour)) }, "expired at"},
	} {
		trouble.cause()
		for range 4 {
			c.refresh()
		}
		a.issue(11, testDomain, tomorrow())
		c.refresh()
		var reasons []string
		events, err := n.events.Pop(within(t), 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if e.Type == EventCertificateFailed {
				reasons = append(reasons, e.Fields["reason"].(string))
			}
		}
		if len(reasons) != 1 || !strings.Contains(reasons[0], trouble.words) {
			t.Errorf("reported are %q, want one with %q", reasons, trouble.words)
		}
	}
}

func TestANodeWithABrokenCertificateDoesNotStart(t *testing.T) {
	a := newAuthority(t)
	a.issue(7, testDomain, tomorrow())
	for name, change := range map[string]func(*TLSConfig){
		"another domain":  func(c *TLSConfig) { c.Domain = "elsewhere.example.org" },
		"no such file":    func(c *TLSConfig) { c.KeyPath = a.path("absent.pem") },
		"no certificate":  func(c *TLSConfig) { c.CertPath = c.KeyPath },
		"no authority":    func(c *TLSConfig) { c.CAPath = a.path("key.pem") },
		"no such ca file": func(c *TLSConfig) { c.CAPath = a.path("absent.pem") },
	} {
		options := Options{Config: quietConfig(t.TempDir())}
		options.Config.TLS = a.config()
		change(&options.Config.TLS)
		if n, err := New(t.Context(), options); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
			if n != nil {
				_ = n.Close()
			}
		}
	}
}

func TestTheDomainStandsInForTheAddressesOfSecureWebSocketOnly(t *testing.T) {
	for name, c := range map[string]struct{ given, want []string }{
		"both families": {
			[]string{"/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.1/tcp/1/tls/ws", "/ip6/2001:db8::1/tcp/1/tls/ws", "/ip4/10.0.0.1/tcp/1/tls/ws", "/ip4/192.0.2.1/udp/2/quic-v1"},
			[]string{"/ip4/192.0.2.1/tcp/1", "/dns4/a.org/tcp/1/tls/ws", "/ip4/192.0.2.1/udp/2/quic-v1"},
		},
		"IPv6 alone": {
			[]string{"/ip6/2001:db8::1/tcp/1/wss"},
			[]string{"/dns6/a.org/tcp/1/tls/ws"},
		},
		"a relay's own": {
			[]string{"/ip4/192.0.2.1/tcp/1/tls/ws/p2p/" + somePeer + "/p2p-circuit"},
			[]string{"/ip4/192.0.2.1/tcp/1/tls/ws/p2p/" + somePeer + "/p2p-circuit"},
		},
	} {
		var got []string
		for _, addr := range underDomain(addrsOf(t, c.given...), "a.org") {
			got = append(got, addr.String())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
