/* What the C side of the border gives to the Go side. Not part of the public header. */
#ifndef PEERBUS_SHIM_H
#define PEERBUS_SHIM_H

#include "../include/peerbus.h"

#define PEERBUS_VERSION "0.1.0"

/* Where a Go data function writes the text of its failure: NUL-terminated, cut to fit. */
enum { PB_PROBLEM_BYTES = 1024 };

/* What peerbus_batch_free releases: the public part first, then the payload buffers of their own. */
typedef struct pb_batch {
    peerbus_batch public_part;
    uint64_t large_count;
    void **large;
} pb_batch;

/* Buffers of large payloads, recycled up to a cap. pb_buffer_get returns NULL when malloc fails. */
void *pb_buffer_get(size_t size);
void pb_buffer_put(void *buffer);

/* linger.c: the flag that the Go side keeps; a short wait before entering Go, which answers when it began, 0 for none; and
 * what became of the wait. */
enum { PB_MAX_INSTANCES = 4096 };
int *pb_readable(int instance);
int64_t pb_linger(int instance, int timeout_ms);
void pb_waited(int instance, int64_t began, int found);

#endif
