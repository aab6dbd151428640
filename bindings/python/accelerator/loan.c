#include "accelerator.h"

#include <stdatomic.h>
#include <stdlib.h>

/* A payload that the library uses. It gives it back on any thread, without the interpreter's lock: it then waits on a pile for a
 * thread that has the lock. That is the next call that sends or receives, or the main thread as soon as it runs Python. */
typedef struct loan {
    PyObject *payload;
    struct loan *next;
} loan;

static _Atomic(loan *) returned;

static int take_back(void *unused)
{
    (void)unused;
    for (loan *one = atomic_exchange(&returned, NULL); one;) {
        loan *next = one->next;
        Py_DECREF(one->payload);
        free(one);
        one = next;
    }
    return 0;
}

void loans_end(void)
{
    if (atomic_load_explicit(&returned, memory_order_relaxed))
        take_back(NULL);
}

static void give_back(void *context)
{
    loan *one = context, *top = atomic_load(&returned);
    do {
        one->next = top;
    } while (!atomic_compare_exchange_weak(&returned, &top, one));
    if (!top && Py_IsInitialized())
        (void)Py_AddPendingCall(take_back, NULL); /* with no room for it, the next call does it */
}

int loan_begin(PyObject *data, peerbus_loan *out)
{
    if (!PyBytes_CheckExact(data) || PyBytes_Size(data) < LEND_FROM) /* what can change is copied */
        return 0;
    loan *one = malloc(sizeof *one);
    if (!one)
        return 0;
    Py_INCREF(data);
    one->payload = data;
    *out = (peerbus_loan){PyBytes_AsString(data), (size_t)PyBytes_Size(data), give_back, one};
    return 1;
}

void loan_answered(const peerbus_loan *asked, int code)
{
    if (code >= 0 || code == PEERBUS_INTERNAL) /* after a failure inside the library it may be in use: it is never freed */
        return;
    loan *one = asked->context;
    Py_DECREF(one->payload);
    free(one);
}
