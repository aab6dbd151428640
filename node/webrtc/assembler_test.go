package webrtc

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// collector is a Receiver that knows what it handed out.
type collector struct {
	refused string // a channel
	lost    []Defect
	buffers int // handed out and not given back
	largest int
}

func (c *collector) Get(size int) []byte {
	c.buffers++
	c.largest = max(c.largest, size)
	return make([]byte, size)
}
func (c *collector) Put([]byte) { c.buffers-- }
func (c *collector) Accept(name []byte) (string, bool) {
	return string(name), string(name) != c.refused
}
func (c *collector) Lost(d Defect) { c.lost = append(c.lost, d) }

func frameOf(channel string, payload []byte) []byte {
	frame := binary.BigEndian.AppendUint32(nil, uint32(1+len(channel)+len(payload)))
	frame = append(frame, byte(len(channel)))
	return append(append(frame, channel...), payload...)
}

func chunksOf(frame []byte) [][]byte {
	var chunks [][]byte
	_ = eachChunk(frame, make([]byte, 0, ChunkBytes), func(chunk []byte) error {
		chunks = append(chunks, bytes.Clone(chunk))
		return nil
	})
	return chunks
}

func chunk(flags byte, piece []byte) []byte { return append([]byte{flags}, piece...) }

// feed gives messages to an assembler and answers "channel:length" of each frame that comes out.
func feed(a *Assembler, c *collector, messages ...[]byte) []string {
	var got []string
	for _, m := range messages {
		if f, ok := a.Add(m, time.Unix(0, 0)); ok {
			got = append(got, fmt.Sprintf("%s:%d", f.Channel, len(f.Payload)))
			c.buffers--
		}
	}
	return got
}

func TestFramesAreCutIntoChunksOf60KiB(t *testing.T) {
	for size, want := range map[int][]int{
		chunkPiece - 5:     {ChunkBytes},
		chunkPiece - 4:     {ChunkBytes, 2},
		3*chunkPiece - 5:   {ChunkBytes, ChunkBytes, ChunkBytes},
		2*chunkPiece + 100: {ChunkBytes, ChunkBytes, 106},
		0:                  {6},
	} {
		chunks := chunksOf(frameOf("", make([]byte, size)))
		lengths, flags := []int{}, []byte{}
		for _, c := range chunks {
			lengths, flags = append(lengths, len(c)), append(flags, c[0])
		}
		if !slices.Equal(lengths, want) {
			t.Errorf("a payload of %d bytes: chunks of %v bytes, want %v", size, lengths, want)
		}
		wantFlags := []byte{0xC0}
		if len(want) > 1 {
			wantFlags = append(append([]byte{0x80}, make([]byte, len(want)-2)...), 0x40)
		}
		if !slices.Equal(flags, wantFlags) {
			t.Errorf("a payload of %d bytes: flags %x, want %x", size, flags, wantFlags)
		}
	}
}

func TestEveryCutOfAFrameGivesTheFrame(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		payload := make([]byte, random.IntN(300_000))
		for i := range payload {
			payload[i] = byte(random.Uint32())
		}
		frame := frameOf("channel", payload)
		messages := [][]byte{}
		for rest := frame; len(rest) > 0; {
			n := min(1+random.IntN(max(1, len(frame)/3)), len(rest))
			flags := byte(0)
			if len(rest) == len(frame) {
				flags |= flagStart
			}
			if n == len(rest) {
				flags |= flagEnd
			}
			messages = append(messages, chunk(flags, rest[:n]))
			rest = rest[n:]
		}
		c := &collector{}
		a := NewAssembler(c, 1<<20)
		for i, m := range messages {
			f, ok := a.Add(m, time.Time{})
			if ok != (i == len(messages)-1) {
				t.Fatalf("complete after %d of %d chunks: %v; lost %v", i+1, len(messages), ok, c.lost)
			}
			if ok && (f.Channel != "channel" || !bytes.Equal(f.Payload, payload)) {
				t.Fatalf("another frame of %d instead of %d bytes came out", len(f.Payload), len(payload))
			}
		}
		if c.buffers != 1 {
			t.Fatalf("%d buffers are out, want the frame's", c.buffers)
		}
	}
}

