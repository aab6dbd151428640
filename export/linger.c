/* Waiting for an answer without giving up the thread. Waking a thread costs about as long as the whole way of a message
 * between two processes of one machine. So a receive that finds nothing looks at a flag for a while, lending its processor to
 * whoever wants it, before it enters Go and sleeps: but only after a wait on the same instance that was short, so that waiting
 * for something that does not come costs the processor PB_LINGER_NS once. */
#include <sched.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include "shim.h"

enum { PB_LINGER_NS = 250 * 1000 }; /* the longest wait of which an end is expected by looking */

static struct {
    atomic_int readable; /* something waits for the host; the Go side sets it */
    atomic_int hopeful;  /* the last wait was short */
} waits[PB_MAX_INSTANCES];

static int processors;

__attribute__((constructor)) static void count_processors(void) { processors = (int)sysconf(_SC_NPROCESSORS_ONLN); }

int *pb_readable(int instance) { return (int *)&waits[instance].readable; }

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t pb_linger(int instance, int timeout_ms)
{
    if (timeout_ms <= 0 || instance < 0 || instance >= PB_MAX_INSTANCES || processors < 2)
        return 0;
    int64_t began = now();
    if (atomic_load_explicit(&waits[instance].hopeful, memory_order_relaxed))
        while (!atomic_load_explicit(&waits[instance].readable, memory_order_acquire) && now() - began < PB_LINGER_NS)
            sched_yield();
    return began;
}

void pb_waited(int instance, int64_t began, int found)
{
    if (began)
        atomic_store_explicit(&waits[instance].hopeful, found && now() - began < PB_LINGER_NS, memory_order_relaxed);
}
