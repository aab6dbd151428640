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

// durables are the durable channels of a node (docs/durable-channels.md). Each is in its outbound (outbound_kept.go) or its incoming
// (inbound_kept.go).
//
//	no store --- start, with channel.durable or a file --------> open --- close ---> closed
//	             obtain, for the first channel made durable
type durables struct {
	node     *Node
	receives bool // channel.durable: what is received is kept, and what is sent unless its channel is made ordinary
	key      crypto.PrivKey
	room     budgetRoom // of the outbox
	opening  sync.Mutex
	store    *store.Store       // nil until it is open; opening guards that change, which comes before any durable channel
	end      context.CancelFunc // of the store
	in       struct {
		sync.Mutex
		byName map[string]*incoming
	}
}

func newDurables(n *Node) *durables {
	d := &durables{node: n, receives: n.config.Channel.Durable}
	d.room = budgetRoom{node: n, byteBudget: byteBudget{limit: n.config.Limits.OutboxBytes}}
	d.in.byName = map[string]*incoming{}
	return d
}

// start takes up what an earlier process left, also one whose node had the key or whose program chose durable channels. resume
// follows once the node has a host.
func (d *durables) start(key crypto.PrivKey) error {
	d.key = key
	dir := d.node.config.IdentityDir
	if !d.receives && !(d.node.config.Channel.Acknowledged && store.Exists(dir)) {
		return nil
	}
	d.opening.Lock()
	defer d.opening.Unlock()
	return d.openLocked(d.load)
}

// obtain opens the store, unless it is open, for a channel that becomes durable.
func (d *durables) obtain() error {
	if !d.node.config.Channel.Acknowledged {
		return fmt.Errorf("%w: durable channels are acknowledged ones, set channel.acknowledged to true", ErrArgument)
	}
	d.opening.Lock()
	defer d.opening.Unlock()
	if d.store != nil {
		return nil
	}
	return d.openLocked(d.loadNothing)
}

func (d *durables) openLocked(load func(*store.Tx) error) error {
	if d.node.ctx.Err() != nil {
		return ErrClosed
	}
	secret, err := d.key.Raw()
	if err != nil {
		return fmt.Errorf("%w: %v", ErrStore, err)
	}
	opened, err := store.Open(d.node.config.IdentityDir, secret)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrStore, err)
	}
	d.store = opened
	err = opened.Update(load)
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrStore, err)
	}
	ctx, end := context.WithCancel(context.Background()) // the node ends it last
	if err == nil && !d.node.spawn("store of durable channels", func() { opened.Keep(ctx) }) {
		err = ErrClosed
	}
	if err != nil {
		end()
		d.store = nil
		opened.Close()
		return err
	}
	d.end = end
	return nil
}

func (d *durables) load(tx *store.Tx) error {
	d.room.state.used = tx.OutUsed()
	if d.receives {
		instance, err := tx.Instance()
		if err != nil {
			return err
		}
		d.node.inbounds.table.KeepSessions(instance)
		if err := tx.Incomings(d.loadIncoming); err != nil {
			return err
		}
	}
	return tx.Channels(func(number uint64, c store.Channel) error { return d.loadChannel(tx, number, c) })
}

// loadNothing follows when a running node opens its store: the file was not there when the node started.
func (d *durables) loadNothing(tx *store.Tx) error {
	return tx.Channels(func(_ uint64, c store.Channel) error {
		return fmt.Errorf("%w: it came while the node ran and has channel %q; create the node anew", store.ErrInUse, c.Name)
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
	d.opening.Lock()
	defer d.opening.Unlock()
	if d.store == nil {
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
