package mux

import (
	"sync"
	"time"
)

// pulse asks the peer now and then whether it is there, and learns the round trip by that.
//
//	resting --pingInterval--> asked --answer, or anything else, within pingTimeout--> resting
//	                                --nothing--> the connection fails
type pulse struct {
	conn  *Conn
	timer *time.Timer
	state struct {
		sync.Mutex
		number uint32
		asked  bool
		sent   time.Time
		heard  uint64 // Conn.heard at that time
		trip   time.Duration
	}
}

func (p *pulse) prepare(c *Conn) {
	p.conn = c
	p.timer = time.AfterFunc(pingInterval, func() { c.spawn(p.beat) })
}

func (p *pulse) stop() { p.timer.Stop() }

func (p *pulse) beat() {
	p.state.Lock()
	waited := p.state.asked
	silent := waited && p.conn.heard.Load() == p.state.heard
	p.state.asked = !waited
	if !waited {
		p.state.number++
		p.state.sent, p.state.heard = time.Now(), p.conn.heard.Load()
	}
	ping := header{framePing, 0, p.state.number}
	p.state.Unlock()
	switch {
	case silent:
		_ = p.conn.fail(errSilent)
	case waited:
		p.timer.Reset(pingInterval)
	default:
		p.timer.Reset(pingTimeout)
		_ = p.conn.post(ping)
	}
}

func (p *pulse) answered(number uint32) {
	p.state.Lock()
	defer p.state.Unlock()
	if p.state.asked && number == p.state.number {
		p.state.trip = time.Since(p.state.sent)
	}
}

// roundTrip answers the last one measured, 0 before the first.
func (p *pulse) roundTrip() time.Duration {
	p.state.Lock()
	defer p.state.Unlock()
	return p.state.trip
}
