package node

import (
	"testing"
	"time"
)

// quiet waits until the next message is a lone one.
func quiet() { time.Sleep(2 * loneAfter) }

func TestLoneChatMessagesAreWrittenByTheirSenderInOrder(t *testing.T) {
	a, b := startPair(t)
	channel := directChannel(a.id, b.id, "0")
	if err := a.SendAndWait(within(t), channel, number(0, 0, 8)); err != nil {
		t.Fatal(err)
	}
	sizes := []int{8, 100, soloBytes - 200, 200, 100 << 10, 8}
	for k := 1; k <= 300; k++ {
		if k%7 > 0 {
			quiet()
		}
		if err := a.Send(within(t), channel, number(0, k, sizes[k%len(sizes)])); err != nil {
			t.Fatal(err)
		}
	}
	expectOrder(t, receive(t, b, 301), 1, 301)
	waitUntil(t, "nothing waits", func() bool { return a.Statistics().Waiting.Messages == 0 })
	if s := a.Statistics(); s.Sent.Messages != 301 {
		t.Errorf("%d messages were counted", s.Sent.Messages)
	}
}

func TestALoneChatMessageNeedsNoWriter(t *testing.T) {
	a, b := startPair(t)
	channel := directChannel(a.id, b.id, "~")
	if err := a.SendAndWait(within(t), channel, []byte("first")); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "a message leaves without the writer", func() bool {
		quiet()
		before := a.Statistics()
		if err := a.Send(within(t), channel, []byte("lone")); err != nil {
			t.Fatal(err)
		}
		after := a.Statistics() // sent when the call returned
		return before.Waiting.Messages == 0 && after.Sent.Messages == before.Sent.Messages+1
	})
}

func TestLoneChatMessagesOfManySendersAndChannelsAreSettled(t *testing.T) {
	a, b := startPair(t)
	const senders, each = 6, 200
	for i := range senders {
		go func() {
			for k := range each {
				if k%3 == 0 {
					quiet()
				}
				if err := a.Send(within(t), directChannel(a.id, b.id, string(rune('0'+i))), number(i, k, 50)); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	expectOrder(t, receive(t, b, senders*each), senders, each)
	waitUntil(t, "nothing waits", func() bool { return a.Statistics().Waiting.Messages == 0 })
}
