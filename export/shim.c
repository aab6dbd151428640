/* The public symbols. Each one refuses a forked child with one comparison, since the Go runtime has no threads there and
 * entering it would hang for ever, and then enters Go. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "_cgo_export.h"
#include "shim.h"

static int forked; /* set in a child of fork(), before it runs anything else */
static __thread char problem[PB_PROBLEM_BYTES];

static const char forked_text[] =
    "called in a forked child; load peerbus in the child itself (multiprocessing: use the spawn method), or call exec()";

static void mark_forked(void) { forked = 1; }

__attribute__((constructor)) static void watch_forks(void) { pthread_atfork(NULL, NULL, mark_forked); }

static char *forked_envelope(void)
{
    static const char head[] = "{\"state\":\"Error\",\"message\":\"";
    static const char tail[] = "\",\"code\":\"FORKED\"}";
    char *text = malloc(sizeof head + sizeof forked_text + sizeof tail);
    if (text) {
        strcpy(text, head);
        strcat(text, forked_text);
        strcat(text, tail);
    }
    return text;
}

static int forked_code(void)
{
    strcpy(problem, forked_text);
    return PEERBUS_FORKED;
}

/* A text argument with its length, so that Go neither scans for the NUL nor trusts that there is one. */
static size_t text_length(const char *text) { return text ? strnlen(text, PEERBUS_MAX_TEXT + 1) : 0; }
#define TEXT(text) (char *)(text), text_length(text)

#define CONTROL(call) return forked ? forked_envelope() : (call)
#define DATA(call) return forked ? forked_code() : (call)

/* ---- Library */

void InitializeLibrary(int maxInstances, int maxUniqueChannels, int maxChannelQueueLen, int maxMessageSize,
                       const char *logConfigJSON)
{
    if (!forked)
        go_InitializeLibrary(maxInstances, maxUniqueChannels, maxChannelQueueLen, maxMessageSize, TEXT(logConfigJSON));
}

int SetLogDescriptor(int fd) { DATA(go_SetLogDescriptor(fd, problem)); }
char *ConfigureRuntime(const char *configJSON) { CONTROL(go_ConfigureRuntime(TEXT(configJSON))); }
const char *LibraryVersion(void) { return PEERBUS_VERSION; }
int LibraryABI(void) { return PEERBUS_ABI; }
char *DumpStacks(void) { return forked ? NULL : go_DumpStacks(); }
void FreeString(void *s) { free(s); }
void FreeInt(int *i) { free(i); }

/* ---- Node */

char *CreateNode(int instance, const char *configJSON) { CONTROL(go_CreateNode(instance, TEXT(configJSON))); }
char *CloseNode(int instance) { CONTROL(go_CloseNode(instance)); }
char *GetNodeAddresses(int instance, const char *peerID) { CONTROL(go_GetNodeAddresses(instance, TEXT(peerID))); }
char *GetReachability(int instance) { CONTROL(go_GetReachability(instance)); }
char *GetStatistics(int instance) { CONTROL(go_GetStatistics(instance)); }

/* ---- Peers */

char *ConnectTo(int instance, const char *addrsJSON) { CONTROL(go_ConnectTo(instance, TEXT(addrsJSON))); }
char *DisconnectFrom(int instance, const char *peerID) { CONTROL(go_DisconnectFrom(instance, TEXT(peerID))); }
char *GetConnectedPeers(int instance) { CONTROL(go_GetConnectedPeers(instance)); }

/* ---- Relays and diagnosis */

char *Diagnose(int instance) { CONTROL(go_Diagnose(instance)); }

char *ReserveOnRelay(int instance, const char *relayPeerID) { CONTROL(go_ReserveOnRelay(instance, TEXT(relayPeerID))); }
char *StartStaticRelay(int instance, const char *addrInfoJSON) { CONTROL(go_StartStaticRelay(instance, TEXT(addrInfoJSON))); }

