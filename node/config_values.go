package node

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// maxDomainBytes and maxLabelBytes are the limits of DNS names (RFC 1035).
const (
	maxDomainBytes = 253
	maxLabelBytes  = 63
)

// entriesOf parses each entry of a list; the error names the entry.
func entriesOf[T any](given []any, parse func(any) (T, error)) ([]T, error) {
	parsed := make([]T, 0, len(given))
	for i, value := range given {
		entry, err := parse(value)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", i, err)
		}
		parsed = append(parsed, entry)
	}
	return parsed, nil
}

func booleanOf(value any) (bool, error) {
	given, ok := value.(bool)
	if !ok {
		return false, fmt.Errorf("expected true or false, got %s", describeJSON(value))
	}
	return given, nil
}

func textOf(value any) (string, error) {
	text, ok := value.(string)
	if !ok {
		return "", fmt.Errorf("expected a text, got %s", describeJSON(value))
	}
	return text, nil
}

// fieldsOf checks the members of a small object against the known names.
func fieldsOf(value any, expected string, known ...string) (map[string]any, error) {
	object, ok := value.(jsonObject)
	if !ok {
		return nil, fmt.Errorf("expected %s, got %s", expected, describeJSON(value))
	}
	fields := make(map[string]any, len(known))
	for _, m := range object {
		if _, twice := fields[m.name]; twice {
			return nil, fmt.Errorf("%q given twice", clipText(m.name, maxShownKeyBytes))
		}
		if nearest := nearestOf(m.name, known); nearest != m.name {
			return nil, fmt.Errorf("unknown key %q, the nearest known one is %q", clipText(m.name, maxShownKeyBytes), nearest)
		}
		fields[m.name] = m.value
	}
	return fields, nil
}

func nearestOf(name string, known []string) string {
	nearest := known[0]
	for _, candidate := range known {
		if candidate == name {
			return candidate
		}
		if editDistance(name, candidate) < editDistance(name, nearest) {
			nearest = candidate
		}
	}
	return nearest
}

func checkPath(path string) error {
	switch {
	case strings.ContainsRune(path, 0):
		return errors.New("a path holds no NUL character")
	case len(path) > maxPathBytes:
		return fmt.Errorf("the path has %d bytes, at most %d", len(path), maxPathBytes)
	}
	return nil
}

func checkLogName(name string) error {
	if len(name) > maxLogNameBytes || strings.ContainsFunc(name, unicode.IsControl) {
		return fmt.Errorf("expected at most %d bytes without control characters", maxLogNameBytes)
	}
	return nil
}

func checkPopMessages(layout string) error {
	if layout != PopJSON && layout != PopBinary {
		return fmt.Errorf("expected %q or %q, got %q", PopJSON, PopBinary, clipText(layout, maxShownValueBytes))
	}
	return nil
}

func checkDialFirst(transport string) error {
	if transport != dialFirstQUIC && transport != dialFirstTCP {
		return fmt.Errorf("expected %q or %q, got %q", dialFirstQUIC, dialFirstTCP, clipText(transport, maxShownValueBytes))
	}
	return nil
}

// checkDomain accepts what can stand in /dns4/<domain>: a name, no wildcard and no IP address.
func checkDomain(domain string) error {
	_, err := netip.ParseAddr(domain)
	good := err != nil && len(domain) <= maxDomainBytes
	for label := range strings.SplitSeq(domain, ".") {
		good = good && isDNSLabel(label)
	}
	if !good {
		return fmt.Errorf("expected a DNS name such as node.example.org, got %q", clipText(domain, maxShownValueBytes))
	}
	return nil
}

func isDNSLabel(label string) bool {
	for _, c := range label {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && !(c >= '0' && c <= '9') && c != '-' && c != '_' {
			return false
		}
	}
	return label != "" && len(label) <= maxLabelBytes && label[0] != '-' && label[len(label)-1] != '-'
}

// peerOf reads a multiaddr ending in /p2p/<peer id>, or {"ID": ..., "Addrs": [...]}.
func peerOf(value any) (peer.AddrInfo, error) {
	text, ok := value.(string)
	if !ok {
		return peerObjectOf(value)
	}
	info, err := peer.AddrInfoFromString(text)
	if err != nil || len(info.Addrs) == 0 {
		return peer.AddrInfo{}, fmt.Errorf("expected a multiaddr such as /ip4/192.0.2.1/tcp/4001/p2p/<peer id>, got %q",
			clipText(text, maxShownValueBytes))
	}
	return *info, nil
}

