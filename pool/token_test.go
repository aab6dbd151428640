package pool

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// authority is an issuer with its verifier, on one clock.
type authority struct {
	*Issuer
	verifier  *Verifier
	publicKey string
	clock     *clock
}

func newAuthority(t testing.TB, algorithm string) authority {
	t.Helper()
	private, public, err := GenerateKey(algorithm)
	must(t, err)
	a := authority{publicKey: public, clock: newClock()}
	a.Issuer, err = NewIssuer(private)
	must(t, err)
	a.verifier, err = NewVerifier(public)
	must(t, err)
	a.Issuer.now, a.verifier.now = a.clock.now, a.clock.now
	return a
}

func (a authority) issue(t testing.TB, r Request) string {
	t.Helper()
	token, err := a.Issue(r)
	must(t, err)
	return token
}

// sign signs any claims, as an issuer that is not ours might.
func (a authority) sign(t testing.TB, claims jwt.MapClaims) string {
	t.Helper()
	token, err := jwt.NewWithClaims(a.method, claims).SignedString(a.key)
	must(t, err)
	return token
}

func TestEachAlgorithmIssuesAndVerifies(t *testing.T) {
	for _, algorithm := range []string{AlgorithmRS256, AlgorithmEdDSA, AlgorithmES256} {
		t.Run(algorithm, func(t *testing.T) {
			a := newAuthority(t, algorithm)
			request := Request{
				NodeID: "node", CVHash: "cv", CodeHash: "code", IP: "10.0.0.1", Hostname: "host", Port: 7, Peers: []string{"p", "q"},
				LifetimeSeconds: 60, PeersAsText: true,
			}
			token := a.issue(t, request)
			claims, err := a.verifier.Verify(token, "q")
			must(t, err)
			want := Claims{
				NodeID: "node", CVHash: "cv", CodeHash: "code", IP: "10.0.0.1", Hostname: "host", Port: 7, Peers: []string{"p", "q"},
				Expires: claims.Expires,
			}
			if fmt.Sprint(claims) != fmt.Sprint(want) || claims.Expires.Unix() != a.clock.now().Unix()+60 {
				t.Fatalf("got %+v", claims)
			}
			if a.verifier.Algorithm() != algorithm {
				t.Fatalf("algorithm %s", a.verifier.Algorithm())
			}
		})
	}
}

func TestThePeersOfATokenAreAListOrATextThatHoldsOne(t *testing.T) {
	a := newAuthority(t, AlgorithmEdDSA)
	exp := a.clock.now().Add(time.Minute).Unix()
	for name, c := range map[string]struct {
		peers any
		want  error
	}{
		"list":                {[]string{"p"}, nil},
		"text":                {`["p"]`, nil},
		"empty list":          {[]string{}, ErrTokenPeer},
		"null":                {nil, ErrBadToken},
		"others":              {[]string{"pp", "x"}, ErrTokenPeer},
		"text that contains":  {"p", ErrBadToken},
		"text within a text":  {`"[\"p\"]"`, ErrBadToken},
		"number":              {5, ErrBadToken},
		"list of numbers":     {[]int{1}, ErrBadToken},
		"object":              {map[string]int{"p": 1}, ErrBadToken},
		"more than are read":  {append(make([]string, maxTokenPeers), "p"), ErrBadToken},
		"case does not match": {[]string{"P"}, ErrTokenPeer},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := a.verifier.Verify(a.sign(t, jwt.MapClaims{"node_id": "n", "exp": exp, "p2p_peers": c.peers}), "p")
			wantError(t, err, c.want)
		})
	}
}

func TestATokenNeedsItsClaims(t *testing.T) {
	a := newAuthority(t, AlgorithmEdDSA)
	now := a.clock.now()
	for name, c := range map[string]struct {
		change func(jwt.MapClaims)
		want   error
	}{
		"whole":                {func(jwt.MapClaims) {}, nil},
		"no exp":               {func(m jwt.MapClaims) { delete(m, "exp") }, ErrBadToken},
		"exp in the past":      {func(m jwt.MapClaims) { m["exp"] = now.Add(-time.Second).Unix() }, ErrExpiredToken},
		"exp now":              {func(m jwt.MapClaims) { m["exp"] = now.Unix() }, ErrExpiredToken},
		"exp as text":          {func(m jwt.MapClaims) { m["exp"] = "tomorrow" }, ErrBadToken},
		"exp beyond numbers":   {func(m jwt.MapClaims) { m["exp"] = json.Number("1e300") }, ErrExpiredToken},
		"not valid yet":        {func(m jwt.MapClaims) { m["nbf"] = now.Add(time.Minute).Unix() }, ErrBadToken},
		"no node_id":           {func(m jwt.MapClaims) { delete(m, "node_id") }, ErrBadToken},
		"node_id as number":    {func(m jwt.MapClaims) { m["node_id"] = 3 }, ErrBadToken},
		"no p2p_peers":         {func(m jwt.MapClaims) { delete(m, "p2p_peers") }, ErrBadToken},
		"strange optional one": {func(m jwt.MapClaims) { m["port"], m["cv_hash"] = "x", []int{1} }, nil},
		"strange audience":     {func(m jwt.MapClaims) { m["aud"], m["sub"] = 5, []int{1} }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			claims := jwt.MapClaims{"node_id": "n", "exp": now.Add(time.Minute).Unix(), "p2p_peers": []string{"p"}}
			c.change(claims)
			_, err := a.verifier.check(a.sign(t, claims), "p")
			wantError(t, err, c.want)
		})
	}
}

