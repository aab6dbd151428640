package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"peerbus/node/session"
)

const (
	// directPieceMessages bounds what one hand-over to the subscribers carries, beside publishChunkBytes.
	directPieceMessages = 256
	// lastRunBytes is what the last messages of a piece may take to share frames: a few that are left over would cost a write to
	// each subscriber.
	lastRunBytes = coalesceBytes + coalesceBytes/4
)

// MissedSubscriber is a subscriber that a message was not taken for.
type MissedSubscriber struct {
	Peer   peer.ID
	Reason string // of GEN-02: "not_connected", "gossip_only", "peer_refused", "send_queue_full", "oversize"
}

// topicPiece is what is published at once. It is encoded once, for all subscribers.
type topicPiece struct {
	payloads [][]byte
	bytes    int // of their frames
	largest  int // payload
	runs     []pieceRun
	first    [1]pieceRun // memory of runs
}

// pieceRun are messages that share frames, or, when they are few and small, are copied behind those that wait.
type pieceRun struct {
	payloads [][]byte
	frames   *session.Frames
}

func newTopicPiece(payloads [][]byte) *topicPiece {
	p := &topicPiece{payloads: payloads, bytes: session.FramesSize(payloads)}
	p.runs = p.first[:0]
	for _, payload := range payloads {
		p.largest = max(p.largest, len(payload))
	}
	return p
}

// directPiece answers how many of the payloads go into one piece. A message that a subscriber may find too large is alone, so that
// the others do not share its fate.
func directPiece(payloads [][]byte) int {
	bytes := 0
	for i, payload := range payloads {
		bytes += len(payload)
		if i > 0 && (i >= directPieceMessages || bytes > publishChunkBytes || len(payload) > session.MinMaxMessage) {
			return i
		}
		if len(payload) > session.MinMaxMessage {
			return 1
		}
	}
	return len(payloads)
}

// encode makes the runs.
func (p *topicPiece) encode(buffers *frameBuffers) {
	if len(p.runs) > 0 {
		return
	}
	for rest, left := p.payloads, p.bytes; len(rest) > 0; {
		most := coalesceBytes
		if left <= lastRunBytes {
			most = lastRunBytes
		}
		count, size := runOf(rest, most)
		run := pieceRun{payloads: rest[:count]}
		if size >= soloBytes {
			run.frames = session.NewFrames(run.payloads, buffers.get, buffers.put)
		}
		p.runs = append(p.runs, run)
		rest, left = rest[count:], left-size
	}
}

// runOf answers how many payloads make a run whose frames take at most so many bytes, and how many these are. A large message has a
// run to itself, as a session wants it.
func runOf(payloads [][]byte, most int) (count, size int) {
	count, size = 1, session.FramesSize(payloads[:1])
	if size >= soloBytes {
		return count, size
	}
	for _, payload := range payloads[1:] {
		more := session.FrameSize(session.Attributes{}, len(payload))
		if more >= soloBytes || size+more > most {
			break
		}
		count, size = count+1, size+more
	}
	return count, size
}

