package queue

import (
	"context"
	"testing"
)

func TestASlabIsFreedByTheLastOneToReleaseIt(t *testing.T) {
	freed := 0
	s := NewSlab(make([]byte, 8), func(memory []byte) { freed += len(memory) })
	if !s.Lone() {
		t.Error("its owner is not the only holder of a new slab")
	}
	s.Hold(3)
	s.Release(2)
	s.Release(1)
	if !s.Lone() || freed != 0 {
		t.Errorf("lone %v, %d bytes freed while its owner holds it", s.Lone(), freed)
	}
	s.Release(1)
	if freed != 8 {
		t.Errorf("%d bytes freed at the end", freed)
	}
}

func TestALentSlabIsNeverLone(t *testing.T) {
	s := NewSlab(make([]byte, 8), func([]byte) {})
	s.Hold(1)
	s.Lend()
	s.Release(1)
	if s.Lone() {
		t.Error("what is lent may be written again")
	}
}

func TestOneReleaseTooManyIsAPanic(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("nobody noticed it")
		}
	}()
	s := NewSlab(make([]byte, 8), func([]byte) {})
	s.Release(1)
	s.Release(1)
}

func TestMessagesThatAreLostReleaseTheirSlabAndTakenOnesDoNot(t *testing.T) {
	freed := 0
	s := NewSlab([]byte("abcd"), func([]byte) { freed++ })
	q := New(Options{Limits: Limits{ChannelMessages: 2}, Free: func([]byte) { t.Error("Free got memory of a slab") }})
	q.SetPolicy("c", DropOldest)
	s.Hold(4)
	for i := range 4 {
		if err := q.Put(context.Background(), Message{From: "p", Channel: "c", Data: s.Memory[i : i+1], Slab: s}, 0); err != nil {
			t.Fatal(err)
		}
	}
	taken := q.Take(nil, "c", 1, 0)
	s.Release(1) // the owner's; the first two were evicted, one is taken, one waits
	if freed != 0 {
		t.Fatal("the slab is free while two messages lie in it")
	}
	q.Close()
	if freed != 0 {
		t.Fatal("the slab is free while somebody has a message of it")
	}
	taken[0].Free(nil)
	if freed != 1 {
		t.Errorf("freed %d times after the last message", freed)
	}
}