func TestTheKeyDecidesTheAlgorithmNotTheHeader(t *testing.T) {
	rs := newAuthority(t, AlgorithmRS256)
	good := rs.issue(t, Request{NodeID: "n", Peers: []string{"p"}})
	parts := strings.Split(good, ".")
	encode := base64.RawURLEncoding.EncodeToString
	// The classic attacks: no signature at all, and the public key as an HMAC secret.
	none := encode([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + parts[1] + "."
	signed := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + parts[1]
	mac := hmac.New(sha256.New, []byte(rs.publicKey))
	mac.Write([]byte(signed))
	other := newAuthority(t, AlgorithmEdDSA)
	for name, token := range map[string]string{
		"none":                     none,
		"HMAC with the public key": signed + "." + encode(mac.Sum(nil)),
		"RS512 in the header":      encode([]byte(`{"alg":"RS512"}`)) + "." + parts[1] + "." + parts[2],
		"another algorithm":        other.issue(t, Request{NodeID: "n", Peers: []string{"p"}}),
		"another key":              newAuthority(t, AlgorithmRS256).issue(t, Request{NodeID: "n", Peers: []string{"p"}}),
		"changed claims":           parts[0] + "." + encode([]byte(`{"node_id":"root","exp":99999999999,"p2p_peers":["p"]}`)) + "." + parts[2],
		"no signature":             parts[0] + "." + parts[1] + ".",
		"two parts":                parts[0] + "." + parts[1],
		"four parts":               good + ".x",
		"junk":                     "junk",
	} {
		_, err := rs.verifier.check(token, "p")
		if !errors.Is(err, ErrBadToken) {
			t.Errorf("%s: got error %v", name, err)
		}
	}
	_, err := rs.verifier.check(good, "p")
	must(t, err)
	// Even the right key with another of its algorithms is refused.
	for _, method := range []jwt.SigningMethod{jwt.SigningMethodRS512, jwt.SigningMethodPS256} {
		claims := jwt.MapClaims{"node_id": "n", "exp": rs.clock.now().Unix() + 60, "p2p_peers": []string{"p"}}
		token, err := jwt.NewWithClaims(method, claims).SignedString(rs.key)
		must(t, err)
		_, err = rs.verifier.check(token, "p")
		wantError(t, err, ErrBadToken)
	}
}

func TestCriticalExtensionsAreRefused(t *testing.T) {
	a := newAuthority(t, AlgorithmEdDSA)
	token := jwt.NewWithClaims(a.method, jwt.MapClaims{"node_id": "n", "exp": a.clock.now().Unix() + 60, "p2p_peers": []string{"p"}})
	token.Header["crit"] = []string{"x"}
	text, err := token.SignedString(a.key)
	must(t, err)
	_, err = a.verifier.Verify(text, "p")
	wantError(t, err, ErrBadToken)
}

func TestClaimsAreComparedOnRequest(t *testing.T) {
	a := newAuthority(t, AlgorithmEdDSA)
	token := a.issue(t, Request{NodeID: "n", IP: "i", Hostname: "h", Port: 1, Peers: []string{"p"}})
	for _, m := range []Match{{}, {NodeID: new("n")}, {IP: new("i")}, {Hostname: new("h")}, {Port: new(1)}} {
		_, err := a.verifier.VerifyMatching(token, "p", m)
		must(t, err)
	}
	for _, m := range []Match{
		{NodeID: new("x")}, {IP: new("x")}, {Hostname: new("x")}, {Port: new(2)}, {NodeID: new("n"), Port: new(2)},
		{NodeID: new("")}, {IP: new("")}, {Hostname: new("")}, {Port: new(0)},
	} {
		_, err := a.verifier.VerifyMatching(token, "p", m)
		wantError(t, err, ErrBadToken)
	}
}

func TestACachedTokenExpires(t *testing.T) {
	a := newAuthority(t, AlgorithmEdDSA)
	token := a.issue(t, Request{NodeID: "n", Peers: []string{"p"}, LifetimeSeconds: 10})
	_, err := a.verifier.Verify(token, "p")
	must(t, err)
	a.clock.pass(10*time.Second - 1)
	_, err = a.verifier.Verify(token, "p")
	must(t, err)
	a.clock.pass(1)
	_, err = a.verifier.Verify(token, "p")
	wantError(t, err, ErrExpiredToken)
}

func TestACachedTokenHoldsForItsPeerOnly(t *testing.T) {
	a := newAuthority(t, AlgorithmEdDSA)
	token := a.issue(t, Request{NodeID: "n", Peers: []string{"p"}})
	_, err := a.verifier.Verify(token, "p")
	must(t, err)
	_, err = a.verifier.Verify(token, "thief")
	wantError(t, err, ErrTokenPeer)
}

func TestTheCacheIsBounded(t *testing.T) {
	c := newTokenCache()
	const peers = 20000
	for n := range peers {
		c.add(strconv.Itoa(n), &verifiedToken{raw: strings.Repeat("x", 2000)})
	}
	if c.state.bytes > maxCachedTokenBytes || len(c.state.byPeer) != c.state.recent.Len() || len(c.state.byPeer) >= peers {
		t.Fatalf("%d bytes, %d peers", c.state.bytes, len(c.state.byPeer))
	}
	if c.find(strconv.Itoa(peers-1), []byte(strings.Repeat("x", 2000))) == nil {
		t.Fatal("the newest is dropped")
	}
	for n := range 100 {
		c.add("one", &verifiedToken{raw: strconv.Itoa(n)})
	}
	if c.find("one", []byte("99")) == nil || c.find("one", []byte("98")) == nil || c.find("one", []byte("97")) != nil {
		t.Fatal("the newest tokens of a peer are kept, and only those")
	}
	for len(c.state.byPeer) > 0 {
		c.dropOldestLocked()
	}
	if c.state.bytes != 0 {
		t.Fatalf("%d bytes are counted of nothing", c.state.bytes)
	}
}

func TestATokenOfAMebibyteIsRefusedUnread(t *testing.T) {
	a := newAuthority(t, AlgorithmEdDSA)
	_, err := a.verifier.Verify(strings.Repeat("a", 1<<20), "p")
	wantError(t, err, ErrBadToken)
	if len(a.verifier.failures.state.byPeer) != 0 {
		t.Fatal("it was looked at")
	}
	_, err = a.verifier.Verify("", "p")
	wantError(t, err, ErrNoToken)
}

func TestFailedTokensAreLimitedPerPeer(t *testing.T) {
	a := newAuthority(t, AlgorithmEdDSA)
	for n := range failureBurst {
		_, err := a.verifier.Verify("bad"+strconv.Itoa(n), "p")
		wantError(t, err, ErrBadToken)
	}
	_, err := a.verifier.Verify("one too many", "p")
	wantError(t, err, ErrTokenRate)
	_, err = a.verifier.Verify("bad"+strconv.Itoa(failureBurst-1), "p") // known to be bad
	wantError(t, err, ErrBadToken)
	_, err = a.verifier.Verify("another peer", "q")
	wantError(t, err, ErrBadToken)
	a.clock.pass(time.Second)
	_, err = a.verifier.Verify(a.issue(t, Request{NodeID: "n", Peers: []string{"p"}}), "p")
	must(t, err)
}

func TestAKnownGoodTokenPassesDuringAFlood(t *testing.T) {
	a := newAuthority(t, AlgorithmEdDSA)
	good := a.issue(t, Request{NodeID: "n", Peers: []string{"p"}})
	_, err := a.verifier.Verify(good, "p")
	must(t, err)
	for n := range 1000 {
		if _, err := a.verifier.Verify("bad"+strconv.Itoa(n), "p"); err == nil {
			t.Fatal("accepted")
		}
	}
	_, err = a.verifier.Verify(good, "p")
	must(t, err)
}

func TestAFloodOfFailingPeersIsBounded(t *testing.T) {
	a := newAuthority(t, AlgorithmEdDSA)
	for n := range 3 * maxFailingPeers {
		_, err := a.verifier.Verify("bad", strconv.Itoa(n))
		wantError(t, err, ErrBadToken)
	}
	if held := len(a.verifier.failures.state.byPeer); held > maxFailingPeers {
		t.Fatalf("%d failing peers are remembered", held)
	}
}

func TestAnIssuerRefusesRequestsThatMakeNoToken(t *testing.T) {
	a := newAuthority(t, AlgorithmEdDSA)
	for name, r := range map[string]Request{
		"no node":           {Peers: []string{"p"}},
		"no peers":          {NodeID: "n"},
		"too many peers":    {NodeID: "n", Peers: make([]string, maxTokenPeers+1)},
		"negative lifetime": {NodeID: "n", Peers: []string{"p"}, LifetimeSeconds: -1},
		"endless lifetime":  {NodeID: "n", Peers: []string{"p"}, LifetimeSeconds: 1e18},
		"endless claim":     {NodeID: strings.Repeat("n", MaxTokenBytes), Peers: []string{"p"}},
	} {
		if _, err := a.Issue(r); !errors.Is(err, ErrArgument) {
			t.Errorf("%s: got error %v", name, err)
		}
	}
	if _, _, err := GenerateKey("HS256"); !errors.Is(err, ErrArgument) {
		t.Errorf("got error %v", err)
	}
}

func publicPEM(t *testing.T, kind string, der []byte) string {
	t.Helper()
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func TestKeysInEveryForm(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	edKey, _, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	pkix := func(key any) string {
		der, err := x509.MarshalPKIXPublicKey(key)
		must(t, err)
		return publicPEM(t, "PUBLIC KEY", der)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	point, err := ecKey.PublicKey.Bytes()
	must(t, err)
	for text, want := range map[string]string{
		pkix(&rsaKey.PublicKey): AlgorithmRS256,
		publicPEM(t, "RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&rsaKey.PublicKey)): AlgorithmRS256,
		pkix(&ecKey.PublicKey): AlgorithmES256,
		pkix(edKey):            AlgorithmEdDSA,
		`{"kty":"RSA","n":"` + b64(rsaKey.N.Bytes()) + `","e":"` + b64(big.NewInt(int64(rsaKey.E)).Bytes()) + `"}`: AlgorithmRS256,
		`{"kty":"OKP","crv":"Ed25519","x":"` + b64(edKey) + `"}`:                                                   AlgorithmEdDSA,
		` {"kty":"EC","crv":"P-256","x":"` + b64(point[1:33]) + `","y":"` + b64(point[33:]) + `"}`:                 AlgorithmES256,
	} {
		v, err := NewVerifier(text)
		if err != nil || v.Algorithm() != want {
			t.Errorf("%.60q: got error %v, want %s", text, err, want)
		}
	}
}

func TestUnusableKeysAreRefused(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	must(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(t, err)
	private, _, err := GenerateKey(AlgorithmES256)
	must(t, err)
	p384DER, err := x509.MarshalPKIXPublicKey(&p384.PublicKey)
	must(t, err)
	for name, text := range map[string]string{
		"nothing": "", "words": "my key", "short RSA": publicPEM(t, "RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&small.PublicKey)),
		"P-384": publicPEM(t, "PUBLIC KEY", p384DER), "private": private, "certificate": publicPEM(t, "CERTIFICATE", []byte("x")),
		"damaged": publicPEM(t, "PUBLIC KEY", []byte("x")), "endless": strings.Repeat("x", maxKeyBytes+1), "JWK of nothing": "{}",
		"JWK of an HMAC key": `{"kty":"oct","k":"AAAA"}`, "private JWK": `{"kty":"OKP","crv":"Ed25519","x":"AA","d":"AA"}`,
		"JWK off the curve": `{"kty":"EC","crv":"P-256","x":"` + strings.Repeat("A", 43) + `","y":"` + strings.Repeat("A", 43) + `"}`,
		"JWK with e of 1":   `{"kty":"RSA","n":"` + base64.RawURLEncoding.EncodeToString(small.N.Bytes()) + `","e":"AQ"}`,
	} {
		if _, err := NewVerifier(text); !errors.Is(err, ErrKey) {
			t.Errorf("%s: got error %v", name, err)
		}
	}
	for _, text := range []string{"", "words", publicPEM(t, "PRIVATE KEY", []byte("x")), publicPEM(t, "PUBLIC KEY", p384DER), strings.Repeat("x", maxKeyBytes+1)} {
		if _, err := NewIssuer(text); !errors.Is(err, ErrKey) {
			t.Errorf("%.30q: got error %v", text, err)
		}
	}
}

func TestAPrivateKeyOfEveryFormSigns(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.MarshalECPrivateKey(ecKey)
	must(t, err)
	for _, text := range []string{
		publicPEM(t, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey)), publicPEM(t, "EC PRIVATE KEY", der),
	} {
		issuer, err := NewIssuer(text)
		must(t, err)
		public, err := issuer.PublicKey()
		must(t, err)
		token, err := issuer.Issue(Request{NodeID: "n", Peers: []string{"p"}})
		must(t, err)
		verifier, err := NewVerifier(public)
		must(t, err)
		_, err = verifier.Verify(token, "p")
		must(t, err)
	}
}
