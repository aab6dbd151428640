package node

import (
	"runtime"
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

// leftAtReturn counts, of 50 lone messages, those that had left when their call returned, with one processor for Go: only a sender
// that steps aside lets the writer run by then.
func leftAtReturn(t *testing.T, n *Node, send func()) (left int) {
	t.Helper()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for range 50 {
		waitUntil(t, "nothing waits", func() bool { return n.Statistics().Waiting.Messages == 0 })
		quiet()
		before := n.Statistics().Sent.Messages
		send()
		if n.Statistics().Sent.Messages > before {
			left++
		}
	}
	return left
}

func TestALoneMessageOnAWebRTCSessionLeavesBeforeTheHostGoesOn(t *testing.T) {
	a, b := startPair(t, overChat)
	openWebRTC(t, a, b)
	sendAll(t, a, b, []byte("first"))
	if left := leftAtReturn(t, a, func() { sendAll(t, a, b, []byte("lone")) }); left < 25 {
		t.Errorf("%d of 50 had left", left)
	}
	receive(t, b, 51)
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
