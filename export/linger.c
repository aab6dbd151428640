/* Waiting for an answer without giving up the thread. Waking a thread costs about as long as the whole way of a message
 * between two processes of one machine. So a receive that finds nothing looks at a flag for a while, lending its processor to
 * whoever wants it, before it enters Go and sleeps: but only after a wait on the same instance that was short, so that waiting
 * for something that does not come costs the processor PB_LINGER_NS once, or PB_ANSWER_NS after a send.
 *
 * Meanwhile it attends: the Go side has the kernel wake nobody for what comes on the connection that brought the last message, and
 * the thread looks at that socket as well and decodes what comes itself. Having found a message it attends further, because the
 * next one may come before the host waits for it; if the host does not come back, the attendance lapses. */
#include <sched.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "_cgo_export.h"
#include "shim.h"

enum {
    PB_LINGER_NS = 250 * 1000,  /* the longest wait of which an end is expected by looking */
    PB_ANSWER_NS = 1000 * 1000, /* the same of a wait for the answer to what the instance sent since the last message came */
    PB_LATE_NS = 300 * 1000,    /* who comes back from a yield that late shares its processor with a program that computes */
    PB_CROWDED_WAITS = 256,     /* so many waits expect no answer after that */
};

static struct {
    atomic_int readable; /* something waits for the host; the Go side sets it */
    atomic_int sent;     /* since the last message came */
    atomic_int short_ns; /* how long the last wait took, 0 when it was not short */
    atomic_int crowded;  /* waits that expect no answer: the kernel wakes who sleeps sooner than it comes back to who yields */

    _Atomic uint64_t attendance; /* 0: none. Its number is never used again: one that has lapsed costs a vain look */
    atomic_int descriptor;       /* of it */
    _Atomic int64_t asked;       /* when Go was asked for it, which it may have declined */
} waits[PB_MAX_INSTANCES];

static int processors;

__attribute__((constructor)) static void count_processors(void) { processors = (int)sysconf(_SC_NPROCESSORS_ONLN); }

int *pb_readable(int instance) { return (int *)&waits[instance].readable; }

int64_t pb_now(void)
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

/* Decodes what has come, and answers whether anything waits for the host. */
static int glance(int instance)
{
    uint64_t attendance = atomic_load_explicit(&waits[instance].attendance, memory_order_acquire);
    if (attendance && !is_readable(instance) &&
        bytes_wait(atomic_load_explicit(&waits[instance].descriptor, memory_order_relaxed)))
        pb_look(instance, attendance);
    return is_readable(instance);
}

static int is_unattended(int instance)
{
    return pb_now() - atomic_load_explicit(&waits[instance].asked, memory_order_relaxed) > PB_LINGER_NS;
}

static void linger(int instance, int64_t until)
{
    for (int64_t before, at = pb_now(); !glance(instance);) {
        if (at >= until) {
            pb_leave(instance);
            return;
        }
        if (is_unattended(instance))
            pb_attend(instance);
        sched_yield(); /* to the reader's thread, too, which may have been quicker */
        before = at;
        at = pb_now();
        if (at - before > PB_LATE_NS)
            atomic_store_explicit(&waits[instance].crowded, PB_CROWDED_WAITS, memory_order_relaxed);
    }
}

int pb_glance(int instance)
{
    if (instance < 0 || instance >= PB_MAX_INSTANCES)
        return PB_ASK_GO;
    sched_yield();
    int found = glance(instance);
    if (found && atomic_load_explicit(&waits[instance].attendance, memory_order_relaxed))
        return 1;
    return found || is_unattended(instance) ? PB_ASK_GO : 0; /* Go knows whether there is a node, or still one */
}

void pb_attended(int instance, int descriptor, uint64_t attendance)
{
    atomic_store_explicit(&waits[instance].asked, pb_now(), memory_order_relaxed);
    atomic_store_explicit(&waits[instance].descriptor, descriptor, memory_order_relaxed);
    atomic_store_explicit(&waits[instance].attendance, attendance, memory_order_release);
}

uint64_t pb_unattended(int instance)
{
    atomic_store_explicit(&waits[instance].asked, 0, memory_order_relaxed);
    return atomic_exchange_explicit(&waits[instance].attendance, 0, memory_order_acq_rel);
}

static int64_t longest_short(int instance)
{
    int answer = atomic_load_explicit(&waits[instance].sent, memory_order_relaxed) &&
                 !atomic_load_explicit(&waits[instance].crowded, memory_order_relaxed);
    return answer ? PB_ANSWER_NS : PB_LINGER_NS;
}

/* How long to look after a wait that took last: an answer may take twice as long as the one before. */
static int64_t patience(int instance, int last)
{
    int64_t expected = 2 * (int64_t)last, longest = longest_short(instance);
    if (expected < PB_LINGER_NS)
        expected = PB_LINGER_NS;
    return expected < longest ? expected : longest;
}

int64_t pb_linger(int instance, int timeout_ms)
{
    if (timeout_ms <= 0 || instance < 0 || instance >= PB_MAX_INSTANCES || processors < 2)
        return 0;
    int64_t began = pb_now();
    int last = atomic_load_explicit(&waits[instance].short_ns, memory_order_relaxed);
    if (last && !is_readable(instance))
        linger(instance, began + patience(instance, last));
    return began;
}

void pb_sent(int instance)
{
    if (instance >= 0 && instance < PB_MAX_INSTANCES && !atomic_load_explicit(&waits[instance].sent, memory_order_relaxed))
        atomic_store_explicit(&waits[instance].sent, 1, memory_order_relaxed);
}

void pb_waited(int instance, int64_t began, int found)
{
    if (!began)
        return;
    int64_t took = pb_now() - began, longest = longest_short(instance);
    atomic_store_explicit(&waits[instance].short_ns, found && took < longest ? (int)took + 1 : 0, memory_order_relaxed);
    int crowded = atomic_load_explicit(&waits[instance].crowded, memory_order_relaxed);
    if (crowded > 0)
        atomic_store_explicit(&waits[instance].crowded, crowded - 1, memory_order_relaxed);
    if (found)
        atomic_store_explicit(&waits[instance].sent, 0, memory_order_relaxed);
}
