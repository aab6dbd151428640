package pool

import (
	"crypto"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Verifier verifies tokens with one public key.
type Verifier struct {
	key      crypto.PublicKey
	method   jwt.SigningMethod
	now      func() time.Time
	cache    *tokenCache
	failures *failureLimits
}

// NewVerifier takes the public key in PEM or as a JWK.
func NewVerifier(publicKey string) (*Verifier, error) {
	key, err := ParsePublicKey(publicKey)
	if err != nil {
		return nil, err
	}
	method, err := methodOf(key)
	if err != nil {
		return nil, err
	}
	return &Verifier{key: key, method: method, now: time.Now, cache: newTokenCache(), failures: newFailureLimits()}, nil
}

// Algorithm is the only algorithm that tokens may use.
func (v *Verifier) Algorithm() string { return v.method.Alg() }

// verifiedToken is a token that holds for one peer until its claims expire.
type verifiedToken struct {
	raw    string
	claims Claims
}

// Verify answers the claims of a token that holds for the peer now. Errors: ErrNoToken, ErrBadToken, ErrExpiredToken,
// ErrTokenPeer, and ErrTokenRate while the peer has failed too often.
func (v *Verifier) Verify(token, peerID string) (Claims, error) {
	verified, err := v.verify([]byte(token), peerID)
	if err != nil {
		return Claims{}, err
	}
	return verified.claims, nil
}

// VerifyMatching is Verify, and also compares claims.
func (v *Verifier) VerifyMatching(token, peerID string, match Match) (Claims, error) {
	claims, err := v.Verify(token, peerID)
	if err != nil {
		return Claims{}, err
	}
	if !claims.matches(match) {
		return Claims{}, fmt.Errorf("%w: it is not for the node, ip, hostname or port asked for", ErrBadToken)
	}
	return claims, nil
}

func (v *Verifier) verify(token []byte, peerID string) (*verifiedToken, error) {
	switch {
	case len(token) == 0:
		return nil, ErrNoToken
	case len(token) > MaxTokenBytes:
		return nil, fmt.Errorf("%w: %d bytes, at most %d are read", ErrBadToken, len(token), MaxTokenBytes)
	}
	now := v.now()
	if known := v.cache.find(peerID, token); known != nil {
		if now.Before(known.claims.Expires) {
			return known, nil
		}
		return nil, ErrExpiredToken
	}
	if err := v.failures.admit(peerID, token, now); err != nil {
		return nil, err
	}
	verified, err := v.check(string(token), peerID)
	if err != nil {
		v.failures.note(peerID, token, now, err)
		return nil, err
	}
	v.cache.add(peerID, verified)
	return verified, nil
}

// check does the work, without cache and limits.
func (v *Verifier) check(token, peerID string) (*verifiedToken, error) {
	var wire tokenClaims
	parser := jwt.NewParser(jwt.WithValidMethods([]string{v.method.Alg()}), jwt.WithExpirationRequired(),
		jwt.WithTimeFunc(v.now), jwt.WithStrictDecoding())
	parsed, err := parser.ParseWithClaims(token, &wire, func(*jwt.Token) (any, error) { return v.key, nil })
	switch {
	case errors.Is(err, jwt.ErrTokenExpired) && !errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return nil, ErrExpiredToken
	case err != nil:
		return nil, fmt.Errorf("%w: %v", ErrBadToken, err)
	case parsed.Header["crit"] != nil:
		return nil, fmt.Errorf("%w: its header asks for extensions that are not known", ErrBadToken)
	}
	claims, err := wire.claims()
	if err != nil {
		return nil, err
	}
	if !claims.names(peerID) {
		return nil, fmt.Errorf("%w: %.128q is not among its p2p_peers", ErrTokenPeer, peerID)
	}
	return &verifiedToken{raw: token, claims: claims}, nil
}

// ReasonOfToken is the reason of GEN-02 for an error of Verify.
func ReasonOfToken(err error) string {
	for _, line := range []struct {
		err    error
		reason string
	}{
		{ErrNoToken, ReasonNoToken}, {ErrExpiredToken, ReasonExpiredToken},
		{ErrTokenPeer, ReasonTokenPeerMismatch}, {ErrTokenRate, ReasonRateLimited},
	} {
		if errors.Is(err, line.err) {
			return line.reason
		}
	}
	return ReasonBadToken
}

// VerifyToken verifies a token for a peer with the set's key. Without a key the answer is ErrNoPolicy.
func (s *Set) VerifyToken(token, peerID string) (Claims, error) {
	return s.VerifyTokenMatching(token, peerID, Match{})
}

// VerifyTokenMatching is VerifyToken, and also compares claims.
func (s *Set) VerifyTokenMatching(token, peerID string, match Match) (Claims, error) {
	if s.verifier == nil {
		return Claims{}, fmt.Errorf("%w: the set has no public key", ErrNoPolicy)
	}
	return s.verifier.VerifyMatching(token, peerID, match)
}

// LastToken is the raw token that the pooled peer's last message carried; ok is false when there is none.
func (s *Set) LastToken(id string) (token string, ok bool) {
	s.state.RLock()
	defer s.state.RUnlock()
	m := s.state.members[id]
	if m == nil {
		return "", false
	}
	verified := m.verified.Load()
	if verified == nil {
		return "", false
	}
	return verified.raw, true
}

// LastClaims verifies the last token of a pooled peer again and answers its claims; ok is false for none or an expired one.
func (s *Set) LastClaims(id string) (claims Claims, ok bool) {
	token, ok := s.LastToken(id)
	if !ok || s.verifier == nil {
		return Claims{}, false
	}
	claims, err := s.verifier.Verify(token, id)
	return claims, err == nil
}
