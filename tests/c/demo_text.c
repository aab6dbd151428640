/* Text between two processes, from C.
 *
 *   demo_text <directory>                       both roles: starts itself a second time as the listener
 *   demo_text <directory> listen                prints its addresses (a JSON list) as its first line, answers every text
 *   demo_text <directory> dial '<addresses>'    sends the texts, checks the answers, prints the table
 *
 * The exit status is 0 only when every text came back as it should. */
#define _POSIX_C_SOURCE 200809L
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "peerbus.h"

extern char **environ;

enum { ADDRESSES_BYTES = 8192, ID_BYTES = 128, CHANNEL_BYTES = 300, WAIT_MS = 20000, LONG_TEXT_BYTES = 300000 };

static const char ANSWER[] = "received: ";
static const char GOODBYE[] = "goodbye";

struct node {
    char addresses[ADDRESSES_BYTES];
    char id[ID_BYTES];
};

static int fail(const char *what, const char *why) {
    fprintf(stderr, "demo_text: %s: %s\n", what, why);
    return 1;
}

static int succeeded(const char *what, char *envelope) {
    int good = envelope != NULL && strstr(envelope, "\"state\":\"Success\"") != NULL;
    if (!good) fail(what, envelope == NULL ? "no memory" : envelope);
    FreeString(envelope);
    return good;
}

static int peer_id(const char *text, char *id) {
    const char *at = strstr(text, "/p2p/");
    return at != NULL && sscanf(at, "/p2p/%127[^\"/]", id) == 1;
}

static int start(const char *directory, const char *role, struct node *node) {
    char config[2048];
    if (snprintf(config, sizeof config,
                 "{\"identity_dir\":\"%s/%s\",\"listen_ips\":[\"127.0.0.1\"],\"nat\":{\"port_mapping\":false},"
                 "\"dht\":{\"enabled\":false}}",
                 directory, role) >= (int)sizeof config)
        return !fail("start", "the directory's name is too long");
    InitializeLibrary(1, 0, 0, 0, NULL);
    if (!succeeded("CreateNode", CreateNode(0, config))) return 0;
    char *own = GetNodeAddresses(0, "");
    const char *list = own ? strchr(own, '[') : NULL, *end = list ? strchr(list, ']') : NULL;
    int good = end != NULL && end - list + 1 < ADDRESSES_BYTES && peer_id(list, node->id);
    if (good) {
        memcpy(node->addresses, list, (size_t)(end - list) + 1);
        node->addresses[end - list + 1] = 0;
    } else {
        fail("GetNodeAddresses", own ? own : "no memory");
    }
    FreeString(own);
    return good;
}

static void channel_to(char *channel, const char *from, const char *to) {
    snprintf(channel, CHANNEL_BYTES, "%s::dm:%s-text", from, to);
}

static int send_text(const char *channel, const void *text, size_t size) {
    if (peerbus_send(0, channel, text, size, WAIT_MS) == 0 && peerbus_flush(0, channel, WAIT_MS) == 0) return 1;
    return !fail("send", peerbus_last_error());
}

static int listen_role(const char *directory) {
    struct node node;
    if (!start(directory, "listen", &node)) return 1;
    printf("%s\n", node.addresses);
    fflush(stdout);
    for (;;) {
        peerbus_batch *batch = NULL;
        if (peerbus_receive(0, NULL, 1, 0, WAIT_MS, &batch) != 1) return fail("listener", "no text came");
        const peerbus_message *message = &batch->messages[0];
        char channel[CHANNEL_BYTES];
        channel_to(channel, node.id, message->from);
        char *reply = malloc(sizeof ANSWER + message->size);
        if (reply == NULL) return fail("listener", "no memory");
        memcpy(reply, ANSWER, sizeof ANSWER - 1);
        memcpy(reply + sizeof ANSWER - 1, message->data, message->size);
        int last = message->size == sizeof GOODBYE - 1 && memcmp(message->data, GOODBYE, message->size) == 0;
        int sent = send_text(channel, reply, sizeof ANSWER - 1 + message->size);
        free(reply);
        peerbus_batch_free(batch);
        if (last || !sent) return !(sent && succeeded("CloseNode", CloseNode(0)));
    }
}

static double milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

