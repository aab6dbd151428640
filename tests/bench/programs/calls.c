/* Prints what each exported function costs from C, in nanoseconds, as one JSON object: the median of several rounds.
 * Two nodes in this process, connected over loopback TCP. Arguments: two directories for their keys. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "peerbus.h"

enum { ROUNDS = 7, PAYLOAD = 100, BURST = 1000, TEXT = 8192 };

static char own_id[128], other_id[128], other_addresses[TEXT], direct[300], topic[300];
static const char *separator = "{";

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
    double difference = *(const double *)a - *(const double *)b;
    return (difference > 0) - (difference < 0);
}

static void print(const char *name, double *rounds)
{
    qsort(rounds, ROUNDS, sizeof *rounds, by_size);
    printf("%s\"%s\": %.1f", separator, name, rounds[ROUNDS / 2]);
    separator = ", ";
}

#define MEASURE(name, loops, call)                                                                                      \
    do {                                                                                                                \
        double rounds[ROUNDS];                                                                                          \
        for (int r = 0; r < ROUNDS; r++) {                                                                              \
            double start = now();                                                                                       \
            for (int k = 0; k < (loops); k++) {                                                                         \
                call;                                                                                                   \
            }                                                                                                           \
            rounds[r] = (now() - start) / (loops);                                                                      \
        }                                                                                                               \
        print(name, rounds);                                                                                            \
    } while (0)
#define TEXT_CALL(name, loops, call) MEASURE(name, loops, FreeString(call))

static void must(char *envelope, const char *doing)
{
    if (!envelope || !strstr(envelope, "\"Success\"")) {
        fprintf(stderr, "%s: %s\n", doing, envelope ? envelope : "NULL");
        exit(1);
    }
    FreeString(envelope);
}

/* Copies the text between the last "/p2p/" and the quote behind it. */
static void copy_id(const char *envelope, char *id)
{
    const char *last = NULL;
    for (const char *p = envelope; (p = strstr(p, "/p2p/")); p += 5)
        last = p + 5;
    size_t length = last ? strcspn(last, "\"") : 0;
    memcpy(id, last, length);
    id[length] = 0;
}

/* Keeps the first plain TCP address as a JSON list. */
static void copy_tcp(const char *envelope, char *list)
{
    for (const char *p = strstr(envelope, "\"/ip4/"); p; p = strstr(p + 1, "\"/ip4/")) {
        size_t length = strcspn(p + 1, "\"") + 2;
        char address[512];
        snprintf(address, sizeof address, "%.*s", (int)length, p);
        if (strstr(address, "/tcp/") && !strstr(address, "/ws")) {
            snprintf(list, TEXT, "[%s]", address);
            return;
        }
    }
}

static void create(int instance, const char *directory)
{
    char config[1024];
    snprintf(config, sizeof config, "{\"identity_dir\":\"%s\",\"listen_ips\":[\"127.0.0.1\"],\"nat\":{\"port_mapping\":false}}",
             directory);
    must(CreateNode(instance, config), "CreateNode");
}

static void set_up(char **directories)
{
    InitializeLibrary(4, 0, 65536, 0, NULL);
    create(0, directories[1]);
    create(1, directories[2]);
    char *addresses = GetNodeAddresses(0, "");
    copy_id(addresses, own_id);
    FreeString(addresses);
    addresses = GetNodeAddresses(1, "");
    copy_id(addresses, other_id);
    copy_tcp(addresses, other_addresses);
    FreeString(addresses);
    snprintf(direct, sizeof direct, "%s::dm:%s-calls", own_id, other_id);
    snprintf(topic, sizeof topic, "%s::ps:calls", own_id);
    must(ConnectTo(0, other_addresses), "ConnectTo");
}

/* Takes what arrives at the second node until count messages came; their number is in *per_batch afterwards. */
static void drain(int count)
{
    while (count > 0) {
        peerbus_batch *batch;
        int taken = peerbus_receive(1, NULL, PEERBUS_MAX_BATCH, 0, 10000, &batch);
        if (taken <= 0) {
            fprintf(stderr, "receive: %s\n", peerbus_last_error());
            exit(1);
        }
        peerbus_batch_free(batch);
        count -= taken;
    }
}

