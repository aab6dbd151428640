package node

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

const (
	// defaultDHTPrefix is the network that nodes without dht.prefix share, if they share bootstrap peers at all.
	defaultDHTPrefix = "/peerbus"
	// publicDHTPrefix is that of the public DHT.
	publicDHTPrefix = "/ipfs"
	// maxDHTPrefixBytes keeps the protocol name far below what multistream takes.
	maxDHTPrefixBytes = 128

	defaultMDNSService = "_p2p._udp"
)

func checkDHTPrefix(prefix string) error {
	shown := clipText(prefix, maxShownValueBytes)
	switch {
	case len(prefix) > maxDHTPrefixBytes:
		return fmt.Errorf("%d bytes, at most %d", len(prefix), maxDHTPrefixBytes)
	case !strings.HasPrefix(prefix, "/") || strings.HasSuffix(prefix, "/"):
		return fmt.Errorf("expected a name like %q, got %q", "/my-network", shown)
	case strings.ContainsFunc(prefix, func(r rune) bool { return r <= ' ' || r > '~' }):
		return fmt.Errorf("%q: only visible ASCII characters", shown)
	}
	return nil
}

// serviceType is a DNS-SD type (RFC 6763, section 7): a label of up to 15 letters, digits and hyphens.
var serviceType = regexp.MustCompile(`^_[a-zA-Z0-9]([a-zA-Z0-9-]{0,13}[a-zA-Z0-9])?\._(udp|tcp)$`)

func checkMDNSService(service string) error {
	if !serviceType.MatchString(service) {
		return errors.New(`expected a service type like "_my-network._udp", with at most 15 letters, digits and hyphens`)
	}
	return nil
}
