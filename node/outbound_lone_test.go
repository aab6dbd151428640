package node

import "testing"

func TestLoneMessagesAreWrittenByTheirSenderInOrderAndOnce(t *testing.T) {
	a, b := startPair(t)
	c := openChannel(t, a, b, "0")
	o := c.out
	mustReach(t, c, mustSend(t, c, number(0, 0, 10)), DeliveryAccepted)
	sizes := []int{8, 100, soloBytes - 1, 200, 100 << 10, 8} // the third is too large together with its frame, the fifth is bulk
	for k := 1; k <= 300; k++ {
		if k%7 > 0 {
			quiet()
		}
		mustSend(t, c, number(0, k, sizes[k%len(sizes)]))
	}
	expectOrder(t, receive(t, b, 301), 1, 301)
	mustReach(t, c, 301, DeliveryAccepted)
	waitUntil(t, "no buffer is held", func() bool { return o.peer.held.Load() == 0 })
	o.state.Lock()
	defer o.state.Unlock()
	if o.state.left != nil || o.state.writing {
		t.Error("a piece is left")
	}
}

func TestALoneMessageNeedsNoWriter(t *testing.T) {
	a, b := startPair(t)
	c := openChannel(t, a, b, "~")
	mustReach(t, c, mustSend(t, c, []byte("first")), DeliveryAccepted)
	o := c.out
	waitUntil(t, "a message leaves without the writer", func() bool {
		quiet()
		o.state.Lock()
		sent := o.state.counted
		busy := o.state.writing
		o.state.Unlock()
		id := mustSend(t, c, []byte("lone"))
		o.state.Lock()
		defer o.state.Unlock()
		return !busy && id == sent+1 && o.state.counted == id // sent when the call returned
	})
}

func TestLoneMessagesSurviveLostConnectionsAndResetStreams(t *testing.T) {
	a, b := startPair(t)
	c := openChannel(t, a, b, "0")
	const messages = 400
	for k := range messages {
		quiet()
		mustSend(t, c, number(0, k, 20))
		switch k % 80 {
		case 20:
			for _, connection := range a.host.Network().ConnsToPeer(b.id) {
				_ = connection.Close()
			}
		case 60:
			for _, connection := range b.host.Network().ConnsToPeer(a.id) {
				for _, s := range connection.GetStreams() {
					_ = s.Reset()
				}
			}
		}
	}
	expectOrder(t, receive(t, b, messages), 1, messages)
	waitUntil(t, "no buffer is held", func() bool { return c.out.peer.held.Load() == 0 })
}

func TestALoneMessageThatItsWriterHasToWriteLeavesBeforeTheHostGoesOn(t *testing.T) {
	a, b := startPair(t)
	c := openChannel(t, a, b, "~")
	mustReach(t, c, mustSend(t, c, []byte("first")), DeliveryAccepted)
	c.out.state.Lock()
	c.out.state.stream.atOnce = false // as on QUIC and WebRTC
	c.out.state.Unlock()
	if left := leftAtReturn(t, a, func() { mustSend(t, c, []byte("lone")) }); left < 25 {
		t.Errorf("%d of 50 had left", left)
	}
	receive(t, b, 51)
}
