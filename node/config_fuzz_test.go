package node

import (
	"errors"
	"testing"
	"unicode/utf8"
)

func FuzzParseConfig(f *testing.F) {
	for _, key := range ConfigKeys() {
		f.Add([]byte(withIdentity(membersOf(key.Path, key.Default))), []byte("{}"))
	}
	f.Add([]byte(withIdentity(`"limits": {"message_bytes": 100000000, "queue_bytes": 100000000}`)), []byte(`{"nat": null}`))
	f.Add([]byte(withIdentity(`"predefined_port": 65535`)), []byte(`{"webrtc": {"enabled": false}}`))
	f.Fuzz(func(t *testing.T, text, defaults []byte) {
		config, err := ParseConfig(text, defaults, DefaultLimits())
		if err != nil {
			checkConfigError(t, err)
			return
		}
		addrs, err := config.ListenMultiaddrs()
		if err != nil || len(addrs) == 0 {
			t.Errorf("%+v listens on %v, %v", config, addrs, err)
		}
		l := config.Limits
		message := int64(l.MessageBytes)
		if message > min(l.ChannelBytes, l.PeerQueueBytes, l.SendBytes) || l.PeerQueueBytes > l.QueueBytes ||
			l.PeerChannels > l.Channels || l.PeerConnections > l.Connections || l.PeerChannels < 1 {
			t.Errorf("the limits do not agree: %+v", l)
		}
	})
}

func checkConfigError(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, ErrConfig) {
		t.Errorf("%v does not wrap ErrConfig", err)
	}
	if text := err.Error(); !utf8.ValidString(text) || len(text) > maxShownProblems*(maxProblemBytes+2)+100 {
		t.Errorf("a message of %d bytes: %q", len(text), text)
	}
}