func (p *topicPiece) acceptInto(sender *session.Sender) error {
	for _, run := range p.runs {
		if run.frames != nil {
			if err := sender.AcceptFrames(run.frames); err != nil {
				return err
			}
			continue
		}
		for _, payload := range run.payloads {
			if err := sender.AcceptFitting(payload); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *topicPiece) release() {
	for _, run := range p.runs {
		if run.frames != nil {
			run.frames.Release()
		}
	}
}

func (d *directTopic) publishOne(ctx context.Context, payload []byte) (Publication, error) {
	published, err := d.publishAll(ctx, [][]byte{payload})
	if err != nil {
		return Publication{}, err
	}
	return published[0], nil
}

// publishAll publishes in order. It answers those that were published; the error tells why the others were not.
func (d *directTopic) publishAll(ctx context.Context, payloads [][]byte) ([]Publication, error) {
	most := d.node.config.Limits.MessageBytes
	for k, payload := range payloads {
		if len(payload) > most {
			return nil, fmt.Errorf("%w: message %d has %d bytes, limits.message_bytes is %d", ErrTooLarge, k, len(payload), most)
		}
	}
	published := make([]Publication, 0, len(payloads))
	for len(payloads) > 0 {
		count, refused := d.permitted(payloads[:directPiece(payloads)])
		if count == 0 {
			return published, refused
		}
		first, one, err := d.publishPiece(ctx, payloads[:count])
		if err != nil {
			return published, err
		}
		for i := range uint64(count) {
			one.ID = first + i
			published = append(published, one)
		}
		payloads = payloads[count:]
	}
	return published, nil
}

// permitted counts the first messages that the own rules allow.
func (d *directTopic) permitted(payloads [][]byte) (int, error) {
	guard := d.rules.Load()
	if guard == nil {
		return len(payloads), nil
	}
	for i, payload := range payloads {
		if reason := guard.refuses(d.node.id, payload); reason != "" {
			return i, fmt.Errorf("%w: topic %q refuses this message by its own rules: %s", ErrArgument, d.name.text, reason)
		}
	}
	return len(payloads), nil
}

// publishPiece waits until every subscriber has room, unless the topic drops. It answers the first number.
func (d *directTopic) publishPiece(ctx context.Context, payloads [][]byte) (uint64, Publication, error) {
	p := newTopicPiece(payloads)
	defer p.release()
	for {
		first, published, room, err := d.tryPublish(ctx, p)
		if room == nil {
			return first, published, err
		}
		select {
		case <-room:
		case <-ctx.Done():
		case <-d.node.ctx.Done():
		}
	}
}

// tryPublish answers what to wait for when a subscriber has no room.
func (d *directTopic) tryPublish(ctx context.Context, p *topicPiece) (first uint64, published Publication, room <-chan struct{}, err error) {
	d.publishing.Lock()
	defer d.publishing.Unlock()
	if d.node.ctx.Err() != nil {
		return 0, published, nil, ErrClosed
	}
	now := time.Now()
	takers, missed, room, err := d.takers(ctx, p, now)
	if room != nil || err != nil {
		return 0, published, room, err
	}
	count := uint64(len(p.payloads))
	if len(takers)+len(missed) == 0 {
		if err := d.node.refuseBehindRelays(d.name.text, len(p.payloads)); err != nil {
			return 0, published, nil, err
		}
		d.node.losses.add(directionOut, lossNoPeers, d.name.text, "", count)
	}
	if len(takers) > 0 {
		p.encode(d.node.frames)
	}
	first = d.publishing.last + 1
	d.publishing.pace.lone(now)
	peers, refused := d.give(first, p, takers)
	missed = append(missed, refused...)
	published.Peers = peers
	d.publishing.last += count
	d.publishing.published += count
	published.Missed = missed
	d.countMissed(missed, count)
	d.node.traffic.publishedMessages.Add(count)
	d.node.traffic.publishedBytes.Add(uint64(p.bytes))
	return first, published, nil, nil
}

// give hands a piece to those that have room. It answers how many took it, and the others.
func (d *directTopic) give(first uint64, p *topicPiece, takers []*subscriber) (peers int, missed []MissedSubscriber) {
	burst, gathering := d.publishing.pace.burst(), d.publishing.gathering[:0]
	for _, s := range takers {
		waits, err := s.out.topicTake(first, p, burst)
		if err != nil {
			missed = append(missed, MissedSubscriber{s.id, missReason(err)})
			continue
		}
		if waits {
			gathering = append(gathering, s.out)
		}
		peers++
	}
	if len(gathering) > 0 {
		d.gather.add(gathering)
	}
	d.publishing.takers, d.publishing.gathering = forgotten(takers), forgotten(gathering)
	return peers, missed
}

// forgotten is the memory of a list, which keeps nothing alive.
func forgotten[T any](list []*T) []*T {
	clear(list)
	return list[:0]
}

// takers answers who gets a piece, until the next call, and who does not, or what to wait for. The lock of publishing is held.
func (d *directTopic) takers(ctx context.Context, p *topicPiece, now time.Time) (takers []*subscriber, missed []MissedSubscriber, room <-chan struct{}, err error) {
	audience, overflow := d.audience.Load(), *d.overflow.Load()
	takers = slices.Grow(d.publishing.takers[:0], len(audience.subscribers))
	for _, s := range audience.subscribers {
		reason := s.misses(now)
		if reason == "" {
			if reason, room, err = d.roomFor(ctx, s, p, overflow); room != nil || err != nil {
				return nil, nil, room, err
			}
		}
		if reason != "" {
			missed = append(missed, MissedSubscriber{s.id, reason})
			continue
		}
		takers = append(takers, s)
	}
	return takers, append(missed, audience.gossip...), nil, nil
}

// roomFor makes sure that a subscriber can take a piece. A reason says that it misses it.
func (d *directTopic) roomFor(ctx context.Context, s *subscriber, p *topicPiece, overflow TopicOverflow) (reason string, room <-chan struct{}, err error) {
	if overflow == OverflowBlock {
		room, err = s.out.topicRoom(ctx, p)
		switch {
		case err == nil, errors.Is(err, ErrWouldBlock), errors.Is(err, ErrClosed):
			return "", room, err
		}
		return missReason(err), nil, nil
	}
	dropped, full := s.out.topicMakeRoom(p, overflow == OverflowDropOldest)
	if errors.Is(full, session.ErrFull) {
		s.dropped.Add(uint64(len(p.payloads)))
	}
	if dropped > 0 {
		s.dropped.Add(dropped)
		d.node.losses.add(directionOut, lossSendQueueFull, d.name.text, s.id.String(), dropped)
	}
	if full != nil {
		return missReason(full), nil, nil
	}
	return "", nil, nil
}

func missReason(err error) string {
	switch {
	case errors.Is(err, ErrClosed):
		return lossNodeClosed
	case errors.Is(err, ErrPeerClosed):
		return lossNotConnected
	case errors.Is(err, session.ErrFull):
		return lossSendQueueFull
	case errors.Is(err, session.ErrTooLarge):
		return lossOversize
	}
	return string(session.ReasonRefused)
}

func (d *directTopic) countMissed(missed []MissedSubscriber, count uint64) {
	for _, m := range missed {
		d.node.losses.add(directionOut, m.Reason, d.name.text, m.Peer.String(), count)
	}
}

// flush waits until every subscriber's queue has what was published before.
func (d *directTopic) flush(ctx context.Context) error {
	for _, s := range d.audience.Load().subscribers {
		if err := s.out.flush(ctx); err != nil {
			return fmt.Errorf("%w (subscriber %s)", err, s.id)
		}
	}
	return nil
}
