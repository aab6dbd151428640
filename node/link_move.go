package node

import (
	"time"
)

const (
	// departTimeout is how long the writer waits for the peer to have read a relayed stream before it goes on with a direct
	// one.
	departTimeout = 5 * time.Second
	// arrivalPatience is how long the reader of a direct stream lets the relayed one before it rest without a frame.
	arrivalPatience = 2 * time.Second
	// finishPatience is how long a write may go on after the peer has ended the stream.
	finishPatience = 5 * time.Second
)

// Moving chat from a relayed connection to a direct one, without losing or reordering anything between peers that both do
// this:
//
//	sender     finish the chunk in hand, half-close the relayed stream, wait until the peer has ended it too, open a
//	           stream, which libp2p puts on the direct connection, go on
//	receiver   read the direct stream only when the relayed one has ended, or rests
//
// Both directions use one stream, so both sides half-close it when they see the direct connection: one that reads the other's
// end while it writes finishes that write first (chatStream.finish).

// leaveRelay ends the relayed stream that is written, when the peer has a direct connection. Only the writer calls it.
func (l *link) leaveRelay() {
	l.state.Lock()
	old := l.state.current
	l.state.Unlock()
	if old == nil || !old.relayed || !l.node.punches.direct(l.peer) {
		return
	}
	l.state.Lock()
	if l.state.current == old {
		l.state.current = nil
	}
	written := old.written
	l.state.Unlock()
	if !written {
		return // the peer's stream: the peer ends it
	}
	old.closeWrite()
	timer := time.NewTimer(departTimeout)
	defer timer.Stop()
	select {
	case <-old.ended:
	case <-timer.C:
	case <-l.ctx.Done():
	}
}

// awaitRelayed holds the reader of a direct stream until the relayed ones before it have ended or rest.
func (l *link) awaitRelayed(stream *chatStream) {
	if stream.relayed {
		return
	}
	l.state.Lock()
	var before []*chatStream
	for other := range l.state.streams {
		if other != stream && other.relayed {
			before = append(before, other)
		}
	}
	l.state.Unlock()
	for _, old := range before {
		for {
			rested := time.Since(time.Unix(0, old.lastHeard.Load()))
			if rested >= arrivalPatience && !old.handing.Load() {
				break
			}
			timer := time.NewTimer(max(arrivalPatience-rested, arrivalPatience/10))
			select {
			case <-old.ended:
				timer.Stop()
			case <-l.ctx.Done():
				timer.Stop()
				return
			case <-timer.C:
				continue
			}
			break
		}
	}
}
