package node

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// RelayAccessProtocol shows a relay that a peer knows its relay.token, since circuit v2 has no place for one: the peer writes
// 32 bytes, HMAC-SHA256 with the token as the key over "peerbus relay access", the relay's and its own peer id; the relay
// answers with one byte, 1 for admitted. Both ids are proved by the connection, so what one peer shows to one relay is of
// no use to any other; only a token that can be guessed could be found out from it.
const RelayAccessProtocol = "/peerbus/relay-access/1.0.0"

const (
	relayAccessTimeout = 10 * time.Second
	relayAccessYes     = 1
)

func relayProof(token string, relay, client peer.ID) []byte {
	mac := hmac.New(sha256.New, []byte(token))
	_, _ = io.WriteString(mac, "peerbus relay access"+string(relay)+string(client)) // a hash takes everything
	return mac.Sum(nil)
}

// showToken shows this node's relay.token, if it has one, to a relay that asks for one.
func (r *relays) showToken(ctx context.Context, relay peer.ID) error {
	token := r.node.config.Relay.Token
	if token == "" {
		return nil
	}
	r.node.awaitIdentify(ctx, relay)
	spoken, err := r.node.host.Peerstore().SupportsProtocols(relay, RelayAccessProtocol)
	if err != nil || len(spoken) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(network.WithNoDial(ctx, "relay access"), relayAccessTimeout)
	defer cancel()
	s, err := r.node.host.NewStream(ctx, relay, RelayAccessProtocol)
	if err != nil {
		return fmt.Errorf("%w: showing the token to the relay %s: %v", ErrPeerClosed, relay, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	verdict := make([]byte, 1)
	if _, err = s.Write(relayProof(token, relay, r.node.id)); err == nil {
		_, err = io.ReadFull(s, verdict)
	}
	if err != nil {
		_ = s.Reset()
		return fmt.Errorf("%w: showing the token to the relay %s: %v", ErrPeerClosed, relay, err)
	}
	_ = s.Close()
	if verdict[0] != relayAccessYes {
		return fmt.Errorf("%w: the relay %s has another relay.token than this node", ErrRefused, relay)
	}
	return nil
}

func (r *relays) acceptToken(s network.Stream) {
	id := s.Conn().RemotePeer()
	proof := make([]byte, sha256.Size)
	if err := s.SetDeadline(time.Now().Add(relayAccessTimeout)); err != nil {
		_ = s.Reset()
		return
	}
	if _, err := io.ReadFull(s, proof); err != nil {
		_ = s.Reset()
		return
	}
	verdict := byte(0)
	if hmac.Equal(proof, relayProof(r.node.config.Relay.Token, r.node.id, id)) {
		verdict = relayAccessYes
		r.admit(id)
	}
	if _, err := s.Write([]byte{verdict}); err != nil {
		_ = s.Reset()
		return
	}
	_ = s.Close()
}

// admit remembers a peer until its last connection ends, which bounds how many there are.
func (r *relays) admit(id peer.ID) {
	r.state.Lock()
	defer r.state.Unlock()
	if r.node.host.Network().Connectedness(id) == network.Connected {
		r.state.access[id] = struct{}{}
	}
}

// relayDoor decides who may use the relay service. Without relay.allow and relay.token everybody may.
type relayDoor struct{ relays *relays }

func (d relayDoor) AllowReserve(id peer.ID, _ ma.Multiaddr) bool {
	c := d.relays.node.config.Relay
	if len(c.Allow) == 0 && c.Token == "" || slices.Contains(c.Allow, id) {
		return true
	}
	d.relays.state.Lock()
	defer d.relays.state.Unlock()
	_, admitted := d.relays.state.access[id]
	return admitted
}

// AllowConnect lets everybody reach those who reserved: it is they who want to be reached.
func (d relayDoor) AllowConnect(peer.ID, ma.Multiaddr, peer.ID) bool { return true }
