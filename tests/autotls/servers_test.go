package autotls

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	httpauth "github.com/libp2p/go-libp2p/p2p/http/auth"
	"github.com/miekg/dns"
	"github.com/multiformats/go-multibase"
)

const domain = "forge.test"

// world is what a node needs for an automatic certificate, all on loopback: an ACME server, which checks the challenge by
// DNS, and a forge, which takes challenges from nodes that prove their peer id and answers for its domain by DNS.
type world struct {
	ACMEURL, ForgeURL, DNSServer string
	CAPath                       string // whom the nodes have to trust
	forge                        *forge
}

func startWorld(t *testing.T, validity time.Duration) *world {
	t.Helper()
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")
	t.Setenv("PEBBLE_WFE_NONCEREJECT", "0")
	f := &forge{}
	names, overTCP := f.serveDNS(t)
	silent := log.New(io.Discard, "", 0)
	store := db.NewMemoryStore()
	authority := ca.New(silent, store, "", "ecdsa", 0, 1, map[string]ca.Profile{
		"default": {Description: "test", ValidityPeriod: uint64(validity.Seconds())},
	})
	front := wfe.New(silent, store, va.New(silent, 0, 0, false, overTCP, store), authority, nil, false, false, 1, 1)
	acme := httptest.NewTLSServer(front.Handler())
	t.Cleanup(acme.Close)
	registration := f.serveRegistration(t)

	path := filepath.Join(t.TempDir(), "authorities.pem")
	trusted := authority.GetRootCert(0).PEM()
	for _, server := range []*httptest.Server{acme, registration} {
		trusted = append(trusted, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})...)
	}
	if err := os.WriteFile(path, trusted, 0o600); err != nil {
		t.Fatal(err)
	}
	return &world{ACMEURL: acme.URL + wfe.DirectoryPath, ForgeURL: registration.URL, DNSServer: names, CAPath: path, forge: f}
}

// forge does what the registration endpoint and the name server of p2p-forge do.
type forge struct {
	challenges sync.Map // name of a TXT record: its value
	registered atomic.Int32
	refusing   atomic.Bool
	sick       atomic.Bool
}

func (f *forge) serveRegistration(t *testing.T) *httptest.Server {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(nil)
	if err != nil {
		t.Fatal(err)
	}
	auth := &httpauth.ServerPeerIDAuth{
		PrivKey:         key,
		NoTLS:           true, // a client of an IP address names no server in its handshake
		TokenTTL:        time.Hour,
		ValidHostnameFn: func(host string) bool { return strings.HasPrefix(host, "127.0.0.1") },
		Next:            f.register,
	}
	mux := http.NewServeMux()
	mux.Handle("POST /v1/_acme-challenge", auth)
	mux.HandleFunc("GET /v1/health", func(w http.ResponseWriter, _ *http.Request) {
		if f.sick.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	server := httptest.NewTLSServer(mux)
	t.Cleanup(server.Close)
	return server
}

func (f *forge) register(id peer.ID, w http.ResponseWriter, r *http.Request) {
	var asked struct {
		Value     string
		Addresses []string
	}
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil || len(asked.Addresses) == 0 {
		http.Error(w, fmt.Sprintf("no challenge: %v", err), http.StatusBadRequest)
		return
	}
	if f.refusing.Load() {
		http.Error(w, "this forge refuses everybody", http.StatusForbidden)
		return
	}
	f.registered.Add(1)
	f.challenges.Store("_acme-challenge."+subdomainOf(id)+".", asked.Value)
}

// subdomainOf is the domain of a peer; its certificate is for everything below it.
func subdomainOf(id peer.ID) string {
	return peer.ToCid(id).Encode(multibase.MustNewEncoder(multibase.Base36)) + "." + domain
}

// serveDNS answers where the name server listens, for UDP and for TCP.
func (f *forge) serveDNS(t *testing.T) (overUDP, overTCP string) {
	t.Helper()
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	for _, server := range []*dns.Server{{PacketConn: packets, Handler: f}, {Listener: listener, Handler: f}} {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		go func() { _ = server.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = server.Shutdown() })
	}
	return packets.LocalAddr().String(), listener.Addr().String()
}

// ServeDNS knows the challenges, and nothing else of its domain.
func (f *forge) ServeDNS(w dns.ResponseWriter, query *dns.Msg) {
	answer := new(dns.Msg)
	answer.SetReply(query)
	answer.Authoritative = true
	for _, question := range query.Question {
		name := strings.ToLower(question.Name)
		if value, known := f.challenges.Load(name); known && question.Qtype == dns.TypeTXT {
			header := dns.RR_Header{Name: question.Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 1}
			answer.Answer = append(answer.Answer, &dns.TXT{Hdr: header, Txt: []string{value.(string)}})
		}
	}
	_ = w.WriteMsg(answer)
}
