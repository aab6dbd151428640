package node

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"

	"peerbus/queue"
)

// FuzzChatReader: whatever a peer sends, what arrives is what the frames say, everything else is counted, and memory follows
// the bytes. Seeds are the vectors and testdata/fuzz.
func FuzzChatReader(f *testing.F) {
	vectors := readChatVectors(f)
	for _, vector := range vectors.Vectors {
		f.Add([]byte(vector.Bytes), uint16(7))
	}
	f.Fuzz(func(t *testing.T, frames []byte, cut uint16) {
		memory := &countingMemory{}
		n := offlineNode(t, vectors.Receiver, func(o *Options) { o.Memory = memory })
		defer n.losses.close()
		at := int(cut) % (len(frames) + 1)
		pieces := []scriptedPiece{{0, frames[:at]}, {0, frames[at:]}}
		if err := readAs(t, n, vectors.Sender, &scriptedStream{pieces: pieces}); err == nil {
			t.Error("the stream ended without a reason")
		}
		received := taken(n)
		whole, _ := framesWithin(frames, len(frames))
		if lost := sum(n.losses.totals()[directionIn]); uint64(len(received))+lost > whole+1 {
			t.Errorf("%d received and %d lost of %d frames", len(received), lost, whole)
		}
		checkReceived(t, frames, received, vectors)
		if most := 4*len(frames) + firstPayloadBuffer; memory.most > most {
			t.Errorf("%d bytes held for %d that arrived", memory.most, len(frames))
		}
	})
}

// checkReceived finds each received message, framed again, behind the one before.
func checkReceived(t *testing.T, frames []byte, received []queue.Message, vectors chatVectors) {
	t.Helper()
	byChannel := map[string][]byte{}
	for _, m := range received {
		name, err := parseChannel(m.Channel)
		if err != nil || name.topic || name.owner != vectors.Sender || name.target.String() != vectors.Receiver {
			t.Errorf("channel %q was accepted: %v", m.Channel, err)
		}
		rest, known := byChannel[m.Channel]
		if !known {
			rest = frames
		}
		frame := frameHeader{m.Channel}.appendTo(nil, m.Data)
		at := bytes.Index(rest, frame)
		if at < 0 {
			t.Fatalf("message %q on %q was never sent, or not in this order", m.Data, m.Channel)
		}
		byChannel[m.Channel] = rest[at+len(frame):]
	}
}

// FuzzParseRoster: an accepted list holds only valid entries, each id once, and is read again as it is.
func FuzzParseRoster(f *testing.F) {
	var vectors rosterVectors
	readVectors(f, "rendezvous/lists.json", &vectors)
	for _, step := range vectors.Steps {
		f.Add([]byte(step.Bytes))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		roster, err := parseRoster(data, anotherPeer, somePeer)
		if err != nil {
			return
		}
		if roster.UpdateCount < 0 || roster.Skipped < 0 || len(roster.Peers) > MaxRosterPeers || roster.Owner != anotherPeer || roster.Author != somePeer {
			t.Errorf("accepted %+v", roster)
		}
		seen := map[string]bool{}
		for _, entry := range roster.Peers {
			if mustID(t, entry.ID); seen[entry.ID] || entry.Misc < 0 {
				t.Errorf("accepted %+v", entry)
			}
			seen[entry.ID] = true
		}
		content, err := json.Marshal(roster.Roster())
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseRoster(rosterEnvelope(t, somePeer, string(content)), anotherPeer, somePeer)
		roster.Skipped = 0
		if err != nil || !reflect.DeepEqual(again, roster) {
			t.Errorf("%+v reads as %+v, %v", roster, again, err)
		}
	})
}

// FuzzParseChannel: an accepted name is of exactly one kind, and sending agrees with receiving on whose it is.
func FuzzParseChannel(f *testing.F) {
	for _, seed := range []string{
		"", somePeer + "::dm:" + anotherPeer + "-~", somePeer + "::ps:rv", "::ps:", "::dm:", somePeer + "::dm:" + anotherPeer,
		"a::ps:b::dm:c", "\xff::ps:x", somePeer + "::dm:-", somePeer + "::dm::ps:" + anotherPeer,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		name, err := parseChannel(text)
		if (err == nil) != (CheckChannel(text) == nil) {
			t.Error("CheckChannel disagrees")
		}
		if err != nil {
			return
		}
		if name.text != text || len(text) == 0 || len(text) > MaxChannelName || name.topic != IsTopic(text) {
			t.Errorf("parsed %+v", name)
		}
		if !name.topic && (name.target == "" || name.rendezvous()) {
			t.Errorf("a direct channel without a target: %+v", name)
		}
		if again, err := parseChannel(text); err != nil || again != name {
			t.Errorf("%+v reads as %+v, %v", name, again, err)
		}
	})
}

// FuzzHello: no hello is larger than allowed, and what is read is written as something that reads the same.
func FuzzHello(f *testing.F) {
	for _, seed := range []string{"", "\x00\x00\x00\x02{}", "\x00\x00\x00\x04null", "\x00\x00\x40\x01{", "\xff\xff\xff\xff", "\x00\x00\x00\x0f{\"agent\":\"x/1\"}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := readHello(bytes.NewReader(data))
		if err != nil {
			return
		}
		if len(data) > 4+maxHelloBytes && len(h.Agent) > maxHelloBytes {
			t.Errorf("an agent of %d bytes", len(h.Agent))
		}
		var wire bytes.Buffer
		if err := writeHello(&wire, h); err != nil {
			t.Fatal(err)
		}
		if again, err := readHello(&wire); err != nil && wire.Len() < maxHelloBytes || err == nil && again != h {
			t.Errorf("%+v reads as %+v, %v", h, again, err)
		}
	})
}
