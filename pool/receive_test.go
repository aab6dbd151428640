package pool

import (
	"bytes"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"peerbus/node/envelope"
)

// secured is a preset with the token policy.
type secured struct {
	nodeConn
	authority
}

func newSecured(t testing.TB, algorithm string) secured {
	t.Helper()
	a := newAuthority(t, algorithm)
	c := newNodeConn(t, func(o *NodeConnOptions) { o.Common.PublicKey, o.Common.Now = a.publicKey, a.clock.now })
	return secured{c, a}
}

func (s secured) token(t testing.TB, node string, peers ...string) string {
	t.Helper()
	return s.issue(t, Request{NodeID: node, CVHash: "cv-" + node, CodeHash: "code-" + node, Peers: peers, LifetimeSeconds: 60})
}

const someChannel = "sender::dm:" + ownPrivate + "-misc"

func message(sender, piggyback string) []byte {
	return wrap(sender, "misc", someChannel, piggyback, time.Unix(0, 0), JSONContent(`"hi"`))
}

func TestAMessageOfAMemberWithItsTokenPasses(t *testing.T) {
	s := newSecured(t, AlgorithmEdDSA)
	s.public.connect(t, "p", Inbound)
	token := s.token(t, "node", "p")
	for range 2 { // verified, then known
		v := s.Check(NetworkPublic, "p", someChannel, message("p", token+"0"))
		if v.Reason != "" || !v.Verified || v.NodeID != "node" || v.Inspector || v.Pending || v.Piggyback() != "node0" {
			t.Fatalf("got %+v", v)
		}
	}
	if got, ok := s.LastToken("p"); got != token || !ok {
		t.Fatalf("last token %q", got)
	}
	if claims, ok := s.LastClaims("p"); claims.CVHash != "cv-node" || claims.CodeHash != "code-node" || !ok {
		t.Fatalf("claims %+v", claims)
	}
	s.authority.clock.pass(time.Minute)
	if _, ok := s.LastClaims("p"); ok {
		t.Fatal("the token has expired")
	}
	_, err := s.Remove(t.Context(), "p")
	must(t, err)
	if _, ok := s.LastToken("p"); ok {
		t.Fatal("the token goes with the place")
	}
}

func TestMessagesAreRefusedForTheFirstThingThatIsWrong(t *testing.T) {
	s := newSecured(t, AlgorithmEdDSA)
	s.public.connect(t, "p", Inbound)
	good, other := s.token(t, "node", "p"), s.token(t, "node", "q")
	expired := s.issue(t, Request{NodeID: "n", Peers: []string{"p"}, LifetimeSeconds: 1})
	s.authority.clock.pass(2 * time.Second)
	foreign := newAuthority(t, AlgorithmEdDSA)
	foreign.clock.at = s.authority.clock.at
	for name, c := range map[string]struct {
		sender  string
		channel string
		data    []byte
		want    string
	}{
		"junk":                 {"p", someChannel, []byte{0xff, 0xff}, ReasonDecodeError},
		"nothing":              {"p", someChannel, nil, ReasonSenderMismatch},
		"sender not UTF-8":     {"p", someChannel, []byte{0x0a, 1, 0xff}, ReasonDecodeError},
		"JSON not UTF-8":       {"p", someChannel, []byte{0x0a, 1, 'p', 0x3a, 1, 0xff}, ReasonDecodeError},
		"cut short":            {"p", someChannel, []byte{0x0a, 100, 'p'}, ReasonDecodeError},
		"another's name":       {"p", someChannel, message("q", good+"0"), ReasonSenderMismatch},
		"another channel":      {"p", "p::ps:topic", message("p", good+"0"), ReasonChannelSpoofed},
		"nobody we know":       {"q", someChannel, message("q", other+"0"), ReasonNotMember},
		"no token":             {"p", someChannel, message("p", ""), ReasonNoToken},
		"inspector bit only":   {"p", someChannel, message("p", "0"), ReasonNoToken},
		"token without a bit":  {"p", someChannel, message("p", good), ReasonBadToken},
		"another's token":      {"p", someChannel, message("p", other+"0"), ReasonTokenPeerMismatch},
		"expired token":        {"p", someChannel, message("p", expired+"0"), ReasonExpiredToken},
		"another issuer":       {"p", someChannel, message("p", foreign.issue(t, Request{NodeID: "n", Peers: []string{"p"}})+"0"), ReasonBadToken},
		"token of a mebibyte":  {"p", someChannel, message("p", strings.Repeat("x", 1<<20)), ReasonBadToken},
		"member of the public": {"p", someChannel, message("p", good+"0"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			before := s.Counts()[c.want]
			if v := s.Check(NetworkPublic, c.sender, c.channel, c.data); v.Reason != c.want {
				t.Fatalf("got %+v, want reason %q", v, c.want)
			}
			if c.want != "" && s.Counts()[c.want] != before+1 {
				t.Fatal("a refusal is counted once")
			}
		})
	}
	if v := s.Check(NetworkWorld, "p", someChannel, message("p", good+"0")); v.Reason != ReasonNotMember {
		t.Fatalf("a member of the public network is none of the world: %+v", v)
	}
	if v := s.Check("nowhere", "p", someChannel, message("p", good+"0")); v.Reason != ReasonNotMember {
		t.Fatalf("got %+v", v)
	}
}

