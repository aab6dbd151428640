/* A program in C that does what its standard input says, one command a line, fields separated by tabs; hosts.py has the
 * list. Answers are one line each: "text <envelope>", "int <number>" or "batch <count> <message>...". */
#define _POSIX_C_SOURCE 200809L
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "peerbus.h"

enum { LINE_BYTES = 1 << 16, FIELDS = 8 };

static char *fields[FIELDS];

static int number(int field) { return fields[field] == NULL ? 0 : (int)strtol(fields[field], NULL, 10); }

static uint32_t crc32(const uint8_t *data, size_t size) {
    static uint32_t table[256];
    if (table[1] == 0)
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t sum = i;
            for (int bit = 0; bit < 8; bit++) sum = (sum >> 1) ^ (sum & 1 ? 0xEDB88320u : 0);
            table[i] = sum;
        }
    uint32_t sum = ~0u;
    for (size_t i = 0; i < size; i++) sum = (sum >> 8) ^ table[(sum ^ data[i]) & 255];
    return ~sum;
}

/* The payload that a size and a seed stand for. */
static uint8_t *payload(size_t size, int seed) {
    uint8_t *data = malloc(size + 1);
    if (data == NULL) exit(3);
    for (size_t i = 0; i < size; i++) data[i] = (uint8_t)(i * 31 + (i >> 8) + (size_t)seed);
    return data;
}

static void text(char *envelope) {
    printf("text\t%s\n", envelope == NULL ? "null" : envelope);
    FreeString(envelope);
}

static void integer(int code) { printf("int\t%d\t%s\n", code, code < 0 ? peerbus_last_error() : ""); }

static void control(void) {
    static const struct {
        const char *name;
        char *(*plain)(int);
        char *(*with_text)(int, const char *);
    } functions[] = {
        {"CreateNode", NULL, CreateNode},
        {"CloseNode", CloseNode, NULL},
        {"GetNodeAddresses", NULL, GetNodeAddresses},
        {"GetStatistics", GetStatistics, NULL},
        {"ConnectTo", NULL, ConnectTo},
        {"DisconnectFrom", NULL, DisconnectFrom},
        {"GetConnectedPeers", GetConnectedPeers, NULL},
        {"SubscribeToTopic", NULL, SubscribeToTopic},
        {"UnsubscribeFromTopic", NULL, UnsubscribeFromTopic},
        {"GetTopicPeers", GetTopicPeers, NULL},
        {"GetTopicInfo", NULL, GetTopicInfo},
        {"PopMessages", PopMessages, NULL},
    };
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (strcmp(functions[i].name, fields[1]) == 0) {
            text(functions[i].plain ? functions[i].plain(number(2)) : functions[i].with_text(number(2), fields[3]));
            return;
        }
    exit(4);
}

static void send_many(void) {
    size_t size = (size_t)number(4);
    int taken = 0, code = 0;
    for (; taken < number(3); taken++) {
        uint8_t *data = payload(size, number(5) + taken);
        code = peerbus_send(number(1), fields[2], data, size, number(6));
        free(data);
        if (code < 0) break;
    }
    printf("int\t%d\t%s\n", taken, peerbus_code_name(code));
}

static void publish(void) {
    uint8_t *data = payload((size_t)number(3), number(4));
    integer(peerbus_publish(number(1), fields[2], data, (size_t)number(3), number(5)));
    free(data);
}

/* Publishes several messages at once; answers the first number, the subscribers and the missed ones of the last. */
static void publish_batch(void) {
    enum { MOST = 1024 };
    static peerbus_slice messages[MOST];
    static peerbus_publication out[MOST];
    int count = number(3);
    if (count < 1 || count > MOST) exit(4);
    for (int i = 0; i < count; i++) {
        messages[i].size = (size_t)number(4);
        messages[i].data = payload(messages[i].size, number(5) + i);
    }
    int published = peerbus_publish_batch(number(1), fields[2], messages, count, number(6), out);
    for (int i = 0; i < count; i++) free((void *)messages[i].data);
    if (published < 1) {
        integer(published);
        return;
    }
    printf("published\t%d\t%llu\t%llu\t%llu\n", published, (unsigned long long)out[0].id,
           (unsigned long long)out[published - 1].peers, (unsigned long long)out[published - 1].missed);
}

