/* peerbus.h - the C API of peerbus: peer-to-peer nodes, message channels and publish/subscribe over libp2p.
 *
 * This file is written by hand and is the manual. It compiles as C99 and C++, and cffi's cdef() takes it once the
 * preprocessor lines are stripped.
 *
 * Two layers, one library
 *   Control functions (CamelCase) take and return text. Each returns a JSON envelope in malloc'd memory that the caller
 *   frees with FreeString:
 *       {"state":"Success","message":<answer>}
 *       {"state":"Empty"}                                                   nothing there; not a failure
 *       {"state":"Error","message":"what happened, to what, what to do","code":"NOT_CONNECTED"}
 *   They return NULL only when malloc fails.
 *   Data functions (peerbus_ names) move payloads in binary. They return 0 or a count, or a negative peerbus_code;
 *   peerbus_last_error() then has the text.
 *
 * Instances
 *   A node runs in one of the slots 0 .. maxInstances-1. The host picks the slot; CreateNode fills it, CloseNode frees it.
 *
 * Channels
 *   "<owner>::dm:<target>-<suffix>"  direct: owner is the sending peer's id, target the receiving peer's id.
 *   "<owner>::ps:<name>"             topic: all subscribers of the identical text receive. A name that ends in ":rv" is a
 *                                    rendezvous topic, see GetRendezvousPeers.
 *   At most 255 bytes of UTF-8, with exactly one of "::dm:" and "::ps:".
 *   A direct channel travels by /peerbus/channel/1.0.0 when both nodes speak it (docs/channel-protocol.md): each message is in
 *   the peer's receive queue once and in order, or a "delivery" event names it as lost; a lost connection is resumed for
 *   channel.resume_ms; a slow receiver slows its senders on that channel only. With any other peer it travels by
 *   /unaiverse/chat/1.0.0, which confirms nothing but that the transport took a message. The choice is made with the first
 *   message and holds until the session, or the chat stream, is over.
 *
 * Threads
 *   Every function may be called from any thread at any time, also while another thread sits in a blocking call on the
 *   same node. CloseNode ends those calls with CLOSED. The library starts no host code: it calls nothing back, so the
 *   host reads messages and events when it wants to, and wake descriptors say when something waits.
 *
 * Time
 *   timeoutMs / timeout_ms are milliseconds: 0 tries once without waiting, up to PEERBUS_MAX_TIMEOUT_MS. Negative
 *   values and larger ones are INVALID_ARGUMENT: no call waits for ever. Functions without a timeout have a fixed one, stated below.
 *
 * Text
 *   Arguments are NUL-terminated UTF-8 that the library does not keep; NULL is INVALID_ARGUMENT unless stated. Texts longer
 *   than PEERBUS_MAX_TEXT bytes are TOO_LARGE.
 *
 * Fork
 *   In a child made by fork() after the library was loaded every function answers FORKED at once, and
 *   MessageQueueLength -1. FreeString, FreeInt and the functions that only return constants still work; peerbus_batch_free
 *   does nothing there. A child that loads the library itself,
 *   or calls exec(), is free to use it.
 *
 * Codes
 *   Each function names the codes of its own. Besides these, INVALID_ARGUMENT tells which argument is wrong; every function that
 *   takes an instance answers NOT_INITIALIZED, NO_NODE and CLOSED where it needs a node; any may answer FORKED and INTERNAL.
 *
 * Failure of the library itself
 *   A panic inside becomes INTERNAL: stacks go to the log once, and the node it belongs to is marked failed (its calls
 *   answer INTERNAL until CloseNode frees the slot). The host process goes on.
 *
 * Nothing is printed to stdout. stderr is used only for logs that the host asked for (InitializeLibrary) without giving
 * a descriptor (SetLogDescriptor).
 */
#ifndef PEERBUS_H
#define PEERBUS_H

#include <stddef.h>
#include <stdint.h>

