/* Waiting for an answer without giving up the thread. Waking a thread costs about as long as the whole way of a message
 * between two processes of one machine. So a receive that finds nothing looks at a flag for a while, lending its processor to
 * whoever wants it, before it enters Go and sleeps: but only after a wait on the same instance that was short, so that waiting
 * for something that does not come costs the processor PB_LINGER_NS once.
 *
 * Meanwhile it attends: the Go side has the kernel wake nobody for what comes on the connection that brought the last message, and
 * the thread looks at that socket as well and decodes what comes itself. */
#include <sched.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "_cgo_export.h"
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

/* Whether bytes wait in a socket. Unlike recv and poll, ioctl is no point where a thread can be cancelled, and does not care how
 * many bytes are worth waking somebody. The descriptor may have been closed meanwhile, or be another's now: that costs a vain look. */
static int bytes_wait(int descriptor)
{
    int bytes;
    return ioctl(descriptor, FIONREAD, &bytes) == 0 && bytes > 0;
}

static int is_readable(int instance) { return atomic_load_explicit(&waits[instance].readable, memory_order_acquire); }

static void look(int instance, int64_t until)
{
    uint64_t attendance = 0;
    int descriptor = pb_attend(instance, &attendance);
    while (!is_readable(instance) && now() < until) {
        if (descriptor >= 0 && bytes_wait(descriptor)) {
            pb_look(instance, attendance);
            if (is_readable(instance))
                break;
        }
        sched_yield(); /* to the reader's thread, too, which may have been quicker */
    }
    if (descriptor >= 0)
        pb_leave(instance, attendance);
}

int64_t pb_linger(int instance, int timeout_ms)
{
    if (timeout_ms <= 0 || instance < 0 || instance >= PB_MAX_INSTANCES || processors < 2)
        return 0;
    int64_t began = now();
    if (atomic_load_explicit(&waits[instance].hopeful, memory_order_relaxed) && !is_readable(instance))
        look(instance, began + PB_LINGER_NS);
    return began;
}

void pb_waited(int instance, int64_t began, int found)
{
    if (began)
        atomic_store_explicit(&waits[instance].hopeful, found && now() - began < PB_LINGER_NS, memory_order_relaxed);
}
