package node

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/proto"

	"peerbus/node/envelope"
)

func rulesOf(t testing.TB, text string) *TopicRules {
	t.Helper()
	rules, err := ParseTopicRules(text)
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

func TestRulesOfATopicDecideWhatIsTaken(t *testing.T) {
	a, b := startPair(t)
	typed := func(sender, kind string) []byte {
		text, err := proto.Marshal(&envelope.Message{Sender: sender, ContentType: kind})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	cases := []struct {
		name, rules, reason string
		good, bad           []byte
	}{
		{"size", `{"max_bytes":10}`, lossOversize, make([]byte, 10), make([]byte, 11)},
		{"json", `{"schema":"json"}`, lossDecodeError, []byte(`{"a":1}`), []byte(`{"a":`)},
		{"envelope", `{"schema":"envelope"}`, lossDecodeError, typed(a.id.String(), "text"), []byte{0xff}},
		{"sender", `{"schema":"envelope"}`, lossSenderMismatch, typed(a.id.String(), "text"), typed(b.id.String(), "text")},
		{"kind", `{"schema":"envelope","content_types":["text"]}`, lossDecodeError, typed(a.id.String(), "text"), typed(a.id.String(), "file")},
	}
	for _, c := range cases {
		topic := topicName(a.id, c.name)
		if err := b.SetTopicRules(topic, rulesOf(t, c.rules)); err != nil {
			t.Fatal(err)
		}
		subscribe(t, a, b, topic)
		for _, payload := range [][]byte{c.bad, c.good} {
			if _, err := a.Publish(within(t), topic, payload); err != nil {
				t.Fatal(err)
			}
		}
		if got := receive(t, b, 1); string(got[0].Data) != string(c.good) {
			t.Errorf("%s: received %q", c.name, got[0].Data)
		}
		eventOf(t, b, EventMessagesLost, map[string]any{"reason": c.reason, "channel": topic, "peer": a.id.String()})
	}
}

func TestOnlyAllowedAuthorsPublish(t *testing.T) {
	a, b := startPair(t)
	topic := topicName(a.id, "x")
	allow := func(id peer.ID) *TopicRules { return rulesOf(t, fmt.Sprintf(`{"allow":[%q]}`, id)) }
	if err := b.SetTopicRules(topic, allow(b.id)); err != nil {
		t.Fatal(err)
	}
	subscribe(t, a, b, topic)
	if _, err := a.Publish(within(t), topic, []byte("not allowed")); err != nil {
		t.Fatal(err)
	}
	eventOf(t, b, EventMessagesLost, map[string]any{"reason": lossNotMember})
	if err := b.SetTopicRules(topic, allow(a.id)); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Publish(within(t), topic, []byte("allowed")); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, b, 1); string(got[0].Data) != "allowed" {
		t.Errorf("received %q", got[0].Data)
	}
}

func TestOwnMessagesAgainstTheRulesAreErrors(t *testing.T) {
	n := startNode(t)
	topic := topicName(n.id, "x")
	if err := n.SetTopicRules(topic, rulesOf(t, `{"max_bytes":3,"allow":[],"rate":{"per_second":1,"burst":1}}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Publish(within(t), topic, []byte("four")); !errors.Is(err, ErrArgument) {
		t.Errorf("too long: %v", err)
	}
	for range 3 { // neither the allow list nor the rate is for the node itself
		if _, err := n.Publish(within(t), topic, []byte("abc")); err != nil {
			t.Error(err)
		}
	}
	if err := n.SetTopicRules(topic, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Publish(within(t), topic, []byte("four")); err != nil {
		t.Errorf("without rules: %v", err)
	}
}

func TestEachAuthorHasARateOfItsOwn(t *testing.T) {
	n := startNode(t)
	rules := rulesOf(t, `{"rate":{"per_second":10,"burst":2}}`)
	guard := newTopicGuard(n, channelName{}, rules)
	now := time.Now()
	first, second := mustID(t, somePeer), mustID(t, anotherPeer)
	for i, want := range []bool{true, true, false} {
		if guard.withinRate(first, now) != want {
			t.Errorf("message %d of the first author: want %v", i, want)
		}
	}
	if !guard.withinRate(second, now) {
		t.Error("the second author pays for the first")
	}
	if !guard.withinRate(first, now.Add(100*time.Millisecond)) {
		t.Error("a tenth of a second later there is a token again")
	}
	for i := range maxRuleAuthors {
		guard.withinRate(peer.ID(fmt.Sprint(i)), now)
	}
	if len(guard.rates.byAuthor) > maxRuleAuthors {
		t.Errorf("%d authors are remembered", len(guard.rates.byAuthor))
	}
	if guard.withinRate("newcomer", now) || !guard.withinRate("newcomer", now.Add(time.Second)) {
		t.Error("a newcomer waits for an idle author's place, and gets it")
	}
}

func TestMalformedRulesSayWhatIsWrong(t *testing.T) {
	for text, want := range map[string]string{
		``:                                       "expected",
		`[]`:                                     "expected",
		`{"alow":[]}`:                            "alow",
		`{} {}`:                                  "after the object",
		`{"allow":["nobody"]}`:                   "nobody",
		`{"max_bytes":-1}`:                       "max_bytes",
		`{"schema":"xml"}`:                       "xml",
		`{"content_types":["text"]}`:             "envelope",
		`{"rate":{"per_second":1}}`:              "burst",
		`{"rate":{"burst":1}}`:                   "per_second",
		`{"rate":{"per_second":1e99,"burst":1}}`: "rate",
	} {
		if _, err := ParseTopicRules(text); !errors.Is(err, ErrArgument) || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if rules, err := ParseTopicRules("null"); rules != nil || err != nil {
		t.Errorf("null: %v, %v", rules, err)
	}
	n := startNode(t)
	if err := n.SetTopicRules(topicName(n.id, "x:rv"), rulesOf(t, "{}")); !errors.Is(err, ErrArgument) {
		t.Errorf("a rendezvous topic: %v", err)
	}
}

func TestAPeerThatPublishesRubbishIsShutOutAndCounted(t *testing.T) {
	n := startNode(t)
	topic := topicName(n.id, "x")
	if err := n.SetTopicRules(topic, rulesOf(t, `{"schema":"json"}`)); err != nil {
		t.Fatal(err)
	}
	if err := n.Subscribe(topic); err != nil {
		t.Fatal(err)
	}
	h := startRawHost(t)
	router, err := pubsub.NewGossipSub(t.Context(), h, pubsub.WithFloodPublish(true))
	if err != nil {
		t.Fatal(err)
	}
	dialRaw(t, h, n)
	handle, err := router.Join(topic)
	if err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the publisher sees the subscriber", func() bool { return len(handle.ListPeers()) == 1 })
	publish := func(text string) {
		if err := handle.Publish(within(t), []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	for range 20 {
		publish("rubbish")
	}
	waitUntil(t, "the score of the publisher is low", func() bool {
		return n.Statistics().TopicScores[h.ID().String()] < graylistThreshold
	})
	publish(`"valid, but too late"`)
	eventOf(t, n, EventMessagesLost, map[string]any{"reason": lossBanned, "peer": h.ID().String(), "channel": topic})
	if waiting := n.queue.Len(); waiting != 0 {
		t.Errorf("%d messages came through", waiting)
	}
}

// What only this node's rules refuse says nothing about its author, who cannot know them: it must not cost it the other topics.
func TestAnHonestPublisherIsNotBlamedWhenRulesChange(t *testing.T) {
	n := startNode(t)
	h := startRawHost(t)
	router, err := pubsub.NewGossipSub(t.Context(), h, pubsub.WithFloodPublish(true))
	if err != nil {
		t.Fatal(err)
	}
	dialRaw(t, h, n)
	for name, rules := range map[string]string{
		lossNotMember:   `{"allow":[]}`,
		lossOversize:    `{"max_bytes":3}`,
		lossRateLimited: `{"rate":{"per_second":0.001,"burst":1}}`,
		lossDecodeError: `{"schema":"json"}`,
	} {
		topic := topicName(n.id, name)
		if err := n.Subscribe(topic); err != nil {
			t.Fatal(err)
		}
		handle, err := router.Join(topic)
		if err != nil {
			t.Fatal(err)
		}
		waitUntil(t, "the publisher sees the subscriber", func() bool { return len(handle.ListPeers()) == 1 })
		if err := n.SetTopicRules(topic, rulesOf(t, rules)); err != nil {
			t.Fatal(err)
		}
		for range 30 {
			if err := handle.Publish(within(t), []byte("honest")); err != nil {
				t.Fatal(err)
			}
		}
		waitUntil(t, "all of them are refused", func() bool { return n.Statistics().Lost[directionIn][name] >= 29 })
	}
	topic := topicName(n.id, "free")
	if err := n.Subscribe(topic); err != nil {
		t.Fatal(err)
	}
	free, err := router.Join(topic)
	if err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the publisher sees the subscriber", func() bool { return len(free.ListPeers()) == 1 })
	if err := free.Publish(within(t), []byte("the first one of them counts in favour of its author")); err != nil {
		t.Fatal(err)
	}
	receive(t, n, 1)
	score := func() float64 { return n.Statistics().TopicScores[h.ID().String()] }
	waitUntil(t, "the publisher has a score", func() bool { return score() != 0 })
	if score() < 0 {
		t.Errorf("the score of an honest publisher is %v", score())
	}
}

func TestWhoseMessagesHaveAnotherFormIsToBlameAMinuteAfterTheRulesChanged(t *testing.T) {
	n := startNode(t)
	topic := topicName(n.id, "x")
	guard := func() *topicGuard {
		t.Helper()
		if err := n.SetTopicRules(topic, rulesOf(t, `{"schema":"json"}`)); err != nil {
			t.Fatal(err)
		}
		return n.topics.state.guarded[topic].guard.Load()
	}
	now := time.Now()
	if !guard().blames(lossDecodeError, now) {
		t.Error("before the topic is joined there is nobody who published by other rules")
	}
	if err := n.Subscribe(topic); err != nil {
		t.Fatal(err)
	}
	changed := guard()
	if changed.blames(lossDecodeError, now.Add(rulesGrace/2)) || !changed.blames(lossDecodeError, time.Now().Add(2*rulesGrace)) {
		t.Error("who publishes by the old rules has a minute")
	}
	if changed.blames(lossNotMember, now.Add(time.Hour)) {
		t.Error("who may publish is this node's choice")
	}
}
