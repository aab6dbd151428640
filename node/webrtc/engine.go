package webrtc

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	pion "github.com/pion/webrtc/v4"
)

const (
	// HandshakeTimeout bounds everything from the offer to the open channel (GEN-06).
	HandshakeTimeout = 60 * time.Second
	// gatherTimeout bounds the search for own candidates. A STUN or TURN server that does not answer by then is left out.
	gatherTimeout = 8 * time.Second
	// stunTimeout is how long a STUN server may take to answer.
	stunTimeout = 3 * time.Second

	// disconnectedTimeout without a packet makes a session doubtful: it may be replaced. failedTimeout after that ends it.
	disconnectedTimeout = 5 * time.Second
	failedTimeout       = 10 * time.Second
	// FailedTimeout is when a session whose peer is gone ends.
	FailedTimeout     = disconnectedTimeout + failedTimeout
	keepAliveInterval = 2 * time.Second

	// relayAcceptance is how long a direct pair of candidates may still show up before one over TURN is taken.
	relayAcceptance = time.Second
)

// Options are what all sessions of an Engine have in common.
type Options struct {
	Log *slog.Logger
	// Addresses are the own IP addresses to gather candidates on: those that the program lets the node listen on. An
	// unspecified address stands for all of its family, loopback only if there are no others. TURN relays are reached from any address.
	Addresses []netip.Addr
}

// Engine makes sessions.
type Engine struct {
	api    *pion.API
	policy pion.ICETransportPolicy // all paths, but in tests
}

// NewEngine makes an Engine. It opens nothing.
func NewEngine(o Options) *Engine {
	settings := pion.SettingEngine{LoggerFactory: loggers{o.Log}}
	settings.DetachDataChannels()
	if system, err := newSockets(); err == nil { // else pion makes its own, and tells its errors
		settings.SetNet(system)
	}
	// Candidates behind mDNS names need multicast; such peers are found by the checks that they send.
	settings.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	settings.SetIPFilter(addressFilter(o.Addresses))
	settings.SetIncludeLoopbackCandidate(true) // the filter decides
	settings.SetICETimeouts(disconnectedTimeout, failedTimeout, keepAliveInterval)
	settings.SetSTUNGatherTimeout(stunTimeout)
	settings.SetRelayAcceptanceMinWait(relayAcceptance)
	// No media: no codecs, no interceptors.
	return &Engine{api: pion.NewAPI(
		pion.WithSettingEngine(settings), pion.WithMediaEngine(&pion.MediaEngine{}), pion.WithInterceptorRegistry(&interceptor.Registry{}),
	)}
}

func addressFilter(allowed []netip.Addr) func(net.IP) bool {
	return func(ip net.IP) bool {
		addr, ok := netip.AddrFromSlice(ip)
		addr = addr.Unmap()
		for _, a := range allowed {
			if a == addr || a.IsUnspecified() && a.Is4() == addr.Is4() && (!addr.IsLoopback() || onlyLoopback()) {
				return ok
			}
		}
		return false
	}
}

// onlyLoopback tells whether this machine has no other address.
func onlyLoopback() bool {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, addr := range addrs {
		if network, ok := addr.(*net.IPNet); ok && !network.IP.IsLoopback() {
			return false
		}
	}
	return true
}

// ICEConfig names the servers that help two peers find a path.
type ICEConfig struct {
	STUNServers []string // URIs
	TURNServers []TURNServer
}

// TURNServer is one relay of ICE with its account.
type TURNServer struct {
	URLs                 []string
	Username, Credential string
}

func (c ICEConfig) servers() []pion.ICEServer {
	var servers []pion.ICEServer
	if len(c.STUNServers) > 0 {
		servers = append(servers, pion.ICEServer{URLs: c.STUNServers})
	}
	for _, t := range c.TURNServers {
		servers = append(servers, pion.ICEServer{
			URLs: t.URLs, Username: t.Username, Credential: t.Credential, CredentialType: pion.ICECredentialTypePassword,
		})
	}
	return servers
}

// NewConnection makes a connection that finds its path with those servers. Its data channels have to be detached.
func (e *Engine) NewConnection(c ICEConfig) (*pion.PeerConnection, error) {
	made, err := e.api.NewPeerConnection(pion.Configuration{ICEServers: c.servers(), ICETransportPolicy: e.policy})
	if err != nil {
		return nil, fmt.Errorf("creating the WebRTC connection: %w", err)
	}
	return made, nil
}
