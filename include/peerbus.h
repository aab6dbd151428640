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
    PEERBUS_INTERNAL = -22         /* a defect of peerbus; the log has the stacks */
} peerbus_code;

enum {
    PEERBUS_ABI = 1,                      /* what LibraryABI() answers for this header */
    PEERBUS_MAX_TEXT = 1048576,           /* bytes of a text argument without its NUL */
    PEERBUS_MAX_TIMEOUT_MS = 86400000,    /* 24 hours */
    PEERBUS_MAX_BATCH = 65536             /* messages of one peerbus_receive */
};

/* What happens to a message that finds its channel queue full (peerbus_set_policy). */
typedef enum peerbus_policy {
    PEERBUS_BLOCK = 0,       /* stop reading that stream: flow control holds the sender. Default of direct channels */
    PEERBUS_DROP_OLDEST = 1, /* default of topics */
    PEERBUS_DROP_NEWEST = 2,
    PEERBUS_LATEST = 3       /* keep only the newest message */
} peerbus_policy;

/* Which wake descriptor (peerbus_wake_descriptor). */
typedef enum peerbus_wake {
    PEERBUS_WAKE_MESSAGES = 1,
    PEERBUS_WAKE_EVENTS = 2
} peerbus_wake;

/* One received message, 64 bytes. The pointers live as long as the batch. */
typedef struct peerbus_message {
    const uint8_t *data;  /* payload; never NULL, also when size is 0 */
    uint64_t size;        /* bytes */
    const char *from;     /* peer id of the sender, proved by the connection or the topic signature */
    const char *channel;
    const char *protocol; /* what it came by, e.g. "/unaiverse/chat/1.0.0" or "/meshsub/1.2.0" */
    uint64_t gap;         /* messages of this channel that this node dropped right before this one */
    uint64_t reserved[2]; /* 0 */
} peerbus_message;

