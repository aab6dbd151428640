package pool

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

const (
	// maxKeyBytes bounds the text of a key.
	maxKeyBytes = 64 << 10
	// minRSABits and maxRSABits bound an RSA key: shorter ones are forgeable, longer ones slow to verify.
	minRSABits = 2048
	maxRSABits = 16384
)

// Algorithms of tokens. The configured key decides which one counts, never the header of a token.
const (
	AlgorithmRS256 = "RS256"
	AlgorithmEdDSA = "EdDSA"
	AlgorithmES256 = "ES256"
)

// methodOf is the one signing method for a public key.
func methodOf(key crypto.PublicKey) (jwt.SigningMethod, error) {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return nil, fmt.Errorf("%w: an RSA key of %d bits, it needs %d to %d", ErrKey, bits, minRSABits, maxRSABits)
		}
		return jwt.SigningMethodRS256, nil
	case ed25519.PublicKey:
		return jwt.SigningMethodEdDSA, nil
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return nil, fmt.Errorf("%w: an EC key on %s, only P-256 is used", ErrKey, k.Curve.Params().Name)
		}
		return jwt.SigningMethodES256, nil
	}
	return nil, fmt.Errorf("%w: a key of type %T; there are RSA, Ed25519 and EC P-256", ErrKey, key)
}

// ParsePublicKey reads a public key in PEM (PUBLIC KEY or RSA PUBLIC KEY) or as a JWK.
func ParsePublicKey(text string) (crypto.PublicKey, error) {
	key, err := readPublicKey(text)
	if err != nil {
		return nil, err
	}
	if _, err := methodOf(key); err != nil {
		return nil, err
	}
	return key, nil
}

func readPublicKey(text string) (crypto.PublicKey, error) {
	if len(text) > maxKeyBytes {
		return nil, fmt.Errorf("%w: %d bytes of text, at most %d are read", ErrKey, len(text), maxKeyBytes)
	}
	if trimmed := strings.TrimSpace(text); strings.HasPrefix(trimmed, "{") {
		return parseJWK([]byte(trimmed))
	}
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, fmt.Errorf("%w: it is neither PEM nor a JWK", ErrKey)
	}
	var key crypto.PublicKey
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY":
		return nil, fmt.Errorf("%w: a private key was given where the public one belongs", ErrKey)
	default:
		return nil, fmt.Errorf("%w: a PEM block of type %.64q instead of \"PUBLIC KEY\"", ErrKey, block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrKey, err)
	}
	return key, nil
}

// parseJWK reads a public key of RFC 7517 and RFC 8037.
func parseJWK(data []byte) (crypto.PublicKey, error) {
	var k struct {
		Type       string `json:"kty"`
		Curve      string `json:"crv"`
		N, E, X, Y string
		D          string
	}
	if err := json.Unmarshal(data, &k); err != nil {
		return nil, fmt.Errorf("%w: malformed JWK: %v", ErrKey, err)
	}
	if k.D != "" {
		return nil, fmt.Errorf("%w: a private key was given where the public one belongs", ErrKey)
	}
	switch k.Type + " " + k.Curve {
	case "RSA ":
		return rsaFromJWK(k.N, k.E)
	case "OKP Ed25519":
		x, err := base64.RawURLEncoding.DecodeString(k.X)
		if err != nil || len(x) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("%w: x of the JWK is not an Ed25519 point", ErrKey)
		}
		return ed25519.PublicKey(x), nil
	case "EC P-256":
		return ecFromJWK(k.X, k.Y)
	}
	return nil, fmt.Errorf("%w: a JWK with kty %.16q and crv %.16q; there are RSA, OKP Ed25519 and EC P-256", ErrKey, k.Type, k.Curve)
}

func rsaFromJWK(modulus, exponent string) (crypto.PublicKey, error) {
	n, errN := base64.RawURLEncoding.DecodeString(modulus)
	e, errE := base64.RawURLEncoding.DecodeString(exponent)
	if errN != nil || errE != nil || len(e) == 0 || len(e) > 4 {
		return nil, fmt.Errorf("%w: n or e of the JWK is malformed", ErrKey)
	}
	key := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
	if key.E < 3 || key.E%2 == 0 {
		return nil, fmt.Errorf("%w: e of the JWK is %d", ErrKey, key.E)
	}
	return key, nil
}

func ecFromJWK(x, y string) (crypto.PublicKey, error) {
	const coordinate = 32
	bx, errX := base64.RawURLEncoding.DecodeString(x)
	by, errY := base64.RawURLEncoding.DecodeString(y)
	if errX != nil || errY != nil || len(bx) != coordinate || len(by) != coordinate {
		return nil, fmt.Errorf("%w: x or y of the JWK is malformed", ErrKey)
	}
	point := append(append([]byte{4}, bx...), by...) // the uncompressed form
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrKey, err)
	}
	return key, nil
}

// ParsePrivateKey reads a private key in PEM (PRIVATE KEY, RSA PRIVATE KEY or EC PRIVATE KEY).
func ParsePrivateKey(text string) (crypto.Signer, error) {
	if len(text) > maxKeyBytes {
		return nil, fmt.Errorf("%w: %d bytes of text, at most %d are read", ErrKey, len(text), maxKeyBytes)
	}
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, fmt.Errorf("%w: it is not PEM", ErrKey)
	}
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("%w: a PEM block of type %.64q instead of \"PRIVATE KEY\"", ErrKey, block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrKey, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%w: a key of type %T cannot sign", ErrKey, key)
	}
	return signer, nil
}
