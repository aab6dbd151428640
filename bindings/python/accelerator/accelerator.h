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

/* Batch: a batch of the library and its only owner; its end frees the batch. This answers a read-only memoryview of all memory
 * between the batch's first payload and the end of its last, of which payloads are slices: it, and each slice, keeps the Batch.
 * When it fails the batch is freed. */
PyObject *batch_memory(PyObject *type, peerbus_batch *batch, batch_free_function free_batch, const uint8_t **start);

/* Record: the fields of a received message; peerbus.Message is derived from it. The payload is a slice of the memory of a batch,
 * made when data is asked for, or whatever object data was set to. */
typedef struct {
    PyObject_HEAD
    PyObject *memory; /* of the batch; NULL when data was set */
    const uint8_t *start;
    Py_ssize_t offset, size; /* of the payload in memory */
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

/* Arguments of a call. Those that answer an int answer -1, and the exception is set, when it is not as expected. */
int expect(Py_ssize_t count, Py_ssize_t expected);
int parse_int(PyObject *object, int *out);
/* (instance, channel, data) but for the payload */
int parse_message(PyObject *const *arguments, Py_ssize_t count, int *instance, const char **channel);
/* Holds a payload in place. Arrays with gaps between their elements are copied first, in C order. */
int pin(PyObject *data, Py_buffer *view);
void unpin(Py_buffer *view);
const void *address(const Py_buffer *view);

typedef __typeof__(&peerbus_publish_batch) publish_function;
PyObject *publish(publish_function function, PyObject *const *arguments, Py_ssize_t given);
PyObject *publish_many(publish_function function, PyObject *const *arguments, Py_ssize_t given);

extern PyType_Spec batch_spec, record_spec, calls_spec;

#endif
