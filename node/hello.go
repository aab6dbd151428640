package node

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"

	"peerbus/node/session"
)

// HelloProtocol tells a peer that a program, not the library by itself, asked for the connection (CHASKI-11). The dialler
// writes a hello, the other side answers with its own; each is a u32 big endian length and that much JSON. Fields that a
// reader does not know are ignored.
const HelloProtocol = "/peerbus/hello/1.0.0"

const (
	helloTimeout  = 10 * time.Second
	maxHelloBytes = 16 << 10
)

type hello struct {
	Agent string `json:"agent"`
	// Instance names the state in which this node remembers the channels that it receives, as 32 hexadecimal digits: a peer that
	// knows it sends at once, and notices when the node has started anew.
	Instance string `json:"instance,omitempty"`
}

func (n *Node) ownHello() hello {
	h := hello{Agent: "peerbus/" + n.version}
	if n.config.Channel.Acknowledged {
		h.Instance = n.inbounds.table.Instance().String()
	}
	return h
}

// learnHello uses what a peer says of itself.
func (n *Node) learnHello(id peer.ID, h hello) {
	n.peers.markApplication(id)
	if instance, err := session.ParseID(h.Instance); err == nil {
		n.outbounds.learn(id, instance)
	}
}

// greet makes a connection that the program asked for visible on both sides. Peers that speak only chat are listed without
// it; peers that speak neither are infrastructure and stay unlisted.
func (n *Node) greet(ctx context.Context, id peer.ID) error {
	n.awaitIdentify(ctx, id)
	spoken, err := n.host.Peerstore().SupportsProtocols(id, HelloProtocol, ChatProtocol)
	if err != nil {
		return fmt.Errorf("%w: looking up the protocols of %s: %v", ErrInternal, id, err)
	}
	switch {
	case slices.Contains(spoken, HelloProtocol):
		return n.exchangeHello(ctx, id)
	case slices.Contains(spoken, ChatProtocol):
		n.peers.markApplication(id)
	default:
		// The peerstore may still be empty after identify, when connections raced; asking the peer itself is certain.
		if err := n.exchangeHello(ctx, id); err != nil {
			n.log.Info("a connected peer speaks no hello", "peer", id, "reason", err)
		}
	}
	return nil
}

// awaitIdentify waits until the peer's protocols are known: libp2p's Connect does so only when it dialled itself, not when
// the peer was connected already.
func (n *Node) awaitIdentify(ctx context.Context, id peer.ID) {
	identifying, ok := n.host.(interface{ IDService() identify.IDService })
	if !ok {
		return
	}
	for _, c := range n.host.Network().ConnsToPeer(id) {
		select {
		case <-identifying.IDService().IdentifyWait(c):
		case <-ctx.Done():
		}
	}
}

func (n *Node) exchangeHello(ctx context.Context, id peer.ID) error {
	ctx, cancel := context.WithTimeout(network.WithNoDial(ctx, "hello"), helloTimeout)
	defer cancel()
	s, err := n.host.NewStream(ctx, id, HelloProtocol)
	if err != nil {
		return fmt.Errorf("%w: opening the hello stream to %s: %w", ErrPeerClosed, id, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	if err := writeHello(s, n.ownHello()); err != nil {
		_ = s.Reset()
		return fmt.Errorf("%w: sending hello to %s: %w", ErrPeerClosed, id, err)
	}
	answer, err := readHello(s)
	if err != nil {
		_ = s.Reset()
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %s did not answer hello within %s", ErrTimeout, id, helloTimeout)
		}
		return fmt.Errorf("%w: %s did not answer hello: %w", ErrPeerClosed, id, err)
	}
	n.learnHello(id, answer)
	_ = s.Close()
	return nil
}

// survived tells whether a hello failed on a connection that goes on. A peer that refuses the connection itself, as during
// redialRefusal, does so only after this side takes it for established.
func survived(hello error) bool {
	var connection *network.ConnError
	if errors.As(hello, &connection) {
		return false
	}
	var stream *network.StreamError
	return errors.As(hello, &stream) && stream.Remote || errors.Is(hello, ErrTimeout) || errors.Is(hello, errBadHello) ||
		errors.Is(hello, io.EOF) || errors.Is(hello, io.ErrUnexpectedEOF)
}

var errBadHello = errors.New("malformed hello")

func (n *Node) acceptHello(s network.Stream) {
	id := s.Conn().RemotePeer()
	if err := s.SetDeadline(time.Now().Add(helloTimeout)); err != nil {
		_ = s.Reset()
		return
	}
	said, err := readHello(s)
	if err != nil {
		n.log.Warn("hello refused", "peer", id, "reason", err)
		_ = s.Reset()
		return
	}
	n.learnHello(id, said)
	if err := writeHello(s, n.ownHello()); err != nil {
		_ = s.Reset()
		return
	}
	_ = s.Close()
}

func writeHello(w io.Writer, h hello) error {
	body, err := json.Marshal(h)
	if err != nil {
		return err
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...))
	return err
}

func readHello(r io.Reader) (hello, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return hello{}, err
	}
	size := binary.BigEndian.Uint32(length[:])
	if size > maxHelloBytes {
		return hello{}, fmt.Errorf("%w: %d bytes, at most %d are taken", errBadHello, size, maxHelloBytes)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return hello{}, err
	}
	var h hello
	if err := json.Unmarshal(body, &h); err != nil {
		return hello{}, fmt.Errorf("%w: no JSON object: %v", errBadHello, err)
	}
	return h, nil
}
