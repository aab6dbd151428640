package node

import (
	"errors"
	"fmt"
	"testing"
)

func limitsOf(t *testing.T, members string) Limits {
	t.Helper()
	return configOf(t, `"limits": {`+members+`}`).Limits
}

func TestLimitsFollowWhatIsGiven(t *testing.T) {
	for _, c := range []struct {
		name, members string
		change        func(*Limits)
	}{
		{"a large message raises every budget that must hold it", `"message_bytes": 1000000000`, func(l *Limits) {
			l.MessageBytes, l.ChannelBytes, l.PeerQueueBytes, l.QueueBytes, l.SendBytes = 1e9, 1e9, 1e9, 1e9, 1e9
		}},
		{"a small message changes nothing else", `"message_bytes": 1000`, func(l *Limits) { l.MessageBytes = 1000 }},
		{"a small queue lowers a peer's share", `"queue_bytes": 60000000`, func(l *Limits) {
			l.QueueBytes, l.PeerQueueBytes = 60_000_000, 60_000_000
		}},
		{"a large share of a peer raises the queue", `"peer_queue_bytes": 1000000000`, func(l *Limits) {
			l.QueueBytes, l.PeerQueueBytes = 1e9, 1e9
		}},
		{"a peer gets half of the channels", `"channels": 7`, func(l *Limits) { l.Channels, l.PeerChannels = 7, 3 }},
		{"a peer gets at least one channel", `"channels": 1`, func(l *Limits) { l.Channels, l.PeerChannels = 1, 1 }},
		{"many channels of a peer raise the channels", `"peer_channels": 200`, func(l *Limits) { l.Channels, l.PeerChannels = 200, 200 }},
		{"few connections lower those of a peer", `"connections": 10`, func(l *Limits) { l.Connections, l.PeerConnections = 10, 10 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := DefaultLimits()
			c.change(&want)
			if got := limitsOf(t, c.members); got != want {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestGivenLimitsThatContradictAreRefused(t *testing.T) {
	for _, c := range []struct{ members, first, second string }{
		{`"message_bytes": 2000, "channel_bytes": 1000`, "limits.channel_bytes", "limits.message_bytes"},
		{`"peer_queue_bytes": 1000`, "limits.peer_queue_bytes", "limits.message_bytes"},
		{`"queue_bytes": 1000`, "limits.queue_bytes", "limits.message_bytes"},
		{`"send_bytes": 1000`, "limits.send_bytes", "limits.message_bytes"},
		{`"message_bytes": 10, "queue_bytes": 1000, "peer_queue_bytes": 2000`, "limits.peer_queue_bytes", "limits.queue_bytes"},
		{`"channels": 3, "peer_channels": 4`, "limits.peer_channels", "limits.channels"},
		{`"connections": 3, "peer_connections": 4`, "limits.peer_connections", "limits.connections"},
	} {
		t.Run(c.members, func(t *testing.T) {
			expectWords(t, mistakeOf(t, withIdentity(`"limits": {`+c.members+`}`)), c.first, c.second)
		})
	}
}

func TestEveryLimitIsPositiveAndBounded(t *testing.T) {
	for _, key := range limitKeys {
		path := "limits." + key.name
		for _, value := range []string{"0", "-1", fmt.Sprint(key.highest + 1), `"1"`, "1.0", "1e3", "[]"} {
			expectWords(t, mistakeOf(t, withIdentity(membersOf(path, value))), path)
		}
	}
	configOf(t, fmt.Sprintf(`"limits": {"message_bytes": %d}`, maxMessageBytes))
}

func TestLibraryLimitsStandInForAbsentOnes(t *testing.T) {
	base := Limits{Channels: 20, ChannelMessages: 30, MessageBytes: 100 * mebibyte}
	config, err := ParseConfig([]byte(withIdentity(`"limits": {"channel_messages": 40}`)), nil, base)
	if err != nil {
		t.Fatal(err)
	}
	want := DefaultLimits()
	want.Channels, want.PeerChannels, want.ChannelMessages = 20, 10, 40
	want.MessageBytes, want.ChannelBytes, want.PeerQueueBytes, want.SendBytes = 100*mebibyte, 100*mebibyte, 100*mebibyte, 100*mebibyte
	if config.Limits != want {
		t.Errorf("got  %+v\nwant %+v", config.Limits, want)
	}
}

func TestLibraryLimitsOutOfRangeAreRefused(t *testing.T) {
	_, err := ParseConfig([]byte(withIdentity("")), nil, Limits{MessageBytes: -5})
	if !errors.Is(err, ErrConfig) {
		t.Fatalf("got %v", err)
	}
	expectWords(t, err.Error(), "message_bytes", "-5")
}
