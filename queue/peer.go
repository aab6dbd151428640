package queue

// maxSparePeers bounds the records of peers kept for use again.
const maxSparePeers = 64

// peer is what one sender uses of the limits. It lives while something refers to it.
type peer struct {
	name   string
	bytes  budget
	places budget // channels with waiting messages that this peer opened
	// refs counts the waiting messages, opened channels, blocked Puts and running calls of this peer.
	refs    int
	skipped uint64 // the pass of admitLocked in which an earlier Put of this peer stays blocked
}

// holdPeerLocked returns the peer's record with one more reference, which dropPeerLocked gives back.
func (q *Queue) holdPeerLocked(name string) *peer {
	p := q.mu.peers[name]
	if p == nil {
		p = q.newPeerLocked()
		p.name = name
		q.mu.peers[name] = p
	}
	p.refs++
	return p
}

func (q *Queue) newPeerLocked() *peer {
	if last := len(q.mu.sparePeers) - 1; last >= 0 {
		p := q.mu.sparePeers[last]
		q.mu.sparePeers = q.mu.sparePeers[:last]
		return p
	}
	return &peer{
		bytes:  budget{limit: q.limits.PeerBytes, reason: ByteBudget},
		places: budget{limit: int64(q.limits.PeerChannels), reason: TooManyChannels},
	}
}

func (q *Queue) dropPeerLocked(p *peer) {
	p.refs--
	if p.refs > 0 {
		return
	}
	delete(q.mu.peers, p.name)
	p.name = ""
	if len(q.mu.sparePeers) < maxSparePeers {
		q.mu.sparePeers = append(q.mu.sparePeers, p)
	}
}
