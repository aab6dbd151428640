package node

import (
	"encoding/binary"
	"sync"
)

// ChatProtocol is the message protocol of the existing network (SPEC P2P-15). Its frame:
//
//	u32 total, big endian | u8 channel length | channel | payload
//
// total counts everything after itself. Total 0 is skipped on reading; an empty payload is never written, because peers of
// the existing network reset the stream on both.
const ChatProtocol = "/unaiverse/chat/1.0.0"

const (
	frameTotalBytes   = 4
	frameChannelBytes = 1
	frameOverhead     = frameTotalBytes + frameChannelBytes
)

// frameHeader frames the messages of one channel.
type frameHeader struct{ channel string }

// size is the length of a whole frame; total is what its first field says.
func (h frameHeader) size(payload int) int  { return frameOverhead + len(h.channel) + payload }
func (h frameHeader) total(payload int) int { return frameChannelBytes + len(h.channel) + payload }

func (h frameHeader) appendTo(buffer, payload []byte) []byte {
	buffer = binary.BigEndian.AppendUint32(buffer, uint32(h.total(len(payload))))
	buffer = append(buffer, byte(len(h.channel)))
	buffer = append(buffer, h.channel...)
	return append(buffer, payload...)
}

// framesWithin counts the frames that lie wholly in the first n bytes, and their length.
func framesWithin(frames []byte, n int) (count uint64, end int) {
	for end+frameTotalBytes <= n {
		next := end + frameTotalBytes + int(binary.BigEndian.Uint32(frames[end:]))
		if next > n {
			break
		}
		count++
		end = next
	}
	return count, end
}

// bufferPool recycles the buffers of coalesced small frames.
type bufferPool struct{ pool sync.Pool }

var chunkBuffers = bufferPool{pool: sync.Pool{New: func() any { return new([coalesceBytes]byte) }}}

func (p *bufferPool) get() []byte { return p.pool.Get().(*[coalesceBytes]byte)[:0] }

func (p *bufferPool) put(buffer []byte) { p.pool.Put((*[coalesceBytes]byte)(buffer[:coalesceBytes])) }
