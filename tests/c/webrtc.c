/* Two nodes in one process open a WebRTC data channel, look at it and close it; the directory that keeps both identities is the
 * argument. Prints what each call answers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "peerbus.h"

static char *start(int instance, const char *directory, const char *name) {
    char config[1024];
    snprintf(config, sizeof config,
             "{\"identity_dir\":\"%s/%s\",\"listen_ips\":[\"127.0.0.1\"],\"nat\":{\"port_mapping\":false}}",
             directory, name);
    return CreateNode(instance, config);
}

static void show(char *answer) {
    puts(answer ? answer : "no memory");
    FreeString(answer);
}

int main(int count, char **arguments) {
    char addresses[4096], id[128];
    if (count < 2) return 2;
    InitializeLibrary(2, 0, 0, 0, NULL);
    FreeString(start(0, arguments[1], "alice"));
    char *bob = start(1, arguments[1], "bob"), *list = bob ? strstr(bob, "[\"") : NULL, *end = list ? strchr(list, ']') : NULL;
    char *owner = list ? strstr(list, "/p2p/") : NULL;
    if (!end || !owner || (size_t)(end - list) + 2 > sizeof addresses) {
        fprintf(stderr, "%s\n", bob ? bob : "no memory");
        return 1;
    }
    snprintf(addresses, (size_t)(end - list) + 2, "%s", list);
    sscanf(owner, "/p2p/%127[^\"/]", id);
    FreeString(bob);
    FreeString(ConnectTo(0, addresses));
    show(UpdateICEConfig(0, "{\"stun_servers\":[],\"turn_servers\":[]}"));
    show(InitiateWebRTCConnection(0, id));
    show(GetWebRTCConnections(0));
    show(CloseWebRTCConnection(0, id));
    show(GetWebRTCConnections(0));
    FreeString(CloseNode(-1));
    return 0;
}
