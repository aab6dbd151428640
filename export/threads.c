/* How exactly the kernel keeps the sleeps of Go's threads. Linux ends a sleep up to 50 us late, so that timers can share an
 * interrupt, which is wrong both ways here:
 *
 *   - Go's monitor thread sleeps 20 us at a time for as long as anything happens, on a virtual machine 5 to 10 % of a processor.
 *     It looks for what blocks or computes for long; half a millisecond later is soon enough for that.
 *   - A thread that takes over what another one of Go made ready sleeps 3 us before, in case that one is about to run it. That
 *     must not become 50.
 *
 * Slack belongs to a thread and only the thread itself may set it, so build.sh has the linker lead Go's calls of pthread_create
 * here. The monitor is the second thread that Go's runtime makes, after the one that it begins with. */
#ifdef __linux__
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/prctl.h>

enum { MONITOR = 2, MONITOR_SLACK_NS = 500 * 1000, SLACK_NS = 1000 };

/* What a new thread runs. */
typedef struct {
    void *(*run)(void *);
    void *argument;
    unsigned long slack_ns;
} start;

/* Missing where build.sh does not link: in Go's own tests, and in the static library, whose threads are as Go makes them. */
int __real_pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) __attribute__((weak));

static void *begin(void *argument)
{
    start mine = *(start *)argument;
    free(argument);
    prctl(PR_SET_TIMERSLACK, mine.slack_ns);
    return mine.run(mine.argument);
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument)
{
    static atomic_int made;
    start *its = malloc(sizeof *its);
    if (!its)
        return EAGAIN;
    *its = (start){run, argument, atomic_fetch_add(&made, 1) + 1 == MONITOR ? MONITOR_SLACK_NS : SLACK_NS};
    int failed = __real_pthread_create(thread, attributes, begin, its);
    if (failed)
        free(its);
    return failed;
}
#endif