func TestMalformedChunksAreCountedOnceAndTheNextFrameIsRead(t *testing.T) {
	good := chunksOf(frameOf("c", []byte("hello")))[0]
	large := frameOf("c", make([]byte, 1000))
	short := frameOf("c", []byte("hello"))
	for name, c := range map[string]struct {
		messages [][]byte
		lost     []Defect
		frames   int // besides the good one
	}{
		"an empty message":               {[][]byte{{}}, []Defect{DefectFrame}, 0},
		"an unknown flag":                {[][]byte{chunk(0x20, short)}, []Defect{DefectFrame}, 0},
		"an end without a start":         {[][]byte{chunk(flagEnd, short)}, []Defect{DefectFrame}, 0},
		"a start in a reassembly":        {[][]byte{chunk(flagStart, large[:500])}, []Defect{DefectFrame}, 0},
		"two starts":                     {[][]byte{chunk(flagStart, large[:500]), chunk(flagStart, large[:400]), chunk(flagEnd, large[400:])}, []Defect{DefectFrame}, 1},
		"too little":                     {[][]byte{chunk(flagWhole, large[:999])}, []Defect{DefectFrame}, 0},
		"too much":                       {[][]byte{chunk(flagWhole, append(bytes.Clone(short), 1))}, []Defect{DefectFrame}, 0},
		"too much, and more of it":       {[][]byte{chunk(flagStart, append(bytes.Clone(short), 1)), chunk(flagMiddle, large), chunk(flagEnd, large)}, []Defect{DefectFrame}, 0},
		"no room for the channel":        {[][]byte{chunk(flagWhole, []byte{0, 0, 0, 2, 9, 'c'})}, []Defect{DefectFrame}, 0},
		"a channel longer than total":    {[][]byte{chunk(flagWhole, []byte{0, 0, 0, 1, 1, 'c'})}, []Defect{DefectFrame}, 0},
		"a header alone":                 {[][]byte{chunk(flagWhole, large[:6])}, []Defect{DefectFrame}, 0},
		"nothing in it":                  {[][]byte{chunk(flagWhole, nil)}, []Defect{DefectFrame}, 0},
		"oversize":                       {[][]byte{chunk(flagWhole, []byte{0xff, 0, 0, 0, 1, 'c'})}, []Defect{DefectOversize}, 0},
		"oversize in chunks":             {[][]byte{chunk(flagStart, []byte{0xff, 0, 0, 0, 1, 'c'}), chunk(flagMiddle, large), chunk(flagEnd, large)}, []Defect{DefectOversize}, 0},
		"total 0":                        {[][]byte{chunk(flagWhole, []byte{0, 0, 0, 0}), {0, 0, 0, 0}}, nil, 0},
		"an old whole frame":             {[][]byte{short}, nil, 1},
		"an old frame that is malformed": {[][]byte{short[:7]}, []Defect{DefectFrame}, 0},
		"an empty payload":               {[][]byte{chunk(flagWhole, frameOf("c", nil))}, nil, 1},
		"a refused channel":              {[][]byte{chunk(flagStart, frameOf("no", nil)), chunk(flagEnd, large)}, nil, 0},
	} {
		r := &collector{refused: "no"}
		a := NewAssembler(r, 1<<20)
		got := feed(a, r, append(c.messages, good)...)
		if len(got) != c.frames+1 || got[c.frames] != "c:5" {
			t.Errorf("%s: frames %v", name, got)
		}
		if !slices.Equal(r.lost, c.lost) {
			t.Errorf("%s: lost %v, want %v", name, r.lost, c.lost)
		}
		if r.buffers != 0 {
			t.Errorf("%s: %d buffers were not given back", name, r.buffers)
		}
	}
}

func TestMemoryFollowsWhatArrived(t *testing.T) {
	c := &collector{}
	a := NewAssembler(c, 50<<20)
	header := frameOf("c", make([]byte, 40<<20))[:6]
	feed(a, c, chunk(flagStart, header))
	if c.largest > firstPayloadBuffer {
		t.Errorf("a promise of 40 MiB got %d bytes", c.largest)
	}
	for range 3 {
		feed(a, c, chunk(flagMiddle, make([]byte, chunkPiece)))
	}
	if c.largest > 4*3*chunkPiece {
		t.Errorf("180 KiB that arrived got %d bytes", c.largest)
	}
	a.Abandon("peer_closed")
	if c.buffers != 0 || !slices.Equal(c.lost, []Defect{"peer_closed"}) {
		t.Errorf("%d buffers, lost %v", c.buffers, c.lost)
	}
}

func TestAReassemblyMayTakeTwoMinutes(t *testing.T) {
	c := &collector{}
	a := NewAssembler(c, 1<<20)
	frame := frameOf("c", make([]byte, 100))
	start := time.Unix(1000, 0)
	if !a.Deadline().IsZero() {
		t.Error("there is a deadline between frames")
	}
	a.Add(chunk(flagStart, frame[:50]), start)
	if got := a.Deadline(); !got.Equal(start.Add(2 * time.Minute)) {
		t.Errorf("the deadline is %s after the start", got.Sub(start))
	}
	a.Add(chunk(flagMiddle, frame[50:60]), start.Add(ReassemblyTimeout-1))
	if len(c.lost) > 0 {
		t.Fatalf("lost %v before the deadline", c.lost)
	}
	a.Expire(start.Add(ReassemblyTimeout))
	if c.buffers != 0 || !slices.Equal(c.lost, []Defect{DefectTimeout}) {
		t.Errorf("%d buffers, lost %v", c.buffers, c.lost)
	}
	late := start.Add(ReassemblyTimeout + 1)
	a.Add(chunk(flagMiddle, frame[60:70]), late)
	a.Add(chunk(flagEnd, frame[70:]), late)
	if len(c.lost) != 1 {
		t.Errorf("the late rest was counted again: %v", c.lost)
	}
	if f, ok := a.Add(chunk(flagWhole, frame), late); !ok || len(f.Payload) != 100 {
		t.Error("the frame after it was not read")
	}
}

func FuzzAssembler(f *testing.F) {
	f.Add([]byte("\x0b\x00\xC0\x00\x00\x00\x06\x01chello"))
	f.Add(append([]byte{3, 0, 0x80, 0, 0}, 0, 2, 0x40, 1))
	f.Fuzz(func(t *testing.T, script []byte) {
		c := &collector{refused: "r"}
		a := NewAssembler(c, 100_000)
		fed := 0
		for len(script) >= 2 { // u16 little endian length, message
			n := min(int(binary.LittleEndian.Uint16(script)), len(script)-2)
			message := script[2 : 2+n]
			script = script[2+n:]
			fed += n
			if frame, ok := a.Add(message, time.Time{}); ok {
				c.buffers--
				if len(frame.Payload) > fed {
					t.Fatalf("a payload of %d bytes from %d", len(frame.Payload), fed)
				}
			}
			if c.largest > max(firstPayloadBuffer, 4*fed) {
				t.Fatalf("a buffer of %d bytes for %d that came", c.largest, fed)
			}
		}
		a.Abandon("peer_closed")
		if c.buffers != 0 {
			t.Fatalf("%d buffers were not given back", c.buffers)
		}
	})
}
