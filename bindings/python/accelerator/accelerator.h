/* peerbus._accelerator: what the Python package does for each single message, compiled. Without it the package does the same
 * through ctypes, about a microsecond per message slower; see peerbus/_calls.py, which has both sides of that choice.
 *
 * It is not linked to libpeerbus: the package finds and loads the library, and gives the addresses of its functions to Calls.
 * From Python 3.11 on it keeps to the stable ABI, so that one file serves every later version. */
#ifndef PEERBUS_ACCELERATOR_H
#define PEERBUS_ACCELERATOR_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <peerbus.h>

typedef void (*batch_free_function)(peerbus_batch *);

/* What a module of one interpreter owns. */
typedef struct {
    PyObject *batch;  /* the type Batch */
    PyObject *record; /* the type Record */
} accelerator_state;

accelerator_state *state_of(PyTypeObject *type);

/* Batch: a batch of the library and its only owner. Whatever refers to its memory refers to it; its end frees the batch. */
PyObject *batch_new(PyObject *type, peerbus_batch *batch, batch_free_function free_batch);
/* A read-only memoryview of a payload inside it. */
PyObject *batch_view(PyObject *batch, const uint8_t *data, size_t size);

/* Record: the fields of a received message; peerbus.Message is derived from it. The payload is a part of a batch, of which a
 * memoryview is made when data is asked for, or whatever object data was set to. */
typedef struct {
    PyObject_HEAD
    PyObject *batch; /* NULL when data was set */
    const uint8_t *start;
    size_t size;
    PyObject *data;
    PyObject *sender, *channel, *protocol;
    PyObject *node_id; /* NULL: None */
    unsigned long long gap, id;
    char inspector;
} record;

enum { LEND_FROM = 256 << 10 }; /* bytes; the library copies what is smaller in any case */

/* Lends a payload to the library, if it is one that never changes and is worth it; loan_answered follows with what the library said.
 * Payloads that came back go their way in loans_end, under the interpreter's lock like the others. */
int loan_begin(PyObject *data, peerbus_loan *out);
void loan_answered(const peerbus_loan *asked, int code);
void loans_end(void);

extern PyType_Spec batch_spec, record_spec, calls_spec;

#endif