/* FNV-1a: the table shows that both directions carried the same bytes. */
static unsigned long long checksum(const void *data, size_t size) {
    unsigned long long sum = 14695981039346656037ull;
    for (size_t i = 0; i < size; i++) sum = (sum ^ ((const unsigned char *)data)[i]) * 1099511628211ull;
    return sum;
}

static int exchange(const char *name, const char *channel, const char *text, size_t size) {
    double begin = milliseconds();
    peerbus_batch *batch = NULL;
    if (!send_text(channel, text, size)) return 0;
    if (peerbus_receive(0, NULL, 1, 0, WAIT_MS, &batch) != 1) return !fail(name, "no answer came");
    const peerbus_message *answer = &batch->messages[0];
    size_t prefix = sizeof ANSWER - 1;
    int same = answer->size == prefix + size && memcmp(answer->data, ANSWER, prefix) == 0 &&
               memcmp(answer->data + prefix, text, size) == 0;
    printf("%-14s %8zu  %7.1f  %016llx  %s\n", name, size, milliseconds() - begin, checksum(text, size),
           same ? "ok" : "DIFFERENT");
    peerbus_batch_free(batch);
    return same;
}

static int exchange_all(const char *channel) {
    int missing = 0;
    char *filled = malloc(LONG_TEXT_BYTES);
    if (filled == NULL) return !fail("dialler", "no memory");
    for (size_t i = 0; i < LONG_TEXT_BYTES; i++) filled[i] = (char)('a' + i % 26);
    const char *german = "Gr\xc3\xbc\xc3\x9f" "e aus C";
    printf("%-14s %8s  %7s  %-16s  %s\n", "text", "bytes", "ms", "checksum", "result");
    missing += !exchange("short", channel, "hello", 5);
    missing += !exchange("not ASCII", channel, german, strlen(german));
    missing += !exchange("with NUL", channel, "a\0b", 3);
    missing += !exchange("long", channel, filled, LONG_TEXT_BYTES);
    missing += !exchange("goodbye", channel, GOODBYE, sizeof GOODBYE - 1);
    free(filled);
    if (missing) fprintf(stderr, "demo_text: %d of 5 texts are missing\n", missing);
    return missing == 0;
}

static int dial_role(const char *directory, const char *addresses) {
    struct node node;
    char target[ID_BYTES], channel[CHANNEL_BYTES];
    if (!peer_id(addresses, target)) return fail("dialler", "the addresses have no /p2p/ part");
    if (!start(directory, "dial", &node) || !succeeded("ConnectTo", ConnectTo(0, addresses))) return 1;
    channel_to(channel, node.id, target);
    int good = exchange_all(channel);
    return !(succeeded("CloseNode", CloseNode(0)) && good);
}

static int both_roles(const char *program, const char *directory) {
    int ends[2];
    pid_t listener;
    char addresses[ADDRESSES_BYTES] = "";
    char *arguments[] = {(char *)program, (char *)directory, "listen", NULL};
    posix_spawn_file_actions_t actions;
    if (pipe(ends) != 0) return fail("pipe", "no descriptors left");
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    posix_spawn_file_actions_addclose(&actions, ends[0]);
    if (posix_spawn(&listener, program, &actions, NULL, arguments, environ) != 0) return fail("posix_spawn", program);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);

    FILE *from_listener = fdopen(ends[0], "r");
    int status = 1, dialled = 1;
    if (from_listener == NULL || fgets(addresses, sizeof addresses, from_listener) == NULL)
        fail("listener", "it ended before it listened");
    else
        dialled = dial_role(directory, addresses);
    if (dialled != 0) kill(listener, SIGTERM);
    waitpid(listener, &status, 0);
    if (from_listener != NULL) fclose(from_listener);
    return dialled != 0 || status != 0;
}

int main(int count, char **arguments) {
    if (count == 2) return both_roles(arguments[0], arguments[1]);
    if (count == 3 && strcmp(arguments[2], "listen") == 0) return listen_role(arguments[1]);
    if (count == 4 && strcmp(arguments[2], "dial") == 0) return dial_role(arguments[1], arguments[3]);
    fprintf(stderr, "usage: demo_text <directory> [listen | dial <addresses>]\n");
    return 2;
}
