package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	forge "github.com/ipshipyard/p2p-forge/client"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multibase"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	// forgeTimeout bounds one request to the registration endpoint.
	forgeTimeout = 30 * time.Second
	// forgeFolder holds the certificates, inside identity_dir (P2P-05).
	forgeFolder = "p2p-forge-certs"
	// autoTLSLogger is what the certificate manager logs under.
	autoTLSLogger = "autotls"
	// autoTLSRepeat is how often an event repeats the same trouble.
	autoTLSRepeat = 10 * time.Minute
)

// autoTLS obtains a certificate for *.<peer id>.<tls.forge_domain>, once others can reach this node, and renews it. The
// forge proves by DNS that the name is this node's; the ACME server signs.
//
//	waiting --reachable, or a stored certificate--> requesting --obtained--> in use --a third of its life left--> requesting
//	                                                     ^--- certificate_failed, again later ---/
//
// An expired certificate is not announced. The manager's Stop leaves one goroutine of its cache behind, asleep between two
// looks at no certificate; it offers no way to end it.
type autoTLS struct {
	node    *Node
	manager *forge.P2PForgeCertMgr
	storage *certmagic.FileStorage
	rewrite func([]ma.Multiaddr) []ma.Multiaddr
	state   struct {
		sync.Mutex
		started bool
		leaf    *x509.Certificate // in use; nil: none
		trouble string            // of the last event
		told    time.Time
	}
}

func newAutoTLS(n *Node, roots *x509.CertPool) (*autoTLS, error) {
	a := &autoTLS{node: n, storage: &certmagic.FileStorage{Path: filepath.Join(n.config.IdentityDir, forgeFolder)}}
	config := n.config.TLS
	log := zap.New(a.tap(NewZapCore(n.log.Handler()))).Named(autoTLSLogger)
	options := []forge.P2PForgeCertMgrOptions{
		forge.WithForgeDomain(config.ForgeDomain),
		forge.WithForgeRegistrationEndpoint(config.ForgeURL),
		forge.WithForgeAuth(config.ForgeToken),
		forge.WithCAEndpoint(config.ACMEURL),
		forge.WithUserEmail(config.Email),
		forge.WithCertificateStorage(a.storage),
		forge.WithUserAgent("peerbus/" + n.version),
		forge.WithHTTPClient(forgeClient(roots)),
		forge.WithResolver(resolverOf(config.DNSServer)),
		forge.WithOnCertLoaded(func() { n.spawn("certificate", func() { a.use(EventCertificateLoaded) }) }),
		forge.WithOnCertRenewed(func() { n.spawn("certificate", func() { a.use(EventCertificateRenewed) }) }),
		forge.WithLogger(log.Sugar()),
		forge.WithRenewCheckInterval(n.certificateCheck),
	}
	if roots != nil {
		options = append(options, forge.WithTrustedRoots(roots))
	}
	if config.PrivateAddresses {
		options = append(options, forge.WithAllowPrivateForgeAddrs())
	}
	var err error
	if a.manager, err = forge.NewP2PForgeCertMgr(options...); err != nil {
		return nil, fmt.Errorf("%w: tls.auto_tls: %v", ErrConfig, err)
	}
	a.rewrite = a.manager.AddressFactory()
	return a, nil
}

func forgeClient(roots *x509.CertPool) *http.Client {
	return &http.Client{
		Timeout: forgeTimeout,
		Transport: &http.Transport{
			Proxy:             http.ProxyFromEnvironment,
			TLSClientConfig:   &tls.Config{RootCAs: roots},
			DisableKeepAlives: true, // a request every few weeks
		},
	}
}

// resolverOf asks one DNS server, or those of the system.
func resolverOf(server string) *net.Resolver {
	if server == "" {
		return net.DefaultResolver
	}
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, server)
	}}
}

func (a *autoTLS) start() {
	a.manager.ProvideHost(a.node.host)
	if err := a.manager.Start(); err != nil {
		a.fail(err.Error())
		return
	}
	a.state.Lock()
	defer a.state.Unlock()
	a.state.started = true
}

