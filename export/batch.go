package main

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"unsafe"

	"peerbus/node"
	"peerbus/queue"
)

const (
	batchHead   = int(unsafe.Sizeof(C.pb_batch{}))
	messageSize = int(unsafe.Sizeof(C.peerbus_message{}))
	pointerSize = int(unsafe.Sizeof(uintptr(0)))
)

// batchLayout measures a batch: one block of memory with
//
//	head | table of messages | list of large buffers | texts and small payloads
type batchLayout struct {
	messages []queue.Message
	texts    map[string]int // offset of each distinct text
	small    int            // bytes of texts and small payloads
	large    int            // payloads that keep their own buffer
}

func measureBatch(messages []queue.Message) batchLayout {
	l := batchLayout{messages: messages, texts: make(map[string]int, 4)}
	var last queue.Message
	for k := range messages {
		m := &messages[k]
		// Runs of one channel share their texts; comparing with the message before saves most look-ups.
		if k == 0 || !sameTexts(m, &last) {
			if m.Verdict.Verified {
				l.addText(m.Verdict.NodeID)
			}
			l.addText(m.From)
			l.addText(m.Channel)
			l.addText(m.Protocol)
			last = *m
		}
		if len(m.Data) >= node.LargePayload {
			l.large++
		} else {
			l.small += len(m.Data)
		}
	}
	return l
}

func (l *batchLayout) addText(text string) {
	if _, known := l.texts[text]; !known {
		l.texts[text] = 0
		l.small += len(text) + 1
	}
}

// write builds the batch in malloc'd memory; nil when malloc fails. Large payloads belong to the batch from then on.
func (l *batchLayout) write() *C.pb_batch {
	table := len(l.messages) * messageSize
	size := batchHead + table + l.large*pointerSize + l.small
	memory := C.malloc(C.size_t(size))
	if memory == nil {
		return nil
	}
	block := unsafe.Slice((*byte)(memory), size)
	batch := (*C.pb_batch)(memory)
	*batch = C.pb_batch{
		public_part: C.peerbus_batch{
			messages:   (*C.peerbus_message)(unsafe.Pointer(&block[batchHead])),
			count:      C.uint64_t(len(l.messages)),
			block:      (*C.uint8_t)(memory),
			block_size: C.uint64_t(size),
		},
		large_count: C.uint64_t(l.large),
		large:       (*unsafe.Pointer)(unsafe.Add(memory, batchHead+table)),
	}
	w := batchWriter{layout: l, block: block, next: batchHead + table + l.large*pointerSize}
	w.large = unsafe.Slice(batch.large, l.large)
	w.writeTexts()
	w.writeMessages(unsafe.Slice(batch.public_part.messages, len(l.messages)))
	return batch
}

// batchWriter fills a block.
type batchWriter struct {
	layout *batchLayout
	block  []byte
	next   int // where the next text or small payload goes
	large  []unsafe.Pointer
}

func (w *batchWriter) writeTexts() {
	for text := range w.layout.texts {
		w.layout.texts[text] = w.next
		w.next += copy(w.block[w.next:], text)
		w.block[w.next] = 0
		w.next++
	}
}

func (w *batchWriter) text(text string) *C.char {
	return (*C.char)(unsafe.Pointer(&w.block[w.layout.texts[text]]))
}

func (w *batchWriter) writeMessages(table []C.peerbus_message) {
	for k := range w.layout.messages {
		m, entry := &w.layout.messages[k], &table[k]
		*entry = C.peerbus_message{size: C.uint64_t(len(m.Data)), gap: C.uint64_t(m.Gap), id: C.uint64_t(m.ID), flags: flagsOf(m)}
		if before := k - 1; before >= 0 && sameTexts(m, &w.layout.messages[before]) {
			entry.from, entry.channel, entry.protocol = table[before].from, table[before].channel, table[before].protocol
			entry.node_id = table[before].node_id
		} else {
			entry.from, entry.channel, entry.protocol = w.text(m.From), w.text(m.Channel), w.text(m.Protocol)
			if m.Verdict.Verified {
				entry.node_id = w.text(m.Verdict.NodeID)
			}
		}
		entry.data = (*C.uint8_t)(w.payload(m.Data))
	}
}

func sameTexts(a, b *queue.Message) bool {
	return a.Channel == b.Channel && a.From == b.From && a.Protocol == b.Protocol &&
		a.Verdict.Verified == b.Verdict.Verified && a.Verdict.NodeID == b.Verdict.NodeID
}

func flagsOf(m *queue.Message) (flags C.uint64_t) {
	if m.Verdict.Verified {
		flags |= C.PEERBUS_VERIFIED
		if m.Verdict.Inspector {
			flags |= C.PEERBUS_INSPECTOR
		}
	}
	if m.Source != nil && m.Source.Kept {
		flags |= C.PEERBUS_DURABLE
		if m.Again {
			flags |= C.PEERBUS_REDELIVERED
		}
	}
	return flags
}

// payload places a payload and answers its address. That of an empty one at the very end of the block is the block's.
func (w *batchWriter) payload(data []byte) unsafe.Pointer {
	switch {
	case len(data) >= node.LargePayload:
		own := unsafe.Pointer(unsafe.SliceData(data))
		w.large[0] = own
		w.large = w.large[1:]
		return own
	case len(data) == 0:
		return unsafe.Pointer(&w.block[0])
	}
	place := unsafe.Pointer(&w.block[w.next])
	w.next += copy(w.block[w.next:], data)
	return place
}
