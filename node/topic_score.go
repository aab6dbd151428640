package node

import (
	"errors"
	"math"
	"sync"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Peer scores judge what a peer does wrong, not how much it delivers: a node may sit in a small or a quiet network, and
// many peers may share one address. A peer that sends invalid messages or breaks the rules of the mesh first gets no
// gossip, then no publishes, and is ignored at last; its score recovers within scoreMemory.
const (
	scoreDecayInterval = time.Second
	scoreDecayToZero   = 0.01
	scoreMemory        = 10 * time.Minute // until a fault is forgotten, also while the peer is away

	// A fault's penalty grows with the square of the count: 3 invalid messages end gossip, 6 publishes, 8 everything.
	invalidMessageWeight = -20.0
	behaviourWeight      = -10.0
	behaviourAllowance   = 6.0

	gossipThreshold   = -100.0
	publishThreshold  = -500.0
	graylistThreshold = -1000.0
	exchangeThreshold = 0.0 // peers that those below propose are not dialled, see network.peer_exchange
	graftThreshold    = 1.0

	timeInMeshWeight, timeInMeshCap       = 0.01, 300.0 // in seconds
	firstDeliveryWeight, firstDeliveryCap = 0.05, 100.0
	firstDeliveryMemory                   = time.Minute
)

var errShutOut = errors.New("the score of the peer is too low")

// topicScores holds the scores that pubsub computed last, and shuts out who fell below graylistThreshold. pubsub could do
// that itself, but would not say what it dropped.
type topicScores struct {
	node  *Node
	state struct {
		sync.RWMutex
		byPeer map[peer.ID]float64
	}
}

// options are for a gossip router.
func (s *topicScores) options() []pubsub.Option {
	return []pubsub.Option{
		pubsub.WithPeerScore(peerScoring()),
		pubsub.WithPeerScoreInspect(s.update, scoreDecayInterval),
		pubsub.WithAppSpecificRpcInspector(s.inspect),
	}
}

func (s *topicScores) update(scores map[peer.ID]float64) {
	s.state.Lock()
	defer s.state.Unlock()
	s.state.byPeer = scores
}

// inspect refuses everything from a peer that is shut out.
func (s *topicScores) inspect(from peer.ID, rpc *pubsub.RPC) error {
	s.state.RLock()
	shutOut := s.state.byPeer[from] < graylistThreshold
	s.state.RUnlock()
	if !shutOut {
		return nil
	}
	for _, message := range rpc.GetPublish() {
		s.node.losses.add(directionIn, lossBanned, message.GetTopic(), from.String(), 1)
	}
	return errShutOut
}

// list answers the scores other than 0.
func (s *topicScores) list() map[string]float64 {
	s.state.RLock()
	defer s.state.RUnlock()
	scores := map[string]float64{}
	for id, score := range s.state.byPeer {
		if score != 0 {
			scores[id.String()] = score
		}
	}
	return scores
}

func peerScoring() (*pubsub.PeerScoreParams, *pubsub.PeerScoreThresholds) {
	params := &pubsub.PeerScoreParams{
		SkipAtomicValidation:      true,
		Topics:                    map[string]*pubsub.TopicScoreParams{}, // joinLocked adds
		AppSpecificScore:          func(peer.ID) float64 { return 0 },
		BehaviourPenaltyWeight:    behaviourWeight,
		BehaviourPenaltyThreshold: behaviourAllowance,
		BehaviourPenaltyDecay:     scoreDecay(scoreMemory),
		DecayInterval:             scoreDecayInterval,
		DecayToZero:               scoreDecayToZero,
		RetainScore:               scoreMemory,
	}
	return params, &pubsub.PeerScoreThresholds{
		GossipThreshold:             gossipThreshold,
		PublishThreshold:            publishThreshold,
		GraylistThreshold:           -math.MaxFloat64, // topicScores.inspect does it
		AcceptPXThreshold:           exchangeThreshold,
		OpportunisticGraftThreshold: graftThreshold,
	}
}

// topicScoring is what counts on every topic.
func topicScoring() *pubsub.TopicScoreParams {
	return &pubsub.TopicScoreParams{
		SkipAtomicValidation:           true,
		TopicWeight:                    1,
		TimeInMeshWeight:               timeInMeshWeight,
		TimeInMeshQuantum:              time.Second,
		TimeInMeshCap:                  timeInMeshCap,
		FirstMessageDeliveriesWeight:   firstDeliveryWeight,
		FirstMessageDeliveriesDecay:    scoreDecay(firstDeliveryMemory),
		FirstMessageDeliveriesCap:      firstDeliveryCap,
		InvalidMessageDeliveriesWeight: invalidMessageWeight,
		InvalidMessageDeliveriesDecay:  scoreDecay(scoreMemory),
	}
}

func scoreDecay(memory time.Duration) float64 {
	return pubsub.ScoreParameterDecayWithBase(memory, scoreDecayInterval, scoreDecayToZero)
}
