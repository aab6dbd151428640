package session

import (
	"bytes"
	"errors"
	"slices"
	"testing"
)

// Payloads with a codec are opaque to this package; here they are marked by their first byte.
const testCodec = CodecLZ4

var packedAttributes = Attributes{Codec: testCodec}

func mustAcceptPacked(t *testing.T, s *Sender, packed []byte, size int) uint64 {
	t.Helper()
	id, err := s.AcceptPacked(packedAttributes, packed, size)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// answer gives the sender an ACCEPT for its first stream.
func answer(t *testing.T, s *Sender, generation uint64, a Accept) Outcome {
	t.Helper()
	if a.Instance.IsZero() {
		a.Instance = NewID()
	}
	if a.Next == 0 {
		a.Next = 1
	}
	if a.Born == 0 {
		a.Born = generation
	}
	b := AppendAccept(nil, a)
	h, n, err := ParseHead(b, 0)
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.Receive(generation, h, b[n:])
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// pieces takes everything that the sender would write.
func pieces(s *Sender, generation uint64) (all []Piece) {
	for {
		p, some := s.NextPiece(generation)
		if !some {
			return all
		}
		if p.chunk != nil {
			all = append(all, p)
		}
	}
}

func TestCodecsAreKnownOnceTheReceiverHasAnswered(t *testing.T) {
	s := NewSender(SenderOptions{Channel: testChannel})
	if _, known := s.Codecs(); known {
		t.Error("known before the answer")
	}
	generation, _ := s.OpenStream()
	answer(t, s, generation, Accept{MaxMessage: 1 << 20, Codecs: 1 | 1<<CodecGzip})
	if set, known := s.Codecs(); !known || set != 1|1<<CodecGzip {
		t.Errorf("%b, %v", set, known)
	}
}

func TestCompressedMessagesWaitForTheAnswer(t *testing.T) {
	s := NewSender(SenderOptions{Channel: testChannel})
	s.Learn(NewID())
	if _, err := s.Accept(Attributes{}, []byte("plain")); err != nil {
		t.Fatal(err)
	}
	generation, _ := s.OpenStream()
	if early := pieces(s, generation); len(early) != 1 || early[0].Foreign {
		t.Fatalf("%d pieces go early", len(early))
	}
	mustAcceptPacked(t, s, []byte("packed"), 100) // joins the chunk of the message before
	if early := pieces(s, generation); len(early) != 0 {
		t.Error("a compressed message goes before the receiver told its codecs")
	}
}

func TestAPieceThatTheReceiverCannotUnpackIsForeign(t *testing.T) {
	for _, takes := range []bool{true, false} {
		s := NewSender(SenderOptions{Channel: testChannel})
		mustAcceptPacked(t, s, []byte("small"), 100)
		mustAcceptPacked(t, s, []byte("large when unpacked"), MinMaxMessage+1)
		if _, err := s.Accept(Attributes{}, []byte("plain")); err != nil {
			t.Fatal(err)
		}
		generation, _ := s.OpenStream()
		codecs := uint64(1)
		if takes {
			codecs |= 1 << testCodec
		}
		answer(t, s, generation, Accept{MaxMessage: 1 << 20, Codecs: codecs})
		var texts []string
		foreign := []bool{}
		for _, p := range pieces(s, generation) {
			foreign = append(foreign, p.Foreign)
			if err := p.Messages(func(a Attributes, payload []byte) error {
				texts = append(texts, string(payload))
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(texts, []string{"small", "large when unpacked", "plain"}) {
			t.Errorf("the pieces hold %q", texts)
		}
		if !slices.Equal(foreign, []bool{!takes, !takes, false}) {
			t.Errorf("the receiver takes the codec: %v; foreign pieces: %v", takes, foreign)
		}
	}
}

func TestTheLimitIsForTheUnpackedSize(t *testing.T) {
	s := NewSender(SenderOptions{Channel: testChannel, MaxMessage: 1 << 20})
	if _, err := s.AcceptPacked(packedAttributes, []byte("bomb"), 1<<20+1); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a message that is too large unpacked: %v", err)
	}
	mustAcceptPacked(t, s, []byte("first"), 10)
	large := mustAcceptPacked(t, s, []byte("too large for this receiver"), 100<<10)
	last := mustAcceptPacked(t, s, []byte("last"), 10)
	generation, _ := s.OpenStream()
	out := answer(t, s, generation, Accept{MaxMessage: MinMaxMessage, Codecs: 1 | 1<<testCodec})
	if len(out.Lost) != 1 || out.Lost[0].Range != (Range{large, large}) || out.Lost[0].Reason != ReasonTooLarge || out.Lost[0].InDoubt {
		t.Fatalf("lost %+v, want only %d", out.Lost, large)
	}
	var sent []uint64
	for _, p := range pieces(s, generation) {
		sent = append(sent, p.last)
	}
	if !slices.Equal(sent, []uint64{1, last}) {
		t.Errorf("what is sent ends with the messages %v", sent)
	}
}

func TestWithdrawTellsTheCodec(t *testing.T) {
	s := NewSender(SenderOptions{Channel: testChannel})
	mustAcceptPacked(t, s, []byte("packed"), 100)
	if _, err := s.Accept(Attributes{}, []byte("plain")); err != nil {
		t.Fatal(err)
	}
	got, ok := s.Withdraw()
	if !ok || len(got) != 2 || got[0].Codec != testCodec || got[1].Codec != CodecNone || !bytes.Equal(got[0].Payload, []byte("packed")) {
		t.Errorf("withdrew %+v, %v", got, ok)
	}
}
