// Command turnserver is a STUN and TURN server over UDP, TCP and TLS on one address, for tests. It writes one JSON line, the
// URIs to reach it by and the file of its certificate, and ends with its stdin.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"os"
	"time"

	"github.com/pion/turn/v4"
)

const (
	realm    = "test"
	port     = 3478
	tlsPort  = 5349
	validFor = 24 * time.Hour
)

type facts struct {
	STUN string `json:"stun"`
	UDP  string `json:"udp"`
	TCP  string `json:"tcp"`
	TLS  string `json:"tls"`
}

func main() {
	ip := flag.String("ip", "127.0.0.1", "address to listen on and to relay from")
	account := flag.String("username", "alice", "the account")
	secret := flag.String("credential", "secret", "its password")
	root := flag.String("certificate", "", "PEM file to write the certificate to")
	flag.Parse()
	server, err := start(*ip, *account, *secret, *root)
	if err != nil {
		log.Fatal(err)
	}
	at := fmt.Sprintf("turn:%s:%d?transport=", *ip, port)
	answer := facts{fmt.Sprintf("stun:%s:%d", *ip, port), at + "udp", at + "tcp", fmt.Sprintf("turns:%s:%d?transport=tcp", *ip, tlsPort)}
	if err := json.NewEncoder(os.Stdout).Encode(answer); err != nil {
		log.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	_ = server.Close()
}

func start(ip, account, secret, root string) (*turn.Server, error) {
	certificate, err := makeCertificate(net.ParseIP(ip), root)
	if err != nil {
		return nil, err
	}
	datagrams, err := net.ListenPacket("udp4", fmt.Sprintf("%s:%d", ip, port))
	if err != nil {
		return nil, err
	}
	plain, err := net.Listen("tcp4", fmt.Sprintf("%s:%d", ip, port))
	if err != nil {
		return nil, err
	}
	secure, err := tls.Listen("tcp4", fmt.Sprintf("%s:%d", ip, tlsPort), &tls.Config{Certificates: []tls.Certificate{certificate}})
	if err != nil {
		return nil, err
	}
	from := &turn.RelayAddressGeneratorStatic{RelayAddress: net.ParseIP(ip), Address: ip}
	return turn.NewServer(turn.ServerConfig{
		Realm: realm,
		AuthHandler: func(user, realm string, _ net.Addr) ([]byte, bool) {
			return turn.GenerateAuthKey(user, realm, secret), user == account
		},
		PacketConnConfigs: []turn.PacketConnConfig{{PacketConn: datagrams, RelayAddressGenerator: from}},
		ListenerConfigs: []turn.ListenerConfig{
			{Listener: plain, RelayAddressGenerator: from}, {Listener: secure, RelayAddressGenerator: from},
		},
	})
}

// makeCertificate makes one that stands for itself, and writes it for those who are to trust it.
func makeCertificate(ip net.IP, file string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{ip}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(validFor),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil || file == "" {
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
	}
	err = os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
