/* Sleeping outside of Go. A thread of the host that blocks inside Go costs Go's scheduler two changes of thread when it is woken, because
 * it takes the place of the goroutine that woke it; one that sleeps on a futex costs that goroutine one system call. */
#include "shim.h"

#ifdef __linux__
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { AWAKE, ASLEEP, ROUSED };

/* Beds are kept for ever, and outlive the threads that use them, since a rouse may come late. There are as many as threads that
 * ever waited at the same time. */
static _Atomic(pb_bed *) beds;
static __thread pb_bed *mine;
static pthread_key_t leaving;
static int can_leave;

static void give_back(void *bed)
{
    mine = NULL; /* a thread may still receive while it ends */
    __atomic_store_n(&((pb_bed *)bed)->taken, 0, __ATOMIC_RELEASE);
}

__attribute__((constructor)) static void watch_threads(void) { can_leave = pthread_key_create(&leaving, give_back) == 0; }

static pb_bed *take(void)
{
    for (pb_bed *bed = atomic_load(&beds); bed; bed = bed->next)
        if (!__atomic_exchange_n(&bed->taken, 1, __ATOMIC_ACQUIRE))
            return bed;
    pb_bed *bed = calloc(1, sizeof *bed);
    if (!bed)
        return NULL;
    bed->taken = 1;
    bed->next = atomic_load(&beds);
    while (!atomic_compare_exchange_weak(&beds, &bed->next, bed))
        ;
    return bed;
}

pb_bed *pb_bed_get(void)
{
    if (mine || !can_leave)
        return mine;
    pb_bed *bed = take();
    if (!bed)
        return NULL;
    if (pthread_setspecific(leaving, bed) != 0) {
        give_back(bed);
        return NULL;
    }
    return mine = bed;
}

int pb_sleep(pb_bed *bed, int64_t until)
{
    struct timespec end = {.tv_sec = until / 1000000000, .tv_nsec = until % 1000000000};
    int awake = AWAKE;
    if (__atomic_compare_exchange_n(&bed->state, &awake, ASLEEP, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        syscall(SYS_futex, &bed->state, FUTEX_WAIT_BITSET_PRIVATE, ASLEEP, &end, NULL, FUTEX_BITSET_MATCH_ANY);
    __atomic_store_n(&bed->state, AWAKE, __ATOMIC_RELEASE);
    return pb_now() < until;
}

void pb_rouse(pb_bed *bed)
{
    if (__atomic_exchange_n(&bed->state, ROUSED, __ATOMIC_ACQ_REL) == ASLEEP)
        syscall(SYS_futex, &bed->state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

#else
pb_bed *pb_bed_get(void) { return NULL; }
int pb_sleep(pb_bed *bed, int64_t until) { return 0; }
void pb_rouse(pb_bed *bed) {}
#endif
