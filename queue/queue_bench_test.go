package queue

import (
	"context"
	"runtime"
	"strconv"
	"testing"
	"time"
)

func benchmarkBatch(b *testing.B, channels, batch, size int) {
	ctx := context.Background()
	q := New(Options{Limits: Limits{ChannelMessages: batch}})
	data := make([]byte, size)
	ms := make([]Message, batch)
	for i := range ms {
		ms[i] = Message{From: "peer", Channel: strconv.Itoa(i % channels), Data: data}
	}
	var taken []Message
	b.ReportAllocs()
	b.SetBytes(int64(size))
	for done := 0; done < b.N; done += batch {
		if err := q.PutBatch(ctx, ms, time.Second); err != nil {
			b.Fatal(err)
		}
		taken = q.Take(taken[:0], "", 0, 0)
		if len(taken) != batch {
			b.Fatalf("took %d messages of %d", len(taken), batch)
		}
	}
}

func BenchmarkBatch1Channel(b *testing.B)   { benchmarkBatch(b, 1, 50, 100) }
func BenchmarkBatch10Channels(b *testing.B) { benchmarkBatch(b, 10, 50, 100) }
func BenchmarkBatch512(b *testing.B)        { benchmarkBatch(b, 1, 512, 100) }

func BenchmarkOneByOne(b *testing.B) {
	ctx := context.Background()
	q := New(Options{})
	m := Message{From: "peer", Channel: "channel", Data: make([]byte, 100)}
	var taken []Message
	b.ReportAllocs()
	for b.Loop() {
		if err := q.Put(ctx, m, 0); err != nil {
			b.Fatal(err)
		}
		taken = q.Take(taken[:0], "", 0, 0)
	}
}

func BenchmarkDropOldest(b *testing.B) {
	ctx := context.Background()
	q := New(Options{Policy: func(string) Policy { return DropOldest }, Lost: func(Loss) {}, Free: func([]byte) {}})
	m := Message{From: "peer", Channel: "channel", Data: make([]byte, 100)}
	b.ReportAllocs()
	for b.Loop() {
		if err := q.Put(ctx, m, 0); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBackPressure is a writer that always finds the channel full and a reader that blocks: one hand-over per batch.
func BenchmarkBackPressure(b *testing.B) {
	ctx := context.Background()
	q := New(Options{})
	ms := make([]Message, 100)
	for i := range ms {
		ms[i] = Message{From: "peer", Channel: "channel", Data: make([]byte, 100)}
	}
	b.ReportAllocs()
	go func() {
		for q.PutBatch(ctx, ms, time.Minute) == nil {
		}
	}()
	var taken []Message
	for done := 0; done < b.N; done += len(taken) {
		var err error
		if taken, err = q.ReceiveAppend(ctx, taken[:0], "", 0, 0); err != nil {
			b.Fatal(err)
		}
	}
	q.Close()
}

func BenchmarkManyBlockedPuts(b *testing.B) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	q := New(Options{Limits: Limits{ChannelMessages: 1, Channels: 1000, PeerChannels: 1000}})
	for i := range 500 {
		m := Message{From: "peer", Channel: strconv.Itoa(i)}
		_ = q.Put(ctx, m, 0)
		go func() { _ = q.Put(ctx, m, time.Hour) }()
	}
	for q.Stats().BlockedPuts < 500 {
		runtime.Gosched()
	}
	m := Message{From: "other", Channel: "other", Data: make([]byte, 100)}
	var taken []Message
	b.ReportAllocs()
	for b.Loop() {
		_ = q.Put(ctx, m, 0)
		taken = q.Take(taken[:0], "other", 0, 0)
	}
}
