package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/time/rate"
	"google.golang.org/protobuf/proto"

	"peerbus/node/envelope"
)

const (
	// maxRuleAuthors bounds the allow list of a topic and the authors whose rate is remembered.
	maxRuleAuthors = 4096
	// maxTopicRate is the highest rate and burst of a topic, in messages (a second).
	maxTopicRate = 1_000_000
	// rulesGrace is how long after rules were set on a topic in use nobody is blamed for what they refuse: publishers know nothing of them.
	rulesGrace = time.Minute

	schemaAny      = "any"
	schemaJSON     = "json"
	schemaEnvelope = "envelope"
)

// TopicRules decide which messages of a topic this node takes and forwards. What they refuse from others is counted and
// does not spread from here; what they refuse of this node's own messages is an error of Publish.
type TopicRules struct {
	Allow        []string   `json:"allow"`         // peer ids that may publish; absent: everybody. The node itself always may
	MaxBytes     int        `json:"max_bytes"`     // of one payload; 0: limits.message_bytes
	Rate         *TopicRate `json:"rate"`          // of each author other than the node itself
	Schema       string     `json:"schema"`        // "any", "json" or "envelope": a typed message whose sender is its author
	ContentTypes []string   `json:"content_types"` // of envelopes; absent: all
}

// TopicRate is a token bucket for each author.
type TopicRate struct {
	PerSecond float64 `json:"per_second"`
	Burst     int     `json:"burst"`
}

