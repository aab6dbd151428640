#include "accelerator.h"

#include <stddef.h>
#include <structmember.h>

enum { LARGE_BLOCK = 1 << 20 }; /* bytes; freeing so much takes long enough to let other threads run meanwhile */

typedef struct {
    PyObject_HEAD
    peerbus_batch *batch;
    batch_free_function free_batch;
    const uint8_t *viewed; /* while batch_memory runs: what the memoryview shows that it makes; else empty */
    size_t viewed_size;
} batch_object;

static void free_object(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyObject *batch_new(PyObject *type, peerbus_batch *batch, batch_free_function free_batch)
{
    batch_object *self = (batch_object *)PyType_GenericAlloc((PyTypeObject *)type, 0);
    if (self) {
        self->batch = batch;
        self->free_batch = free_batch;
    } else {
        free_batch(batch);
    }
    return (PyObject *)self;
}

static void batch_dealloc(PyObject *object)
{
    batch_object *self = (batch_object *)object;
    uint64_t bytes = self->batch->block_size;
    for (uint64_t i = 0; i < self->batch->count && bytes < LARGE_BLOCK; i++)
        bytes += self->batch->messages[i].size;
    if (bytes < LARGE_BLOCK) {
        self->free_batch(self->batch);
    } else {
        Py_BEGIN_ALLOW_THREADS
        self->free_batch(self->batch);
        Py_END_ALLOW_THREADS
    }
    free_object(object);
}

static int batch_get_buffer(PyObject *object, Py_buffer *view, int flags)
{
    batch_object *self = (batch_object *)object;
    return PyBuffer_FillInfo(view, object, (void *)self->viewed, (Py_ssize_t)self->viewed_size, 1, flags);
}

/* Sets what spans every payload of the batch. */
static void batch_span(batch_object *self)
{
    const peerbus_batch *batch = self->batch;
    const uint8_t *first = batch->messages[0].data, *end = first;
    for (uint64_t i = 0; i < batch->count; i++) {
        const peerbus_message *message = &batch->messages[i];
        if (message->data < first)
            first = message->data;
        if (message->data + message->size > end)
            end = message->data + message->size;
    }
    self->viewed = first;
    self->viewed_size = (size_t)(end - first);
}

PyObject *batch_memory(PyObject *type, peerbus_batch *batch, batch_free_function free_batch, const uint8_t **start)
{
    batch_object *self = (batch_object *)batch_new(type, batch, free_batch);
    if (!self)
        return NULL;
    batch_span(self);
    *start = self->viewed;
    PyObject *memory = PyMemoryView_FromObject((PyObject *)self);
    self->viewed_size = 0; /* there may be no memory between the payloads: nobody else gets a view of that */
    Py_DECREF(self);
    return memory;
}

static PyType_Slot batch_slots[] = {
    {Py_tp_dealloc, batch_dealloc},
    {Py_bf_getbuffer, batch_get_buffer},
    {0, NULL},
};

PyType_Spec batch_spec = {
    .name = "peerbus._accelerator.Batch",
    .basicsize = sizeof(batch_object),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = batch_slots,
};

static void record_dealloc(PyObject *object)
{
    record *self = (record *)object;
    Py_XDECREF(self->data);
    Py_XDECREF(self->memory);
    Py_XDECREF(self->sender);
    Py_XDECREF(self->channel);
    Py_XDECREF(self->protocol);
    Py_XDECREF(self->node_id);
    free_object(object);
}

static PyObject *record_get_data(PyObject *object, void *closure)
{
    (void)closure;
    record *self = (record *)object;
    if (!self->data && self->memory)
        self->data = PySequence_GetSlice(self->memory, self->offset, self->offset + self->size);
    if (!self->data && !PyErr_Occurred())
        PyErr_SetString(PyExc_AttributeError, "data");
    Py_XINCREF(self->data);
    return self->data;
}

static int record_set_data(PyObject *object, PyObject *data, void *closure)
{
    (void)closure;
    record *self = (record *)object;
    PyObject *memory = self->memory, *before = self->data;
    Py_XINCREF(data);
    self->data = data;
    self->memory = NULL;
    Py_XDECREF(before);
    Py_XDECREF(memory);
    return 0;
}

static Py_ssize_t record_length(PyObject *object)
{
    record *self = (record *)object;
    if (self->memory)
        return self->size;
    PyObject *data = record_get_data(object, NULL);
    Py_ssize_t length = data ? PyObject_Length(data) : -1;
    Py_XDECREF(data);
    return length;
}

static PyObject *record_bytes(PyObject *object, PyObject *ignored)
{
    (void)ignored;
    record *self = (record *)object;
    if (self->memory)
        return PyBytes_FromStringAndSize((const char *)self->start, self->size);
    PyObject *data = record_get_data(object, NULL);
    PyObject *bytes = data ? PyBytes_FromObject(data) : NULL;
    Py_XDECREF(data);
    return bytes;
}

static PyMemberDef record_members[] = {
    {"sender", T_OBJECT_EX, offsetof(record, sender), 0, NULL},
    {"channel", T_OBJECT_EX, offsetof(record, channel), 0, NULL},
    {"protocol", T_OBJECT_EX, offsetof(record, protocol), 0, NULL},
    {"node_id", T_OBJECT, offsetof(record, node_id), 0, NULL},
    {"gap", T_ULONGLONG, offsetof(record, gap), 0, NULL},
    {"id", T_ULONGLONG, offsetof(record, id), 0, NULL},
    {"inspector", T_BOOL, offsetof(record, inspector), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef record_getset[] = {
    {"data", record_get_data, record_set_data, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef record_methods[] = {
    {"__bytes__", record_bytes, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot record_slots[] = {
    {Py_tp_dealloc, record_dealloc},
    {Py_tp_members, record_members},
    {Py_tp_getset, record_getset},
    {Py_tp_methods, record_methods},
    {Py_sq_length, record_length},
    {0, NULL},
};

PyType_Spec record_spec = {
    .name = "peerbus._accelerator.Record",
    .basicsize = sizeof(record),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = record_slots,
};
