package node

import "fmt"

const (
	mebibyte = 1 << 20

	// maxMessageBytes leaves room in a signed 32-bit length for the channel and the frame around a
	// message.
	maxMessageBytes = 1<<31 - 1 - 260
	// maxBudgetBytes and maxCount are above what one node can use; more is a slip of the pen.
	maxBudgetBytes = 1 << 40
	maxCount       = 1 << 20
)

// Limits bounds what one node may use (GEN-07, P2P-32).
type Limits struct {
	Channels         int
	ChannelMessages  int
	ChannelBytes     int64
	MessageBytes     int
	QueueBytes       int64
	PeerQueueBytes   int64
	PeerChannels     int
	SendMessages     int
	SendBytes        int64
	ChannelSendBytes int64
	ChannelStreams   int
	ChannelSessions  int
	BulkSends        int
	OutboxBytes      int64
	Events           int
	Connections      int
	PeerConnections  int
	IPConnections    int
	TopicMessages    int
}

// DefaultLimits returns the limits of a node whose host sets none.
func DefaultLimits() Limits {
	return Limits{
		Channels:         100,
		ChannelMessages:  50,
		ChannelBytes:     64 * mebibyte,
		MessageBytes:     50 * mebibyte,
		QueueBytes:       256 * mebibyte,
		PeerQueueBytes:   64 * mebibyte,
		PeerChannels:     50,
		SendMessages:     65536,
		SendBytes:        64 * mebibyte,
		ChannelSendBytes: 32 * mebibyte,
		ChannelStreams:   256,
		ChannelSessions:  1024,
		BulkSends:        5,
		OutboxBytes:      256 * mebibyte,
		Events:           4096,
		Connections:      1000,
		PeerConnections:  64,
		IPConnections:    1024,
		TopicMessages:    16384,
	}
}

// limitKey is one key of the object "limits". Every limit is at least 1.
type limitKey struct {
	name, doc string
	highest   int64
	get       func(Limits) int64
	set       func(*Limits, int64)
}

func limit[T int | int64](name string, highest int64, doc string, field func(*Limits) *T) limitKey {
	return limitKey{
		name: name, doc: doc, highest: highest,
		get: func(l Limits) int64 { return int64(*field(&l)) },
		set: func(l *Limits, value int64) { *field(l) = T(value) },
	}
}

var limitKeys = []limitKey{
	limit("channels", maxCount, "channels with waiting messages",
		func(l *Limits) *int { return &l.Channels }),
	limit("channel_messages", maxCount, "received messages waiting on one channel",
		func(l *Limits) *int { return &l.ChannelMessages }),
	limit("channel_bytes", maxBudgetBytes, "received bytes waiting on one channel",
		func(l *Limits) *int64 { return &l.ChannelBytes }),
	limit("message_bytes", maxMessageBytes, "bytes of one message, on chat its channel included; acknowledged channels take 64 KiB in any case",
		func(l *Limits) *int { return &l.MessageBytes }),
	limit("queue_bytes", maxBudgetBytes, "received bytes waiting in the node",
		func(l *Limits) *int64 { return &l.QueueBytes }),
	limit("peer_queue_bytes", maxBudgetBytes, "received bytes waiting from one peer",
		func(l *Limits) *int64 { return &l.PeerQueueBytes }),
	limit("peer_channels", maxCount, "channels that one peer may occupy; when not given, half of limits.channels",
		func(l *Limits) *int { return &l.PeerChannels }),
	limit("send_messages", maxCount, "messages waiting to be sent on one channel",
		func(l *Limits) *int { return &l.SendMessages }),
	limit("send_bytes", maxBudgetBytes, "bytes waiting to be sent to one peer",
		func(l *Limits) *int64 { return &l.SendBytes }),
	limit("channel_send_bytes", maxBudgetBytes, "bytes waiting to be sent or to be acknowledged on one acknowledged channel; a larger message is taken alone",
		func(l *Limits) *int64 { return &l.ChannelSendBytes }),
	limit("channel_streams", maxCount, "streams of acknowledged channels with one peer, in each direction",
		func(l *Limits) *int { return &l.ChannelStreams }),
	limit("channel_sessions", maxCount, "acknowledged channels of one peer that this node remembers as their receiver",
		func(l *Limits) *int { return &l.ChannelSessions }),
	limit("bulk_sends", maxCount, "messages of class bulk that are written at a time, to all peers together; one that makes no progress for 1 s does not count",
		func(l *Limits) *int { return &l.BulkSends }),
	limit("outbox_bytes", maxBudgetBytes, "bytes on disk that wait for the peers of durable channels; a larger message is taken alone",
		func(l *Limits) *int64 { return &l.OutboxBytes }),
	limit("events", maxCount, "events waiting for the host",
		func(l *Limits) *int { return &l.Events }),
	limit("connections", maxCount, "connections",
		func(l *Limits) *int { return &l.Connections }),
	limit("peer_connections", maxCount, "connections with one peer",
		func(l *Limits) *int { return &l.PeerConnections }),
	limit("ip_connections", maxCount, "connections from one IP address",
		func(l *Limits) *int { return &l.IPConnections }),
	limit("topic_messages", maxCount, "messages in each internal queue of pub/sub",
		func(l *Limits) *int { return &l.TopicMessages }),
}