// ParseTopicRules reads the JSON text of SetTopicRules; null means no rules.
func ParseTopicRules(text string) (*TopicRules, error) {
	decoder := json.NewDecoder(bytes.NewReader([]byte(text)))
	decoder.DisallowUnknownFields()
	var rules *TopicRules
	if err := decoder.Decode(&rules); err != nil {
		return nil, fmt.Errorf("%w: rules: %v; expected {\"allow\",\"max_bytes\",\"rate\",\"schema\",\"content_types\"} or null", ErrArgument, err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: rules: text after the object", ErrArgument)
	}
	if rules == nil {
		return nil, nil
	}
	if err := rules.check(); err != nil {
		return nil, fmt.Errorf("%w: rules: %v", ErrArgument, err)
	}
	return rules, nil
}

func (r *TopicRules) check() error {
	if len(r.Allow) > maxRuleAuthors {
		return fmt.Errorf("allow has %d peers, at most %d fit", len(r.Allow), maxRuleAuthors)
	}
	for _, id := range r.Allow {
		if _, err := peer.Decode(id); err != nil {
			return fmt.Errorf("allow: %q is not a peer id: %v", id, err)
		}
	}
	if r.Schema == "" {
		r.Schema = schemaAny
	}
	bucket := r.Rate
	switch {
	case r.MaxBytes < 0:
		return fmt.Errorf("max_bytes is %d; 0 means limits.message_bytes", r.MaxBytes)
	case bucket != nil && !(bucket.PerSecond > 0 && bucket.PerSecond <= maxTopicRate && bucket.Burst >= 1 && bucket.Burst <= maxTopicRate):
		return fmt.Errorf("rate needs per_second above 0 and burst from 1, both up to %d", maxTopicRate)
	case r.Schema != schemaAny && r.Schema != schemaJSON && r.Schema != schemaEnvelope:
		return fmt.Errorf("schema %q; there are %q, %q and %q", r.Schema, schemaAny, schemaJSON, schemaEnvelope)
	case len(r.ContentTypes) > 0 && r.Schema != schemaEnvelope:
		return fmt.Errorf("content_types needs the schema %q", schemaEnvelope)
	}
	return nil
}

// topicGuard applies the rules of one topic. pubsub calls it in the order of arrival.
type topicGuard struct {
	node  *Node
	name  channelName
	rules *TopicRules
	allow map[peer.ID]struct{} // nil: everybody
	// lenient: until then the topic may still bring what other rules allowed.
	lenient time.Time
	rates   struct {
		sync.Mutex
		byAuthor map[peer.ID]*rate.Limiter
	}
}

func newTopicGuard(n *Node, name channelName, rules *TopicRules) *topicGuard {
	g := &topicGuard{node: n, name: name, rules: rules}
	if rules.Allow != nil {
		g.allow = make(map[peer.ID]struct{}, len(rules.Allow))
		for _, text := range rules.Allow {
			id, _ := peer.Decode(text) // checked by ParseTopicRules
			g.allow[id] = struct{}{}
		}
	}
	g.rates.byAuthor = map[peer.ID]*rate.Limiter{}
	return g
}

// validate answers Ignore for what the rules refuse, which keeps it from spreading, and Reject, which also lowers the forwarder's
// score on all topics, only when that is the author and to blame: others may forward without knowing the rules.
func (g *topicGuard) validate(_ context.Context, forwarder peer.ID, message *pubsub.Message) (verdict pubsub.ValidationResult) {
	verdict = pubsub.ValidationIgnore // after a panic, whose goroutine is the router's
	defer g.node.recoverPanic("topic rules")
	author := message.GetFrom()
	reason := g.refuses(author, message.GetData())
	switch {
	case reason == "":
		return pubsub.ValidationAccept
	case author == g.node.id:
		return pubsub.ValidationReject
	}
	g.node.losses.add(directionIn, reason, g.name.text, author.String(), 1)
	if author == forwarder && g.blames(reason, time.Now()) {
		return pubsub.ValidationReject
	}
	return pubsub.ValidationIgnore
}

// blames tells whether an author is to blame for a message that the rules refuse: for its form, not for who publishes, how much
// and how large, which is this node's own choice and nothing that an honest publisher can know.
func (g *topicGuard) blames(reason string, now time.Time) bool {
	return (reason == lossDecodeError || reason == lossSenderMismatch) && now.After(g.lenient)
}

// guardSlot is what pubsub knows as the validator of a topic. New rules take the place of the old ones in it, so that no message passes
// in between.
type guardSlot struct{ guard atomic.Pointer[topicGuard] }

func (s *guardSlot) validate(ctx context.Context, forwarder peer.ID, message *pubsub.Message) pubsub.ValidationResult {
	return s.guard.Load().validate(ctx, forwarder, message)
}

// guardLocked answers the rules of a topic, nil if it has none.
func (t *topics) guardLocked(name channelName) *topicGuard {
	slot := t.state.guarded[name.text]
	if slot == nil {
		return nil
	}
	return slot.guard.Load()
}

// refuses answers the reason of GEN-02, or "".
func (g *topicGuard) refuses(author peer.ID, payload []byte) string {
	own := author == g.node.id
	if _, allowed := g.allow[author]; g.allow != nil && !allowed && !own {
		return lossNotMember
	}
	if g.rules.MaxBytes > 0 && len(payload) > g.rules.MaxBytes {
		return lossOversize
	}
	if !own && !g.withinRate(author, time.Now()) {
		return lossRateLimited
	}
	return g.refusesContent(author, payload)
}

func (g *topicGuard) refusesContent(author peer.ID, payload []byte) string {
	switch g.rules.Schema {
	case schemaJSON:
		if !json.Valid(payload) {
			return lossDecodeError
		}
	case schemaEnvelope:
		var message envelope.Message
		if err := proto.Unmarshal(payload, &message); err != nil {
			return lossDecodeError
		}
		if message.GetSender() != author.String() {
			return lossSenderMismatch
		}
		if len(g.rules.ContentTypes) > 0 && !slices.Contains(g.rules.ContentTypes, message.GetContentType()) {
			return lossDecodeError
		}
	}
	return ""
}

func (g *topicGuard) withinRate(author peer.ID, now time.Time) bool {
	if g.rules.Rate == nil {
		return true
	}
	g.rates.Lock()
	defer g.rates.Unlock()
	limiter := g.rates.byAuthor[author]
	if limiter == nil {
		if len(g.rates.byAuthor) >= maxRuleAuthors && !g.forgetIdleLocked(now) {
			return false // so many authors at their limit: newcomers wait for one of them
		}
		limiter = rate.NewLimiter(rate.Limit(g.rules.Rate.PerSecond), g.rules.Rate.Burst)
		g.rates.byAuthor[author] = limiter
	}
	return limiter.AllowN(now, 1)
}

// forgetIdleLocked drops the authors who have their whole burst again: they lose nothing by it.
func (g *topicGuard) forgetIdleLocked(now time.Time) bool {
	before := len(g.rates.byAuthor)
	maps.DeleteFunc(g.rates.byAuthor, func(_ peer.ID, limiter *rate.Limiter) bool {
		return limiter.TokensAt(now) >= float64(g.rules.Rate.Burst)
	})
	return len(g.rates.byAuthor) < before
}

// SetTopicRules puts rules on a topic, replacing those it had; nil removes them. They hold from the next message on,
// whether or not the topic is subscribed yet.
func (n *Node) SetTopicRules(channel string, rules *TopicRules) error {
	name, err := parseTopic(channel)
	if err != nil {
		return err
	}
	if name.rendezvous() {
		return fmt.Errorf("%w: %q is a rendezvous topic, which has rules of its own", ErrArgument, channel)
	}
	t := n.topics
	t.state.Lock()
	defer t.state.Unlock()
	var guard *topicGuard
	if rules == nil {
		err = t.unguardLocked(name)
	} else {
		guard = newTopicGuard(n, name, rules)
		err = t.guardByLocked(guard)
	}
	if err == nil {
		t.direct.guard(name.text, guard)
	}
	return err
}

func (t *topics) unguardLocked(name channelName) error {
	if t.state.guarded[name.text] == nil {
		return nil
	}
	if err := t.router.UnregisterTopicValidator(name.text); err != nil {
		return t.problem("removing the rules of", name, err)
	}
	delete(t.state.guarded, name.text)
	return nil
}

func (t *topics) guardByLocked(guard *topicGuard) error {
	name := guard.name
	if t.state.joined[name.text] != nil {
		guard.lenient = time.Now().Add(rulesGrace)
	}
	if slot := t.state.guarded[name.text]; slot != nil {
		slot.guard.Store(guard)
		return nil
	}
	if len(t.state.guarded) >= maxTopics {
		return fmt.Errorf("%w: %d topics have rules, at most %d can", ErrRefused, len(t.state.guarded), maxTopics)
	}
	slot := &guardSlot{}
	slot.guard.Store(guard)
	// Inline: validators that run beside each other would swap the order of one publisher's messages.
	if err := t.router.RegisterTopicValidator(name.text, pubsub.ValidatorEx(slot.validate), pubsub.WithValidatorInline(true)); err != nil {
		return t.problem("putting rules on", name, err)
	}
	t.state.guarded[name.text] = slot
	return nil
}
