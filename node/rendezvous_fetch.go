package node

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// RendezvousProtocol fetches the newest list of a rendezvous topic from its owner, because a topic does not repeat what was
// published before somebody subscribed (POOL-53). Either side writes a u32 big endian length and that much JSON: the one who asks
// {"topic", "update_count": of the list that it has, -1 for none}, the owner its newer list {"peers", "update_count"}, or
// nothing, a length of 0. The connection proves the owner, so an answer counts as authored by it.
//
// A subscriber asks when it subscribes, and whenever the owner connects.
const RendezvousProtocol = "/peerbus/rendezvous/1.0.0"

const (
	fetchTimeout = 30 * time.Second
	// maxFetchRequest bounds a request.
	maxFetchRequest = 4 << 10
	// maxFetchesServed bounds the requests that are answered side by side, maxFetchesOfPeer those of one peer. The list is in
	// memory once, but each answer occupies a stream.
	maxFetchesServed = 16
	maxFetchesOfPeer = 4
)

type fetchRequest struct {
	Topic       string `json:"topic"`
	UpdateCount int64  `json:"update_count"`
}

// ownRoster is the list that this node published last, or took from a master, on a topic of its own.
type ownRoster struct {
	topic    string
	snapshot Snapshot
	encode   sync.Once
	text     []byte
}

func (o *ownRoster) encoded() []byte {
	o.encode.Do(func() { o.text, _ = json.Marshal(o.snapshot.Roster()) }) // of plain fields: it always encodes
	return o.text
}

// rosterServer answers fetches.
type rosterServer struct {
	sync.Mutex
	own     *ownRoster
	total   int
	serving map[peer.ID]int
}

// keep makes a list of an own topic the one that is served, unless a newer one of that topic is.
func (s *rosterServer) keep(topic string, snapshot Snapshot) {
	s.Lock()
	defer s.Unlock()
	if s.own != nil && s.own.topic == topic && s.own.snapshot.UpdateCount >= snapshot.UpdateCount {
		return
	}
	s.own = &ownRoster{topic: topic, snapshot: snapshot}
}

// begin answers the list to serve; ok is false when too many are served.
func (s *rosterServer) begin(id peer.ID) (own *ownRoster, ok bool) {
	s.Lock()
	defer s.Unlock()
	if s.total >= maxFetchesServed || s.serving[id] >= maxFetchesOfPeer {
		return nil, false
	}
	if s.serving == nil {
		s.serving = map[peer.ID]int{}
	}
	s.total++
	s.serving[id]++
	return s.own, true
}

func (s *rosterServer) end(id peer.ID) {
	s.Lock()
	defer s.Unlock()
	s.total--
	if s.serving[id]--; s.serving[id] == 0 {
		delete(s.serving, id)
	}
}

// acceptFetch serves a request. Strangers get nothing: who is in a world is for its members.
func (n *Node) acceptFetch(stream network.Stream) {
	id := stream.Conn().RemotePeer()
	err := n.serveFetch(id, stream)
	if err != nil {
		n.log.Debug("rendezvous fetch refused", "peer", id, "reason", err)
		_ = stream.Reset()
		return
	}
	_ = stream.Close()
}

func (n *Node) serveFetch(id peer.ID, stream network.Stream) error {
	if g := n.guard.get(); g != nil && g.Stranger(id.String()) {
		return fmt.Errorf("%w: it is a stranger", ErrRefused)
	}
	own, ok := n.topics.served.begin(id)
	if !ok {
		return fmt.Errorf("%w: too many fetches are being answered", ErrRefused)
	}
	defer n.topics.served.end(id)
	if err := stream.SetDeadline(time.Now().Add(fetchTimeout)); err != nil {
		return err
	}
	var request fetchRequest
	if text, err := readSized(stream, maxFetchRequest); err != nil {
		return err
	} else if err := json.Unmarshal(text, &request); err != nil {
		return err
	}
	if own == nil || own.topic != request.Topic || own.snapshot.UpdateCount <= request.UpdateCount {
		return writeSized(stream, nil)
	}
	return writeSized(stream, own.encoded())
}

// fetchFrom asks the owner of the subscribed rendezvous topic for its newest list, if the peer is that owner.
func (n *Node) fetchFrom(id peer.ID) {
	n.spawn("rendezvous fetch", func() {
		n.topics.state.Lock()
		current := n.topics.state.rendezvous
		n.topics.state.Unlock()
		if current == nil || current.name.owner != id.String() || id == n.id {
			return
		}
		if err := n.fetch(current, id); err != nil {
			n.log.Debug("no rendezvous list fetched", "owner", id, "reason", err)
		}
	})
}

func (n *Node) fetch(r *rendezvous, owner peer.ID) error {
	ctx, cancel := context.WithTimeout(network.WithAllowLimitedConn(network.WithNoDial(n.ctx, "rendezvous"), "rendezvous"), fetchTimeout)
	defer cancel()
	n.awaitIdentify(ctx, owner)
	spoken, err := n.host.Peerstore().SupportsProtocols(owner, RendezvousProtocol)
	if err != nil || !slices.Contains(spoken, RendezvousProtocol) {
		return fmt.Errorf("%w: it does not serve lists, its next publication has to do", ErrUnsupported)
	}
	stream, err := n.host.NewStream(ctx, owner, RendezvousProtocol)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = stream.Reset() })
	defer stop()
	text, err := r.request(stream, min(MaxRosterBytes, n.config.Limits.MessageBytes))
	if err != nil {
		_ = stream.Reset()
		return err
	}
	_ = stream.Close()
	if len(text) == 0 {
		return nil
	}
	return r.takeFetched(text)
}

func (r *rendezvous) request(stream io.ReadWriter, most int) ([]byte, error) {
	r.state.Lock()
	count := r.state.floor
	r.state.Unlock()
	request, err := json.Marshal(fetchRequest{r.name.text, count})
	if err != nil {
		return nil, err
	}
	if err := writeSized(stream, request); err != nil {
		return nil, err
	}
	return readSized(stream, most)
}

// takeFetched stores a fetched list as if the owner had just published it. One that arrived on the topic meanwhile, and is as
// new, is no loss.
func (r *rendezvous) takeFetched(text []byte) error {
	losses := r.node.losses
	snapshot, err := ParseRoster(text)
	if err != nil {
		losses.add(directionIn, lossDecodeError, r.name.text, r.name.owner, 1)
		return err
	}
	snapshot.Owner, snapshot.Author = r.name.owner, r.name.owner
	if fresh, _ := r.accept(snapshot, true); fresh {
		losses.add(directionIn, lossRendezvousRefused, r.name.text, r.name.owner, uint64(snapshot.Skipped))
	}
	return nil
}

var errTooLong = errors.New("longer than is taken")

func writeSized(w io.Writer, body []byte) error {
	if _, err := w.Write(binary.BigEndian.AppendUint32(nil, uint32(len(body)))); err != nil {
		return err
	}
	_, err := w.Write(body)
	return err
}

// readSized reads a length and that many bytes; memory follows what arrives.
func readSized(r io.Reader, most int) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	size := int64(binary.BigEndian.Uint32(length[:]))
	if size > int64(most) {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", errTooLong, size, most)
	}
	body, err := io.ReadAll(io.LimitReader(r, size))
	if err == nil && int64(len(body)) < size {
		err = io.ErrUnexpectedEOF
	}
	return body, err
}
