package session

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

const vectorLimit = 64 << 10

// vector is one frame of tests/vectors/channel. Fields that its type does not have stay zero.
type vector struct {
	Name     string
	Hex      string
	TooLarge bool `json:"too_large"`

	Type                            Type
	Codec                           Codec
	Class                           Class
	HopLimit                        uint8 `json:"hop_limit"`
	Payload                         string
	Session, Instance               string
	Generation, Oldest, Born, Next  uint64
	ReportTaken                     bool `json:"report_taken"`
	Early, Forgetful, Durable       bool
	AckMessages                     uint64 `json:"ack_messages"`
	AckBytes                        uint64 `json:"ack_bytes"`
	Channel                         string
	MaxMessage                      uint64 `json:"max_message"`
	Codecs, Accepted, Taken, Window uint64
	Sequence, First, Count          uint64
	Reason                          DropReason
	Code                            CloseCode
	Text                            string
}

func (v vector) bytes(t *testing.T) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(v.Hex, " ", ""))
	if err != nil {
		t.Fatalf("%s: %v", v.Name, err)
	}
	return b
}

func vectors(t *testing.T, file string) []vector {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "tests", "vectors", "channel", file+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var all []vector
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&all); err != nil || len(all) == 0 {
		t.Fatalf("%s: %d vectors, %v", file, len(all), err)
	}
	return all
}

// frame is what decode answers: the fields of whatever type it is.
type frame struct {
	head   Head
	fields any
}

// decode takes one whole frame.
func decode(b []byte, limit int) (frame, int, error) {
	h, n, err := ParseHead(b, limit)
	if err != nil || n == 0 || len(b) < n+h.Size {
		return frame{}, 0, err
	}
	rest := b[n : n+h.Size]
	f := frame{head: h}
	switch h.Type {
	case TypeOpen:
		f.fields, err = ParseOpen(rest)
	case TypeAccept:
		f.fields, err = ParseAccept(rest)
	case TypeAck:
		f.fields, err = ParseAck(rest)
	case TypePosition:
		f.fields, err = ParsePosition(rest)
	case TypeDropped:
		f.fields, err = ParseDropped(rest)
	case TypeClose:
		f.fields, err = ParseClose(rest)
	case TypePing, TypeFinish:
		err = ParseEmpty(rest)
	case TypeData, TypeExtended:
		f.fields = append([]byte{}, rest...)
	}
	return f, n + h.Size, err
}

func encode(f frame) []byte {
	switch fields := f.fields.(type) {
	case Open:
		return AppendOpen(nil, fields)
	case Accept:
		return AppendAccept(nil, fields)
	case Ack:
		return AppendAck(nil, fields)
	case uint64:
		return AppendPosition(nil, fields)
	case Dropped:
		return AppendDropped(nil, fields)
	case Close:
		return AppendClose(nil, fields)
	case []byte:
		return AppendMessage(nil, f.head.Attributes, fields)
	}
	return AppendEmpty(nil, f.head.Type)
}

func parseID(t *testing.T, text string) (id ID) {
	t.Helper()
	if n, err := hex.Decode(id[:], []byte(text)); err != nil || n != len(id) {
		t.Fatalf("id %q: %v", text, err)
	}
	return id
}

func (v vector) fields(t *testing.T) any {
	switch v.Type {
	case TypeOpen:
		return Open{parseID(t, v.Session), parseID(t, v.Instance), v.Generation, v.Oldest, v.ReportTaken, v.Early, v.AckMessages, v.AckBytes, v.Channel, v.Durable}
	case TypeAccept:
		return Accept{parseID(t, v.Instance), v.Born, v.Next, v.MaxMessage, v.Codecs, v.Forgetful, v.Durable}
	case TypeAck:
		return Ack{v.Accepted, v.Taken, v.Window}
	case TypePosition:
		return v.Sequence
	case TypeDropped:
		return Dropped{v.First, v.Count, v.Reason}
	case TypeClose:
		return Close{v.Code, v.Text}
	case TypeData, TypeExtended:
		payload, err := hex.DecodeString(v.Payload)
		if err != nil {
			t.Fatal(err)
		}
		return payload
	}
	return nil
}

func (v vector) check(t *testing.T) frame {
	t.Helper()
	b := v.bytes(t)
	f, n, err := decode(append(b, 0xAA), vectorLimit) // what follows is none of its business
	if err != nil || n != len(b) {
		t.Fatalf("%d of %d bytes, %v", n, len(b), err)
	}
	if f.head.Type != v.Type || f.head.Attributes != (Attributes{v.Codec, v.Class, v.HopLimit}) {
		t.Errorf("head %+v", f.head)
	}
	if want := v.fields(t); !reflect.DeepEqual(f.fields, want) {
		t.Errorf("fields %+v, want %+v", f.fields, want)
	}
	for i := range b {
		if f, n, err := decode(b[:i], vectorLimit); n != 0 || err != nil {
			t.Errorf("the first %d bytes pass for a frame: %+v, %v", i, f, err)
		}
	}
	return f
}