/* ---- Discovery */

char *FindPeers(int instance, const char *name, int maxPeers, int timeoutMs)
{
    CONTROL(go_FindPeers(instance, TEXT(name), maxPeers, timeoutMs));
}

char *FindPeer(int instance, const char *peerID) { CONTROL(go_FindPeer(instance, TEXT(peerID))); }
char *Advertise(int instance, const char *name) { CONTROL(go_Advertise(instance, TEXT(name))); }
char *StopAdvertising(int instance, const char *name) { CONTROL(go_StopAdvertising(instance, TEXT(name))); }

/* ---- WebRTC */

char *InitiateWebRTCConnection(int instance, const char *peerID)
{
    CONTROL(go_InitiateWebRTCConnection(instance, TEXT(peerID)));
}

char *CloseWebRTCConnection(int instance, const char *peerID) { CONTROL(go_CloseWebRTCConnection(instance, TEXT(peerID))); }
char *GetWebRTCConnections(int instance) { CONTROL(go_GetWebRTCConnections(instance)); }
char *UpdateICEConfig(int instance, const char *configJSON) { CONTROL(go_UpdateICEConfig(instance, TEXT(configJSON))); }

/* ---- Messages, control layer */

char *SendMessageToPeer(int instance, const char *channel, const char *data, int length)
{
    CONTROL(go_SendMessageToPeer(instance, TEXT(channel), (char *)data, length));
}

int MessageQueueLength(int instance) { return forked ? -1 : go_MessageQueueLength(instance); }
char *PopMessages(int instance) { CONTROL(go_PopMessages(instance)); }

/* ---- Topics */

char *SubscribeToTopic(int instance, const char *channel) { CONTROL(go_SubscribeToTopic(instance, TEXT(channel))); }
char *UnsubscribeFromTopic(int instance, const char *channel) { CONTROL(go_UnsubscribeFromTopic(instance, TEXT(channel))); }
char *OpenTopic(int instance, const char *channel, const char *optionsJSON)
{
    CONTROL(go_OpenTopic(instance, TEXT(channel), TEXT(optionsJSON)));
}

char *GetTopicInfo(int instance, const char *channel) { CONTROL(go_GetTopicInfo(instance, TEXT(channel))); }
char *GetTopicPeers(int instance) { CONTROL(go_GetTopicPeers(instance)); }
char *SetTopicRules(int instance, const char *channel, const char *rulesJSON)
{
    CONTROL(go_SetTopicRules(instance, TEXT(channel), TEXT(rulesJSON)));
}

char *WaitForTopicPeers(int instance, const char *channel, int count, int timeoutMs)
{
    CONTROL(go_WaitForTopicPeers(instance, TEXT(channel), count, timeoutMs));
}

char *GetRendezvousPeers(int instance) { CONTROL(go_GetRendezvousPeers(instance)); }

/* ---- Events and operations */

char *PopEvents(int instance, int maxEvents, int timeoutMs) { CONTROL(go_PopEvents(instance, maxEvents, timeoutMs)); }

char *StartOperation(int instance, const char *function, const char *argument, int timeoutMs)
{
    CONTROL(go_StartOperation(instance, TEXT(function), TEXT(argument), timeoutMs));
}

char *CancelOperation(int instance, long long operation) { CONTROL(go_CancelOperation(instance, operation)); }

/* ---- Messages, data layer */

int peerbus_send(int instance, const char *channel, const void *data, size_t size, int timeout_ms)
{
    pb_sent(instance);
    DATA(go_peerbus_send(instance, TEXT(channel), (void *)data, size, timeout_ms, problem));
}

int peerbus_send_lent(int instance, const char *channel, const peerbus_loan *loan, int timeout_ms)
{
    pb_sent(instance);
    DATA(go_peerbus_send_lent(instance, TEXT(channel), (peerbus_loan *)loan, timeout_ms, problem));
}

