package main

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

	// lendFrom is how much of a slab the messages of a batch must take to stay there instead of being copied: at least half,
	// so that a batch keeps no more than twice its payloads in memory.
	lendFrom = node.SlabBytes / 2
)

// batchLayout measures a batch: one block of memory with
//
//	head | table of messages | list of held buffers | texts and copied payloads
type batchLayout struct {
	messages []queue.Message
	texts    map[string]int // offset of each distinct text
	copied   int            // bytes of texts and copied payloads
	held     int            // buffers of large payloads, and slabs
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
	}
	for k := 0; k < len(messages); {
		end, bytes, stay := l.group(k)
		if stay {
			l.held++
		} else {
			l.copied += bytes
		}
		k = end
	}
	return l
}

// group answers where the messages end that lie in the same memory as message k, their bytes, and whether they stay there: a
// large payload, or a run of small ones.
func (l *batchLayout) group(k int) (end, bytes int, stay bool) {
	slab := l.messages[k].Slab
	bytes = len(l.messages[k].Data)
	end = k + 1
	if slab == nil {
		return end, bytes, bytes >= node.LargePayload
	}
	for ; end < len(l.messages) && l.messages[end].Slab == slab; end++ {
		bytes += len(l.messages[end].Data)
	}
	return end, bytes, bytes >= lendFrom
}

func (l *batchLayout) addText(text string) {
	if _, known := l.texts[text]; !known {
		l.texts[text] = 0
		l.copied += len(text) + 1
	}
}

// write builds the batch in a buffer; nil when malloc fails. The messages' memory belongs to the batch from then on, or is
// given back.
func (l *batchLayout) write() *C.pb_batch {
	table := len(l.messages) * messageSize
	size := batchHead + table + l.held*pointerSize + l.copied
	memory := C.pb_buffer_get(C.size_t(size))
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
		held_count: C.uint64_t(l.held),
		held:       (*unsafe.Pointer)(unsafe.Add(memory, batchHead+table)),
	}
	w := batchWriter{layout: l, block: block, next: batchHead + table + l.held*pointerSize}
	w.held = unsafe.Slice(batch.held, l.held)
	w.writeTexts()
	entries := unsafe.Slice(batch.public_part.messages, len(l.messages))
	w.writeMessages(entries)
	w.writePayloads(entries)
	return batch
}

// batchWriter fills a block.
type batchWriter struct {
	layout *batchLayout
	block  []byte
	next   int // where the next text or copied payload goes
	held   []unsafe.Pointer
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

func (w *batchWriter) writePayloads(table []C.peerbus_message) {
	for k := 0; k < len(table); {
		end, _, stay := w.layout.group(k)
		messages := w.layout.messages[k:end]
		for i := range messages {
			table[k+i].data = (*C.uint8_t)(w.payload(messages[i].Data, stay))
		}
		slab := messages[0].Slab
		if stay {
			w.hold(&messages[0])
		}
		if slab != nil {
			slab.Release(len(messages))
		}
		k = end
	}
}

// hold makes the batch one that holds the memory of a payload.
func (w *batchWriter) hold(m *queue.Message) {
	buffer := unsafe.Pointer(unsafe.SliceData(m.Data))
	if m.Slab != nil {
		buffer = unsafe.Pointer(unsafe.SliceData(m.Slab.Memory))
		C.pb_buffer_hold(buffer)
		m.Slab.Lend()
	}
	w.held[0] = buffer
	w.held = w.held[1:]
}

// payload answers the address of a payload that stays, or places it. That of an empty one is the block's: it may have none.
func (w *batchWriter) payload(data []byte, stay bool) unsafe.Pointer {
	switch {
	case len(data) == 0:
		return unsafe.Pointer(&w.block[0])
	case stay:
		return unsafe.Pointer(unsafe.SliceData(data))
	}
	place := unsafe.Pointer(&w.block[w.next])
	w.next += copy(w.block[w.next:], data)
	return place
}
