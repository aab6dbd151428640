/* PopMessages of a node with "pop_messages":"binary": the layout that the header gives, then Empty. The argument is the
 * directory of the identities. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "peerbus.h"

static void check(int good, const char *what) {
    if (good) return;
    fprintf(stderr, "pop_binary: %s\n", what);
    exit(1);
}

static void start(int slot, const char *directory, const char *layout, char *id, char *addresses) {
    char config[1024];
    snprintf(config, sizeof config,
             "{\"identity_dir\":\"%s/%d\",\"listen_ips\":[\"127.0.0.1\"],\"nat\":{\"port_mapping\":false},"
             "\"dht\":{\"enabled\":false},\"pop_messages\":\"%s\"}",
             directory, slot, layout);
    char *answer = CreateNode(slot, config), *list = strstr(answer, "[\""), *end = list ? strchr(list, ']') : NULL;
    check(end != NULL && end - list < 4000, answer);
    snprintf(addresses, 4096, "%.*s", (int)(end - list) + 1, list);
    check(sscanf(strstr(addresses, "/p2p/"), "/p2p/%127[^\"/]", id) == 1, "no peer id");
    FreeString(answer);
}

static uint32_t u32(const uint8_t **at) {
    uint32_t value = (uint32_t)(*at)[0] << 24 | (uint32_t)(*at)[1] << 16 | (uint32_t)(*at)[2] << 8 | (*at)[3];
    *at += 4;
    return value;
}

static int part_is(const uint8_t **at, const char *expected) {
    uint32_t size = u32(at);
    int same = size == strlen(expected) && memcmp(*at, expected, size) == 0;
    *at += size;
    return same;
}

static void wait_for(int count) {
    int fd = peerbus_wake_descriptor(1, PEERBUS_WAKE_MESSAGES);
    check(fd >= 0, peerbus_last_error());
    for (int tries = 0; MessageQueueLength(1) < count; tries++) {
        check(tries < 200, "the messages did not come");
        FreeString(PopEvents(1, 16, 100));
    }
}

int main(int count, char **arguments) {
    char sender[128], receiver[128], addresses[4096], channel[300];
    check(count == 2, "usage: pop_binary <directory>");
    InitializeLibrary(2, 0, 0, 0, NULL);
    start(0, arguments[1], "json", sender, addresses);
    start(1, arguments[1], "binary", receiver, addresses);
    FreeString(ConnectTo(0, addresses));
    const char *texts[] = {"a:one", "a:two", "b:only"};
    for (int i = 0; i < 3; i++) {
        snprintf(channel, sizeof channel, "%s::dm:%s-%c", sender, receiver, texts[i][0]);
        check(peerbus_send(0, channel, texts[i], strlen(texts[i]), 5000) == 0, peerbus_last_error());
    }
    wait_for(3);

    for (int round = 0; round < 2; round++) {
        char *popped = PopMessages(1);
        const uint8_t *at = (const uint8_t *)popped, *begin = at;
        check(*at++ == 0xB1, "the first byte is wrong");
        uint32_t total = u32(&at), messages = u32(&at);
        check(messages == (round == 0 ? 2u : 1u), "not one message of each channel");
        for (uint32_t i = 0; i < messages; i++) {
            check(part_is(&at, sender), "the sender is wrong");
            check(part_is(&at, "/peerbus/channel/1.0.0"), "the protocol is wrong");
            const uint8_t *data = at;
            check(part_is(&at, round == 1 ? texts[1] : data[4] == 'a' ? texts[0] : texts[2]), "the payload is wrong");
        }
        check((uint32_t)(at - begin) == total, "total does not count the whole buffer");
        FreeString(popped);
    }
    char *nothing = PopMessages(1);
    check(strcmp(nothing, "{\"state\":\"Empty\"}") == 0, nothing);
    FreeString(nothing);
    FreeString(CloseNode(-1));
    return 0;
}
