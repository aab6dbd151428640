package node

import (
	"encoding/binary"
	"sync"
	"testing"
	"time"

	"peerbus/queue"
)

// attendLong outlasts what its test does.
const attendLong = time.Minute

// lookAtOnce is what a thread that lingers does.
func lookAtOnce(n *Node) bool {
	_, attendance, ok := n.Attend(attendLong)
	if ok {
		n.Look(attendance)
		n.Leave(attendance)
	}
	return ok
}

func TestAThreadThatLooksTakesALoneMessageItself(t *testing.T) {
	a, b := startPair(t)
	c := openChannel(t, a, b, "0")
	for k := 0; ; k++ {
		waitUntil(t, "it may look, or a message came", func() bool {
			lookAtOnce(b)
			return b.attention.reader.Load() != nil || k < 2 // the first one comes by its reader's own goroutine
		})
		_, attendance, ok := b.Attend(attendLong)
		quiet()
		mustSend(t, c, number(0, k, 20))
		before := b.queue.Len()
		var took bool
		waitUntil(t, "the message is in the queue", func() bool {
			empty := b.queue.Len() == 0
			b.Look(attendance)
			took = ok && empty && b.queue.Len() > before
			return b.queue.Len() > 0
		})
		b.Leave(attendance)
		if got := receive(t, b, 1); string(got[0].Data) != string(number(0, k, 20)) {
			t.Fatalf("%x came, not message %d", got[0].Data, k)
		}
		if took && k > 3 {
			return
		}
	}
}

func TestMessagesArriveOnceAndInOrderWhoeverDecodesThem(t *testing.T) {
	a, b := startPair(t, limits(func(l *Limits) { l.ChannelMessages = 3 })) // so that what is decoded often finds no room
	const messages = 500
	c := openChannel(t, a, b, "0")
	var looking sync.WaitGroup
	ended := make(chan struct{})
	for range 2 {
		looking.Go(func() {
			for {
				select {
				case <-ended:
					return
				default:
					if !lookAtOnce(b) {
						time.Sleep(time.Millisecond)
					}
				}
			}
		})
	}
	sizes := []int{8, 100, 3000, lentBytes + 1, 20 << 10}
	looking.Go(func() {
		for k := range messages {
			if k%3 > 0 {
				quiet()
			}
			mustSend(t, c, number(0, k, sizes[k%len(sizes)]))
			switch k {
			case 200:
				for _, connection := range a.host.Network().ConnsToPeer(b.id) {
					_ = connection.Close()
				}
			case 400:
				for _, connection := range b.host.Network().ConnsToPeer(a.id) {
					for _, s := range connection.GetStreams() {
						_ = s.Reset()
					}
				}
			}
		}
	})
	expectOrder(t, receive(t, b, messages), 1, messages)
	mustReach(t, c, messages, DeliveryAccepted)
	close(ended)
	looking.Wait()
	expectLosses(t, b, directionIn, nil)
}

func TestANodeThatClosesWhileAThreadLooksLosesNothing(t *testing.T) {
	a, b := startPair(t)
	c := openChannel(t, a, b, "0")
	for k := range 50 {
		quiet()
		mustSend(t, c, number(0, k, 20))
		lookAtOnce(b)
	}
	expectOrder(t, receive(t, b, 50), 1, 50)
	_, attendance, _ := b.Attend(attendLong)
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	b.Look(attendance)
	b.Leave(attendance)
}

func TestABurstThatFindsNoRoomWhileAThreadLooksArrivesInOrder(t *testing.T) {
	a, b := startPair(t, limits(func(l *Limits) { l.ChannelMessages = 3 }))
	const rounds, burst = 10, 2 * inBatchMessages
	c := openChannel(t, a, b, "0")
	lookAtOnce(b)
	for k := range rounds {
		mustSend(t, c, number(k, 0, 20))
		expectOrder(t, renumbered(receive(t, b, 1), k), 1, 1)
		waitUntil(t, "it may look", func() bool { lookAtOnce(b); return b.attention.reader.Load() != nil })
		quiet()
		_, attendance, _ := b.Attend(attendLong)
		payloads := make([][]byte, burst)
		for i := range payloads {
			payloads[i] = number(k, i, 20)
		}
		if _, taken, err := c.SendBatch(within(t), payloads); err != nil || taken != burst {
			t.Fatal(taken, err)
		}
		waitUntil(t, "messages are in the queue", func() bool { b.Look(attendance); return b.queue.Len() > 0 })
		b.Leave(attendance)
		expectOrder(t, renumbered(receive(t, b, burst), k), 1, burst)
	}
	expectLosses(t, b, directionIn, nil)
}

// attendSoon exchanges messages until there is something to attend.
func attendSoon(t *testing.T, b *Node, c *Channel) (attendance uint64) {
	t.Helper()
	ok := false
	waitUntil(t, "there is something to attend", func() bool {
		if _, attendance, ok = b.Attend(attendLong); !ok {
			quiet()
			mustSend(t, c, number(0, 0, 20))
			receive(t, b, 1)
		}
		return ok
	})
	return attendance
}

func TestAnAttendanceLapsesWhenNobodyLooks(t *testing.T) {
	a, b := startPair(t)
	c := openChannel(t, a, b, "0")
	attendance := attendSoon(t, b, c)
	_, again, ok := b.Attend(time.Millisecond)
	if !ok || again != attendance {
		t.Errorf("attendance %d became %d, %v", attendance, again, ok)
	}
	quiet()
	mustSend(t, c, number(0, 1, 20))
	receive(t, b, 1)
	waitUntil(t, "it has lapsed", func() bool {
		b.attention.state.Lock()
		defer b.attention.state.Unlock()
		return b.attention.state.reader == nil
	})
}

func TestALateWordAboutAnAttendanceDoesNotConcernTheNextOne(t *testing.T) {
	a, b := startPair(t)
	c := openChannel(t, a, b, "0")
	first := attendSoon(t, b, c)
	b.Leave(first)
	second := attendSoon(t, b, c)
	if first == second || b.attention.attended(first) != nil {
		t.Errorf("attendance %d is %d", second, first)
	}
	b.Leave(first)
	if b.attention.attended(second) == nil {
		t.Error("it was ended by the end of the one before")
	}
	b.Leave(second)
	if b.attention.attended(second) != nil {
		t.Error("it was not left")
	}
	mustSend(t, c, number(0, 1, 20))
	receive(t, b, 1)
}

// renumbered makes the messages of sender k those of sender 0.
func renumbered(messages []queue.Message, k int) []queue.Message {
	for i := range messages {
		m := &messages[i]
		m.Data = number(int(binary.BigEndian.Uint32(m.Data))-k, int(binary.BigEndian.Uint32(m.Data[4:])), 20)
	}
	return messages
}
