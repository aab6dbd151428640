package pool

import (
	"container/list"
	"fmt"
	"hash/maphash"
	"sync"
	"time"
)

// tokenCache keeps verified tokens by peer: a few of each, the least recently used peers go first.
type tokenCache struct {
	state struct {
		sync.Mutex
		byPeer map[string]*list.Element // of *cachedPeer
		recent list.List                // most recently used first
		bytes  int
	}
}

type cachedPeer struct {
	id     string
	tokens []*verifiedToken // newest first
}

func newTokenCache() *tokenCache {
	c := &tokenCache{}
	c.state.byPeer = map[string]*list.Element{}
	return c
}

func (c *tokenCache) find(peerID string, token []byte) *verifiedToken {
	c.state.Lock()
	defer c.state.Unlock()
	element := c.state.byPeer[peerID]
	if element == nil {
		return nil
	}
	c.state.recent.MoveToFront(element)
	for _, known := range element.Value.(*cachedPeer).tokens {
		if known.raw == string(token) {
			return known
		}
	}
	return nil
}

func (c *tokenCache) add(peerID string, verified *verifiedToken) {
	c.state.Lock()
	defer c.state.Unlock()
	element := c.state.byPeer[peerID]
	if element == nil {
		element = c.state.recent.PushFront(&cachedPeer{id: peerID})
		c.state.byPeer[peerID] = element
	}
	p := element.Value.(*cachedPeer)
	p.tokens = append([]*verifiedToken{verified}, p.tokens...)
	c.state.bytes += verified.size()
	if len(p.tokens) > maxCachedPerPeer {
		c.state.bytes -= p.tokens[maxCachedPerPeer].size()
		p.tokens = p.tokens[:maxCachedPerPeer:maxCachedPerPeer]
	}
	for c.state.bytes > maxCachedTokenBytes {
		c.dropOldestLocked()
	}
}

func (c *tokenCache) dropOldestLocked() {
	p := c.state.recent.Remove(c.state.recent.Back()).(*cachedPeer)
	delete(c.state.byPeer, p.id)
	for _, t := range p.tokens {
		c.state.bytes -= t.size()
	}
}

// size estimates the memory of a cached token: the claims are at most as long as the text.
func (t *verifiedToken) size() int {
	const fixed = 512
	return 2*len(t.raw) + fixed
}

// failureLimits bound what failed verifications cost. A peer has a budget of failures that refills with time, and the token
// that it failed with last is refused without a look. Sound tokens are never counted.
type failureLimits struct {
	seed  maphash.Seed // secret, so nobody can make a good token look like a bad one
	state struct {
		sync.Mutex
		byPeer map[string]*failing
	}
}

type failing struct {
	budget float64
	at     time.Time // when budget was true
	token  uint64    // hash of the last bad token
	until  time.Time // its refusal
	err    error
}

func newFailureLimits() *failureLimits {
	l := &failureLimits{seed: maphash.MakeSeed()}
	l.state.byPeer = map[string]*failing{}
	return l
}

func (f *failing) refill(now time.Time) {
	f.budget = min(failureBurst, f.budget+max(now.Sub(f.at).Seconds(), 0)*failuresPerSecond)
	f.at = now
}

// admit answers why a token is not to be looked at, if so.
func (l *failureLimits) admit(peerID string, token []byte, now time.Time) error {
	l.state.Lock()
	defer l.state.Unlock()
	f := l.state.byPeer[peerID]
	if f == nil {
		return nil
	}
	if now.Before(f.until) && f.token == maphash.Bytes(l.seed, token) {
		return f.err
	}
	if f.refill(now); f.budget < 1 {
		return fmt.Errorf("%w: from %.128q", ErrTokenRate, peerID)
	}
	return nil
}

func (l *failureLimits) note(peerID string, token []byte, now time.Time, err error) {
	l.state.Lock()
	defer l.state.Unlock()
	f := l.state.byPeer[peerID]
	if f == nil {
		l.makeRoomLocked(now)
		f = &failing{budget: failureBurst, at: now}
		l.state.byPeer[peerID] = f
	}
	f.refill(now)
	f.budget--
	f.token, f.until, f.err = maphash.Bytes(l.seed, token), now.Add(badTokenMemory), err
}

// makeRoomLocked forgets peers that have behaved for a while; if there are none, any.
func (l *failureLimits) makeRoomLocked(now time.Time) {
	if len(l.state.byPeer) < maxFailingPeers {
		return
	}
	for id, f := range l.state.byPeer {
		if now.After(f.until) {
			delete(l.state.byPeer, id)
		}
	}
	for id := range l.state.byPeer {
		if len(l.state.byPeer) < maxFailingPeers {
			return
		}
		delete(l.state.byPeer, id)
	}
}

// checkOwnToken refuses a token that no receiver would read.
func checkOwnToken(token string) error {
	if len(token) > MaxTokenBytes {
		return fmt.Errorf("%w: a token of %d bytes, at most %d are read", ErrArgument, len(token), MaxTokenBytes)
	}
	for i := range len(token) {
		if token[i] <= ' ' || token[i] > '~' {
			return fmt.Errorf("%w: byte %d of the token is not a printable ASCII character", ErrArgument, i)
		}
	}
	return nil
}
