package pool

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Claims are what a verified token says (POOL-13).
type Claims struct {
	NodeID   string    `json:"node_id"`
	CVHash   string    `json:"cv_hash,omitempty"`
	CodeHash string    `json:"code_hash,omitempty"`
	IP       string    `json:"ip,omitempty"`
	Hostname string    `json:"hostname,omitempty"`
	Port     int       `json:"port,omitempty"`
	Peers    []string  `json:"p2p_peers"`
	Expires  time.Time `json:"exp"`
}

// Match are claims that must have these values; nil is not compared. A claim that the token lacks is "" or 0.
type Match struct {
	NodeID   *string `json:"node_id"`
	IP       *string `json:"ip"`
	Hostname *string `json:"hostname"`
	Port     *int    `json:"port"`
}

func (c *Claims) matches(m Match) bool {
	return agrees(m.NodeID, c.NodeID) && agrees(m.IP, c.IP) && agrees(m.Hostname, c.Hostname) && agrees(m.Port, c.Port)
}

func agrees[T comparable](wanted *T, claim T) bool { return wanted == nil || *wanted == claim }

// tokenClaims is the wire form. Optional claims are read leniently: one of a strange type is as good as absent.
type tokenClaims struct {
	NodeID    string           `json:"node_id"`
	CVHash    json.RawMessage  `json:"cv_hash,omitempty"`
	CodeHash  json.RawMessage  `json:"code_hash,omitempty"`
	IP        json.RawMessage  `json:"ip,omitempty"`
	Hostname  json.RawMessage  `json:"hostname,omitempty"`
	Port      json.RawMessage  `json:"port,omitempty"`
	Peers     json.RawMessage  `json:"p2p_peers"`
	Expires   *jwt.NumericDate `json:"exp,omitempty"`
	NotBefore *jwt.NumericDate `json:"nbf,omitempty"`
}

func (c *tokenClaims) GetExpirationTime() (*jwt.NumericDate, error) { return c.Expires, nil }
func (c *tokenClaims) GetNotBefore() (*jwt.NumericDate, error)      { return c.NotBefore, nil }
func (c *tokenClaims) GetIssuedAt() (*jwt.NumericDate, error)       { return nil, nil }
func (c *tokenClaims) GetIssuer() (string, error)                   { return "", nil }
func (c *tokenClaims) GetSubject() (string, error)                  { return "", nil }
func (c *tokenClaims) GetAudience() (jwt.ClaimStrings, error)       { return nil, nil }

func (c *tokenClaims) claims() (Claims, error) {
	if c.NodeID == "" {
		return Claims{}, fmt.Errorf("%w: it names no node_id", ErrBadToken)
	}
	peers, err := readPeers(c.Peers)
	if err != nil {
		return Claims{}, err
	}
	return Claims{
		NodeID: c.NodeID, CVHash: lenient[string](c.CVHash), CodeHash: lenient[string](c.CodeHash), IP: lenient[string](c.IP),
		Hostname: lenient[string](c.Hostname), Port: lenient[int](c.Port), Peers: peers, Expires: c.Expires.Time,
	}, nil
}

func lenient[T any](raw json.RawMessage) T {
	var value T
	if json.Unmarshal(raw, &value) != nil {
		var none T
		return none
	}
	return value
}

// readPeers takes a list, or a text that holds a JSON list, as the issuer of the existing network writes it.
func readPeers(raw json.RawMessage) ([]string, error) {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		raw = json.RawMessage(text)
	}
	var peers []string
	if err := json.Unmarshal(raw, &peers); err != nil {
		return nil, fmt.Errorf("%w: p2p_peers is no list of peer ids: %v", ErrBadToken, err)
	}
	if len(peers) > maxTokenPeers {
		return nil, fmt.Errorf("%w: it names %d peers, at most %d are read", ErrBadToken, len(peers), maxTokenPeers)
	}
	return peers, nil
}

func (c *Claims) names(peerID string) bool { return slices.Contains(c.Peers, peerID) }
