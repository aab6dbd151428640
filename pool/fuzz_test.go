package pool

import (
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"peerbus/node/envelope"

	"peerbus/node"
)

func FuzzToken(f *testing.F) {
	a := newAuthority(f, AlgorithmEdDSA)
	good := a.issue(f, Request{NodeID: "n", Peers: []string{"p"}})
	for _, seed := range []string{
		"", ".", "..", good, good[:len(good)-1], good + "A", "eyJhbGciOiJub25lIn0.e30.", "eyJhbGciOiJFZERTQSJ9.bnVsbA.AA",
		"eyJhbGciOiJFZERTQSIsImNyaXQiOlsieCJdfQ.eyJleHAiOjFlMzA4fQ.AA",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		claims, err := a.verifier.check(token, "p")
		if err == nil && token != good {
			t.Fatalf("a token that nobody issued passes: %q, %+v", token, claims)
		}
	})
}

func FuzzPublicKey(f *testing.F) {
	_, public, err := GenerateKey(AlgorithmES256)
	must(f, err)
	for _, seed := range []string{"", public, `{"kty":"RSA","n":"AA","e":"AQAB"}`, `{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}`, "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		key, err := ParsePublicKey(text)
		if (err == nil) != (key != nil) {
			t.Fatalf("key %v, error %v", key, err)
		}
	})
}

func FuzzRoster(f *testing.F) {
	good, err := EncodeRoster([]Entry{entry(agentA, 1, "/ip4/127.0.0.1/tcp/1"), entry(masterA, 3)}, 3)
	must(f, err)
	for _, seed := range []string{
		"", "{}", string(good), `{"peers":[null],"update_count":1}`, `{"peers":[{"id":"` + agentA + `","misc":-1}],"update_count":0}`,
		`{"peers":[],"update_count":9223372036854775807}`, `{"peers":[],"update_count":9223372036854775808}`,
	} {
		f.Add([]byte(seed))
	}
	c := newWorld(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		roster, err := node.ParseRoster(data)
		if err != nil {
			return
		}
		again, err := EncodeRoster(roster.Peers, roster.UpdateCount)
		must(t, err)
		reread, err := node.ParseRoster(again)
		must(t, err)
		if len(reread.Peers) != len(roster.Peers) || reread.Skipped != 0 {
			t.Fatalf("what was accepted is not what can be written: %+v and %+v", roster, reread)
		}
		c.ResetRendezvousTag()
		roster.Owner, roster.Author = worldNode, worldNode
		must(t, c.ApplyRoster(roster))
		checkInvariants(t, c.Set)
	})
}

func FuzzEnvelope(f *testing.F) {
	f.Add([]byte{})
	f.Add(message("p", "token0"))
	f.Add(wrap("s", "t", "c", "p", newClock().now(), RawContent(make([]byte, 100))))
	f.Add([]byte{0x0a, 0x01, 'a', 0x0a, 0x01, 'b', 0x08, 0x05, 0x0d, 1, 2, 3, 4})
	f.Add([]byte{0x0b, 0x0c, 0x3b, 0x08, 0x01, 0x3c})
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := readHeader(data)
		var whole envelope.Message
		if proto.Unmarshal(data, &whole) != nil {
			return // the content may be bad where the header is sound
		}
		if err != nil {
			t.Fatalf("protobuf reads what readHeader does not: %v", err)
		}
		if string(h.sender) != whole.GetSender() || string(h.contentType) != whole.GetContentType() ||
			string(h.channel) != whole.GetChannel() || string(h.piggyback) != whole.GetPiggyback() {
			t.Fatalf("got %q, %q, %q, %q of %v", h.sender, h.contentType, h.channel, h.piggyback, &whole)
		}
		checkReplaced(t, data, &whole)
	})
}

func checkReplaced(t *testing.T, data []byte, whole *envelope.Message) {
	t.Helper()
	out, err := ReplacePiggyback(nil, data, "new")
	must(t, err)
	var changed envelope.Message
	must(t, proto.Unmarshal(out, &changed))
	whole.Piggyback = "new"
	// Unknown fields keep their places relative to each other, but those with the number 4 are gone.
	whole.ProtoReflect().SetUnknown(nil)
	changed.ProtoReflect().SetUnknown(nil)
	if !proto.Equal(whole, &changed) && !hasNaN(data) {
		t.Fatalf("got %v, want %v", &changed, whole)
	}
}

// hasNaN: a statistic that is no number differs from itself; its eight bytes have all bits of the exponent set.
func hasNaN(data []byte) bool {
	for i := range data {
		if protowire.Type(data[i]&7) == protowire.Fixed64Type && len(data)-i > 8 && data[i+8]&0x7f == 0x7f {
			return true
		}
	}
	return false
}

func FuzzPipeline(f *testing.F) {
	s := newSecured(f, AlgorithmEdDSA)
	s.public.connect(f, "p", Inbound)
	good := s.token(f, "node", "p")
	f.Add("p", someChannel, message("p", good+"0"))
	f.Add("p", "", []byte{})
	f.Fuzz(func(t *testing.T, sender, channel string, data []byte) {
		v := s.Check(NetworkPublic, sender, channel, data)
		if v.Reason == "" && (sender != "p" || v.NodeID != "node" || !utf8.Valid(data[:1])) {
			t.Fatalf("%q on %q passes: %+v", sender, channel, v)
		}
	})
}
