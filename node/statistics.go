package node

import "peerbus/queue"

// Statistics are the node's counters and gauges.
type Statistics struct {
	Received   TrafficReceived              `json:"received"`
	Sent       TrafficCount                 `json:"sent"`
	Published  TrafficCount                 `json:"published"`
	Lost       map[string]map[string]uint64 `json:"lost"` // direction -> reason -> messages
	Waiting    SendWaiting                  `json:"send_waiting"`
	WebRTC     WebRTCStatistics             `json:"webrtc"`
	Peers      int                          `json:"peers"`
	Conns      int                          `json:"connections"`
	EventsLost uint64                       `json:"events_lost"`
	Relay      *RelayStatistics             `json:"relay,omitempty"` // of a node with relay.enable_service
	// TopicScores are the scores of peers on topics, those other than 0: negative for what they did wrong.
	TopicScores map[string]float64 `json:"topic_scores"`
}

// TrafficReceived is what the receive queues did and hold. received = delivered + waiting + the losses of the queues.
type TrafficReceived struct {
	Messages     uint64            `json:"messages"`
	Delivered    uint64            `json:"delivered"`
	Waiting      int               `json:"waiting"`
	WaitingBytes int64             `json:"waiting_bytes"`
	Blocked      int               `json:"blocked"` // streams held up by a full channel
	Channels     []ReceivedChannel `json:"channels"`
}

// ReceivedChannel is one channel of the receive queues; the list is bounded.
type ReceivedChannel struct {
	Channel      string `json:"channel"`
	Policy       string `json:"policy"`
	Waiting      int    `json:"waiting"`
	WaitingBytes int64  `json:"waiting_bytes"`
	Lost         uint64 `json:"lost"`
}

func receivedTraffic(s queue.Stats) TrafficReceived {
	t := TrafficReceived{
		Messages: s.Received, Delivered: s.Delivered, Waiting: s.Messages, WaitingBytes: s.Bytes, Blocked: s.BlockedPuts,
		Channels: make([]ReceivedChannel, 0, len(s.ByChannel)),
	}
	for _, c := range s.ByChannel {
		t.Channels = append(t.Channels, ReceivedChannel{c.Channel, c.Policy.String(), c.Messages, c.Bytes, c.Lost})
	}
	return t
}

// TrafficCount counts messages and their bytes on the wire.
type TrafficCount struct {
	Messages uint64 `json:"messages"`
	Bytes    uint64 `json:"bytes"`
}

// SendWaiting is what waits to be sent.
type SendWaiting struct {
	Messages uint64 `json:"messages"`
	Bytes    int64  `json:"bytes"`
}

func (w SendWaiting) plus(more SendWaiting) SendWaiting {
	return SendWaiting{w.Messages + more.Messages, w.Bytes + more.Bytes}
}

// Statistics answers the counters and gauges of this moment.
func (n *Node) Statistics() Statistics {
	return Statistics{
		Received:   receivedTraffic(n.queue.Stats()),
		Sent:       TrafficCount{n.traffic.sentMessages.Load(), n.traffic.sentBytes.Load()},
		Published:  TrafficCount{n.traffic.publishedMessages.Load(), n.traffic.publishedBytes.Load()},
		Lost:       n.losses.totals(),
		Waiting:    n.links.waiting().plus(n.outbounds.waiting()),
		WebRTC:     n.webrtc.statistics(),
		Peers:      len(n.peers.list()),
		Conns:      len(n.host.Network().Conns()),
		EventsLost: n.events.Lost(),
		Relay:      n.relay.statistics(),

		TopicScores: n.topics.scores.list(),
	}
}

func (ls *links) waiting() SendWaiting {
	var sum SendWaiting
	for _, l := range ls.all() {
		l.state.Lock()
		sum.Bytes += l.state.bytes
		for _, box := range l.state.boxes {
			sum.Messages += box.waiting()
		}
		l.state.Unlock()
	}
	return sum
}
