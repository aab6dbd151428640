package node

import "context"

// batch is some messages that a program gives in one call.
type batch struct {
	payloads [][]byte
	loans    []loan // one for each payload, without a release for those that are copied; nil: all are
}

func newBatch(payloads [][]byte, releases []func()) batch {
	b := batch{payloads: payloads}
	if releases != nil {
		b.loans = make([]loan, len(releases))
		for k, release := range releases {
			b.loans[k].release = release
		}
	}
	return b
}

// loan answers that of message k, nil if it is copied.
func (b batch) loan(k int) *loan {
	if b.loans == nil || b.loans[k].release == nil {
		return nil
	}
	return &b.loans[k]
}

// rest is the batch without its first message.
func (b batch) rest() batch {
	rest := batch{payloads: b.payloads[1:]}
	if b.loans != nil {
		rest.loans = b.loans[1:]
	}
	return rest
}

// end gives back what was copied of the messages that were taken.
func (b batch) end(taken int) {
	for k := range b.loans[:min(taken, len(b.loans))] {
		if l := b.loan(k); l != nil {
			l.end(nil)
		}
	}
}

// SendBatch takes the first of some messages like Send, and of the others those that find room at once. It answers the id of the
// first one and how many it took; their ids follow each other.
func (c *Channel) SendBatch(ctx context.Context, payloads [][]byte) (first uint64, taken int, err error) {
	return c.sendBatch(ctx, batch{payloads: payloads})
}

// SendBatchLent is SendBatch of payloads that are lent, as SendLent does it: releases has a function for each, nil for one that is
// copied. Those of messages that were not taken are not called.
func (c *Channel) SendBatchLent(ctx context.Context, payloads [][]byte, releases []func()) (first uint64, taken int, err error) {
	b := newBatch(payloads, releases)
	first, taken, err = c.sendBatch(ctx, b)
	b.end(taken)
	return first, taken, err
}

func (c *Channel) sendBatch(ctx context.Context, b batch) (first uint64, taken int, err error) {
	for _, payload := range b.payloads {
		if err := c.node.checkPayload(c.name, payload); err != nil {
			return 0, 0, err
		}
	}
	how := *c.compression.Load()
	m := c.out.pack(ctx, how, b.payloads[0])
	m.loan = b.loan(0)
	defer c.out.drop(m)
	if len(how.Codecs) == 0 || c.out.isKept() {
		return c.out.sendSome(ctx, m, b.rest(), nil)
	}
	if first, err = c.out.send(ctx, m, nil); err != nil {
		return 0, 0, err
	}
	return first, 1 + c.sendMorePacked(how, first+1, b.rest()), nil
}

// sendMorePacked takes the messages that find room at once, and compresses between them.
func (c *Channel) sendMorePacked(how Compression, id uint64, more batch) (taken int) {
	for ; taken < len(more.payloads); taken++ {
		m := c.out.pack(atOnceContext, how, more.payloads[taken])
		m.loan = more.loan(taken)
		accepted := c.out.acceptNext(id+uint64(taken), m)
		c.out.drop(m)
		if !accepted {
			break
		}
	}
	return taken
}

// acceptNext takes a message if there is room and the next id is that one: others send on the channel too.
func (o *outbound) acceptNext(id uint64, m outMessage) bool {
	o.state.Lock()
	defer o.state.Unlock()
	if o.kept != nil || !o.followsLocked(id) {
		return false
	}
	_, _, err := o.acceptLocked(m, batch{})
	return err == nil
}
