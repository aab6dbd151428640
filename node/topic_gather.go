package node

import (
	"sync"

	"peerbus/node/pause"
)

// gathering says whether the writer of a subscriber waits for more, in a burst of publications.
//
//	idle --publication in a burst, less than gatherBytes wait--> waits --gatherTime over, or enough waits--> due
//	 ^                                                                                                        |
//	 +--------------------------------- the writer takes what there is ---------------------------------------+
//
// Whoever makes an outbound wait hands it to the topicGather, which ends that.
type gathering uint8

const (
	gatherIdle gathering = iota
	gatherWaits
	gatherDue
)

// topicGather ends the wait of a topic's writers: one sleep for all of them, and no wake-up for each message.
type topicGather struct {
	node  *Node
	state struct {
		sync.Mutex
		waiting []*outbound
		running bool
	}
}

// add makes the outbounds due after gatherTime.
func (g *topicGather) add(waiting []*outbound) {
	g.state.Lock()
	defer g.state.Unlock()
	g.state.waiting = append(g.state.waiting, waiting...)
	if g.state.running {
		return
	}
	g.state.running = g.node.spawn("gathering of a topic", func() {
		pause.For(gatherTime)
		endWait(g.take())
	})
	if !g.state.running { // the node is closing, and sends what waits
		endWait(g.state.waiting)
		g.state.waiting = nil
	}
}

func (g *topicGather) take() []*outbound {
	g.state.Lock()
	defer g.state.Unlock()
	waiting := g.state.waiting
	g.state.waiting, g.state.running = nil, false
	return waiting
}

func endWait(waiting []*outbound) {
	for _, o := range waiting {
		o.state.Lock()
		if o.state.gathering == gatherWaits {
			o.state.gathering = gatherDue
			o.startWriterLocked()
		}
		o.state.Unlock()
	}
}

// gatherLocked decides when what was just accepted is written. It answers true when the caller shall give the outbound to its
// topicGather.
func (o *outbound) gatherLocked(burst bool) bool {
	s := &o.state
	switch {
	case burst && s.gathering == gatherIdle && s.sender.Queued() < gatherBytes:
		s.gathering = gatherWaits
		return true
	case burst && s.gathering == gatherWaits && s.sender.Queued() < gatherBytes:
		return false
	}
	s.gathering = gatherDue
	o.startWriterLocked()
	return false
}
