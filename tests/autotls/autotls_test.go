// Package autotls tests automatic certificates end to end, offline. It is a module of its own, so that the ACME server stays
// out of the library's.
package autotls

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	ma "github.com/multiformats/go-multiaddr"

	"peerbus/node"
)

// patience is how long a test waits for what must happen.
const patience = 60 * time.Second

// startNode runs a node on loopback that wants a certificate, until the test ends or stop is called.
func (w *world) startNode(t *testing.T, dir string) (n *node.Node, stop func()) {
	t.Helper()
	return w.start(t, dir, fmt.Sprintf(`"tls": {"auto_tls": true, "private_addresses": true, "forge_domain": %q, "forge_url": %q,
		"acme_url": %q, "dns_server": %q, "ca_path": %q}`, domain, w.ForgeURL, w.ACMEURL, w.DNSServer, w.CAPath))
}

func (w *world) start(t *testing.T, dir, members string) (n *node.Node, stop func()) {
	t.Helper()
	config, err := node.ParseConfig([]byte(fmt.Sprintf(`{"identity_dir": %q, "listen_ips": ["127.0.0.1"], "webrtc": {"enabled": false},
		"nat": {"port_mapping": false, "autonat": false}, %s}`, dir, members)), nil, node.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	n, err = node.New(t.Context(), node.Options{Config: config, Version: "test", CertificateCheck: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	closed := false
	stop = func() {
		if !closed {
			closed = true
			if err := n.Close(); err != nil {
				t.Errorf("closing: %v", err)
			}
		}
	}
	t.Cleanup(stop)
	return n, stop
}

func eventOf(t *testing.T, n *node.Node, kind string) node.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var seen []string
	for {
		events, err := n.Events().Pop(ctx, 1)
		if err != nil || len(events) == 0 {
			t.Fatalf("no event %s came, only %v: %v", kind, seen, err)
		}
		if events[0].Type == kind {
			return events[0]
		}
		seen = append(seen, fmt.Sprint(events[0].Type, events[0].Fields))
	}
}

// secureAddress is the announced address of secure WebSocket, "" when there is none.
func secureAddress(n *node.Node) string {
	for _, address := range n.Addresses() {
		if strings.Contains(address, "/tls/sni/") {
			return address
		}
	}
	return ""
}

func TestANodeObtainsACertificateAndIsReachedBySecureWebSocket(t *testing.T) {
	w := startWorld(t, 90*24*time.Hour)
	dir := t.TempDir()
	n, stop := w.startNode(t, dir)
	if address := secureAddress(n); address != "" {
		t.Errorf("without a certificate it announces %s", address)
	}
	began := time.Now()
	loaded := eventOf(t, n, node.EventCertificateLoaded)
	t.Logf("issued after %s", time.Since(began).Round(time.Millisecond))
	if names, _ := loaded.Fields["names"].([]string); loaded.Fields["source"] != "auto_tls" || !slices.Contains(names, "*."+subdomainOf(n.ID())) {
		t.Errorf("the event is %v", loaded.Fields)
	}
	want := "/tls/sni/127-0-0-1." + subdomainOf(n.ID()) + "/ws/p2p/" + n.ID().String()
	address := secureAddress(n)
	if !strings.HasSuffix(address, want) {
		t.Fatalf("it announces %v, want one that ends in %s", n.Addresses(), want)
	}
	w.exchange(t, n, address)
	if found, err := filepath.Glob(filepath.Join(dir, "p2p-forge-certs", "certificates", "*", "*", "*.key")); err != nil || len(found) != 1 {
		t.Errorf("stored keys: %v, %v", found, err)
	}

	// The next life uses the stored certificate.
	before := w.forge.registered.Load()
	stop()
	again, _ := w.startNode(t, dir)
	eventOf(t, again, node.EventCertificateLoaded)
	w.exchange(t, again, secureAddress(again))
	if asked := w.forge.registered.Load() - before; asked != 0 {
		t.Errorf("it asked the forge %d times more", asked)
	}
}

// exchange dials exactly that address and sends a message.
func (w *world) exchange(t *testing.T, n *node.Node, address string) {
	t.Helper()
	dialler, stop := w.start(t, t.TempDir(), fmt.Sprintf(`"tls": {"ca_path": %q}`, w.CAPath))
	defer stop()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	reached, err := dialler.Connect(ctx, []string{address})
	if err != nil {
		t.Fatal(err)
	}
	if len(reached.Addrs) != 1 || !strings.Contains(reached.Addrs[0], "/ws") {
		t.Errorf("connected over %v", reached.Addrs)
	}
	channel := dialler.ID().String() + "::dm:" + n.ID().String() + "-secure"
	if err := dialler.SendAndWait(ctx, channel, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	got, err := n.Queue().Receive(ctx, channel, 1, 0)
	if err != nil || len(got) != 1 || string(got[0].Data) != "hello" {
		t.Errorf("received %v: %v", got, err)
	}
}

func TestAnUntrustedAuthorityIsRefusedByDiallers(t *testing.T) {
	w := startWorld(t, 90*24*time.Hour)
	n, _ := w.startNode(t, t.TempDir())
	eventOf(t, n, node.EventCertificateLoaded)
	dialler, _ := w.start(t, t.TempDir(), `"log": {"name": "dialler"}`)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := dialler.Connect(ctx, []string{secureAddress(n)}); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("connecting ended with %v", err)
	}
}

func TestACertificateIsRenewedWithoutARestart(t *testing.T) {
	w := startWorld(t, 20*time.Second)
	n, _ := w.startNode(t, t.TempDir())
	eventOf(t, n, node.EventCertificateLoaded)
	first := w.served(t, n)
	eventOf(t, n, node.EventCertificateRenewed)
	for deadline := time.Now().Add(patience); w.served(t, n).SerialNumber.Cmp(first.SerialNumber) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after the renewal it serves the certificate of %s still", first.NotBefore)
		}
	}
}

// served is the certificate of a handshake.
func (w *world) served(t *testing.T, n *node.Node) *x509.Certificate {
	t.Helper()
	address, err := ma.NewMultiaddr(secureAddress(n))
	if err != nil {
		t.Fatal(err)
	}
	port, err := address.ValueForProtocol(ma.P_TCP)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(w.CAPath)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	conn, err := tls.Dial("tcp", "127.0.0.1:"+port, &tls.Config{RootCAs: roots, ServerName: "127-0-0-1." + subdomainOf(n.ID())})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

func TestAForgeThatRefusesIsReportedAndAskedAgain(t *testing.T) {
	w := startWorld(t, 90*24*time.Hour)
	w.forge.refusing.Store(true)
	n, _ := w.startNode(t, t.TempDir())
	failed := eventOf(t, n, node.EventCertificateFailed)
	if reason := fmt.Sprint(failed.Fields["reason"]); !strings.Contains(reason, "this forge refuses everybody") {
		t.Errorf("the reason is %q", reason)
	}
	if address := secureAddress(n); address != "" {
		t.Errorf("without a certificate it announces %s", address)
	}
}

func TestAForgeThatIsDownIsReported(t *testing.T) {
	w := startWorld(t, 90*24*time.Hour)
	w.forge.sick.Store(true)
	n, _ := w.startNode(t, t.TempDir())
	failed := eventOf(t, n, node.EventCertificateFailed)
	if reason := fmt.Sprint(failed.Fields["reason"]); !strings.Contains(reason, "503") {
		t.Errorf("the reason is %q", reason)
	}
}
