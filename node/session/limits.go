package session

import "time"

// Protocol is the libp2p protocol id of a channel stream.
const Protocol = "/peerbus/channel/1.0.0"

// Limits that the document fixes.
const (
	// MaxControl is the largest length of a frame that is not data.
	MaxControl = 4096
	// MaxExtensions is the most bytes of extensions in one frame.
	MaxExtensions = 1024
	// MaxChannelName is the longest channel name in bytes.
	MaxChannelName = 255
	// MaxSequence is the largest sequence number and generation.
	MaxSequence = 1 << 62
	// MinMaxMessage is the smallest message limit that a receiver may announce. It exceeds soloBytes, so that a message
	// that turns out too large for the peer always has a chunk of its own.
	MinMaxMessage = 64 << 10
	// InitialWindow holds until the first ACK names another one.
	InitialWindow = 64 << 10
	// MaxCloseText is the longest explanation in a CLOSE.
	MaxCloseText = 256
	// maxDropsBetweenAcks bounds the DROPPED frames that a sender remembers until the ACK that covers them.
	maxDropsBetweenAcks = 1024
)

// Defaults of the options.
const (
	DefaultWindow       = 4 << 20
	DefaultAckMessages  = 1024
	DefaultAckDelay     = 5 * time.Millisecond
	DefaultResumeWindow = 2 * time.Minute
	// MaxResumeWindow leaves room below DefaultKeep: a receiver must not forget what a sender may still resume.
	MaxResumeWindow = 10 * time.Minute
	// DefaultKeep is how long a receiver remembers a session without a stream, at least.
	DefaultKeep         = 15 * time.Minute
	DefaultPeerSessions = 256
	DefaultSessions     = 16384
)

const (
	// chunkBytes is how much of small frames travels in one write.
	chunkBytes = 64 << 10
	// firstChunkBytes is the buffer of a channel that sends a message now and then; a burst grows it fourfold.
	firstChunkBytes = 4 << 10
	// soloBytes is the frame size from which a frame gets a buffer, and a write, of its own.
	soloBytes = 16 << 10
	// lentHead is how much of a frame whose payload is lent is copied, so that its head does not travel by itself: with a header
	// of the muxer it fits one TLS record.
	lentHead = soloBytes - 64
	// MinLent is the smallest payload that can be lent.
	MinLent = soloBytes
	// maxDrops bounds the reports about dropped messages that a receiver keeps for the next stream.
	maxDrops = 64
)