func peerObjectOf(value any) (peer.AddrInfo, error) {
	fields, err := fieldsOf(value, `a multiaddr or {"ID": ..., "Addrs": [...]}`, "ID", "Addrs")
	if err != nil {
		return peer.AddrInfo{}, err
	}
	text, _ := fields["ID"].(string)
	id, err := peer.Decode(text)
	if err != nil {
		return peer.AddrInfo{}, fmt.Errorf("at ID: expected a peer id, got %s", describeJSON(fields["ID"]))
	}
	addrs, ok := fields["Addrs"].([]any)
	if !ok || len(addrs) == 0 {
		return peer.AddrInfo{}, errors.New("at Addrs: expected a list of at least one multiaddr")
	}
	info := peer.AddrInfo{ID: id}
	info.Addrs, err = entriesOf(addrs, func(value any) (ma.Multiaddr, error) { return addrOfPeer(value, id) })
	if err != nil {
		return peer.AddrInfo{}, fmt.Errorf("at Addrs: %w", err)
	}
	return info, nil
}

// addrOfPeer reads one address of a known peer, which may repeat the peer's id.
func addrOfPeer(value any, id peer.ID) (ma.Multiaddr, error) {
	text, err := textOf(value)
	if err != nil {
		return nil, err
	}
	addr, err := ma.NewMultiaddr(text)
	if err != nil {
		return nil, fmt.Errorf("expected a multiaddr, got %q", clipText(text, maxShownValueBytes))
	}
	transport, stated := peer.SplitAddr(addr)
	if stated != "" && stated != id {
		return nil, fmt.Errorf("the address is of another peer, %s", stated)
	}
	if len(transport) == 0 {
		return nil, errors.New("the address names a peer but no way to it")
	}
	return transport, nil
}

// relayOf is peerOf for a relay, which cannot itself stand behind a relay.
func relayOf(value any) (peer.AddrInfo, error) {
	info, err := peerOf(value)
	for _, addr := range info.Addrs {
		if _, lookup := addr.ValueForProtocol(ma.P_CIRCUIT); lookup == nil {
			return peer.AddrInfo{}, errors.New("a relay needs an address without /p2p-circuit")
		}
	}
	return info, err
}

// peerIDOf reads a peer id.
func peerIDOf(value any) (peer.ID, error) {
	text, err := textOf(value)
	if err != nil {
		return "", err
	}
	id, err := peer.Decode(text)
	if err != nil {
		return "", fmt.Errorf("expected a peer id, got %q", clipText(text, maxShownValueBytes))
	}
	return id, nil
}

func checkToken(token string) error {
	if len(token) > maxTokenBytes {
		return fmt.Errorf("the token has %d bytes, at most %d", len(token), maxTokenBytes)
	}
	return nil
}

// announceAddrOf reads an address that others can dial, without /p2p/<id>.
func announceAddrOf(value any) (ma.Multiaddr, error) {
	text, err := textOf(value)
	if err != nil {
		return nil, err
	}
	addr, err := ma.NewMultiaddr(text)
	if err != nil || len(addr) < 2 || hasProtocol(addr, ma.P_P2P) {
		return nil, fmt.Errorf("expected a multiaddr such as /ip4/203.0.113.7/tcp/4001 without /p2p/, got %q", clipText(text, maxShownValueBytes))
	}
	return addr, nil
}

// withoutRepeated keeps the first of the entries with equal names.
func withoutRepeated[T any](entries []T, name func(T) string) []T {
	var kept []T
	seen := make(map[string]bool, len(entries))
	for _, entry := range entries {
		if !seen[name(entry)] {
			seen[name(entry)] = true
			kept = append(kept, entry)
		}
	}
	return kept
}

// mergePeers joins the entries of one peer and keeps the order of peers and of addresses.
func mergePeers(infos []peer.AddrInfo) []peer.AddrInfo {
	var merged []peer.AddrInfo
	index := map[peer.ID]int{}
	seen := map[string]bool{}
	for _, info := range infos {
		at, known := index[info.ID]
		if !known {
			at = len(merged)
			index[info.ID] = at
			merged = append(merged, peer.AddrInfo{ID: info.ID})
		}
		for _, addr := range info.Addrs {
			if key := string(info.ID) + string(addr.Bytes()); !seen[key] {
				seen[key] = true
				merged[at].Addrs = append(merged[at].Addrs, addr)
			}
		}
	}
	return merged
}
