package node

import (
	"fmt"
	"slices"

	"peerbus/node/webrtc"
)

// iceKeys is the group of configuration keys that UpdateICE takes.
const iceKeys = "webrtc.ice_config."

func iceOf(c WebRTCConfig) webrtc.ICEConfig {
	ice := webrtc.ICEConfig{STUNServers: slices.Clone(c.STUNServers)}
	for _, t := range c.TURNServers {
		ice.TURNServers = append(ice.TURNServers, webrtc.TURNServer{URLs: t.URLs, Username: t.Username, Credential: t.Credential})
	}
	return ice
}

func (t *webrtcSessions) iceConfig() webrtc.ICEConfig {
	t.state.RLock()
	defer t.state.RUnlock()
	return t.state.ice
}

// UpdateICE replaces the STUN and TURN servers that later WebRTC connections use, automatic attempts at peers
// that stay relayed among them. text is an object with the keys of
// webrtc.ice_config: one that is absent or null keeps its servers, an empty list clears them.
func (n *Node) UpdateICE(text []byte) error {
	root, err := decodeJSONObject(text)
	if err != nil {
		return fmt.Errorf("%w: %v", ErrArgument, err)
	}
	fields, err := fieldsOf(root, "an object", "stun_servers", "turn_servers")
	if err != nil {
		return fmt.Errorf("%w: %v", ErrArgument, err)
	}
	var update Config
	for name, value := range fields {
		if value == nil {
			continue
		}
		if err := keyByPath[iceKeys+name].set(&update, value); err != nil {
			return fmt.Errorf("%w: %s: %v", ErrArgument, name, err)
		}
	}
	given := iceOf(update.WebRTC)
	t := n.webrtc
	defer t.tryAgain() // after the lock is free
	t.state.Lock()
	defer t.state.Unlock()
	if fields["stun_servers"] != nil {
		t.state.ice.STUNServers = given.STUNServers
	}
	if fields["turn_servers"] != nil {
		t.state.ice.TURNServers = given.TURNServers
	}
	return nil
}