int peerbus_channel_open(int instance, const char *channel, int events)
{
    DATA(go_peerbus_channel_open(instance, TEXT(channel), events, problem));
}

int peerbus_channel_send(int instance, int handle, const void *data, size_t size, int timeout_ms, uint64_t *id)
{
    pb_sent(instance);
    DATA(go_peerbus_channel_send(instance, handle, (void *)data, size, timeout_ms, id, problem));
}

int peerbus_channel_send_lent(int instance, int handle, const peerbus_loan *loan, int timeout_ms, uint64_t *id)
{
    pb_sent(instance);
    DATA(go_peerbus_channel_send_lent(instance, handle, (peerbus_loan *)loan, timeout_ms, id, problem));
}

int peerbus_channel_send_batch(int instance, int handle, const peerbus_slice *slices, int count, int timeout_ms,
                               uint64_t *first_id)
{
    pb_sent(instance);
    DATA(go_peerbus_channel_send_batch(instance, handle, (peerbus_slice *)slices, count, timeout_ms, first_id, problem));
}

int peerbus_channel_send_batch_lent(int instance, int handle, const peerbus_loan *loans, int count, int timeout_ms,
                                    uint64_t *first_id)
{
    pb_sent(instance);
    DATA(go_peerbus_channel_send_batch_lent(instance, handle, (peerbus_loan *)loans, count, timeout_ms, first_id, problem));
}

int peerbus_channel_wait(int instance, int handle, uint64_t id, int state, int timeout_ms)
{
    DATA(go_peerbus_channel_wait(instance, handle, id, state, timeout_ms, problem));
}

int peerbus_channel_configure(int instance, int handle, const char *options)
{
    DATA(go_peerbus_channel_configure(instance, handle, TEXT(options), problem));
}

int peerbus_channel_close(int instance, int handle) { DATA(go_peerbus_channel_close(instance, handle, problem)); }
char *GetChannelInfo(int instance, const char *channel) { CONTROL(go_GetChannelInfo(instance, TEXT(channel))); }

int peerbus_flush(int instance, const char *channel, int timeout_ms)
{
    DATA(go_peerbus_flush(instance, TEXT(channel), timeout_ms, problem));
}

int peerbus_publish(int instance, const char *channel, const void *data, size_t size, int timeout_ms)
{
    DATA(go_peerbus_publish(instance, TEXT(channel), (void *)data, size, timeout_ms, problem));
}

int peerbus_publish_batch(int instance, const char *channel, const peerbus_slice *messages, int count,
                          int timeout_ms, peerbus_publication *out)
{
    DATA(go_peerbus_publish_batch(instance, TEXT(channel), (peerbus_slice *)messages, count, timeout_ms, out, problem));
}

static int sleep_on(pb_bed *bed, int timeout_ms, peerbus_batch **out)
{
    int64_t until = pb_now() + timeout_ms * INT64_C(1000000);
    int code;
    do
        code = pb_awake(bed, pb_sleep(bed, until), out, problem);
    while (code == PB_ASLEEP);
    return code;
}

int peerbus_receive(int instance, const char *channel, int max_messages, size_t max_bytes, int timeout_ms,
                    peerbus_batch **out)
{
    if (out)
        *out = NULL;
    if (forked)
        return forked_code();
    int64_t began = pb_linger(instance, timeout_ms);
    pb_bed *bed = timeout_ms > 0 ? pb_bed_get() : NULL;
    int code = go_peerbus_receive(instance, TEXT(channel), max_messages, max_bytes, timeout_ms, bed, out, problem);
    if (code == PB_ASLEEP)
        code = sleep_on(bed, timeout_ms, out);
    pb_waited(instance, began, code > 0);
    return code;
}

int peerbus_confirm(int instance, const peerbus_message *messages, int count)
{
    DATA(go_peerbus_confirm(instance, (peerbus_message *)messages, count, problem));
}