/* What one peerbus_receive handed over. The host owns it until peerbus_batch_free. */
typedef struct peerbus_batch {
    const peerbus_message *messages; /* count entries, oldest first within a channel */
    uint64_t count;
    const uint8_t *block;            /* the table, the texts and the small payloads lie in one block of memory; */
    uint64_t block_size;             /* payloads of 16 KiB and more keep the buffer they were read into */
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
 * environment variables GOMAXPROCS, GOGC and GOMEMLIMIT count only as they were when the process started.
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
 * A failed creation leaves nothing behind. INVALID_ARGUMENT, INVALID_CONFIG, IDENTITY, IN_USE, UNSUPPORTED, NOT_INITIALIZED. */
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

/* Closes every connection to the peer and forgets it; for 1 s its own dials are refused, so that a disconnection lasts.
 * Messages taken for sending get up to 1 s to leave; the rest is counted as peer_closed. Not connected: success. */
char *DisconnectFrom(int instance, const char *peerID);

/* The connected application peers: [{"id","addrs":[..],"connected_at":"RFC 3339","direction":"inbound"|"outbound",
 * "misc":0,"relayed":false}]. A peer that was lost stays listed for 10 s, in case it returns. */
char *GetConnectedPeers(int instance);

/* ---- Relays --------------------------------------------------------------------------------------------------- */

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

/* ---- Messages, control layer --------------------------------------------------------------------------------- */

/* Sends on a direct channel, or publishes on a topic channel. Copies data. Direct: blocks until the transport took the
 * message, at most 30 s (20 s of it for opening a stream), and dials known addresses when not connected; the peer's
 * acceptance is not confirmed by this protocol. Topic: see peerbus_publish; the answer then is {"peers":n}.
 * An empty payload cannot travel on a direct channel (INVALID_ARGUMENT).
 * INVALID_ARGUMENT, TOO_LARGE, NOT_CONNECTED, UNREACHABLE, TIMEOUT, WOULD_BLOCK, PEER_CLOSED. */
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

/* Stops receiving a topic. Idempotent, unknown topics too. Publishing on it goes on working. */
char *UnsubscribeFromTopic(int instance, const char *channel);

/* Ids of the connected peers that subscribe to any topic this node has joined, each once. */
char *GetTopicPeers(int instance);

/* The newest accepted snapshot of the rendezvous topic: {"peers":[...],"update_count":N}; Empty before the first.
 * Accepted are snapshots from the topic's owner, or from a peer that the accepted snapshot lists as a master, whose
 * update_count is above the last one. Rendezvous messages never show up as received messages. */
char *GetRendezvousPeers(int instance);

/* ---- Events and operations ----------------------------------------------------------------------------------- */

/* Takes up to maxEvents (1 .. 4096) waiting events, oldest first, and waits up to timeoutMs for the first one.
 * Answer: a list of objects with "type", "time" (RFC 3339) and the fields below; Empty when none came. INTERRUPTED, CLOSED.
 *   peer_connected     peer, direction, address, relayed      first connection of an application peer
 *   peer_disconnected  peer                                   10 s after its last connection ended, at once if we closed it
 *   addresses_changed  addresses                              own addresses, each with /p2p/<id>
 *   reachability       reachability                           "unknown" | "public" | "private"
 *   relay_reserved     relay, expires, renewed                a relay gave a slot, again, or for longer
 *   relay_lost         relay, reason                          the own addresses through it are withdrawn
 *   relay_failed       relay, reason, retry_ms                a relay gave no slot; 0: nobody tries again
 *   topic_peer_joined, topic_peer_left   channel, peer
 *   rendezvous_updated channel, peer, update_count, peers     a snapshot was accepted; peers is their number
 *   messages_lost      reason, direction ("in"|"out"), count, channel, peer    merged to one per second, reason and peer
 *   writable           channel                                room again after WOULD_BLOCK on that channel
 *   peer_found         operation, namespace, peer, addresses, source    see FindPeers
 *   advertised, advertise_failed   namespace, source, reason  the first outcome of each source, and each change after that
 *   operation          operation, function, result            the envelope that the function would have returned
 *   node_failed        function                               see "Failure of the library itself"
 *   events_lost        count                                  the queue (limits.events) was full */
char *PopEvents(int instance, int maxEvents, int timeoutMs);

/* Runs a blocking control function in the background. function: "ConnectTo" (argument: as its addrsJSON),
 * "DisconnectFrom", "ReserveOnRelay", "FindPeer" (peer id), "StartStaticRelay" (its addrInfoJSON), "SubscribeToTopic",
 * "UnsubscribeFromTopic" (channel), "Flush" (channel, see peerbus_flush), "Advertise" (name).
 * Answer: {"operation":7}; its end, also because of a bad argument, is an "operation" event, which no full event queue
 * drops. At most 1024 that run or whose end PopEvents has not taken: LIMIT. */
char *StartOperation(int instance, const char *function, const char *argument, int timeoutMs);

/* Ends an operation early; its event then carries CANCELLED, unless it had finished. Unknown or ended: NOT_FOUND. */
char *CancelOperation(int instance, long long operation);

/* ---- Messages, data layer ------------------------------------------------------------------------------------ */

/* Puts one message into the outbound queue of a direct channel; data is copied, so the host may reuse it at once.
 * Waits up to timeout_ms for room. 0: taken. A message that was taken and then cannot be sent is counted and raises a
 * messages_lost event. WOULD_BLOCK: not taken, see the "writable" event. Errors of the arguments and NOT_CONNECTED come at once.
 * size 0 is INVALID_ARGUMENT on the chat protocol. */
int peerbus_send(int instance, const char *channel, const void *data, size_t size, int timeout_ms);

/* Waits until the transport has taken every message that was queued on the channel before this call.
 * 0; TIMEOUT; PEER_CLOSED when some of them were lost. */
int peerbus_flush(int instance, const char *channel, int timeout_ms);

/* Publishes one message on a topic, joining it without subscribing when needed. data is copied.
 * Returns the number of connected subscribers at that moment (0: nobody was reached; counted as no_peers).
 * timeout_ms bounds the wait for the topic's checks; TIMEOUT: nothing was published. */
int peerbus_publish(int instance, const char *channel, const void *data, size_t size, int timeout_ms);

/* Takes waiting messages, of one channel or, with channel NULL, of all in turn. Waits up to timeout_ms for the first.
 * At most max_messages (1 .. PEERBUS_MAX_BATCH) and about max_bytes (0: no bound) of payload, but always one if any waits.
 * Returns the count and sets *out (free it with peerbus_batch_free, also after CloseNode); 0 and *out NULL when none came.
 * A message leaves its queue only by being handed over. INTERRUPTED, CLOSED. */
int peerbus_receive(int instance, const char *channel, int max_messages, size_t max_bytes, int timeout_ms,
                    peerbus_batch **out);

/* Waits up to timeout_ms until a message waits, of one channel or, with channel NULL, of any, and takes nothing.
 * 1: one waits; 0: none came. INTERRUPTED, CLOSED. */
int peerbus_wait(int instance, const char *channel, int timeout_ms);

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
