package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"

	"peerbus/node/session"
	"peerbus/node/store"
)

// ErrStore is wrapped by every failure of the store of durable channels.
var ErrStore = errors.New("the store of durable channels cannot be used")

// storeRetry is the pause after the store failed to read or write what nobody waits for.
const storeRetry = time.Second

// durables are the durable channels of a node (docs/durable-channels.md), nil unless channel.durable. Each is in its outbound
// (outbound_kept.go) or its incoming (inbound_kept.go).
type durables struct {
	node  *Node
	store *store.Store
	room  budgetRoom         // of the outbox
	end   context.CancelFunc // of the store
	in    struct {
		sync.Mutex
		byName map[string]*incoming
	}
}

// openDurables opens the store and takes up what an earlier process left. resume follows once the node has a host.
func (n *Node) openDurables(key crypto.PrivKey) error {
	if !n.config.Channel.Durable {
		return nil
	}
	secret, err := key.Raw()
	if err != nil {
		return fmt.Errorf("%w: %v", ErrStore, err)
	}
	opened, err := store.Open(n.config.IdentityDir, secret)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrStore, err)
	}
	d := &durables{node: n, store: opened}
	d.room = budgetRoom{node: n, byteBudget: byteBudget{limit: n.config.Limits.OutboxBytes}}
	d.in.byName = map[string]*incoming{}
	ctx, end := context.WithCancel(context.Background()) // the node ends it last
	d.end = end
	n.durables = d
	if err := d.load(); err != nil {
		n.durables = nil
		opened.Close()
		return fmt.Errorf("%w: %w", ErrStore, err)
	}
	if !n.spawn("store of durable channels", func() { opened.Keep(ctx) }) {
		opened.Close()
		return ErrClosed
	}
	return nil
}

func (d *durables) load() error {
	return d.store.Update(func(tx *store.Tx) error {
		d.room.state.used = tx.OutUsed()
		instance, err := tx.Instance()
		if err != nil {
			return err
		}
		d.node.inbounds.table.KeepSessions(instance)
		if err := tx.Incomings(d.loadIncoming); err != nil {
			return err
		}
		return tx.Channels(func(number uint64, c store.Channel) error { return d.loadChannel(tx, number, c) })
	})
}

// loadIncoming takes up the receiving side of one channel.
func (d *durables) loadIncoming(number uint64, record store.Incoming) error {
	name, err := parseChannel(record.Channel)
	if err != nil || name.owner != record.Peer {
		return fmt.Errorf("%w: channel %q of peer %q", store.ErrDamaged, record.Channel, record.Peer)
	}
	d.takeUpIncoming(number, record)
	return nil
}

// close writes what the store must know of the end, and closes it. The queue is closed.
func (d *durables) close() {
	if d == nil {
		return
	}
	d.in.Lock()
	all := slices.Collect(maps.Values(d.in.byName))
	d.in.Unlock()
	for _, k := range all {
		k.closing()
	}
	d.end()
}

// failed tells that the store failed in what nobody waits for.
func (d *durables) failed(what, channel string, err error) {
	d.node.log.Error("the store of durable channels fails; trying again", "what", what, "channel", channel, "reason", err)
	d.node.events.PushOnce(EventStoreFailed, EventStoreFailed+what+channel, map[string]any{"what": what, "channel": channel, "reason": err.Error()})
}

// loadChannel takes up the sending side of one channel. Streams of this process have higher generations than those before.
func (d *durables) loadChannel(tx *store.Tx, number uint64, c store.Channel) error {
	name, err := parseChannel(c.Name)
	if err != nil {
		return fmt.Errorf("%w: %w", store.ErrDamaged, err)
	}
	c.Starts++
	if err := tx.PutChannel(number, c); err != nil {
		return err
	}
	cost, err := tx.DeleteOut(number, c.Settled)
	if err != nil {
		return err
	}
	d.room.give(cost)
	var exposed []session.Kept
	for first := c.Settled + 1; first <= c.Exposed; first = c.Settled + uint64(len(exposed)) + 1 {
		for _, m := range tx.Out(number, first, c.Exposed, feedBytes) {
			exposed = append(exposed, keptMessage(m))
		}
	}
	d.node.outbounds.obtain(name).takeUp(number, c, exposed)
	return nil
}

// resume sends what earlier processes left, once there is a host.
func (d *durables) resume() {
	if d == nil {
		return
	}
	for _, o := range d.node.outbounds.all() {
		o.resume()
	}
}

func storeError(err error) error {
	if errors.Is(err, store.ErrClosed) {
		return ErrClosed
	}
	return fmt.Errorf("%w: %w", ErrStore, err)
}

// retry runs f after a while, unless the node closes.
func (d *durables) retry(name string, f func()) {
	d.node.spawn(name, func() {
		timer := time.NewTimer(storeRetry)
		defer timer.Stop()
		select {
		case <-timer.C:
			f()
		case <-d.node.ctx.Done():
		}
	})
}

func keptMessage(m store.OutMessage) session.Kept {
	return session.Kept{
		Attributes: session.Attributes{Codec: session.Codec(m.Attributes[0]), Class: session.Class(m.Attributes[1]), HopLimit: m.Attributes[2]},
		Payload:    m.Payload, Missing: m.Err != nil,
	}
}

// budgetRoom is a budget whose senders hear of room.
type budgetRoom struct {
	byteBudget
	node *Node
	want wantedChannels
}

// reserve waits for room until ctx ends.
func (r *budgetRoom) reserve(ctx context.Context, d *durables, channel string, size int64) error {
	if r.try(size) {
		return nil
	}
	d.store.Hurry() // what was delivered may not be removed yet
	if ctx.Err() == nil && r.take(ctx, size) == nil {
		return nil
	}
	if errors.Is(context.Cause(ctx), ErrClosed) {
		return ErrClosed
	}
	r.want.add(channel)
	return fmt.Errorf("%w: the outbox on disk is full (limits.outbox_bytes is %d); wait for the writable event or give a longer timeout", ErrWouldBlock, r.limit)
}

// wanted tells whether somebody waits for room.
func (r *budgetRoom) wanted() bool {
	r.state.Lock()
	waiting := len(r.state.waiting)
	r.state.Unlock()
	return waiting > 0 || r.want.some()
}

// giveBack frees room and tells who wants some.
func (r *budgetRoom) giveBack(size int64) {
	r.give(size)
	if size > 0 {
		for _, channel := range r.want.take() {
			r.node.events.PushOnce(EventWritable, EventWritable+channel, map[string]any{"channel": channel})
		}
	}
}