int peerbus_wait(int instance, const char *channel, int timeout_ms)
{
    if (forked)
        return forked_code();
    pb_bed *bed = timeout_ms > 0 ? pb_bed_get() : NULL;
    int code = go_peerbus_wait(instance, TEXT(channel), timeout_ms, bed, problem);
    return code == PB_ASLEEP ? sleep_on(bed, timeout_ms, NULL) : code;
}

int peerbus_look(int instance, int again)
{
    if (forked)
        return forked_code();
    int found = again ? pb_glance(instance) : PB_ASK_GO;
    return found == PB_ASK_GO ? go_peerbus_look(instance, again, problem) : found;
}

void peerbus_batch_free(peerbus_batch *batch)
{
    if (!batch || forked) /* a fork may have left the pool's lock held */
        return;
    pb_batch *whole = (pb_batch *)batch;
    for (uint64_t i = 0; i < whole->held_count; i++)
        pb_buffer_put(whole->held[i]);
    pb_buffer_put(whole);
}

int peerbus_interrupt(int instance) { DATA(go_peerbus_interrupt(instance, problem)); }

int peerbus_set_policy(int instance, const char *channel, int policy)
{
    DATA(go_peerbus_set_policy(instance, TEXT(channel), policy, problem));
}

int peerbus_wake_descriptor(int instance, int what) { DATA(go_peerbus_wake_descriptor(instance, what, problem)); }

/* ---- Pools */

char *CreatePools(const char *configJSON) { CONTROL(go_CreatePools(TEXT(configJSON))); }
char *ClosePools(int pools) { CONTROL(go_ClosePools(pools)); }

char *PoolsConnect(int pools, const char *network, const char *addrsJSON, int timeoutMs)
{
    CONTROL(go_PoolsConnect(pools, TEXT(network), TEXT(addrsJSON), timeoutMs));
}

char *PoolsDisconnect(int pools, const char *network, const char *peerID, int timeoutMs)
{
    CONTROL(go_PoolsDisconnect(pools, TEXT(network), TEXT(peerID), timeoutMs));
}

char *PoolsReserve(int pools, const char *network, const char *peerID, int timeoutMs)
{
    CONTROL(go_PoolsReserve(pools, TEXT(network), TEXT(peerID), timeoutMs));
}

char *StartPoolsOperation(int pools, const char *network, const char *function, const char *argument, int timeoutMs)
{
    CONTROL(go_StartPoolsOperation(pools, TEXT(network), TEXT(function), TEXT(argument), timeoutMs));
}

char *PoolsUpdate(int pools) { CONTROL(go_PoolsUpdate(pools)); }

char *PoolsAdd(int pools, const char *pool, const char *infoJSON)
{
    CONTROL(go_PoolsAdd(pools, TEXT(pool), TEXT(infoJSON)));
}

char *PoolsMove(int pools, const char *pool, const char *peerID)
{
    CONTROL(go_PoolsMove(pools, TEXT(pool), TEXT(peerID)));
}

char *PoolsRemove(int pools, const char *peerID, int timeoutMs)
{
    CONTROL(go_PoolsRemove(pools, TEXT(peerID), timeoutMs));
}

char *PoolsRemoveAllWorldAgents(int pools, int timeoutMs) { CONTROL(go_PoolsRemoveAllWorldAgents(pools, timeoutMs)); }

char *PoolsRoute(int pools, const char *network, const char *routesJSON)
{
    CONTROL(go_PoolsRoute(pools, TEXT(network), TEXT(routesJSON)));
}

char *PoolsSet(int pools, const char *setting, const char *valueJSON)
{
    CONTROL(go_PoolsSet(pools, TEXT(setting), TEXT(valueJSON)));
}

char *PoolsSetWorldList(int pools, const char *list, const void *data, size_t size)
{
    CONTROL(go_PoolsSetWorldList(pools, TEXT(list), (void *)data, size));
}

