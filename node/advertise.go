package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

const (
	// advertisePeriod is how often a record is renewed. Servers forget when they restart, so it is short.
	advertisePeriod = 10 * time.Minute
	// advertiseTimeout bounds one attempt; advertiseRetry is the pause after the first failed one, doubled up to the period.
	advertiseTimeout = time.Minute
	advertiseRetry   = 5 * time.Second
	// maxAdvertised bounds the namespaces of one node.
	maxAdvertised = 256
)

// advertisement is one namespace under which this node can be found, renewed in the background.
//
//	starting --a source succeeds--> standing --StopAdvertising--> gone
//	    \---- all sources fail once, or the caller gives up ------^
type advertisement struct {
	name string
	ctx  context.Context
	stop context.CancelCauseFunc

	settled chan struct{} // closed when starting is over
	err     error         // why it did not stand; read after settled
}

// Advertise makes this node findable under a namespace, or a topic's name, until StopAdvertising. It answers when the first
// source others look in has it. When none takes it before ctx ends nothing stays. Idempotent.
func (n *Node) Advertise(ctx context.Context, name string) error {
	namespace, err := namespaceOf(name)
	if err == nil {
		err = n.found.checkOn()
	}
	if err == nil && namespace == "" {
		err = fmt.Errorf("%w: the namespace is empty; nodes with mdns.enabled are always found by the empty one", ErrArgument)
	}
	if err != nil {
		return err
	}
	a, first, err := n.found.advertisementOf(name)
	if err != nil {
		return err
	}
	if first {
		n.found.run(a, namespace)
	}
	select {
	case <-a.settled:
		return a.err
	case <-ctx.Done():
	}
	if !first { // its starter decides what becomes of it
		return contextError(ctx, "advertising "+name)
	}
	n.found.withdraw(a, ErrCancelled)
	<-a.settled
	if a.err == nil { // it stood just in time, and is gone again
		return contextError(ctx, "advertising "+name)
	}
	return fmt.Errorf("%w (%w)", contextError(ctx, "advertising "+name), a.err)
}

// advertisementOf answers the advertisement of a name, and whether it is new.
func (d *discovery) advertisementOf(name string) (*advertisement, bool, error) {
	d.advertised.Lock()
	defer d.advertised.Unlock()
	if known := d.advertised.byNamespace[name]; known != nil {
		return known, false, nil
	}
	if len(d.advertised.byNamespace) >= maxAdvertised {
		return nil, false, fmt.Errorf("%w: %d namespaces are advertised, at most that many; stop some", ErrRefused, maxAdvertised)
	}
	made := &advertisement{name: name, settled: make(chan struct{})}
	made.ctx, made.stop = context.WithCancelCause(d.node.ctx)
	d.advertised.byNamespace[name] = made
	return made, true, nil
}

// run advertises with every source until the advertisement is withdrawn.
func (d *discovery) run(a *advertisement, namespace string) {
	attempts := make(chan error, len(d.sources))
	for _, used := range d.sources {
		reporter := &advertiseReporter{discovery: d, name: a.name, source: used.name(), first: attempts}
		ran := d.node.spawn("advertising by "+used.name(), func() {
			defer reporter.end()
			used.advertise(a.ctx, namespace, reporter.report)
		})
		if !ran {
			reporter.end()
		}
	}
	settle := func() {
		defer close(a.settled)
		var problems []error
		for range d.sources {
			err := <-attempts
			if err == nil {
				return
			}
			problems = append(problems, err)
		}
		a.err = errors.Join(problems...)
		d.withdraw(a, a.err)
	}
	if !d.node.spawn("advertising", settle) {
		a.err = ErrClosed
		close(a.settled)
	}
}

// withdraw ends an advertisement.
func (d *discovery) withdraw(a *advertisement, reason error) {
	d.advertised.Lock()
	defer d.advertised.Unlock()
	if d.advertised.byNamespace[a.name] == a {
		delete(d.advertised.byNamespace, a.name)
	}
	a.stop(reason)
}

// StopAdvertising ends the renewal of a namespace: on the LAN this node is not found under it any more, and DHT servers
// forget it within dhtRecordValidity. Idempotent.
func (n *Node) StopAdvertising(name string) error {
	if _, err := namespaceOf(name); err != nil {
		return err
	}
	d := n.found
	d.advertised.Lock()
	known := d.advertised.byNamespace[name]
	d.advertised.Unlock()
	if known != nil {
		d.withdraw(known, ErrCancelled)
	}
	return nil
}

func (d *discovery) advertisedNames() []string {
	d.advertised.Lock()
	defer d.advertised.Unlock()
	return slices.AppendSeq([]string{}, maps.Keys(d.advertised.byNamespace))
}

// advertiseReporter hands over the first outcome of a source, and raises an event when a later one differs from the one
// before. Only the source's goroutine uses it.
type advertiseReporter struct {
	discovery    *discovery
	name, source string
	first        chan<- error // nil after the first outcome
	failing      bool
}

func (r *advertiseReporter) report(err error) {
	changed := r.first != nil || r.failing != (err != nil)
	r.failing = err != nil
	if changed {
		r.raise(err)
	}
	if r.first != nil {
		r.first <- err
		r.first = nil
	}
}

func (r *advertiseReporter) raise(err error) {
	fields := map[string]any{"namespace": r.name, "source": r.source}
	if err == nil {
		r.discovery.node.events.Push(EventAdvertised, fields)
		return
	}
	fields["reason"] = err.Error()
	r.discovery.node.events.Push(EventAdvertiseFailed, fields)
}

// end stands in for the outcome of a source that ended without any.
func (r *advertiseReporter) end() {
	if r.first != nil {
		r.first <- fmt.Errorf("%w: advertising ended", ErrCancelled)
		r.first = nil
	}
}
