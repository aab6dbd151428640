/* Two nodes in one process, one message; the directory that keeps both identities is the argument.
 * cc -std=c99 hello.c -lpeerbus */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "peerbus.h"

/* Starts a node; returns its addresses (a JSON list) and its peer id, or ends the program with the library's text. */
static void start(int instance, const char *directory, const char *name, char *addresses, char *id) {
    char config[1024];
    snprintf(config, sizeof config,
             "{\"identity_dir\":\"%s/%s\",\"listen_ips\":[\"127.0.0.1\"],\"nat\":{\"port_mapping\":false}}", directory, name);
    char *answer = CreateNode(instance, config);
    char *list = answer ? strstr(answer, "[\"") : NULL, *end = list ? strchr(list, ']') : NULL;
    char *owner = list ? strstr(list, "/p2p/") : NULL;
    if (end == NULL || owner == NULL || end - list > 4000) {
        fprintf(stderr, "%s\n", answer ? answer : "no memory");
        exit(1);
    }
    memcpy(addresses, list, (size_t)(end - list) + 1);
    addresses[end - list + 1] = 0;
    sscanf(owner, "/p2p/%127[^\"/]", id);
    FreeString(answer);
}

int main(int count, char **arguments) {
    char alice_addresses[4096], bob_addresses[4096], alice[128], bob[128], channel[300];
    const char *directory = count > 1 ? arguments[1] : "hello-peerbus";
    InitializeLibrary(2, 0, 0, 0, NULL);
    start(0, directory, "alice", alice_addresses, alice);
    start(1, directory, "bob", bob_addresses, bob);

    FreeString(ConnectTo(0, bob_addresses));
    snprintf(channel, sizeof channel, "%s::dm:%s-greetings", alice, bob);
    if (peerbus_send(0, channel, "hello, bob", 10, 5000) < 0) fprintf(stderr, "%s\n", peerbus_last_error());

    peerbus_batch *batch = NULL;
    int received = peerbus_receive(1, NULL, 1, 0, 10000, &batch);
    if (received == 1)
        printf("%s says %.*s\n", batch->messages[0].from, (int)batch->messages[0].size, (const char *)batch->messages[0].data);
    else
        fprintf(stderr, "nothing came: %s\n", peerbus_last_error());
    peerbus_batch_free(batch);
    FreeString(CloseNode(-1));
    return received == 1 ? 0 : 1;
}
