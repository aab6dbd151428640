package envelope

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

const vectorDir = "../../tests/vectors/messages"

// annotated is a list of [hex, meaning] pairs; the bytes are all hex in a row.
type annotated [][2]string

func (a annotated) raw(t *testing.T) []byte {
	t.Helper()
	var digits strings.Builder
	for _, part := range a {
		digits.WriteString(part[0])
	}
	data, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatalf("vector is not hex: %v", err)
	}
	return data
}

func readVector(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func TestGoldenMessagesReadAndWriteTheSameBytes(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(vectorDir, "*.json"))
	if err != nil || len(paths) < 2 {
		t.Fatalf("no vectors in %s (%v)", vectorDir, err)
	}
	for _, path := range paths {
		if filepath.Base(path) == "malformed.json" {
			continue
		}
		t.Run(strings.TrimSuffix(filepath.Base(path), ".json"), func(t *testing.T) {
			checkGolden(t, path)
		})
	}
}

func checkGolden(t *testing.T, path string) {
	var vector struct {
		Bytes    annotated
		Envelope json.RawMessage
	}
	readVector(t, path, &vector)
	want := new(Message)
	if err := protojson.Unmarshal(vector.Envelope, want); err != nil {
		t.Fatal(err)
	}
	data := vector.Bytes.raw(t)

	got := new(Message)
	if err := proto.Unmarshal(data, got); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(got, want) {
		t.Errorf("read %v, want %v", got, want)
	}
	written, err := proto.MarshalOptions{Deterministic: true}.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if string(written) != string(data) {
		t.Errorf("wrote %x, want %x", written, data)
	}
}

// Content is not the node's to judge, so only what the schema itself forbids
// is an error here.
func TestMalformedMessagesAreRefusedUnlessOnlyContentIsWrong(t *testing.T) {
	var cases []struct {
		Name, Fails string
		Bytes       annotated
	}
	readVector(t, filepath.Join(vectorDir, "malformed.json"), &cases)
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			err := proto.Unmarshal(c.Bytes.raw(t), new(Message))
			if refused := err != nil; refused != (c.Fails != "content") {
				t.Errorf("error %v, but the vector fails at %q", err, c.Fails)
			}
		})
	}
}

func TestFieldNumbersAreThoseOfTheSpecification(t *testing.T) {
	want := map[string]int{
		"sender": 1, "content_type": 2, "channel": 3, "piggyback": 4, "timestamp_net": 5,
		"stream_sample": 6, "json_content": 7, "stats_update": 8, "raw_content": 9,
	}
	fields := new(Message).ProtoReflect().Descriptor().Fields()
	if fields.Len() != len(want) {
		t.Errorf("%d fields, want %d", fields.Len(), len(want))
	}
	for i := range fields.Len() {
		field := fields.Get(i)
		if want[string(field.Name())] != int(field.Number()) {
			t.Errorf("%s is field %d, want %d", field.Name(), field.Number(), want[string(field.Name())])
		}
	}
}