static void send_now(void) {
    uint8_t *data = payload((size_t)number(3), number(4));
    text(SendMessageToPeer(number(1), fields[2], (const char *)data, number(3)));
    free(data);
}

static void receive(void) {
    peerbus_batch *batch = NULL;
    const char *channel = strcmp(fields[2], "*") == 0 ? NULL : fields[2];
    int count = peerbus_receive(number(1), channel, number(3), (size_t)number(4), number(5), &batch);
    if (count < 0) {
        integer(count);
        return;
    }
    printf("batch\t%d", count);
    for (int i = 0; i < count; i++) {
        const peerbus_message *m = &batch->messages[i];
        printf("\t%s %s %s %llu %llu %lu", m->from, m->channel, m->protocol, (unsigned long long)m->gap,
               (unsigned long long)m->size, (unsigned long)crc32(m->data, (size_t)m->size));
    }
    printf("\n");
    peerbus_batch_free(batch);
}

static void poll_descriptor(void) {
    struct pollfd descriptor = {.fd = number(1), .events = POLLIN};
    printf("int\t%d\t\n", poll(&descriptor, 1, number(2)));
}

static void *wait_in_thread(void *code) {
    peerbus_batch *batch = NULL;
    *(int *)code = peerbus_receive(number(1), NULL, 1, 0, number(2), &batch);
    peerbus_batch_free(batch);
    return NULL;
}

/* Receives in a second thread, which gets the third field as its order meanwhile; answers with what the thread got. */
static void end_a_wait(void) {
    int got = 0;
    pthread_t thread;
    if (pthread_create(&thread, NULL, wait_in_thread, &got) != 0) exit(3);
    if (strcmp(fields[3], "close") == 0) FreeString(CloseNode(number(1)));
    else peerbus_interrupt(number(1));
    pthread_join(thread, NULL);
    printf("int\t%d\t\n", got);
}

static void obey(const char *command) {
    if (strcmp(command, "control") == 0) control();
    else if (strcmp(command, "events") == 0) text(PopEvents(number(1), number(2), number(3)));
    else if (strcmp(command, "send") == 0) send_many();
    else if (strcmp(command, "send_now") == 0) send_now();
    else if (strcmp(command, "publish") == 0) publish();
    else if (strcmp(command, "publish_batch") == 0) publish_batch();
    else if (strcmp(command, "open") == 0) text(OpenTopic(number(1), fields[2], fields[3]));
    else if (strcmp(command, "receive") == 0) receive();
    else if (strcmp(command, "flush") == 0) integer(peerbus_flush(number(1), fields[2], number(3)));
    else if (strcmp(command, "interrupt") == 0) integer(peerbus_interrupt(number(1)));
    else if (strcmp(command, "policy") == 0) integer(peerbus_set_policy(number(1), fields[2], number(3)));
    else if (strcmp(command, "wake") == 0) integer(peerbus_wake_descriptor(number(1), number(2)));
    else if (strcmp(command, "poll") == 0) poll_descriptor();
    else if (strcmp(command, "end_a_wait") == 0) end_a_wait();
    else exit(5);
}

int main(void) {
    static char line[LINE_BYTES];
    InitializeLibrary(8, 0, 0, 0, NULL);
    while (fgets(line, sizeof line, stdin) != NULL) {
        char *rest = line;
        line[strcspn(line, "\n")] = 0;
        for (int i = 0; i < FIELDS; i++) {
            fields[i] = rest;
            if (rest == NULL) continue;
            rest = strchr(rest, '\t');
            if (rest != NULL) *rest++ = 0;
        }
        obey(fields[0]);
        fflush(stdout);
    }
    return 0;
}