/* The next mark hides the C++ linkage from parsers that drop preprocessor lines.
#*/
#ifdef __cplusplus
extern "C" {
#endif
/* Result codes of the data functions. The JSON "code" is the name without PEERBUS_. Codes never change their number. */
typedef enum peerbus_code {
    PEERBUS_OK = 0,
    PEERBUS_INVALID_ARGUMENT = -1, /* an argument is NULL, malformed or out of range; the text says which */
    PEERBUS_NOT_INITIALIZED = -2,  /* InitializeLibrary was not called */
    PEERBUS_NO_NODE = -3,          /* no node was ever created in this slot */
    PEERBUS_CLOSED = -4,           /* the node of this slot was closed, or is closing */
    PEERBUS_IN_USE = -5,           /* the slot already has a node */
    PEERBUS_INVALID_CONFIG = -6,   /* the configuration has unknown, malformed or contradicting keys */
    PEERBUS_IDENTITY = -7,         /* identity_dir or identity.key cannot be read, written or trusted */
    PEERBUS_NOT_CONNECTED = -8,    /* no connection to that peer, and no address to dial */
    PEERBUS_UNREACHABLE = -9,      /* every address of the peer was tried and failed */
    PEERBUS_TIMEOUT = -10,         /* the deadline passed */
    PEERBUS_WOULD_BLOCK = -11,     /* no room before the deadline; nothing was taken. A "writable" event follows */
    PEERBUS_TOO_LARGE = -12,       /* above limits.message_bytes, or a text above PEERBUS_MAX_TEXT */
    PEERBUS_INTERRUPTED = -13,     /* peerbus_interrupt ended the wait */
    PEERBUS_CANCELLED = -14,       /* CancelOperation ended the operation */
    PEERBUS_REFUSED = -15,         /* a local or remote limit or rule said no */
    PEERBUS_NOT_FOUND = -16,       /* nothing known under that name */
    PEERBUS_PEER_CLOSED = -17,     /* the stream or connection ended before the message was taken */
    PEERBUS_UNSUPPORTED = -18,     /* this build does not do what was asked */
    PEERBUS_LIMIT = -19,           /* too many of something in this process; the text says of what */
    PEERBUS_NO_MEMORY = -20,       /* malloc failed */
    PEERBUS_FORKED = -21,          /* called in a forked child */
    PEERBUS_INTERNAL = -22,        /* a defect of peerbus; the log has the stacks */
    PEERBUS_LOST = -23,            /* the message will never arrive, or nobody will ever know; the text has the reason */
    PEERBUS_STORE = -24            /* the file of durable channels is damaged, foreign, in use or cannot be written */
} peerbus_code;

enum {
    PEERBUS_ABI = 1,                      /* what LibraryABI() answers for this header */
    PEERBUS_MAX_TEXT = 1048576,           /* bytes of a text argument without its NUL */
    PEERBUS_MAX_TIMEOUT_MS = 86400000,    /* 24 hours */
    PEERBUS_MAX_BATCH = 65536,            /* messages of one peerbus_receive */
    PEERBUS_MAX_LIST = 52428800           /* bytes of a list of PoolsSetWorldList */
};

/* What happens to a message that finds its channel queue full (peerbus_set_policy). */
typedef enum peerbus_policy {
    PEERBUS_BLOCK = 0,       /* stop reading that stream: flow control holds the sender. Default of direct channels */
    PEERBUS_DROP_OLDEST = 1, /* default of topics */
    PEERBUS_DROP_NEWEST = 2,
    PEERBUS_LATEST = 3       /* keep only the newest message */
} peerbus_policy;

/* What the content of a pool message is: the field of the envelope that it goes to (peerbus_pools_send). */
typedef enum peerbus_content {
    PEERBUS_CONTENT_NONE = 0,          /* size is 0 */
    PEERBUS_CONTENT_STREAM_SAMPLE = 6, /* an encoded StreamSampleContent */
    PEERBUS_CONTENT_JSON = 7,          /* UTF-8 text */
    PEERBUS_CONTENT_STATS = 8,         /* an encoded StatBatch */
    PEERBUS_CONTENT_RAW = 9            /* bytes */
} peerbus_content;

/* How far a message is on its way (peerbus_channel_wait; the sum of 1 << state: peerbus_channel_open). */
typedef enum peerbus_delivery {
    PEERBUS_QUEUED = 0,   /* this node took it and gave it its id; of a durable channel: it is on disk */
    PEERBUS_SENT = 1,     /* a transport took all of its bytes */
    PEERBUS_ACCEPTED = 2, /* the peer's receive queue took it */
    PEERBUS_TAKEN = 3     /* the peer's program took it out of that queue */
} peerbus_delivery;

/* One payload in the host's memory, for functions that take many. */
typedef struct peerbus_slice {
    const void *data;
    size_t size; /* bytes */
} peerbus_slice;

/* One payload in memory that the library uses beyond the call, instead of copying it. release is called once, with context, when
 * it needs the payload no more: at the latest when CloseNode returns, perhaps during this or any other call, from any thread. It
 * must return at once and call nothing of this library. Until then the payload must neither change nor be freed. */
typedef struct peerbus_loan {
    const void *data;
    size_t size; /* bytes */
    void (*release)(void *context);
    void *context;
} peerbus_loan;

/* Which wake descriptor (peerbus_wake_descriptor). */
typedef enum peerbus_wake {
    PEERBUS_WAKE_MESSAGES = 1,
    PEERBUS_WAKE_EVENTS = 2
} peerbus_wake;

/* One received message, 80 bytes. The pointers live as long as the batch. */
typedef struct peerbus_message {
    const uint8_t *data;  /* payload; never NULL, also when size is 0 */
    uint64_t size;        /* bytes */
    const char *from;     /* peer id of the sender, proved by the connection or the topic signature */
    const char *channel;
    const char *protocol; /* what it came by, e.g. "/unaiverse/chat/1.0.0" or "/meshsub/1.2.0" */
    uint64_t gap;         /* messages of this channel that this node dropped right before this one */
    const char *node_id;  /* of the sender, from the token that the message carries; NULL without PEERBUS_VERIFIED */
    uint64_t flags;       /* of peerbus_message_flag; other bits are 0 */
    uint64_t id;          /* the sender's number of the message, see peerbus_publication; 0 when the protocol has none. On a
                             durable channel whose sender began anew the numbers go on: none comes twice */
    uint64_t reserved;    /* 0 */
} peerbus_message;

/* What is known of a message. The first two are what a pool set found out before it was queued, and never set without one. */
typedef enum peerbus_message_flag {
    PEERBUS_VERIFIED = 1,   /* its token is valid and names the sender's peer id */
    PEERBUS_INSPECTOR = 2,  /* the sender is the configured inspector and speaks as such; never without PEERBUS_VERIFIED */
    PEERBUS_DURABLE = 4,    /* its sender keeps it until peerbus_confirm: it comes again after a restart of this process */
    PEERBUS_REDELIVERED = 8 /* an earlier process of this node may have received it, too; never without PEERBUS_DURABLE */
} peerbus_message_flag;

/* A published message. */
typedef struct peerbus_publication {
    uint64_t id;    /* the publisher's number of the message: it grows with each, on any topic, and receivers see it */
    uint64_t peers; /* connected subscribers at that moment; of a direct topic those that it was taken for */
    uint64_t missed; /* of a direct topic: known subscribers that it was not taken for; GetTopicInfo and messages_lost name them */
} peerbus_publication;

/* What one peerbus_receive handed over. The host owns it until peerbus_batch_free. */
typedef struct peerbus_batch {
    const peerbus_message *messages; /* count entries, oldest first within a channel */
    uint64_t count;
    const uint8_t *block;            /* the table, the texts and small payloads lie in one block of memory; payloads of 16 KiB */
    uint64_t block_size;             /* and more, and small ones that came together, lie where they were read into */
} peerbus_batch;

/* ---- Library ------------------------------------------------------------------------------------------------- */

/* Sets the defaults of later nodes. Must come before every function that takes an instance; a second call changes nothing and logs a warning.
 *   maxInstances        slots for nodes, 1 .. 4096                                     (<= 0: 32)
 *   maxUniqueChannels   limits.channels of later nodes, 1 .. 1000000                   (<= 0: 100)
 *   maxChannelQueueLen  limits.channel_messages of later nodes, 1 .. 16777216          (<= 0: 50)
 *   maxMessageSize      limits.message_bytes of later nodes, bytes, up to 2147483387   (<= 0: 50*1024*1024)
 *   logConfigJSON       {"<logger>":"debug|info|warn|error|fatal", ...}; NULL, unknown names and bad JSON are fine.
 *                       "peerbus" (or "unailib") is the library itself, the others are those of libp2p ("swarm2", ...).
 *                       Default of every logger: fatal, which is silence.
 * Reads the environment variable PEERBUS_NODE_DEFAULTS once: a JSON file whose keys stand in for absent or null keys of
 * CreateNode. Values above a bound are lowered to it. Source: SPEC P2P-01, P2P-02, P2P-04. */
void InitializeLibrary(int maxInstances, int maxUniqueChannels, int maxChannelQueueLen, int maxMessageSize,
                       const char *logConfigJSON);

/* Sends later log lines to fd (one line each, written without blocking; lines that find it full are counted and the
 * next line says how many). The host keeps fd open until it calls this again. -1: back to stderr.
 * 0, INVALID_ARGUMENT when fd is not open for writing. */
int SetLogDescriptor(int fd);

/* Sets runtime knobs of this process: {"max_procs":n,"gc_percent":n,"memory_limit_bytes":n}, each optional; the
 * environment variables GOMAXPROCS, GOGC and GOMEMLIMIT count only as they were when the process started. max_procs is the
 * number of processors at first, and 2 where there is one only.
 * Answer: the values in force. */
char *ConfigureRuntime(const char *configJSON);

/* Version of the library, e.g. "0.1.0". A constant: do not free it. */
const char *LibraryVersion(void);

/* Number of the binary interface; compare it with PEERBUS_ABI after loading. */
int LibraryABI(void);

/* Every goroutine's stack as text in malloc'd memory, for a bug report; free with FreeString. NULL in a forked child. */
char *DumpStacks(void);

/* Frees what a control function returned. NULL is fine. */
void FreeString(void *s);

/* Frees an int that the library allocated. No function of this version returns one; kept for hosts of the older
 * interface. NULL is fine. */
void FreeInt(int *i);

/* ---- Node ---------------------------------------------------------------------------------------------------- */

/* Starts a node in the slot. configJSON is an object; README.md lists every key. Only "identity_dir" is required:
 * a directory, created if absent, that keeps identity.key. Unknown keys are errors that name the nearest known one.
 * Returns as soon as the node listens, or after network.reachability_timeout_ms when that is set.
 * Answer: {"addresses":["/ip4/127.0.0.1/tcp/4001/p2p/12D3..."],"isPublic":false,"reachability":"unknown"}.
 * A failed creation leaves nothing behind. INVALID_ARGUMENT, INVALID_CONFIG, IDENTITY, IN_USE, UNSUPPORTED, NOT_INITIALIZED, STORE;
 * REFUSED: the node cannot listen, because a port is taken or an address is not of this machine. */
char *CreateNode(int instance, const char *configJSON);

/* Closes the node, or every node with -1, and frees the slot. Messages that were taken for sending get up to 2 s to
 * leave; what remains is counted as node_closed. Blocked calls end with CLOSED. Returns within 10 s.
 * Closing a closed node succeeds; a slot that never had one is NO_NODE. Answer: a text; with -1 "n closed, m failed". */
char *CloseNode(int instance);

/* Own addresses (peerID "") or those known of a peer, each ending in /p2p/<id>, as a list of texts. Loopback addresses
 * appear only when there are no others. Unknown peer: NOT_FOUND; a text that is no peer id: INVALID_ARGUMENT. */
char *GetNodeAddresses(int instance, const char *peerID);

/* Answer: true or false: the last verdict, false before the first one. */
char *GetReachability(int instance);

/* Counters and gauges of the node as one object: messages and bytes received, delivered, sent, published; losses by
 * reason, in total and by channel (bounded); waiting messages and bytes; peers, streams; events lost; of a relay also its reservations,
 * circuits, relayed bytes and refusals ("relay").
 * Losses are exact. */
char *GetStatistics(int instance);

/* ---- Peers --------------------------------------------------------------------------------------------------- */

/* Connects to one peer. addrsJSON: list of multiaddrs, the first ending in /p2p/<id>; malformed later ones are skipped.
 * ["/p2p/<id>"] alone dials what is known of the peer and what discovery finds (see FindPeer).
 * Blocks up to 30 s (StartOperation takes another timeout). Connecting to oneself or to a connected peer succeeds.
 * Answer: {"ID":"12D3...","Addrs":["address actually dialled"]}.
 * INVALID_ARGUMENT, UNREACHABLE, TIMEOUT, REFUSED, CANCELLED; of a bare id also NOT_FOUND, UNSUPPORTED (discovery is off). */
char *ConnectTo(int instance, const char *addrsJSON);

/* Closes every connection to the peer and forgets it; for 1 s its own dials are refused, so that a disconnection lasts. A peer
 * whose program has messages for this node under way, or sends new ones, dials again after that.
 * Messages taken for sending get up to 1 s to leave; the rest is counted as peer_closed. Not connected: success. */
char *DisconnectFrom(int instance, const char *peerID);

/* The connected application peers: [{"id","addrs":[..],"connected_at":"RFC 3339","direction":"inbound"|"outbound",
 * "misc":0,"relayed":false}]. A peer that was lost stays listed for 10 s, in case it returns. */
char *GetConnectedPeers(int instance);

/* ---- Relays and diagnosis ------------------------------------------------------------------------------------- */

/* How this node is reached, and what would make that better. Blocks up to 2 s, for the pings of the relays. Answer:
 *   peer_id, version, time, reachability ("unknown"|"public"|"private")
 *   addresses      listen, announced, observed [{address, observers}], and by verdict reachable, unreachable, unknown
 *   nat            tcp, udp ("endpoint_independent"|"endpoint_dependent"|"unknown"), port_mapping ("off"|"no_router"|"on"),
 *                  mappings [{listen, external}]
 *   relays         [{relay, connected, reserved, expires, addresses, round_trip_ms (-1: none), limit_bytes, limit_ms (0: no
 *                  limit), lost, failure, failures}]
 *   relay_service  null, or the counters of GetStatistics' "relay"
 *   hole_punches   the last 32: [{peer, time, way, direct, attempts, took_ms, reason}], see the hole_punch event
 *   connections    peers by their best connection: direct, relayed; limited: those of the relayed ones; lingering: relayed
 *                  connections beside a direct one, and what holds them open [{peer, address, protocols}]
 *   webrtc         enabled, stun_servers, turn_servers (without accounts), connections [as InitiateWebRTCConnection answers],
 *                  counts {open, opened, failed, refused}, last_failure {peer, time, reason} or null
 *   discovery      dht {state, server, prefix, peers, failed}, mdns {state, service, reason}, searches, searches_running,
 *                  found, advertised
 *   advice         [{code, text, change}]: what is in the way, and what to change */
char *Diagnose(int instance);

/* Reserves a slot at a relay that this node is connected to, so that others reach it through that relay. The own addresses
 * gain <relay>/p2p-circuit. The reservation is renewed in time and made again after a loss, see the relay_ events, until
 * DisconnectFrom(relayPeerID) or CloseNode; asking again renews it at once. Blocks up to 60 s. Answer: when it ends, as
 * "YYYY-MM-DDThh:mm:ssZ". INVALID_ARGUMENT (also for the own id), NOT_CONNECTED, UNSUPPORTED (relay.enable_client is false),
 * REFUSED (no relay, no slot, or not admitted), TIMEOUT, PEER_CLOSED. Source: SPEC P2P-22. */
char *ReserveOnRelay(int instance, const char *relayPeerID);

/* Connects to a relay and uses it instead of relay.static_relays or of an earlier static relay; reservations of
 * ReserveOnRelay stay. addrInfoJSON: {"ID":"12D3...","Addrs":["/ip4/..."]}. Blocks up to 60 s. When it fails, nothing changes.
 * Answer and errors as ReserveOnRelay, and UNREACHABLE. Source: SPEC NEW-16. */
char *StartStaticRelay(int instance, const char *addrInfoJSON);

/* ---- Discovery -------------------------------------------------------------------------------------------------
 * Through the DHT (dht.bootstrap_peers, dht.server) and on the LAN by mDNS (mdns.enabled); without either the functions
 * below answer UNSUPPORTED. docs/discovery.md says what each can and cannot do. */

/* Starts to look for the peers that advertise a name, or, when name is a topic's channel, for its subscribers (they
 * advertise it with dht.topics, or by Advertise). The empty name stands for every node on the LAN and needs mDNS.
 * Answer at once: {"operation":7}. Each peer is one peer_found event; after maxPeers (1 .. 1000) or timeoutMs the operation
 * ends, and its event carries all of them: {"peers":[{"peer","addresses":[..],"source":"dht"|"mdns"}]}, which also counts
 * when a full queue lost some peer_found. The deadline is no failure; UNREACHABLE when nobody could be asked until then.
 * CancelOperation ends it early. Nothing is dialled, but DHT servers. INVALID_ARGUMENT, LIMIT, UNSUPPORTED (in the event). */
char *FindPeers(int instance, const char *name, int maxPeers, int timeoutMs);

/* Answer: the addresses of a peer as a list of texts ending in /p2p/<id>: of the connection, or from the DHT or the LAN.
 * Blocks up to 30 s (StartOperation takes another timeout). The DHT knows who is connected to one of its servers.
 * INVALID_ARGUMENT, NOT_FOUND, UNREACHABLE, TIMEOUT, CANCELLED, UNSUPPORTED. */
char *FindPeer(int instance, const char *peerID);

/* Makes this node findable under a name or a topic's channel and renews that until StopAdvertising. Blocks until the first
 * source has it, up to 30 s (StartOperation takes another timeout); on failure nothing stays. Later failures and recoveries
 * are events. Idempotent; at most 256 names. The name need not be a channel; at most 255 bytes.
 * INVALID_ARGUMENT, UNREACHABLE, TIMEOUT, REFUSED, CANCELLED, UNSUPPORTED. */
char *Advertise(int instance, const char *name);

/* Ends that. The LAN forgets at once, DHT servers within 30 minutes. Idempotent. */
char *StopAdvertising(int instance, const char *name);

/* ---- WebRTC -------------------------------------------------------------------------------------------------- */

/* Opens a WebRTC connection with a connected peer, negotiated over the connection that there is: the way through NATs that
 * hole punching does not open, with the STUN and TURN servers of the configuration. With a peer that is reached only through a
 * relay and serves libp2p's /webrtc-signaling/0.0.1, as peerbus nodes do, its kind is "connection": a direct libp2p connection,
 * which every channel and topic takes; acknowledged channels move there without loss. With others it is "session": a data
 * channel for the messages of direct channels that speak chat (their protocol is "/webrtc/unaiverse-data"). The peer stays
 * listed while it is open. A node starts one by itself when a connection that it dialled through a relay has found no direct
 * way: once a hole punch has failed, or after 20 s; and again, with pauses of 20 s to 10 minutes, while that fails.
 * Blocks up to 60 s (StartOperation takes another timeout). When an attempt runs already, of either side, it joins that one.
 * Answer: {"peer_id","kind","state":"open","offered":true,"since":"RFC 3339","path":{"local":{..},"remote":{..}},"relayed":false,
 * "doubtful":false,"unacknowledged":0}; path, or null, has the chosen candidates: type "host", "srflx", "prflx" or "relay",
 * address, and relay_protocol "udp", "tcp", "tls" or "dtls" of an own relay; relayed: through a TURN server.
 * REFUSED (one is open already, or the peer said no), NOT_CONNECTED, UNREACHABLE (no path was found, or the peer does not
 * speak the protocol), TIMEOUT, CANCELLED, UNSUPPORTED (webrtc.enabled is false), INVALID_ARGUMENT. */
char *InitiateWebRTCConnection(int instance, const char *peerID);

/* Closes the WebRTC connection with the peer, or ends the attempt at one; messages on their way get up to 1 s to arrive. Of a
 * session, what the peer did not acknowledge is counted as peer_closed. None: success. Later messages take the connection
 * that is left; if there was none beside a "connection", the side that had dialled through the relay does so again. None begins
 * by itself until the peer is reached by a new relayed connection. */
char *CloseWebRTCConnection(int instance, const char *peerID);

/* The WebRTC connections of both kinds: [{"peer_id":"12D3...","state":"open"|"other"}]; "other" ones are being opened, or about to end. */
char *GetWebRTCConnections(int instance);

/* Replaces the ICE servers that later WebRTC connections use: {"stun_servers":["stun:host:port"],"turn_servers":[{"urls":
 * ["turn:host:port?transport=udp"],"username":"..","credential":".."}]}. A key that is absent or null keeps its servers, an
 * empty list clears them; urls may be one text. Open connections go on as they are; with a peer that is still only relayed
 * because an automatic attempt failed, the next one begins at once. Answer: {"updated":true}. */
char *UpdateICEConfig(int instance, const char *configJSON);

/* ---- Messages, control layer --------------------------------------------------------------------------------- */

/* Sends on a direct channel, or publishes on a topic channel. Copies data. Direct: blocks until the transport took the
 * message, at most 30 s (20 s of it for opening a stream), and dials known addresses when not connected; the peer's
 * acceptance is not awaited. Topic: see peerbus_publish; the answer then is {"peers":n}.
 * An empty payload cannot travel on a direct channel (INVALID_ARGUMENT).
 * INVALID_ARGUMENT, TOO_LARGE, NOT_CONNECTED, UNREACHABLE, TIMEOUT, WOULD_BLOCK, PEER_CLOSED, LOST. */
char *SendMessageToPeer(int instance, const char *channel, const char *data, int length);

/* Messages that wait in the receive queues; -1 on failure. */
int MessageQueueLength(int instance);

/* Takes the oldest message of each channel: a list of {"from":"12D3...","data":"base64"}, bare, without envelope, or
 * {"state":"Empty"}. With the node key "pop_messages":"binary" the returned memory holds instead, big endian,
 *     0xB1 | u32 total | u32 count | count times: u32 n | from | u32 n | protocol | u32 n | data
 * where total counts the whole buffer. Free either with FreeString. For speed use peerbus_receive. */
char *PopMessages(int instance);

/* ---- Topics -------------------------------------------------------------------------------------------------- */

/* Starts receiving a topic. Idempotent. One rendezvous topic at a time: another one replaces it. */
char *SubscribeToTopic(int instance, const char *channel);

/* Chooses how this node takes part in a topic from now on, as publisher and as subscriber; docs/topics.md compares the modes:
 *     {"mode":"gossip"|"direct",                             absent: gossip, which a topic is without this call, too
 *      "overflow":"block"|"drop_newest"|"drop_oldest"}       direct only, absent: as it was, at first block
 * Direct: the publisher sends to each subscriber over an acknowledged channel: lossless, in order, resumed after a lost
 * connection, without a signature, because the connection proves the author. Both sides open it as direct. What a subscriber
 * without room gets by overflow: the publisher waits for it; that subscriber alone misses the message; it misses the oldest ones
 * that are not on their way yet. What it misses is counted (send_queue_full, with its peer id) and a gap at its side.
 * Callable again, with another overflow. REFUSED: subscribed to in the other mode. UNSUPPORTED: channel.acknowledged is false. */
char *OpenTopic(int instance, const char *channel, const char *optionsJSON);

/* How this node takes part in a topic that it opened, subscribed to or published on (else NOT_FOUND):
 *   {"channel","mode","overflow","subscribed":bool,"published":n,"last":id,     the last two of direct topics
 *    "subscribers":[{"peer","state","accepted","taken","waiting","waiting_bytes","dropped"}],
 *    "publishers":[{"peer","received","missing","exact":bool,"last"}],
 *    "losses":[{"direction":"in"|"out","reason","peer","count"}]}      since the node started; peer: to whom, or from whom
 * state: "connected"; of direct topics also "away" (its connection is lost; messages wait for channel.resume_ms), and why messages
 * miss it: "not_connected", "gossip_only" (subscribes by gossip), "peer_refused". accepted and taken are message numbers.
 * missing: messages of that publisher that never came since subscribing; one that comes late is no longer missing. Of gossip,
 * not exact, it also counts what the publisher published on topics to which this node does not subscribe. */
char *GetTopicInfo(int instance, const char *channel);

/* Stops receiving a topic. Idempotent, unknown topics too. Publishing on it goes on working. */
char *UnsubscribeFromTopic(int instance, const char *channel);

/* Ids of the connected peers that subscribe to any topic this node has joined, each once. */
char *GetTopicPeers(int instance);

/* Rules of a topic, applied by the node itself to what it takes, forwards and publishes, instead of those it had; null
 * removes them. They hold from the next message on, subscribed or not. rulesJSON is an object of these keys, all optional:
 *     {"allow":["12D3..."],                    peers that may publish; absent: everybody. The node itself always may
 *      "max_bytes":4096,                       of one payload
 *      "rate":{"per_second":10,"burst":20},    of each author but the node itself, in messages
 *      "schema":"any"|"json"|"envelope",       "envelope": a typed message (peerbus.messages) whose sender is its author
 *      "content_types":["text"]}               of envelopes
 * What they refuse from others does not spread from here and is counted (not_member, oversize, rate_limited, decode_error,
 * sender_mismatch); an own message that they refuse is INVALID_ARGUMENT. Wrong rules leave the old ones as they are. Only messages
 * of a wrong form lower their author's score, and not within a minute after rules were set on a topic in use (docs/topics.md). Not
 * for rendezvous topics, which have rules of their own. At most 4096 topics have rules (REFUSED). */
char *SetTopicRules(int instance, const char *channel, const char *rulesJSON);

/* Waits up to timeoutMs until at least count connected peers subscribe to the topic, joining it (without subscribing) when
 * needed. Answer: {"peers":n}; TIMEOUT, whose text says how many there are. */
char *WaitForTopicPeers(int instance, const char *channel, int count, int timeoutMs);

/* The newest accepted snapshot of the rendezvous topic: {"peers":[...],"update_count":N}; Empty before the first.
 * Accepted are snapshots from the topic's owner, or from a peer that the accepted snapshot lists as a master, whose
 * update_count is above the last one. Rendezvous messages never show up as received messages. The list that the owner published
 * before this node came is fetched from it when it is connected. */
char *GetRendezvousPeers(int instance);

/* ---- Events and operations ----------------------------------------------------------------------------------- */

/* Takes up to maxEvents (1 .. 4096) waiting events, oldest first, and waits up to timeoutMs for the first one.
 * Answer: a list of objects with "type", "time" (RFC 3339) and the fields below; Empty when none came. INTERRUPTED, CLOSED.
 *   peer_connected     peer, direction, address, relayed, limited    first connection of an application peer; limited: through
 *                                                             a relay with limits, so it takes no part in topics
 *   connection_direct  peer, address                          a direct connection beside the relayed one; messages move to it
 *   topics_moved       peer, address                          what gossip sends to the peer goes by this direct connection from
 *                                                             now on, no longer through the relay; nothing was lost
 *   hole_punch         peer, way ("near"|"dial"|"punch"), direct, attempts, took_ms, reason    how an attempt at one ended
 *   peer_disconnected  peer                                   10 s after its last connection ended, at once if we closed it
 *   addresses_changed  addresses                              own addresses, each with /p2p/<id>
 *   reachability       reachability                           "unknown" | "public" | "private"
 *   addresses_judged   reachable, unreachable, unknown        verdicts of peers (AutoNATv2) on the own addresses
 *   port_mapping       port_mapping, mappings [{listen, external}]    what the router maps by UPnP or NAT-PMP, as in Diagnose; looked
 *                                                             at every 5 s
 *   relay_reserved     relay, expires, renewed                a relay gave a slot, again, or for longer
 *   relay_lost         relay, reason                          the own addresses through it are withdrawn
 *   relay_failed       relay, reason, retry_ms                a relay gave no slot; 0: nobody tries again
 *   topic_peer_joined, topic_peer_left   channel, peer
 *   rendezvous_updated channel, peer, update_count, peers     a snapshot was accepted; peers is their number
 *   messages_lost      reason, direction ("in"|"out"), count, channel, peer    merged to one per second, reason and peer
 *   delivery           channel, state, first, last; lost: reason, in_doubt; of a direct topic: peer     messages with these ids on an acknowledged
 *                      channel: "lost" always, in_doubt when they may have arrived; other states if peerbus_channel_open asked
 *   progress           direction, channel, peer, id, bytes, total    so much of a message of 1 MiB or more on an acknowledged channel
 *                      was sent or received, as it travels (compressed, if it is), at most every 100 ms, not at its end; begins again
 *                      when it is sent again on a new stream. Only with channel.progress or, "out", peerbus_channel_configure
 *   receiver_restarted peer, channel, untaken, first, last    the receiving process is a new one; untaken messages were accepted
 *                                                             by the one before, which never said that it took them
 *   sender_restarted   peer, channel                          a peer began a channel anew without finishing it: what only its
 *                                                             old process knew may be missing
 *   channel_durable    peer, channel, receiver                a durable channel reached its peer; receiver: whether its
 *                                                             program confirms what it takes. Again when that changes
 *   store_failed       what, channel, reason                  the file of durable channels cannot be written or read in what no call
 *                                                             waits for; it is tried again, and what it holds up waits
 *   writable           channel                                room again after WOULD_BLOCK on that channel
 *   certificate_loaded, certificate_renewed   source ("files"|"auto_tls"), names, not_after (RFC 3339)    of secure WebSocket
 *   certificate_failed source, reason                         the one in use, if any, stays; it is tried again
 *   peer_found         operation, namespace, peer, addresses, source    see FindPeers
 *   advertised, advertise_failed   namespace, source, reason  the first outcome of each source, and each change after that
 *   webrtc_changed     peer, state ("connecting"|"open"|"failed"|"closed"), offered (by this node), reason, and when it is or
 *                      was open: local, remote (the chosen candidates, see InitiateWebRTCConnection), relayed
 *   operation          operation, function, result            the envelope that the function would have returned
 *   node_failed        function                               see "Failure of the library itself"
 *   pool_...           pools, ...                             see "Pools"
 *   events_lost        count                                  the queue (limits.events) was full */
char *PopEvents(int instance, int maxEvents, int timeoutMs);

/* Runs a blocking control function in the background. function: "ConnectTo" (argument: as its addrsJSON),
 * "DisconnectFrom", "ReserveOnRelay", "FindPeer", "InitiateWebRTCConnection" (peer id), "StartStaticRelay" (its
 * addrInfoJSON), "SubscribeToTopic", "UnsubscribeFromTopic" (channel), "Flush" (channel, see peerbus_flush), "Advertise"
 * (name), "Diagnose" (any text), "WaitForTopicPeers" ({"channel":text,"count":n}).
 * Answer: {"operation":7}; its end, also because of a bad argument, is an "operation" event, which no full event queue
 * drops. At most 1024 that run or whose end PopEvents has not taken: LIMIT. */
char *StartOperation(int instance, const char *function, const char *argument, int timeoutMs);

/* Ends an operation early; its event then carries CANCELLED, unless it had finished. Unknown or ended: NOT_FOUND. */
char *CancelOperation(int instance, long long operation);

/* ---- Messages, data layer ------------------------------------------------------------------------------------ */

/* Puts one message into the outbound queue of a direct channel; data is copied, so the host may reuse it at once.
 * Waits up to timeout_ms for room. 0: taken. A message that was taken and then cannot be sent is counted and raises a
 * messages_lost event. WOULD_BLOCK: not taken, see the "writable" event. Errors of the arguments and NOT_CONNECTED come at once.
 * size 0 is INVALID_ARGUMENT on a chat channel.
 * On a durable channel (the node key channel.durable, or peerbus_channel_configure) the message is on disk when this returns, the
 * peer need not be known, and NOT_CONNECTED does not come: it waits for the peer, across restarts of this process
 * (docs/durable-channels.md). Writing takes as long as the disk takes, beyond timeout_ms too. WOULD_BLOCK: limits.outbox_bytes is
 * used up. STORE: it could not be written; it was not taken. */
int peerbus_send(int instance, const char *channel, const void *data, size_t size, int timeout_ms);

/* peerbus_send of a payload that is not copied, if it has at least 256 KiB, is not compressed, and the channel is an acknowledged one
 * that is not durable; otherwise it is copied and released before this returns. After an error it was not taken and is not
 * released; but after INTERNAL nobody knows, and the payload must stay as it is. INVALID_ARGUMENT: release is NULL. */
int peerbus_send_lent(int instance, const char *channel, const peerbus_loan *loan, int timeout_ms);

/* Opens a handle of a direct channel of this node (its own id is the owner): sending through it parses no text per message and
 * answers message ids, which count from 1 and go on as long as any handle of the channel is open. Nothing is sent yet, and the
 * peer need not be connected. Several handles of one channel share ids and events.
 * events: the sum of 1 << state for the states of peerbus_delivery that shall be "delivery" events, 0 for none; "lost" always is.
 * Such an event names a run of ids; "queued" comes before the others. Of a full event queue (limits.events) they are dropped like others: events_lost tells, and
 * peerbus_channel_wait still knows.
 * Returns the handle (> 0), valid until it or the node is closed. INVALID_ARGUMENT, LIMIT. */
int peerbus_channel_open(int instance, const char *channel, int events);

/* peerbus_send through a handle; *id, unless id is NULL, becomes the message's id. */
int peerbus_channel_send(int instance, int handle, const void *data, size_t size, int timeout_ms, uint64_t *id);

/* peerbus_send_lent through a handle; *id, unless id is NULL, becomes the message's id. */
int peerbus_channel_send_lent(int instance, int handle, const peerbus_loan *loan, int timeout_ms, uint64_t *id);

/* Sends count (1 .. PEERBUS_MAX_BATCH) payloads, in order. Waits up to timeout_ms for room for the first one; of the others it
 * takes those that find room at once. Returns how many were taken, at least 1: they have the ids *first_id, *first_id + 1, ...
 * first_id may be NULL. Call again for the rest. Errors as peerbus_send: nothing was taken then. TOO_LARGE and INVALID_ARGUMENT
 * of any payload take none. */
int peerbus_channel_send_batch(int instance, int handle, const peerbus_slice *slices, int count, int timeout_ms,
                               uint64_t *first_id);

/* peerbus_channel_send_batch of payloads that are lent: each one that was taken as peerbus_channel_send_lent does it, or copied if
 * its release is NULL. Those that were not taken are not released; after INTERNAL nobody knows, and all must stay as they are. */
int peerbus_channel_send_batch_lent(int instance, int handle, const peerbus_loan *loans, int count, int timeout_ms,
                                    uint64_t *first_id);

/* Waits until the message with that id has reached a state of peerbus_delivery, or gone beyond it. 0; TIMEOUT; LOST: it never will,
 * the text has the reason (what the receiver refused was sent, though), or for PEERBUS_TAKEN that its receiver has been away for the
 * whole channel.resume_ms and nobody knows; UNSUPPORTED: it went by chat, which tells no more than
 * PEERBUS_SENT; NOT_FOUND: too many messages with different fates came since; INVALID_ARGUMENT: no message has that id; CLOSED. */
int peerbus_channel_wait(int instance, int handle, uint64_t id, int state, int timeout_ms);

/* Sets how messages travel that are sent from now on. sendOptionsJSON: an object; what it does not name stays as it is.
 *   "class"           "control" | "normal" | "bulk": how the channel shares the way to its peer. It belongs to the channel, whose
 *                     messages keep their order, and all its handles share it; the first handle of a channel begins with "normal".
 *                     control: a message that finds nothing of its channel waiting makes the peer's other channels begin no write
 *                     (of at most 1 MiB, bulk 256 KiB) until it is written, for 50 ms at most. bulk: limits.bulk_sends messages of
 *                     all bulk channels of the node are written at a time, one that makes no progress for 1 s does not count; and
 *                     bulk channels hold at most 3/4 of limits.send_bytes of a peer, but for one message of each channel that holds
 *                     nothing. When both sides listen on TCP, bulk goes by it: a connection over UDP gets one over TCP
 *                     beside it (network.bulk_tcp). On a chat channel the class has no effect.
 *   "compression"     list of "zstd", "lz4", "gzip", as channel.compression of the node's configuration; [] for none. Of this handle
 *   "compress_above"  bytes, as channel.compress_above. Of this handle
 *   "progress"        true: the "progress" events of what is sent, see PopEvents. Of the channel; channel.progress at first
 *   "durable"         true: a message is on disk before its send returns, as with the node key channel.durable, whose value is that of
 *                     channels for which nobody chose; false: not. Of the channel, settled by its first message, whoever sends it.
 *                     Messages that an earlier process left on disk are sent whatever the key and the options say, and their channel
 *                     stays durable. The receiver keeps and confirms durable messages only with its own key channel.durable. Opens
 *                     the file of durable channels, unless it is open: this may take as long as the disk takes
 * 0; INVALID_ARGUMENT: an unknown key or value, or it is too late for "durable"; STORE; CLOSED. Nothing was changed then. */
int peerbus_channel_configure(int instance, int handle, const char *sendOptionsJSON);

/* Closes a handle; the messages that it took are still delivered. Another thread's call on it goes on. */
int peerbus_channel_close(int instance, int handle);

/* What a direct channel on which this node sends guarantees now, and how far it is:
 *   {"channel","peer","protocol":"/peerbus/channel/1.0.0" | "/unaiverse/chat/1.0.0" | "" before the first message decided,
 *    "connected":true,"address":"/ip4/192.0.2.7/tcp/4001","class":"normal" | "control" | "bulk" (peerbus_channel_configure),
 *    "guarantees":["ordered","once","acknowledged","resumed","restart_detected","backpressure"],
 *    "last":9,"sent":9,"accepted":8,"taken":5,"waiting":1,"waiting_bytes":4096,
 *    "peer_codecs":["zstd","lz4","gzip"],"compressed":{"messages":2,"bytes":90000,"compressed_bytes":7000}}
 * peer_codecs: what the peer unpacks, as far as it has said; compressed: what compression made of the messages.
 * A durable channel has "kept" besides: what was sent is on disk until it is accepted or lost; and "durable" when the receiver
 * keeps the channel too: accepted and taken messages are those that its program confirmed. last is the newest message id, also
 * across restarts of a durable channel; every message up to the ids behind it has that state, or is lost. waiting messages are not
 * acknowledged. address is the peer's end of the stream that carries the messages now (/p2p-circuit in it: through a relay); ""
 * while there is none, or while a WebRTC session carries chat. On chat the guarantee is ["ordered"], and accepted and taken are 0.
 * NOT_FOUND: nothing was sent on it. */
char *GetChannelInfo(int instance, const char *channel);

/* Waits until every message that was queued on the channel before this call is in the peer's receive queue; on a chat
 * channel, until the transport has taken it. On a direct topic: in those of all its subscribers.
 * 0; TIMEOUT; PEER_CLOSED when some of them were lost. */
int peerbus_flush(int instance, const char *channel, int timeout_ms);

/* Publishes one message on a topic, joining it without subscribing when needed. data is copied.
 * Returns the number of connected subscribers at that moment (0: nobody was reached; counted as no_peers). REFUSED, also
 * counted: nobody was reached and some peers are connected only through relays with limits, which carry no topics.
 * Waits up to timeout_ms while a subscriber takes messages slower than they are published: WOULD_BLOCK: nothing was
 * published, a "writable" event follows. A subscriber that takes nothing for topics.stall_ms ceases to hold the others up: what it
 * then misses is counted (send_queue_full, peer_closed) with its peer id. */
int peerbus_publish(int instance, const char *channel, const void *data, size_t size, int timeout_ms);

/* Publishes count messages (1 .. PEERBUS_MAX_BATCH) on a topic, in order and cheaper than one by one. out, NULL or count
 * entries, tells of each what was published. Returns how many were published, from the first on: fewer than count when the
 * others found no room before the deadline or failed, for the reason in peerbus_last_error; a negative code when none was.
 * A message that is too large, or against the topic's rules of form, refuses the messages from itself on. */
int peerbus_publish_batch(int instance, const char *channel, const peerbus_slice *messages, int count, int timeout_ms,
                          peerbus_publication *out);

/* Takes waiting messages, of one channel or, with channel NULL, of all in turn. Waits up to timeout_ms for the first.
 * At most max_messages (1 .. PEERBUS_MAX_BATCH) and about max_bytes (0: no bound) of payload, but always one if any waits.
 * Returns the count and sets *out (free it with peerbus_batch_free, also after CloseNode); 0 and *out NULL when none came.
 * A message leaves its queue only by being handed over. INTERRUPTED, CLOSED. */
int peerbus_receive(int instance, const char *channel, int max_messages, size_t max_bytes, int timeout_ms,
                    peerbus_batch **out);

/* Says that the program is done with messages of durable channels (docs/durable-channels.md): they never come again, and their
 * senders learn that they were taken and forget them. Of each message only channel and id are read, so messages of a batch can be
 * given as they are, and messages of different channels and batches together. In any order; confirming one again changes nothing.
 * Returns when that is on disk, which takes as long as the disk takes, and how many of the count (1 .. PEERBUS_MAX_BATCH) messages
 * are of durable channels: the others (without PEERBUS_DURABLE) need nothing.
 * An unconfirmed message is not delivered again to this process, only to a later one of the same identity_dir. A sender has at
 * most about 4 MiB of a channel unconfirmed on its way (or one larger message): the next ones come when some of those are confirmed.
 * STORE: it could not be written; the messages may come again, confirm them again. Any other error: none is confirmed.
 * INVALID_ARGUMENT: no message with that id came. WOULD_BLOCK: there are more than 4096 gaps of unconfirmed messages between
 * confirmed ones of a channel; confirm the older ones first. CLOSED.
 * What PopMessages and peerbus_pools_receive hand over is confirmed by that, a moment later. */
int peerbus_confirm(int instance, const peerbus_message *messages, int count);

/* Waits up to timeout_ms until a message waits, of one channel or, with channel NULL, of any, and takes nothing.
 * 1: one waits; 0: none came. INTERRUPTED, CLOSED. */
int peerbus_wait(int instance, const char *channel, int timeout_ms);

/* Looks whether a message waits, takes nothing and waits for nothing: for a program whose event loop goes on while it expects an
 * answer soon. again is not 0 if it looks again within 0.5 ms, should there be none. A small message from the peer that sent the
 * last one then wakes no thread of the library: a look finds and decodes it, which takes some microseconds; it lends its processor
 * to others first. The last look of a series, before the loop sleeps on the wake descriptor, has again 0. One who does not come
 * back delays messages by at most 0.5 ms, once. Looking takes all the time of a processor: look for some 0.25 ms at most, and
 * only after a wait that was as short. peerbus_receive does the same by itself. Any number of threads may look.
 * 1: a peerbus_receive would not wait, since there is a message, an interruption or the end of the node to tell; 0: it would. */
int peerbus_look(int instance, int again);

/* Frees a batch with its payloads, from any thread. NULL is fine. */
void peerbus_batch_free(peerbus_batch *batch);

/* Ends the peerbus_receive, peerbus_wait and PopEvents calls that wait on this node now with INTERRUPTED; if none waits, the next one of
 * each kind that finds nothing, also one with a timeout of 0. */
int peerbus_interrupt(int instance);

/* Chooses what happens when the channel's receive queue is full. Stays with the channel name while the node lives. */
int peerbus_set_policy(int instance, const char *channel, int policy);

/* A descriptor that poll, select and epoll report readable while messages (or events) wait, after an interruption that no
 * call has taken yet, and for good once the node is closed. Never read, write or close it: the library does, and closes it
 * when the slot gets a new node or the process ends; dup() it to keep it longer.
 * Returns the descriptor (>= 0) or a negative code. */
int peerbus_wake_descriptor(int instance, int what);

/* ---- Pools ---------------------------------------------------------------------------------------------------
 *
 * A pool set divides one budget of connections into named, bounded pools over the nodes of one or more instances, keeps
 * roles and the lists of a world, and judges every message that its nodes receive before it is queued: the envelope's
 * sender is the proved one, the sender is in a pool (or heard without a place), its token is valid. docs/pools.md has the
 * states and guarantees.
 *
 * A set is a number >= 1 from CreatePools that is never used again; it is called pools below. Numbers that CreatePools never
 * gave are INVALID_ARGUMENT, closed ones CLOSED. A node is in one set at most. A node that is closed stays a network of its
 * set: what needs it answers CLOSED, its pools stay as they are, and a new node in its slot does not take its place.
 *
 * Pools follow the connections by themselves, at a cost that does not grow with the pooled peers; no call is needed for it,
 * PoolsUpdate only reports. Wherever a text names a network, it is one of the set's names, NOT_FOUND otherwise; a peerID is the
 * text of a peer id, of at most 128 bytes. "Roles" are integers: 0 public, bit 0 in a world, bit 1 master, higher bits free.
 *
 * Functions without timeoutMs do no network work and return at once.
 *
 * Peer info     {"id","addrs":[..],"connected_at":"RFC 3339","direction":"inbound"|"outbound","misc":<role>,"relayed":bool}
 * List entry    {"id","addrs":[..] or null,"misc":<role>}; other keys are ignored. At most 65536 entries, 64 addresses each.
 *
 * Events of a set come through PopEvents of the node of their network; those without a network through the node of the set's
 * first network whose node is open. Besides "type" and "time" each has "pools", the number of the set, and
 *   pool_peer_added, pool_peer_moved     network, pool, peer, role     placed by a rule or a call; moved: to this pool
 *   pool_peer_lost, pool_peer_returned   network, pool, peer           its connection ended, its place is kept; it is back
 *   pool_peer_removed                    network, pool, peer
 *   pool_peer_refused      network, peer, reason, pool      no place: "pool_full", "other_pool", "stranger", "unroutable",
 *                                                           "relayed"; pool: the full one or the other one, "" for none.
 *                                                           Once per peer and reason, and for 4096 peers, until the next
 *                                                           PoolsUpdate; PoolsQuery "counts" is exact
 *   pool_route_requested   network, peer, direction, address, relayed, role      with custom_routing: answer with PoolsRoute
 *   pool_disconnect_failed network, peer, reason            a refused peer; the next PoolsUpdate tries again
 *   role_changed           peer, role, previous_role        of pooled peers, and of listed ones that stay listed
 *   world_list_changed     network, list, peers             "world_agents" | "world_masters", and its length now
 *   world_left             network, peer, reason, peers     peer: its world node; "asked" (PoolsLeaveWorld) or "lost"; peers lost
 *                                                           their places. The node may join again from here on
 *   rendezvous_applied     network, peer, update_count, peers, skipped     peer: its author
 *   rendezvous_refused     network, peer, update_count, reason             "rendezvous_refused" | "rendezvous_stale"
 * Messages that the set rejects are lost with their reason (messages_lost events, GetStatistics): "decode_error",
 * "sender_mismatch", "channel_spoofed", "not_member", "no_token", "bad_token", "expired_token", "token_peer_mismatch",
 * "rate_limited". Source: SPEC POOL-01 to POOL-59. */

/* Makes a pool set. configJSON is one object; unknown keys are INVALID_CONFIG, values that do not fit INVALID_ARGUMENT, a node
 * that is in a set already IN_USE; then nothing has changed. The set takes the connections that its nodes have.
 * The keys of any set:
 *   "max_connections": the budget, at least the number of pools. Keep it below limits.connections of the nodes: a peer is accepted
 *            and told from others before it gets a place or is refused
 *   "public_key": PEM or JWK text that verifies tokens: RSA (RS256), Ed25519 (EdDSA) or EC P-256 (ES256)
 *   "policy": "token" (default with a public key) or "none"; with neither, peerbus_pools_receive answers INVALID_CONFIG
 *   "token": the own token (default none); "inspector_node_id": whose inspector bit counts (default nobody's)
 *   "keep_refused": refused peers stay connected, strangers excepted (default false: they are disconnected)
 * With "preset":"node_conn" the pools of an agent, or of a world node, over the networks "p2p_public" and "p2p_world":
 *   "public", "world": instances; "is_world_node": default false; "refuse_relayed": on p2p_world, default false;
 *   "stay_in_lost_world": default false: losing the world node leaves the world, see PoolsLeaveWorld
 * Otherwise
 *   "networks": [{"name","instance","limit":connections, default the node's limits.connections,
 *                 "members_only":default false: peers in no allow set of the network's rules are strangers,
 *                 "refuse_relayed":default false}]
 *   "pools": [{"name","network","capacity":c}] in their order; c is a ratio of the budget that the slots leave, 0 disabled or
 *            negative unlimited, or one of "unlimited", "disabled", {"ratio":r}, {"slots":n}
 *   "rules": [{"pool","direction":"inbound"|"outbound","role_mask":n,"role_value":n,"allow":[names of allow sets]}]; the first
 *            one all of whose conditions hold decides; all but "pool" are optional
 *   "custom_routing": true instead of rules: the host decides, see PoolsRoute
 * Answer: {"pools":1,"capacities":[{"name","network","capacity","peers"}]}; a capacity of -1 is unlimited.
 * At most 1024 open sets: LIMIT. NO_NODE, CLOSED of an instance. */
char *CreatePools(const char *configJSON);

/* Closes a set, or every set with -1. Its nodes stay open, and receive unjudged from then on. Returns when the
 * disconnections in progress have ended, within 10 s. Closing a closed set succeeds. Answer: a text; with -1 "n closed". */
char *ClosePools(int pools);

/* Connects the node of a network to a peer, as ConnectTo does, within timeoutMs. Places nobody: the connection does.
 * Answer: {"peer":"12D3...","relayed":bool}. INVALID_ARGUMENT, NOT_FOUND, UNREACHABLE, TIMEOUT, REFUSED, CLOSED. */
char *PoolsConnect(int pools, const char *network, const char *addrsJSON, int timeoutMs);

/* Disconnects a peer, as DisconnectFrom does, and leaves the pools to the end of the connection. timeoutMs bounds the wait for
 * what still leaves, at most 1 s. Not connected: success. */
char *PoolsDisconnect(int pools, const char *network, const char *peerID, int timeoutMs);

/* Reserves a place on a connected relay. Answer: {"expires":"RFC 3339"}. NOT_CONNECTED, REFUSED, TIMEOUT, UNSUPPORTED. */
char *PoolsReserve(int pools, const char *network, const char *peerID, int timeoutMs);

/* Runs a function of a set in the background of the node of a network, as StartOperation does; its end is an "operation" event of
 * that node, and CancelOperation of the node's instance ends it early, as closing the set does (CLOSED). function: "PoolsConnect"
 * (argument: its addrsJSON), "PoolsDisconnect", "PoolsReserve" (peer id). Of the rest network only says which node carries the
 * operation, "" the first one that is open: "PoolsRemove" (peer id), "PoolsRemoveAllWorldAgents", "PoolsLeaveWorld" (any text),
 * "PoolsSubscribe", "PoolsUnsubscribe" ({"peer","channel","network"}).
 * Answer: {"operation":7}. INVALID_ARGUMENT: unknown function. LIMIT as StartOperation. CLOSED: the node is closed. */
char *StartPoolsOperation(int pools, const char *network, const char *function, const char *argument, int timeoutMs);

/* Places what waits and answers what has changed since the last PoolsUpdate, with peer ids by pool, changed pools only:
 *   {"added":{"pool":[..]},"removed":{"pool":[..]},"refused":[{"network","peer","reason","pool"}],"problems":[texts]}
 * removed are lost or misplaced peers that were not removed yet: each call lists them again; and, once, those of a world that
 * was left. pool of a refused peer is the full one or the other one, "" for none. problems tells of networks that
 * could not be asked for their connections; their pools stay as they are. */
char *PoolsUpdate(int pools);

/* Puts a peer into a pool on the host's word, connected or not; in the pool that it is in it refreshes the info. infoJSON: a
 * peer info, of which only "id" is required; its "misc" is ignored. Answer: the stored peer info.
 * REFUSED: the pool is full or the peer in another one. NOT_FOUND: no such pool, no id. */
char *PoolsAdd(int pools, const char *pool, const char *infoJSON);

/* Moves a pooled peer to another pool, or fails without effect: REFUSED (full), NOT_FOUND (pool, or the peer is in none). */
char *PoolsMove(int pools, const char *pool, const char *peerID);

/* Disconnects a pooled peer and forgets its place, info and token, with the preset also its addresses; its role stays. Answer:
 * true; false for a peer that is in no pool, which is left alone. When the disconnection fails (TIMEOUT, CLOSED, INTERNAL, or
 * INVALID_ARGUMENT for what is no peer id) the place is forgotten all the same. */
char *PoolsRemove(int pools, const char *peerID, int timeoutMs);

/* PoolsRemove for every peer on the world network, with their roles. Answer: how many. Preset only (UNSUPPORTED). */
char *PoolsRemoveAllWorldAgents(int pools, int timeoutMs);

/* With custom_routing: where connected peers belong, {"<peer id>":"<pool>" or "" for nowhere}. Until then they have no place and
 * what they send waits, and is lost as not_member when it is received; after events_lost ask PoolsQuery "unrouted" again. Peers
 * that have gone meanwhile are passed over. NOT_FOUND: a pool, or it is of another network; then none is routed. */
char *PoolsRoute(int pools, const char *network, const char *routesJSON);

/* Changes one setting, or leaves it as it was. valueJSON by setting:
 *   "token"              "text" of later messages, at most 16 KiB of printable ASCII; "" none
 *   "inspector_node_id"  "node id" or ""
 *   "keep_refused"       bool
 *   "role"               {"peer","role"}; a role is 0, or positive with bit 0. Known or not, connected or not
 *   "addresses"          {"peer","addrs":[..]}: known for 24 h, connected or not; at most 64 of 1024 bytes
 *   "info_addresses"     {"peer","addrs":[..]}: those in the peer info; nothing for a peer in no pool
 *   "allowed"            {"name","peers":[..]}: an allow set that a rule names; NOT_FOUND.
 *   "guests"             {"network","peers":[..]}: senders whose messages are taken without a place. Both are UNSUPPORTED with
 *                        the preset, which fills its allow sets itself and hears the agents and masters of its world
 * and of the preset, UNSUPPORTED elsewhere:
 *   "world", "inspector" "peer id" or null; the former one is a stranger from then on, unless a list has it
 *   "rendezvous_tag"     null: the next snapshot counts, whatever its update_count
 * Answer: a text. INVALID_ARGUMENT: unknown setting, malformed value. */
char *PoolsSet(int pools, const char *setting, const char *valueJSON);

/* Replaces one list of the world, "world_agents" or "world_masters", by a JSON list of list entries in data (size bytes, at
 * most PEERBUS_MAX_LIST; "null" and "[]" empty it). Their roles have bit 0, and bit 1 in world_masters only. A malformed or
 * repeated entry fails the whole: INVALID_ARGUMENT, naming it. Answer: the number of entries. Preset only (UNSUPPORTED). */
char *PoolsSetWorldList(int pools, const char *list, const void *data, size_t size);

/* Adds one list entry, checked as above; a listed peer gets the new role and addresses. Preset only (UNSUPPORTED). */
char *PoolsAddToWorldList(int pools, const char *list, const char *entryJSON);

/* Applies the newest snapshot of the rendezvous topic that the world network's node is subscribed to, if its update_count is
 * above the applied one. Entries without addresses are passed over; malformed ones and those of another role are skipped and
 * counted. Answer: {"applied":bool,"update_count":n} of the applied one, -1 for none. REFUSED: its author may not publish it, or
 * it is older. Preset only (UNSUPPORTED). */
char *PoolsApplyRendezvous(int pools);

/* Leaves the world: nobody is the world node, both lists are empty, the rendezvous tag is -1, the topic <world>::ps:rv is
 * unsubscribed, and the peers of the world network have no places, roles and addresses any more. They are disconnected in the
 * background, the world node too where it is a relay in use. The public network stays as it is. The same happens by itself when the
 * pooled world node is lost (pool_peer_lost), but not when this program removes it; the event world_left tells. Answer: the peer id
 * of the world node, "" when none was named. Preset only (UNSUPPORTED). */
char *PoolsLeaveWorld(int pools);

/* Answers one question; argumentsJSON is an object, "{}" where nothing is asked for.
 *   query                    arguments                    answer
 *   "status"                 {}                           {"<pool>":["peer id",..]}, every pool
 *   "pools"                  {}                           [{"name","network","capacity","peers"}], in declared order
 *   "text"                   {}                           the pools as one text, for people
 *   "peers"                  {"pools":[..]}               peer infos, by pool and id; without "pools" of all
 *   "peer"                   {"peer"}                     peer info; Empty: in no pool
 *   "peer_ids"               {}                           ids of all pooled peers
 *   "pool_of"                {"peer"}                     {"pool","network"}; Empty: in none
 *   "is_connected"           {"peer","pools":[..]}        bool: in one of them, without "pools" in any
 *   "size"                   {"pools":[..]}               number of peers in them, without "pools" in all
 *   "role"                   {"peer"}                     integer, 0 for an unknown peer
 *   "count_by_role"          {"role"} or {"mask","value"}                   number of known peers with that role, or with
 *                                                         role & mask == value
 *   "find_by_role"           the same, "discard_self":false                 [{"id","addrs"}] of those with known addresses
 *   "addresses"              {"peer"}                     list of texts; Empty: unknown
 *   "last_token"             {"peer"}                     the last valid token of a pooled peer, raw; Empty
 *   "last_claims"            {"peer"}                     its claims (see VerifyToken), verified again; Empty: none or expired
 *   "verify_token"           {"token","peer"} and optional "node_id","ip","hostname","port"     as VerifyToken, with the set's
 *                                                         key; "reason":"no_key" without one
 *   "changes"                {}                           what the last PoolsUpdate answered, without problems
 *   "unrouted"               {"network"}                  peer infos that wait for PoolsRoute
 *   "route_of"               {"network","info"}           {"pool","reason"}: what the rules say of a peer info, one is ""
 *   "idle_seconds"           {}                           since a message was last sent or received; 1e9 and more: never
 *   "policy"                 {}                           "token", "none" or "" (no policy)
 *   "counts"                 {}                           refused peers, messages, snapshots and entries, by reason
 * and of the preset, UNSUPPORTED elsewhere:
 *   "world"                  {}                           {"world","inspector","first_master","rendezvous_tag"}; "" for nobody
 *   "world_agents", "world_masters", "world_agents_and_masters"     {}      ids
 * INVALID_ARGUMENT: unknown query or argument; NOT_FOUND: unknown pool or network. */
char *PoolsQuery(int pools, const char *query, const char *argumentsJSON);

/* Starts and ends receiving a topic, on the network whose own id peerID is, else that of the peer's pool, else the network
 * named (with the preset "" is p2p_world). NOT_FOUND: there is none. */
char *PoolsSubscribe(int pools, const char *peerID, const char *channel, const char *network);
char *PoolsUnsubscribe(int pools, const char *peerID, const char *channel, const char *network);

/* Sends to one peer on the channel "<own id>::dm:<peer>-<content type>", plus "~<trail>" when trail is not "". The library writes
 * the envelope: sender, content type, channel, own token and time; content_field says what data is: PEERBUS_CONTENT_...; data
 * is copied. network NULL: that of the peer's pool, NOT_FOUND when it is in none. Otherwise as peerbus_send. */
int peerbus_pools_send(int pools, const char *peer_id, const char *trail, const char *content_type, int content_field,
                       const void *data, size_t size, const char *network, int timeout_ms);

/* Publishes on a topic, wrapped as above, on the network whose own id peer_id is, else that of the peer's pool, else NOT_FOUND.
 * Otherwise as peerbus_publish. */
int peerbus_pools_publish(int pools, const char *peer_id, const char *channel, const char *content_type, int content_field,
                          const void *data, size_t size, int timeout_ms);

/* peerbus_receive on the node of one network, of one channel or, with channel NULL, of all. node_id and flags of each message say
 * who sent it; the piggyback inside the payload is the raw one. Messages of a peer without a place are lost as not_member.
 * INVALID_CONFIG: the set has no policy; then nothing is taken. peerbus_wait, peerbus_interrupt and the wake descriptor of the
 * node's instance work for this call too. */
int peerbus_pools_receive(int pools, const char *network, const char *channel, int max_messages, size_t max_bytes,
                          int timeout_ms, peerbus_batch **out);

/* ---- Tokens: for tests and small deployments; whoever holds the private key decides for whom it signs -------- */

/* Makes a key pair for "RS256" (2048 bits), "EdDSA" or "ES256". Answer: {"private_key","public_key"} in PEM. */
char *GenerateTokenKey(const char *algorithm);

/* Signs a token. requestJSON: {"node_id","p2p_peers":["peer id",..]} and optional "cv_hash","code_hash","ip","hostname","port",
 * "lifetime_seconds" (default 86400, at most 10 years), "p2p_peers_as_text":true for readers that want a text.
 * Answer: {"token"}. INVALID_ARGUMENT. */
char *IssueToken(const char *privateKey, const char *requestJSON);

/* Verifies a token with a public key (PEM or JWK) for a peer. matchJSON: claims that must be equal, "node_id","ip","hostname",
 * "port", each optional; "{}" for none. "" and 0 are those of a token without the claim. Answer: {"valid":true,"claims":{"node_id","cv_hash","code_hash","ip","hostname","port",
 * "p2p_peers":[..],"exp":"RFC 3339"}} with the claims that it has, or {"valid":false,"reason":"no_token"|"bad_token"|"expired_token"|"token_peer_mismatch",
 * "problem":text}. INVALID_ARGUMENT: the key cannot be used, malformed matchJSON. */
char *VerifyToken(const char *publicKey, const char *token, const char *peerID, const char *matchJSON);

/* ---- Errors -------------------------------------------------------------------------------------------------- */

/* Name of a code without PEERBUS_, e.g. "TIMEOUT"; "UNKNOWN" for other numbers. A constant: do not free it. */
const char *peerbus_code_name(int code);

/* Text of the last data function (or SetLogDescriptor) that failed on this thread; "" when none did. Valid until the next failure on this
 * thread. Do not free it. */
const char *peerbus_last_error(void);

/* Closes the mark above for such parsers.
#*/
#ifdef __cplusplus
}
#endif
/* End of the hidden linkage. */
#endif