char *PoolsAddToWorldList(int pools, const char *list, const char *entryJSON)
{
    CONTROL(go_PoolsAddToWorldList(pools, TEXT(list), TEXT(entryJSON)));
}

char *PoolsApplyRendezvous(int pools) { CONTROL(go_PoolsApplyRendezvous(pools)); }

char *PoolsLeaveWorld(int pools) { CONTROL(go_PoolsLeaveWorld(pools)); }

char *PoolsQuery(int pools, const char *query, const char *argumentsJSON)
{
    CONTROL(go_PoolsQuery(pools, TEXT(query), TEXT(argumentsJSON)));
}

char *PoolsSubscribe(int pools, const char *peerID, const char *channel, const char *network)
{
    CONTROL(go_PoolsSubscribe(pools, TEXT(peerID), TEXT(channel), TEXT(network)));
}

char *PoolsUnsubscribe(int pools, const char *peerID, const char *channel, const char *network)
{
    CONTROL(go_PoolsUnsubscribe(pools, TEXT(peerID), TEXT(channel), TEXT(network)));
}

int peerbus_pools_send(int pools, const char *peer_id, const char *trail, const char *content_type, int content_field,
                       const void *data, size_t size, const char *network, int timeout_ms)
{
    DATA(go_peerbus_pools_send(pools, TEXT(peer_id), TEXT(trail), TEXT(content_type), content_field, (void *)data, size,
                               TEXT(network), timeout_ms, problem));
}

int peerbus_pools_publish(int pools, const char *peer_id, const char *channel, const char *content_type, int content_field,
                          const void *data, size_t size, int timeout_ms)
{
    DATA(go_peerbus_pools_publish(pools, TEXT(peer_id), TEXT(channel), TEXT(content_type), content_field, (void *)data,
                                  size, timeout_ms, problem));
}

int peerbus_pools_receive(int pools, const char *network, const char *channel, int max_messages, size_t max_bytes,
                          int timeout_ms, peerbus_batch **out)
{
    if (out)
        *out = NULL;
    DATA(go_peerbus_pools_receive(pools, TEXT(network), TEXT(channel), max_messages, max_bytes, timeout_ms, out, problem));
}

/* ---- Tokens */

char *GenerateTokenKey(const char *algorithm) { CONTROL(go_GenerateTokenKey(TEXT(algorithm))); }

char *IssueToken(const char *privateKey, const char *requestJSON)
{
    CONTROL(go_IssueToken(TEXT(privateKey), TEXT(requestJSON)));
}

char *VerifyToken(const char *publicKey, const char *token, const char *peerID, const char *matchJSON)
{
    CONTROL(go_VerifyToken(TEXT(publicKey), TEXT(token), TEXT(peerID), TEXT(matchJSON)));
}

/* ---- Errors */

const char *peerbus_code_name(int code)
{
    switch (code) {
    case PEERBUS_OK: return "OK";
#define NAME(code) case PEERBUS_##code: return #code;
    NAME(INVALID_ARGUMENT) NAME(NOT_INITIALIZED) NAME(NO_NODE) NAME(CLOSED) NAME(IN_USE) NAME(INVALID_CONFIG)
    NAME(IDENTITY) NAME(NOT_CONNECTED) NAME(UNREACHABLE) NAME(TIMEOUT) NAME(WOULD_BLOCK) NAME(TOO_LARGE)
    NAME(INTERRUPTED) NAME(CANCELLED) NAME(REFUSED) NAME(NOT_FOUND) NAME(PEER_CLOSED) NAME(UNSUPPORTED) NAME(LIMIT)
    NAME(NO_MEMORY) NAME(FORKED) NAME(INTERNAL) NAME(LOST) NAME(STORE)
#undef NAME
    }
    return "UNKNOWN";
}

const char *peerbus_last_error(void) { return problem; }
