package node

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// stunURIOf reads a URI of RFC 7064: stun:host[:port] or stuns:.
func stunURIOf(value any) (string, error) {
	uri, err := textOf(value)
	if err != nil {
		return "", err
	}
	scheme, server, _ := strings.Cut(uri, ":")
	if (scheme != "stun" && scheme != "stuns") || !isHostPort(server) {
		return "", fmt.Errorf("expected a URI such as stun:stun.example.org:3478, got %q", clipText(uri, maxShownValueBytes))
	}
	return uri, nil
}

// turnURIOf reads a URI of RFC 7065: turn:host[:port][?transport=udp|tcp] or turns:.
func turnURIOf(value any) (string, error) {
	uri, err := textOf(value)
	if err != nil {
		return "", err
	}
	scheme, rest, _ := strings.Cut(uri, ":")
	server, query, hasQuery := strings.Cut(rest, "?")
	goodQuery := !hasQuery || query == "transport=udp" || query == "transport=tcp"
	if scheme == "stun" || scheme == "stuns" {
		return "", errors.New("a STUN server belongs into webrtc.ice_config.stun_servers")
	}
	if (scheme != "turn" && scheme != "turns") || !goodQuery || !isHostPort(server) {
		return "", fmt.Errorf("expected a URI such as turn:turn.example.org:3478?transport=udp, got %q",
			clipText(uri, maxShownValueBytes))
	}
	return uri, nil
}

// isHostPort accepts a DNS name, an IPv4 address or an IPv6 address in brackets, each with or
// without a port.
func isHostPort(server string) bool {
	host, port := server, ""
	if at := strings.LastIndexByte(server, ':'); at >= 0 && !strings.HasSuffix(server, "]") {
		host, port = server[:at], server[at+1:]
		if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 {
			return false
		}
	}
	if inner, bracketed := strings.CutPrefix(host, "["); bracketed {
		ip, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		return err == nil && ip.Is6() && strings.HasSuffix(host, "]")
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Is4() || err != nil && checkDomain(host) == nil
}

// turnServerOf reads {"urls", "username", "credential"}. Its messages never repeat the account.
func turnServerOf(value any) (TURNServer, error) {
	fields, err := fieldsOf(value, `an object with "urls", "username" and "credential"`, "urls", "username", "credential")
	if err != nil {
		return TURNServer{}, err
	}
	server := TURNServer{}
	urls := fields["urls"]
	if text, ok := urls.(string); ok {
		urls = []any{text}
	}
	list, ok := urls.([]any)
	if !ok || len(list) == 0 {
		return TURNServer{}, errors.New("urls: expected a URI or a list of them")
	}
	if server.URLs, err = entriesOf(list, turnURIOf); err != nil {
		return TURNServer{}, fmt.Errorf("urls: %w", err)
	}
	server.Username, _ = fields["username"].(string)
	server.Credential, _ = fields["credential"].(string)
	if slices.Contains([]string{server.Username, server.Credential}, "") {
		return TURNServer{}, errors.New("username and credential: expected two texts, a TURN server needs an account")
	}
	return server, nil
}