func TestAMessageMayNameNoChannel(t *testing.T) {
	s := newSecured(t, AlgorithmEdDSA)
	s.public.connect(t, "p", Inbound)
	token := s.token(t, "node", "p") + "0"
	for _, stated := range []string{"", unknownChannel} {
		data := wrap("p", "misc", stated, token, time.Unix(0, 0), Content{})
		if v := s.Check(NetworkPublic, "p", someChannel, data); v.Reason != "" {
			t.Fatalf("stated %q: %+v", stated, v)
		}
	}
}

func TestListedPeersAreHeardWithoutAConnection(t *testing.T) {
	s := newSecured(t, AlgorithmEdDSA)
	must(t, s.SetWorldAgentsList([]Entry{entry(agentA, 1)}))
	must(t, s.SetWorldMastersList([]Entry{entry(masterA, 3)}))
	for _, id := range []string{agentA, masterA} {
		v := s.Check(NetworkWorld, id, someChannel, message(id, s.token(t, "node", id)+"0"))
		if v.Reason != "" || v.NodeID != "node" {
			t.Fatalf("got %+v", v)
		}
		if _, kept := s.LastToken(id); kept {
			t.Fatal("tokens of pooled peers only are kept")
		}
	}
}

func TestGuestsOfANetworkAreHeard(t *testing.T) {
	s := newSecured(t, AlgorithmEdDSA)
	data := message("g", s.token(t, "node", "g")+"0")
	must(t, s.SetGuests(NetworkPublic, []string{"g"}))
	if v := s.Check(NetworkPublic, "g", someChannel, data); v.Reason != "" {
		t.Fatalf("got %+v", v)
	}
	if v := s.Check(NetworkWorld, "g", someChannel, data); v.Reason != ReasonNotMember {
		t.Fatalf("got %+v", v)
	}
	must(t, s.SetGuests(NetworkPublic, nil))
	if v := s.Check(NetworkPublic, "g", someChannel, data); v.Reason != ReasonNotMember {
		t.Fatalf("got %+v", v)
	}
	wantError(t, s.SetGuests("nowhere", nil), ErrNotFound)
	wantError(t, s.SetGuests(NetworkPublic, []string{""}), ErrNotFound)
}

func TestMessagesOfADialledPeerWaitForItsName(t *testing.T) {
	s := newSecured(t, AlgorithmEdDSA)
	s.private.connect(t, worldNode, Outbound)
	v := s.Check(NetworkWorld, worldNode, someChannel, message(worldNode, s.token(t, "world", worldNode)+"0"))
	if v.Reason != "" || !v.Pending {
		t.Fatalf("got %+v", v)
	}
	if s.Settled(NetworkWorld, worldNode) {
		t.Fatal("not named yet")
	}
	must(t, s.SetWorld(worldNode))
	if !s.Settled(NetworkWorld, worldNode) {
		t.Fatal("named")
	}
	s.private.connect(t, unknown, Inbound)
	if v := s.Check(NetworkWorld, unknown, someChannel, message(unknown, s.token(t, "x", unknown)+"0")); v.Reason != ReasonNotMember {
		t.Fatalf("a refused peer waits for nothing: %+v", v)
	}
}

