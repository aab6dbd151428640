package pool

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	// DefaultTokenLifetime is that of tokens whose issuer is told nothing else; see TokenRenewalInterval.
	DefaultTokenLifetime = 24 * time.Hour
	// MaxTokenLifetime bounds it.
	MaxTokenLifetime = 10 * 365 * 24 * time.Hour
	// issuedRSABits is the size of generated RSA keys.
	issuedRSABits = 2048
)

// GenerateKey makes a key pair for an algorithm, in PEM (PKCS 8 and PKIX).
func GenerateKey(algorithm string) (privateKey, publicKey string, err error) {
	var signer crypto.Signer
	switch algorithm {
	case AlgorithmRS256:
		signer, err = rsa.GenerateKey(rand.Reader, issuedRSABits)
	case AlgorithmEdDSA:
		_, signer, err = ed25519.GenerateKey(rand.Reader)
	case AlgorithmES256:
		signer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	default:
		return "", "", fmt.Errorf("%w: algorithm %.64q; there are %s, %s and %s", ErrArgument, algorithm, AlgorithmRS256, AlgorithmEdDSA, AlgorithmES256)
	}
	if err != nil {
		return "", "", fmt.Errorf("%w: generating a key: %v", ErrInternal, err)
	}
	return encodeKeys(signer)
}

func encodeKeys(signer crypto.Signer) (privateKey, publicKey string, err error) {
	private, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		return "", "", fmt.Errorf("%w: encoding a private key: %v", ErrInternal, err)
	}
	public, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return "", "", fmt.Errorf("%w: encoding a public key: %v", ErrInternal, err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})), nil
}

// Issuer signs tokens, for tests and small deployments. It signs what it is asked for: whoever runs it decides for whom.
type Issuer struct {
	key    crypto.Signer
	method jwt.SigningMethod
	now    func() time.Time
}

// NewIssuer takes the private key in PEM.
func NewIssuer(privateKey string) (*Issuer, error) {
	key, err := ParsePrivateKey(privateKey)
	if err != nil {
		return nil, err
	}
	method, err := methodOf(key.Public())
	if err != nil {
		return nil, err
	}
	return &Issuer{key: key, method: method, now: time.Now}, nil
}

// PublicKey is the key in PEM that verifies the issuer's tokens.
func (i *Issuer) PublicKey() (string, error) {
	_, public, err := encodeKeys(i.key)
	return public, err
}

// Request says what a token is to contain.
type Request struct {
	NodeID   string   `json:"node_id"`
	CVHash   string   `json:"cv_hash,omitempty"`
	CodeHash string   `json:"code_hash,omitempty"`
	IP       string   `json:"ip,omitempty"`
	Hostname string   `json:"hostname,omitempty"`
	Port     int      `json:"port,omitempty"`
	Peers    []string `json:"p2p_peers"`
	// LifetimeSeconds 0 is DefaultTokenLifetime.
	LifetimeSeconds float64 `json:"lifetime_seconds,omitempty"`
	// PeersAsText writes p2p_peers as the existing network's issuer does.
	PeersAsText bool `json:"p2p_peers_as_text,omitempty"`
}

// Issue signs a token.
func (i *Issuer) Issue(r Request) (string, error) {
	lifetime, err := r.lifetime()
	if err != nil {
		return "", err
	}
	now := i.now()
	claims := jwt.MapClaims{"node_id": r.NodeID, "cv_hash": r.CVHash, "p2p_peers": r.Peers, "iat": now.Unix()}
	// Whole seconds, rounded up: readers of the existing network cut fractions off.
	claims["exp"] = now.Add(lifetime + time.Second - 1).Unix()
	if r.PeersAsText {
		text, err := json.Marshal(r.Peers)
		if err != nil {
			return "", fmt.Errorf("%w: p2p_peers: %v", ErrArgument, err)
		}
		claims["p2p_peers"] = string(text)
	}
	for name, value := range map[string]string{"code_hash": r.CodeHash, "ip": r.IP, "hostname": r.Hostname} {
		if value != "" {
			claims[name] = value
		}
	}
	if r.Port != 0 {
		claims["port"] = r.Port
	}
	token, err := jwt.NewWithClaims(i.method, claims).SignedString(i.key)
	if err != nil {
		return "", fmt.Errorf("%w: signing: %v", ErrInternal, err)
	}
	return token, checkOwnToken(token)
}

func (r *Request) lifetime() (time.Duration, error) {
	switch {
	case r.NodeID == "":
		return 0, fmt.Errorf("%w: a token needs a node_id", ErrArgument)
	case len(r.Peers) == 0 || len(r.Peers) > maxTokenPeers:
		return 0, fmt.Errorf("%w: a token for %d peers; it names 1 to %d", ErrArgument, len(r.Peers), maxTokenPeers)
	case r.LifetimeSeconds == 0:
		return DefaultTokenLifetime, nil
	case !(r.LifetimeSeconds > 0 && r.LifetimeSeconds <= MaxTokenLifetime.Seconds()):
		return 0, fmt.Errorf("%w: a lifetime of %v s, it is above 0 and at most %v", ErrArgument, r.LifetimeSeconds, MaxTokenLifetime.Seconds())
	}
	return time.Duration(r.LifetimeSeconds * float64(time.Second)), nil
}