// close ends the manager, which panics unless it was started.
func (a *autoTLS) close() {
	a.state.Lock()
	started := a.state.started
	a.state.started = false
	a.state.Unlock()
	if started {
		a.manager.Stop()
	}
}

// stored is the certificate that the manager keeps, whose events come without it.
func (a *autoTLS) stored() (*x509.Certificate, error) {
	id := peer.ToCid(a.node.id).Encode(multibase.MustNewEncoder(multibase.Base36))
	acme := a.node.config.TLS.ACMEURL
	if acme == "" {
		acme = forge.DefaultCAEndpoint
	}
	issuer := (&certmagic.ACMEIssuer{CA: acme}).IssuerKey()
	text, err := a.storage.Load(a.node.ctx, certmagic.StorageKeys.SiteCert(issuer, "*."+id+"."+a.node.config.TLS.ForgeDomain))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("the stored certificate is no PEM file")
	}
	return x509.ParseCertificate(block.Bytes)
}

// use notes a certificate that the manager has begun to serve, or will within a moment.
func (a *autoTLS) use(event string) {
	leaf, err := a.stored()
	if err != nil {
		a.fail("reading the new certificate: " + err.Error())
		return
	}
	a.state.Lock()
	news := a.state.leaf == nil || !leaf.Equal(a.state.leaf)
	a.state.leaf, a.state.trouble = leaf, ""
	a.state.Unlock()
	if news {
		a.node.raiseCertificate(event, certificateOfAuto, leaf)
		a.node.announceAddresses()
	}
}

// announced turns the listen addresses of the certificate into those that others dial, or leaves them out without one.
func (a *autoTLS) announced(addrs []ma.Multiaddr) []ma.Multiaddr {
	a.state.Lock()
	valid := a.state.leaf != nil && time.Now().Before(a.state.leaf.NotAfter)
	a.state.Unlock()
	if valid {
		return a.rewrite(addrs)
	}
	kept := make([]ma.Multiaddr, 0, len(addrs))
	for _, addr := range addrs {
		if isRelayed(addr) || !isSecureWebSocket(addr) {
			kept = append(kept, addr)
		}
	}
	return kept
}

// fail raises an event, unless it would only repeat the last one.
func (a *autoTLS) fail(reason string) {
	a.state.Lock()
	repeated := reason == a.state.trouble && time.Since(a.state.told) < autoTLSRepeat
	if !repeated {
		a.state.trouble, a.state.told = reason, time.Now()
	}
	a.state.Unlock()
	if !repeated {
		a.node.raiseCertificateFailure(certificateOfAuto, reason)
	}
}

// tap hears of failures where alone the manager tells of them: in its log.
func (a *autoTLS) tap(core zapcore.Core) zapcore.Core {
	return zapcore.NewTee(core, &failureTap{fail: a.fail})
}

// failureTap is a zap core that calls fail for every error.
type failureTap struct {
	fail   func(reason string)
	fields []zapcore.Field
}

func (t *failureTap) Enabled(level zapcore.Level) bool { return level >= zapcore.ErrorLevel }

func (t *failureTap) With(fields []zapcore.Field) zapcore.Core {
	return &failureTap{t.fail, append(t.fields[:len(t.fields):len(t.fields)], fields...)}
}

func (t *failureTap) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if t.Enabled(entry.Level) {
		return checked.AddCore(entry, t)
	}
	return checked
}

func (t *failureTap) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	encoded := zapcore.NewMapObjectEncoder()
	for _, field := range append(t.fields[:len(t.fields):len(t.fields)], fields...) {
		field.AddTo(encoded)
	}
	reason := entry.Message
	if problem, ok := encoded.Fields["error"].(string); ok && !strings.Contains(reason, problem) {
		reason += ": " + problem
	}
	t.fail(clipText(reason, maxProblemBytes))
	return nil
}

func (t *failureTap) Sync() error { return nil }