func TestTheTokenOfAMessageThatWaitedIsKeptOnceItsSenderHasAPlace(t *testing.T) {
	s := newSecured(t, AlgorithmEdDSA)
	s.private.connect(t, worldNode, Outbound)
	token := s.token(t, "world", worldNode)
	if v := s.Check(NetworkWorld, worldNode, someChannel, message(worldNode, token+"0")); !v.Pending {
		t.Fatalf("got %+v", v)
	}
	must(t, s.SetWorld(worldNode))
	if kept, ok := s.LastToken(worldNode); ok {
		t.Fatalf("nothing was handed over yet: %q", kept)
	}
	if !s.Settled(NetworkWorld, worldNode) {
		t.Fatal("named")
	}
	if kept, _ := s.LastToken(worldNode); kept != token {
		t.Fatalf("kept %q", kept)
	}
	_, err := s.Remove(t.Context(), worldNode)
	must(t, err)
	must(t, s.Add(PeerInfo{ID: worldNode}, OutWorldNode))
	if kept, ok := s.LastToken(worldNode); ok {
		t.Fatalf("removing forgets the token: %q", kept)
	}
}

func TestTheInspectorBitCountsForTheInspectorOnly(t *testing.T) {
	s := newSecured(t, AlgorithmEdDSA)
	s.SetInspectorNodeID("inspector")
	s.public.connect(t, "p", Inbound)
	s.public.connect(t, "i", Inbound)
	p, i := s.token(t, "node", "p"), s.token(t, "inspector", "i")
	for name, c := range map[string]struct {
		sender, piggyback string
		want              string
	}{
		"inspector says so":       {"i", i + "1", "inspector1"},
		"inspector does not":      {"i", i + "0", "inspector0"},
		"somebody says so":        {"p", p + "1", "node0"},
		"inspector says nonsense": {"i", i + "2", "inspector0"},
		"a wide character":        {"i", i + "１", "inspector0"},
	} {
		v := s.Check(NetworkPublic, c.sender, someChannel, message(c.sender, c.piggyback))
		if v.Reason != "" || v.Piggyback() != c.want || v.Inspector != (c.want == "inspector1") {
			t.Errorf("%s: got %+v", name, v)
		}
	}
	s.SetInspectorNodeID("")
	if v := s.Check(NetworkPublic, "i", someChannel, message("i", i+"1")); v.Inspector {
		t.Errorf("nobody is the inspector: %+v", v)
	}
}

func TestWithoutTokensThePiggybackPassesUnverified(t *testing.T) {
	c := newNodeConn(t, func(o *NodeConnOptions) { o.Common.Policy = PolicyNone })
	must(t, c.Receivable())
	c.public.connect(t, "p", Inbound)
	v := c.Check(NetworkPublic, "p", someChannel, message("p", "anything1"))
	if v.Reason != "" || v.Verified || v.Inspector || v.Piggyback() != "anything1" {
		t.Fatalf("got %+v", v)
	}
	if v := c.Check(NetworkPublic, "q", someChannel, message("q", "")); v.Reason != ReasonNotMember {
		t.Fatalf("got %+v", v)
	}
}

func TestWithoutAPolicyNothingIsReceivedThroughThePools(t *testing.T) {
	c := newNodeConn(t, nil)
	wantError(t, c.Receivable(), ErrNoPolicy)
	_, err := c.VerifyToken("x", "p")
	wantError(t, err, ErrNoPolicy)
	if v := c.Check(NetworkPublic, "q", someChannel, []byte{0xff}); v.Reason != "" || v.Verified {
		t.Fatalf("messages that nobody takes here are left alone: %+v", v)
	}
}

func TestAFloodOfBadTokensIsRateLimitedPerPeer(t *testing.T) {
	s := newSecured(t, AlgorithmEdDSA)
	s.public.connect(t, "flood", Inbound)
	s.public.connect(t, "p", Inbound)
	for n := range 1000 {
		s.Check(NetworkPublic, "flood", someChannel, message("flood", "bad token "+strconv.Itoa(n)+"0"))
	}
	counts := s.Counts()
	if counts[ReasonBadToken] != failureBurst || counts[ReasonRateLimited] != 1000-failureBurst {
		t.Fatalf("counts: %v", counts)
	}
	if v := s.Check(NetworkPublic, "p", someChannel, message("p", s.token(t, "node", "p")+"0")); v.Reason != "" {
		t.Fatalf("another peer is not affected: %+v", v)
	}
}

func TestATokenThatExpiresInUseIsRefused(t *testing.T) {
	s := newSecured(t, AlgorithmEdDSA)
	s.public.connect(t, "p", Inbound)
	data := message("p", s.token(t, "node", "p")+"0")
	if v := s.Check(NetworkPublic, "p", someChannel, data); v.Reason != "" {
		t.Fatalf("got %+v", v)
	}
	s.authority.clock.pass(time.Minute)
	if v := s.Check(NetworkPublic, "p", someChannel, data); v.Reason != ReasonExpiredToken {
		t.Fatalf("got %+v", v)
	}
}

