/* What the generated cases stand on: a small world of nodes, and lines on stdout that say what each call answered. */
#ifndef DRIVER_H
#define DRIVER_H

#define _GNU_SOURCE
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "peerbus.h"

/* Slots. LIVE and PEER are connected, CLOSED had a node, NEVER had none, SPARE is for the case. PUBLIC and WORLD are the
 * networks of the set live_pools, PEER is the world node. */
enum { LIVE, PEER, CLOSED, NEVER, SPARE, PUBLIC, WORLD, MAX_INSTANCES = 8 };
enum { ID_BYTES = 128, TEXT_BYTES = 8192, BIG_BYTES = 1 << 20, THREADS = 16, CALLS_PER_THREAD = 20 };

extern char live_id[ID_BYTES], world_id[ID_BYTES], peer_id[ID_BYTES], spare_id[ID_BYTES];
extern char live_config[TEXT_BYTES], spare_config[TEXT_BYTES], waiting_config[TEXT_BYTES], peer_addresses[TEXT_BYTES];
extern int live_handle, spare_handle; /* of direct and spare_direct; message 1 of direct is sent */
extern char direct[TEXT_BYTES], topic[TEXT_BYTES], spare_direct[TEXT_BYTES], text_of_256[257];
extern char *exact_text, *huge_text, *nested_lists; /* PEERBUS_MAX_TEXT bytes, one more, deep JSON */
extern char *big;                                   /* BIG_BYTES of payload */
extern int read_only;                               /* a descriptor that cannot be written */

extern const char absent_peer[]; /* a well-formed id that nobody has */

extern int live_pools, closed_pools, spare_pools; /* pool sets: of the preset, closed, over SPARE alone (0: none) */
extern const char spare_pools_config[];           /* of a set over SPARE alone, with the network "n" */
extern const char somebody[], absent_info[];      /* peer infos; the second is also a list entry of a master */
extern const char private_key[], public_key[];    /* of tokens */

/* Each writes one line, `tag` says which of the case's calls it was. emit_text frees the text. */
void emit_text(const char *tag, char *text);
void emit_int(const char *tag, long long number);
void emit_data_int(const char *tag, int number); /* with the text of peerbus_last_error */
void emit_constant(const char *tag, const char *text);
void emit_beginning(const char *tag, char *text); /* long texts; frees */
void emit_nothing(const char *tag);

int is_success(const char *envelope);

/* Frees the batch of a call that should not have made one, and emits the count. */
void emit_batch(const char *tag, int count, peerbus_batch *batch);

void start_spare(void);           /* a node in SPARE */
void start_connected_spare(void); /* connected to PEER, which does not read spare_direct */
void start_pooled_spare(void);    /* the same in a pool set of its own */
void close_spare(void);           /* with its pool set */
void fill_spare(void); /* sends on spare_direct until there is no room */
void name_world(void); /* names PEER as the world node of live_pools, again */

/* Addresses of a socket that takes connections and never speaks. */
const char *silent_addresses(void);
const char *silent_relay(void);

void ignore_release(void *context); /* of lent payloads that live as long as the program */

void in_forked_child(void (*call)(void));
void in_threads(void (*call)(void));
void while_closing(void (*call)(void)); /* runs call in a thread, closes SPARE when it sleeps */

struct test_case {
    const char *name;
    void (*run)(void);
};
extern const struct test_case cases[];
extern const size_t case_count;

#endif