func TestFramesHaveTheBytesOfTheDocument(t *testing.T) {
	for _, file := range []string{"data", "open", "accept", "ack", "control"} {
		for _, v := range vectors(t, file) {
			t.Run(v.Name, func(t *testing.T) {
				f := v.check(t)
				if got := encode(f); !bytes.Equal(got, v.bytes(t)) {
					t.Errorf("encoded again: % x", got)
				}
			})
		}
	}
}

func TestFramesOfLaterVersionsAreUnderstoodOrSkipped(t *testing.T) {
	for _, file := range []string{"extended-foreign", "control-foreign"} {
		for _, v := range vectors(t, file) {
			t.Run(v.Name, func(t *testing.T) { v.check(t) })
		}
	}
}

func TestMalformedFramesAreViolations(t *testing.T) {
	for _, v := range vectors(t, "malformed") {
		t.Run(v.Name, func(t *testing.T) {
			f, _, err := decode(v.bytes(t), vectorLimit)
			if !errors.Is(err, ErrViolation) {
				t.Errorf("%+v, %v", f, err)
			}
			if errors.Is(err, ErrTooLarge) != v.TooLarge {
				t.Errorf("%v; too large: %v", err, v.TooLarge)
			}
			if strings.Contains(v.Name, "must be understood") != errors.Is(err, ErrUnsupported) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestOverheadOfAMessageIsTwoToFourBytes(t *testing.T) {
	for size, overhead := range map[int]int{0: 2, 126: 2, 127: 3, 16382: 3, 16383: 4, 1 << 20: 4} {
		if got := FrameSize(Attributes{}, size); got != size+overhead || got != len(AppendMessage(nil, Attributes{}, make([]byte, size))) {
			t.Errorf("%d bytes take %d", size, got)
		}
	}
}

func TestAMessageMayHaveTheLargestPayloadAndTheMostExtensions(t *testing.T) {
	extension := append(binary.AppendUvarint([]byte{2}, MaxExtensions-3), make([]byte, MaxExtensions-3)...)
	length := 1 + attributeBytes + 2 + MaxExtensions + vectorLimit
	b := append(binary.AppendUvarint(nil, uint64(length)), byte(TypeExtended), 0, 1, 0)
	b = append(binary.AppendUvarint(b, MaxExtensions), extension...)
	if h, n, err := ParseHead(b, vectorLimit); err != nil || n != len(b) || n > MaxHead || h.Size != vectorLimit {
		t.Errorf("%+v of %d bytes, %v", h, n, err)
	}
	if h, _, err := ParseHead(b, vectorLimit-1); !errors.Is(err, ErrTooLarge) {
		t.Errorf("one byte too many: %+v, %v", h, err)
	}
}

func TestACloseTextIsCutAtACharacter(t *testing.T) {
	c, err := ParseClose(AppendClose(nil, Close{Code: CloseRefused, Text: strings.Repeat("é", 200)})[3:])
	if err != nil || len(c.Text) != MaxCloseText || !utf8.ValidString(c.Text) {
		t.Errorf("%d bytes, %v", len(c.Text), err)
	}
	if c, err = ParseClose(AppendClose(nil, Close{Text: strings.Repeat("é", 127) + "abc"})[3:]); err != nil || len(c.Text) != 256 {
		t.Errorf("%d bytes, %v", len(c.Text), err)
	}
}

func FuzzParseFrame(f *testing.F) {
	t := &testing.T{}
	for _, file := range []string{"data", "open", "accept", "ack", "control", "extended-foreign", "control-foreign", "malformed"} {
		for _, v := range vectors(t, file) {
			f.Add(v.bytes(t))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, n, err := decode(b, vectorLimit)
		switch {
		case err != nil:
			if !errors.Is(err, ErrViolation) {
				t.Errorf("%v is no violation", err)
			}
			return
		case n == 0 || got.head.Ignorable():
			return
		case got.head.Size > max(vectorLimit, MaxControl) || n > len(b):
			t.Errorf("%+v of %d bytes", got.head, n)
		}
		again, m, err := decode(encode(got), vectorLimit)
		if got.head.Type == TypeExtended && got.head.Attributes == (Attributes{}) {
			again.head.Type = TypeExtended // what is sent so is short, but both mean the same
		}
		again.head.Size = got.head.Size // extensions are not repeated
		if err != nil || m > n || !reflect.DeepEqual(again, got) {
			t.Errorf("%+v became %+v, %v", got, again, err)
		}
	})
}