static void measure_send(void)
{
    static const char payload[PAYLOAD];
    double send[ROUNDS], receive[ROUNDS], text[ROUNDS];
    for (int r = 0; r < ROUNDS; r++) {
        double start = now();
        for (int k = 0; k < BURST; k++)
            if (peerbus_send(0, direct, payload, PAYLOAD, 1000))
                exit(1);
        send[r] = (now() - start) / BURST;
        peerbus_flush(0, direct, 10000);
        while (MessageQueueLength(1) < BURST) {
            struct timespec pause = {0, 1000000};
            nanosleep(&pause, NULL);
        }
        start = now();
        drain(BURST);
        receive[r] = (now() - start) / BURST;
        start = now();
        for (int k = 0; k < BURST / 10; k++)
            FreeString(SendMessageToPeer(0, direct, payload, PAYLOAD));
        text[r] = (now() - start) / (BURST / 10);
        drain(BURST / 10);
    }
    print("peerbus_send 100 B", send);
    print("peerbus_receive and batch_free, per message of 100 B in batches of 1000", receive);
    print("SendMessageToPeer 100 B", text);
}

static void measure_constants(void)
{
    MEASURE("LibraryABI", 1000000, (void)LibraryABI());
    MEASURE("LibraryVersion", 1000000, (void)LibraryVersion());
    MEASURE("peerbus_code_name", 1000000, (void)peerbus_code_name(PEERBUS_TIMEOUT));
    MEASURE("peerbus_last_error", 1000000, (void)peerbus_last_error());
    MEASURE("FreeString NULL", 1000000, FreeString(NULL));
    MEASURE("FreeInt NULL", 1000000, FreeInt(NULL));
    MEASURE("peerbus_batch_free NULL", 1000000, peerbus_batch_free(NULL));
    MEASURE("InitializeLibrary, again", 10000, InitializeLibrary(4, 0, 0, 0, NULL));
    MEASURE("SetLogDescriptor", 10000, SetLogDescriptor(-1));
    TEXT_CALL("ConfigureRuntime {}", 100, ConfigureRuntime("{}"));
    MEASURE("DumpStacks", 20, FreeString(DumpStacks()));
}

static void measure_node(void)
{
    TEXT_CALL("GetNodeAddresses, own", 2000, GetNodeAddresses(0, ""));
    TEXT_CALL("GetNodeAddresses, peer", 2000, GetNodeAddresses(0, other_id));
    TEXT_CALL("GetReachability", 20000, GetReachability(0));
    TEXT_CALL("GetStatistics", 2000, GetStatistics(0));
    TEXT_CALL("ConnectTo, connected", 1000, ConnectTo(0, other_addresses));
    TEXT_CALL("DisconnectFrom, not connected", 1000, DisconnectFrom(1, "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"));
    TEXT_CALL("GetConnectedPeers, 1 peer", 5000, GetConnectedPeers(0));
    MEASURE("MessageQueueLength", 1000000, (void)MessageQueueLength(0));
    TEXT_CALL("PopMessages, nothing waits", 20000, PopMessages(0));
    TEXT_CALL("PopEvents, nothing waits", 20000, PopEvents(0, 4096, 0));
    TEXT_CALL("SubscribeToTopic, subscribed", 5000, SubscribeToTopic(0, topic));
    TEXT_CALL("GetTopicPeers", 2000, GetTopicPeers(0));
    TEXT_CALL("UnsubscribeFromTopic, not subscribed", 5000, UnsubscribeFromTopic(1, topic));
    TEXT_CALL("GetRendezvousPeers, none", 20000, GetRendezvousPeers(0));
    MEASURE("StartOperation Flush, and the event of its end", 500, FreeString(StartOperation(0, "Flush", direct, 1000));
            FreeString(PopEvents(0, 4096, 1000)));
    TEXT_CALL("CancelOperation, ended", 20000, CancelOperation(0, 1));
}

static void measure_data(void)
{
    static const char payload[PAYLOAD];
    peerbus_batch *batch;
    MEASURE("peerbus_receive, nothing waits", 100000, (void)peerbus_receive(0, NULL, 1024, 0, 0, &batch));
    MEASURE("peerbus_flush, nothing waits", 100000, (void)peerbus_flush(0, direct, 0));
    MEASURE("peerbus_publish 100 B, no subscriber", 2000, (void)peerbus_publish(1, topic, payload, PAYLOAD, 1000));
    MEASURE("peerbus_set_policy", 100000, (void)peerbus_set_policy(0, direct, PEERBUS_BLOCK));
    MEASURE("peerbus_wake_descriptor", 100000, (void)peerbus_wake_descriptor(0, PEERBUS_WAKE_MESSAGES));
    MEASURE("peerbus_interrupt and the receive it ends", 100000, peerbus_interrupt(0);
            (void)peerbus_receive(0, NULL, 1024, 0, 0, &batch));
}

int main(int count, char **arguments)
{
    if (count != 3) {
        fprintf(stderr, "usage: %s directory directory\n", arguments[0]);
        return 2;
    }
    set_up(arguments);
    measure_constants();
    measure_send();
    measure_node();
    measure_data();
    printf("}\n");
    must(CloseNode(-1), "CloseNode");
    return 0;
}