func TestARenewedTokenReplacesTheLast(t *testing.T) {
	s := newSecured(t, AlgorithmEdDSA)
	s.public.connect(t, "p", Inbound)
	first := s.token(t, "node", "p")
	s.Check(NetworkPublic, "p", someChannel, message("p", first+"0"))
	s.authority.clock.pass(30 * time.Second)
	second := s.token(t, "node", "p")
	s.Check(NetworkPublic, "p", someChannel, message("p", second+"0"))
	if last, _ := s.LastToken("p"); last != second {
		t.Fatal("the renewed one is the last")
	}
	s.authority.clock.pass(31 * time.Second)
	if v := s.Check(NetworkPublic, "p", someChannel, message("p", first+"0")); v.Reason != ReasonExpiredToken {
		t.Fatalf("got %+v", v)
	}
	if v := s.Check(NetworkPublic, "p", someChannel, message("p", second+"0")); v.Reason != "" {
		t.Fatalf("got %+v", v)
	}
}

func TestTheHeaderIsReadAsProtobufReadsIt(t *testing.T) {
	// The last occurrence of a field counts, wherever it stands and whatever lies between.
	first, err := proto.Marshal(&envelope.Message{Sender: "forged", Piggyback: "x", Content: &envelope.Message_RawContent{RawContent: make([]byte, 1000)}})
	must(t, err)
	second, err := proto.Marshal(&envelope.Message{Sender: "real", Channel: "c", ContentType: "misc"})
	must(t, err)
	data := append(first, second...)
	var whole envelope.Message
	must(t, proto.Unmarshal(data, &whole))
	h, err := readHeader(data)
	must(t, err)
	if string(h.sender) != whole.GetSender() || string(h.piggyback) != whole.GetPiggyback() ||
		string(h.channel) != whole.GetChannel() || string(h.contentType) != whole.GetContentType() || whole.GetSender() != "real" {
		t.Fatalf("got %s, %s, %s, %s", h.sender, h.piggyback, h.channel, h.contentType)
	}
}

func TestReplacingThePiggybackKeepsTheRest(t *testing.T) {
	data := wrap("s", "misc", "c", "token0", time.Unix(0, 0), RawContent([]byte("payload")))
	out, err := ReplacePiggyback([]byte("before"), data, "node1")
	must(t, err)
	rest, found := bytes.CutPrefix(out, []byte("before"))
	var m envelope.Message
	must(t, proto.Unmarshal(rest, &m))
	if !found || m.GetPiggyback() != "node1" || m.GetSender() != "s" || string(m.GetRawContent()) != "payload" || m.GetChannel() != "c" {
		t.Fatalf("got %v", &m)
	}
	for _, bad := range [][]byte{{0xff}, {0x0a, 9}} {
		if out, err := ReplacePiggyback([]byte("before"), bad, "x"); err == nil || string(out) != "before" {
			t.Fatalf("got %q, error %v", out, err)
		}
	}
}

func TestEverythingAtOnce(t *testing.T) {
	s := newSecured(t, AlgorithmEdDSA)
	tokens := map[string]string{agentA: s.token(t, "a", agentA), masterA: s.token(t, "m", masterA)}
	var group sync.WaitGroup
	repeat := func(f func(n int)) {
		group.Go(func() {
			for n := range 200 {
				f(n)
			}
		})
	}
	for id := range tokens {
		repeat(func(int) { s.private.connect(t, id, Inbound) })
		repeat(func(int) { s.private.drop(t, id) })
		repeat(func(int) { s.Check(NetworkWorld, id, someChannel, message(id, tokens[id]+"0")) })
		repeat(func(int) { _, _ = s.Remove(t.Context(), id) })
	}
	repeat(func(n int) { _ = s.SetWorldAgentsList([]Entry{entry(agentA, 1), entry(somePeer(n%7), 1)}[:1+n%2]) })
	repeat(func(int) { _ = s.SetWorldMastersList([]Entry{entry(masterA, 3)}) })
	repeat(func(int) { _, _ = s.Update() })
	repeat(func(n int) { _ = s.Move(agentA, AllPools[n%len(AllPools)]) })
	repeat(func(n int) { s.Stranger(NetworkWorld, agentA); _ = s.String(); s.FindByRoleMask(1, 1, true) })
	repeat(func(n int) { _ = s.SetRole(agentA, 2*int64(n)+1); _, _ = s.LastToken(agentA); s.LastChanges() })
	group.Wait()
	checkInvariants(t, s.Set)
}
