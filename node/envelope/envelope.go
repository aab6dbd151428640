// Package envelope holds the typed message of the UNaIVERSE network: the
// schema in message.proto, the code generated from it, and the names of the
// content types (SPEC MSG-01, MSG-06).
//
// A channel carries any bytes, so the envelope is optional. The node opens it
// where it must see the sender or the content type: rendezvous rosters and the
// checks of pool members. What travels inside is for the program at the other
// end, which is why nothing here decompresses or decodes content.
//
// The protobuf registry of a process is global. This schema registers as
// "node/envelope/message.proto", package p2p.
package envelope

// Content types that the network knows. The set is open: an envelope with a
// type that is not listed here is valid.
const (
	TypeProfile               = "profile"
	TypeWorldApproval         = "world_approval"
	TypeAgentApproval         = "agent_approval"
	TypeProfileRequest        = "profile_request"
	TypeAddressUpdate         = "address_update"
	TypeStreamSample          = "stream_sample"
	TypeRoleSuggestion        = "role_suggestion"
	TypeInteraction           = "interaction"
	TypeInteractionStatus     = "interaction_status"
	TypeHSM                   = "hsm"
	TypeMisc                  = "misc"
	TypeGetCVFromRoot         = "get_cv_from_root"
	TypeBadgeSuggestions      = "badge_suggestions"
	TypeInspectOn             = "inspect_on"
	TypeInspectCmd            = "inspect_cmd"
	TypeWorldAgentsList       = "world_agents_list"
	TypeConsoleAndBehavStatus = "console_and_behav_status"
	TypeStatsUpdate           = "stats_update"
	TypeStatsRequest          = "stats_request"
	TypeStatsResponse         = "stats_response"
)
