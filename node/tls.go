package node

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	ma "github.com/multiformats/go-multiaddr"
)

// Events about certificates, as the header lists them.
const (
	EventCertificateLoaded  = "certificate_loaded"
	EventCertificateRenewed = "certificate_renewed"
	EventCertificateFailed  = "certificate_failed"
)

// Sources of certificates, in their events.
const (
	certificateOfFiles = "files"
	certificateOfAuto  = "auto_tls"
)

// certificates serve secure WebSocket: those of files, automatic ones, or none.
type certificates struct {
	node  *Node
	roots *x509.CertPool    // whom dials trust; nil: the system's authorities
	files *certificateFiles // nil: no own certificate
	auto  *autoTLS          // nil: no automatic one
}

// newCertificates reads the files of the configuration. A node whose certificate is broken does not start.
func newCertificates(n *Node) (certificates, error) {
	c := certificates{node: n}
	config := n.config.TLS
	var err error
	if config.CAPath != "" {
		if c.roots, err = rootsWith(config.CAPath); err != nil {
			return c, err
		}
	}
	switch {
	case config.CertPath != "":
		c.files, err = newCertificateFiles(n)
	case config.AutoTLS:
		c.auto, err = newAutoTLS(n, c.roots)
	}
	return c, err
}

// rootsWith are the system's authorities and those of a file.
func rootsWith(path string) (*x509.CertPool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: tls.ca_path: %v", ErrConfig, err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool() // a machine without any
	}
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%w: tls.ca_path: %s holds no PEM certificate", ErrConfig, path)
	}
	return roots, nil
}

// options are those of the WebSocket transport.
func (c certificates) options() []any {
	var options []any
	if c.roots != nil {
		options = append(options, websocket.WithTLSClientConfig(&tls.Config{RootCAs: c.roots}))
	}
	switch {
	case c.files != nil:
		options = append(options, websocket.WithTLSConfig(&tls.Config{GetCertificate: c.files.get}))
	case c.auto != nil:
		options = append(options, websocket.WithTLSConfig(c.auto.manager.TLSConfig()))
	}
	return options
}

// start begins to watch, once the node listens.
func (c certificates) start() {
	if c.files != nil {
		c.node.spawn("certificate files", c.files.watch)
	}
	if c.auto != nil {
		c.auto.start()
	}
}

func (c certificates) close() {
	if c.auto != nil {
		c.auto.close()
	}
}

// announced rewrites the own addresses of secure WebSocket so that the certificate fits them.
func (c certificates) announced(addrs []ma.Multiaddr) []ma.Multiaddr {
	switch {
	case c.files != nil:
		return underDomain(addrs, c.node.config.TLS.Domain)
	case c.auto != nil:
		return c.auto.announced(addrs)
	}
	return addrs
}

// underDomain puts the domain in the place of the IP addresses of secure WebSocket, once for each port. It is announced for
// IPv6 only by nodes that do not listen on IPv4.
func underDomain(addrs []ma.Multiaddr, domain string) []ma.Multiaddr {
	written := make([]ma.Multiaddr, 0, len(addrs))
	var overIPv6 []ma.Multiaddr
	hasIPv4 := false
	for _, addr := range addrs {
		port, err := addr.ValueForProtocol(ma.P_TCP)
		if err != nil || isRelayed(addr) || !isSecureWebSocket(addr) {
			written = append(written, addr)
			continue
		}
		if hasProtocol(addr, ma.P_IP6) {
			overIPv6 = append(overIPv6, ma.StringCast("/dns6/"+domain+"/tcp/"+port+"/tls/ws"))
			continue
		}
		hasIPv4 = true
		written = append(written, ma.StringCast("/dns4/"+domain+"/tcp/"+port+"/tls/ws"))
	}
	if !hasIPv4 {
		written = append(written, overIPv6...)
	}
	return withoutRepeated(written, ma.Multiaddr.String)
}

func isSecureWebSocket(addr ma.Multiaddr) bool {
	return hasProtocol(addr, ma.P_WSS) || hasProtocol(addr, ma.P_TLS) && hasProtocol(addr, ma.P_WS)
}

// raiseCertificate reports a certificate that is in use from now on.
func (n *Node) raiseCertificate(kind, source string, leaf *x509.Certificate) {
	names := slices.Clone(leaf.DNSNames)
	n.log.Info("certificate in use", "source", source, "names", names, "until", leaf.NotAfter)
	n.events.Push(kind, map[string]any{
		"source": source, "names": names, "not_after": leaf.NotAfter.UTC().Format(time.RFC3339),
	})
}

func (n *Node) raiseCertificateFailure(source, reason string) {
	n.log.Warn("certificate trouble", "source", source, "reason", reason)
	n.events.Push(EventCertificateFailed, map[string]any{"source": source, "reason": reason})
}
