package node

import (
	"fmt"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
)

func TestAHoleInAnAuthorsNumbersIsMissingUntilItIsFilled(t *testing.T) {
	numbers, author := newAuthorNumbers(), peer.ID("author")
	expect := func(received, missing uint64) {
		t.Helper()
		if got := numbers.of(author); got.Received != received || got.Missing != missing {
			t.Errorf("%+v, want %d received and %d missing", got, received, missing)
		}
	}
	for _, number := range []uint64{100, 102, 105} {
		numbers.received(author, number)
	}
	expect(3, 3)
	numbers.received(author, 101) // late, not lost
	expect(4, 2)
	numbers.received(author, 99) // from before
	expect(5, 2)
	numbers.run(author, 1<<60, 10) // it started anew
	expect(15, 2)
	numbers.run(author, 1<<60+12, 1)
	expect(16, 4)
}

func TestGossipShowsHowManyMessagesOfAnAuthorAreMissing(t *testing.T) {
	a, b := startPair(t, wide)
	topic, other := topicName(a.id, "x"), topicName(a.id, "other")
	subscribe(t, a, b, topic)
	subscribe(t, a, b, other)
	publish := func(topic string, count int) {
		for range count {
			mustPublish(t, a, topic, []byte("x"))
		}
	}
	publish(topic, 3)
	publish(other, 4)
	publish(topic, 3)
	receive(t, b, 10)
	check := func(received, missing uint64) {
		t.Helper()
		info, err := b.TopicInfo(topic)
		want := []TopicPublisher{{Peer: a.id.String(), Received: received, Missing: missing, Last: info.Publishers[0].Last}}
		if err != nil || fmt.Sprint(info.Publishers) != fmt.Sprint(want) || info.Mode != TopicGossip {
			t.Errorf("info %+v, %v; want %+v", info, err, want)
		}
	}
	check(6, 0)
	if err := b.SetTopicRules(topic, &TopicRules{MaxBytes: 1}); err != nil {
		t.Fatal(err)
	}
	mustPublish(t, a, topic, []byte("too long"))
	publish(topic, 1)
	receive(t, b, 1)
	check(7, 1)
}