// limitConfigKeys makes keys of the configuration out of the limits.
func limitConfigKeys() []configKey {
	defaults := DefaultLimits()
	keys := make([]configKey, len(limitKeys))
	for i, l := range limitKeys {
		shape := ConfigKey{Path: "limits." + l.name, Type: typeInteger, Default: fmt.Sprint(l.get(defaults)),
			Doc: fmt.Sprintf("%s; 1 to %d", l.doc, l.highest), Python: "limits"}
		keys[i] = configKey{shape, func(c *Config, value any) error {
			n, err := integerOf(value, 1, l.highest)
			if err == nil {
				l.set(&c.Limits, n)
			}
			return err
		}}
	}
	return keys
}

// complete replaces zeros by the defaults and checks the rest.
func (l Limits) complete() (Limits, error) {
	defaults := DefaultLimits()
	for _, key := range limitKeys {
		switch value := key.get(l); {
		case value == 0:
			key.set(&l, key.get(defaults))
		case value < 0 || value > key.highest:
			return Limits{}, fmt.Errorf("%w: the library's %s is %d, expected 1 to %d",
				ErrConfig, key.name, value, key.highest)
		}
	}
	return l, nil
}

// fitLimits makes the limits agree with each other: what the configuration does not give follows
// what it gives, and two given ones that contradict are a mistake. message_bytes never follows: a
// peer relies on it.
func (p *configParser) fitLimits() {
	l := &p.config.Limits
	if !p.gives("limits.peer_channels") {
		l.PeerChannels = max(1, l.Channels/2)
	}
	p.fitMessage("limits.channel_bytes", &l.ChannelBytes)
	p.fitMessage("limits.peer_queue_bytes", &l.PeerQueueBytes)
	p.fitMessage("limits.queue_bytes", &l.QueueBytes)
	p.fitMessage("limits.send_bytes", &l.SendBytes)
	fitPair(p, "limits.channel_send_bytes", &l.ChannelSendBytes, "limits.send_bytes", &l.SendBytes)
	fitPair(p, "limits.peer_queue_bytes", &l.PeerQueueBytes, "limits.queue_bytes", &l.QueueBytes)
	fitPair(p, "limits.peer_channels", &l.PeerChannels, "limits.channels", &l.Channels)
	fitPair(p, "limits.peer_connections", &l.PeerConnections, "limits.connections", &l.Connections)
}

func (p *configParser) gives(path string) bool { return p.given[path] != notGiven }

// fitMessage raises a budget until it holds one message of the largest size, without which that
// message could never pass.
func (p *configParser) fitMessage(path string, budget *int64) {
	const messageKey = "limits.message_bytes"
	message := int64(p.config.Limits.MessageBytes)
	if *budget >= message {
		return
	}
	if !p.gives(path) {
		*budget = message
		return
	}
	p.problem(path, "%d does not hold one message of %s, %d: raise the former or lower the latter",
		*budget, messageKey, message)
}

// fitPair makes part at most whole: it lowers a part, or else raises a whole, that is not given.
func fitPair[T int | int64](p *configParser, partPath string, part *T, wholePath string, whole *T) {
	switch {
	case *part <= *whole:
	case !p.gives(partPath):
		*part = *whole
	case !p.gives(wholePath):
		*whole = *part
	default:
		p.problem(partPath, "%d is more than %s, %d: lower the former or raise the latter", *part, wholePath, *whole)
	}
}
