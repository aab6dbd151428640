package webrtc

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pion/logging"
	"github.com/pion/turn/v4"
	pion "github.com/pion/webrtc/v4"
)

// turnServer is a TURN server of one kind on loopback.
type turnServer struct{ address, uri string }

func startTURN(t testing.TB, kind string, certificate tls.Certificate) turnServer {
	t.Helper()
	generator := &turn.RelayAddressGeneratorStatic{RelayAddress: net.IPv4(127, 0, 0, 1), Address: "127.0.0.1"}
	config := turn.ServerConfig{
		Realm: "test",
		AuthHandler: func(user, realm string, _ net.Addr) ([]byte, bool) {
			return turn.GenerateAuthKey(user, realm, "secret"), user == "alice"
		},
		LoggerFactory: &logging.DefaultLoggerFactory{Writer: os.Stderr, DefaultLogLevel: logging.LogLevelDisabled},
	}
	s := turnServer{}
	switch kind {
	case "udp":
		conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		config.PacketConnConfigs = []turn.PacketConnConfig{{PacketConn: conn, RelayAddressGenerator: generator}}
		s = turnServer{conn.LocalAddr().String(), "turn:" + conn.LocalAddr().String() + "?transport=udp"}
	case "tcp", "tls":
		listener, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s = turnServer{listener.Addr().String(), "turn:" + listener.Addr().String() + "?transport=tcp"}
		if kind == "tls" {
			listener = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{certificate}})
			s.uri = "turns:" + s.address
		}
		config.ListenerConfigs = []turn.ListenerConfig{{Listener: listener, RelayAddressGenerator: generator}}
	}
	server, err := turn.NewServer(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return s
}

// relayOnlyEngine uses nothing but TURN.
func relayOnlyEngine() *Engine {
	e := NewEngine(Options{Log: slog.New(slog.DiscardHandler)})
	e.policy = pion.ICETransportPolicyRelay
	return e
}

// trusted is the certificate for 127.0.0.1 that TestMain makes this process trust.
var trusted tls.Certificate

func TestMain(m *testing.M) {
	directory, err := os.MkdirTemp("", "peerbus-webrtc")
	if err != nil {
		panic(err)
	}
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "turn"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	trusted = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	file := filepath.Join(directory, "root.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		panic(err)
	}
	os.Setenv("SSL_CERT_FILE", file) // read when the system's roots are needed first
	code := m.Run()
	os.RemoveAll(directory)
	os.Exit(code)
}

func TestMessagesTravelThroughATURNServer(t *testing.T) {
	for _, kind := range []string{"udp", "tcp", "tls"} {
		t.Run(kind, func(t *testing.T) {
			server := startTURN(t, kind, trusted)
			c := ICEConfig{TURNServers: []TURNServer{{[]string{server.uri}, "alice", "secret"}}}
			a, b, errs := shake(t, relayOnlyEngine(), relayOnlyEngine(), c)
			if errs != [2]error{} {
				t.Fatal(errs)
			}
			defer a.Close()
			defer b.Close()
			pair, ok := a.Pair()
			if !ok || !pair.Relayed() || pair.Local.Type != "relay" || pair.Local.RelayProtocol != kind {
				t.Errorf("the path is %+v, %v", pair, ok)
			}
			frame := frameOf("c", []byte("through the relay"))
			if _, err := a.Write(frame, "c", patience); err != nil {
				t.Fatal(err)
			}
			buffer := make([]byte, MessageBytes)
			if n, err := b.Read(buffer); err != nil || string(buffer[1:n]) != string(frame) {
				t.Errorf("%q arrived, %v", buffer[:n], err)
			}
		})
	}
}

func TestATURNServerWithAWrongAccountOrCertificateIsNotUsed(t *testing.T) {
	untrusted := func() tls.Certificate {
		key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		template := &x509.Certificate{SerialNumber: big.NewInt(2), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	}()
	for name, c := range map[string]TURNServer{
		"a wrong account":     {[]string{startTURN(t, "udp", trusted).uri}, "mallory", "secret"},
		"a wrong password":    {[]string{startTURN(t, "tcp", trusted).uri}, "alice", "guess"},
		"a wrong certificate": {[]string{startTURN(t, "tls", untrusted).uri}, "alice", "secret"},
	} {
		ours, _ := pipe(t)
		if _, err := relayOnlyEngine().Offer(within(t), ICEConfig{TURNServers: []TURNServer{c}}, ours); err == nil {
			t.Errorf("%s: the offer was made", name)
		}
	}
}

func TestAServerThatDoesNotAnswerDelaysButDoesNotPrevent(t *testing.T) {
	t.Parallel()
	silent, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	began := time.Now()
	open(t, ICEConfig{STUNServers: []string{"stun:" + silent.LocalAddr().String()}})
	if took := time.Since(began); took > 2*gatherTimeout+patience/2 {
		t.Errorf("it took %s", took)
	}
}
