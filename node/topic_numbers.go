package node

import (
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// maxAuthors bounds the authors whose numbers are remembered together; of a newcomer beyond it nothing is known.
	maxAuthors = 4096
	// authorRestart is a jump of an author's numbers that no loss explains: those of a node begin with the time of its start in
	// nanoseconds.
	authorRestart = 1 << 24
)

// authorNumbers compare the numbers that authors gave their messages with what came. A message that comes late fills its hole.
type authorNumbers struct {
	state struct {
		sync.Mutex
		byAuthor map[peer.ID]*authorCount
	}
}

// authorCount is about the numbers from first to last; those before the first one that came are not missed.
type authorCount struct {
	first, last, came uint64
	received, missing uint64 // missing: of runs that ended by a restart of the author
}

// AuthorCount is what is known of one author's messages.
type AuthorCount struct{ Received, Missing, Last uint64 }

func newAuthorNumbers() *authorNumbers {
	n := &authorNumbers{}
	n.state.byAuthor = map[peer.ID]*authorCount{}
	return n
}

// received notes one message; number 0 is none.
func (n *authorNumbers) received(author peer.ID, number uint64) { n.run(author, number, 1) }

// run notes messages with consecutive numbers.
func (n *authorNumbers) run(author peer.ID, first, count uint64) {
	n.state.Lock()
	defer n.state.Unlock()
	c := n.state.byAuthor[author]
	if c == nil {
		if len(n.state.byAuthor) >= maxAuthors {
			return
		}
		c = &authorCount{}
		n.state.byAuthor[author] = c
	}
	c.received += count
	last := first + count - 1
	switch {
	case first == 0:
	case c.last == 0:
		c.first, c.last, c.came = first, last, count
	case first > c.last+authorRestart || last+authorRestart < c.last:
		c.missing += c.holes()
		c.first, c.last, c.came = first, last, count
	case first >= c.first:
		c.last, c.came = max(c.last, last), c.came+count
	}
}

func (c *authorCount) holes() uint64 {
	if c.last == 0 {
		return 0
	}
	return c.last - c.first + 1 - c.came
}

// of answers what is known of an author.
func (n *authorNumbers) of(author peer.ID) AuthorCount {
	n.state.Lock()
	defer n.state.Unlock()
	return n.ofLocked(author)
}

func (n *authorNumbers) ofLocked(author peer.ID) AuthorCount {
	c := n.state.byAuthor[author]
	if c == nil {
		return AuthorCount{}
	}
	return AuthorCount{c.received, c.missing + c.holes(), c.last}
}

func (n *authorNumbers) all() map[peer.ID]AuthorCount {
	n.state.Lock()
	defer n.state.Unlock()
	answer := make(map[peer.ID]AuthorCount, len(n.state.byAuthor))
	for author := range n.state.byAuthor {
		answer[author] = n.ofLocked(author)
	}
	return answer
}
