/* What the C side of the border gives to the Go side. Not part of the public header. */
#ifndef PEERBUS_SHIM_H
#define PEERBUS_SHIM_H

#include "../include/peerbus.h"

#define PEERBUS_VERSION "0.1.0"

/* Where a Go data function writes the text of its failure: NUL-terminated, cut to fit. */
enum { PB_PROBLEM_BYTES = 1024 };

/* What peerbus_batch_free releases: the public part first, then the buffers that it holds: of large payloads, and those that
 * small ones share. The batch lies in a buffer itself. */
typedef struct pb_batch {
    peerbus_batch public_part;
    uint64_t held_count;
    void **held;
} pb_batch;

/* Buffers, recycled up to a cap. pb_buffer_get returns NULL when malloc fails; one who calls pb_buffer_hold calls
 * pb_buffer_put, too, and the last one to do so gives the buffer back. */
void *pb_buffer_get(size_t size);
void *pb_slab_get(size_t size); /* a buffer that Go may keep for long */
void pb_buffer_hold(void *buffer);
void pb_buffer_put(void *buffer);

/* sleep.c: where a thread of the host sleeps that finds nothing in a receive. Go lays in its bed what it wants, and answers PB_ASLEEP;
 * then come pb_sleep, which answers whether time is left, and pb_awake. pb_rouse ends the sleep. */
enum { PB_ASLEEP = 1 << 30 };
typedef struct pb_bed pb_bed;
struct pb_bed {
    int state;
    uintptr_t intake; /* of Go */
    int taken;
    pb_bed *next;
};
pb_bed *pb_bed_get(void); /* NULL: the thread has to wait inside Go */
int pb_sleep(pb_bed *bed, int64_t until);
void pb_rouse(pb_bed *bed);
int64_t pb_now(void);

/* linger.c: the flag that the Go side keeps; that a message is sent, which may be answered; a short wait before entering Go, which
 * answers when it began, 0 for none; and what became of the wait. */
enum { PB_MAX_INSTANCES = 4096 };
int *pb_readable(int instance);
void pb_sent(int instance);
int64_t pb_linger(int instance, int timeout_ms);
void pb_waited(int instance, int64_t began, int found);

/* linger.c, too: a look of peerbus_look that enters Go only to decode what it sees; what Go attends, 0 for nothing; and the end
 * of it, which answers what was attended. */
enum { PB_ASK_GO = -1 };
int pb_glance(int instance);
void pb_attended(int instance, int descriptor, uint64_t attendance);
uint64_t pb_unattended(int instance);

#endif
