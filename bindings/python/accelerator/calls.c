#include "accelerator.h"

#include <string.h>

enum {
    TEXTS = 64,                                        /* texts that are remembered */
    PLAIN_FLAGS = PEERBUS_VERIFIED | PEERBUS_INSPECTOR /* what a message may have that needs no confirmation */
};

/* Calls: the functions of one loaded library. Everything in it is used under the interpreter's lock. */
typedef struct {
    PyObject_HEAD
    PyObject *batch;   /* the type Batch */
    PyObject *message; /* the type of the messages that messages() makes, derived from Record */
    batch_free_function free_batch;
    __typeof__(&peerbus_send) send;
    __typeof__(&peerbus_send_lent) send_lent;
    __typeof__(&peerbus_channel_send) channel_send;
    __typeof__(&peerbus_channel_send_lent) channel_send_lent;
    __typeof__(&peerbus_channel_send_batch_lent) channel_send_batch_lent;
    publish_function publish_batch;
    PyObject *texts[TEXTS]; /* str by hash: the texts of batches, which come again and again */
} calls;

static PyObject *calls_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    static char *names[] = {"message",      "batch_free",        "send",                    "send_lent",
                            "channel_send", "channel_send_lent", "channel_send_batch_lent", "publish_batch", NULL};
    PyObject *message;
    unsigned long long batch_free, send, send_lent, channel_send, channel_send_lent, channel_send_batch_lent, publish_batch;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "OKKKKKKK:Calls", names, &message, &batch_free, &send, &send_lent,
                                     &channel_send, &channel_send_lent, &channel_send_batch_lent, &publish_batch))
        return NULL;
    accelerator_state *state = state_of(type);
    if (!PyType_Check(message) || !PyType_IsSubtype((PyTypeObject *)message, (PyTypeObject *)state->record)) {
        PyErr_SetString(PyExc_TypeError, "message must be a class derived from Record");
        return NULL;
    }
    calls *self = (calls *)PyType_GenericAlloc(type, 0);
    if (!self)
        return NULL;
    Py_INCREF(state->batch);
    self->batch = state->batch;
    Py_INCREF(message);
    self->message = message;
    self->free_batch = (batch_free_function)(uintptr_t)batch_free;
    self->send = (__typeof__(&peerbus_send))(uintptr_t)send;
    self->send_lent = (__typeof__(&peerbus_send_lent))(uintptr_t)send_lent;
    self->channel_send = (__typeof__(&peerbus_channel_send))(uintptr_t)channel_send;
    self->channel_send_lent = (__typeof__(&peerbus_channel_send_lent))(uintptr_t)channel_send_lent;
    self->channel_send_batch_lent = (__typeof__(&peerbus_channel_send_batch_lent))(uintptr_t)channel_send_batch_lent;
    self->publish_batch = (publish_function)(uintptr_t)publish_batch;
    return (PyObject *)self;
}

static void calls_dealloc(PyObject *object)
{
    calls *self = (calls *)object;
    PyTypeObject *type = Py_TYPE(object);
    Py_XDECREF(self->batch);
    Py_XDECREF(self->message);
    for (int i = 0; i < TEXTS; i++)
        Py_XDECREF(self->texts[i]);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

int pin(PyObject *data, Py_buffer *view)
{
    if (PyBytes_CheckExact(data)) { /* lie still as long as they live */
        Py_INCREF(data);
        view->obj = data;
        return PyBytes_AsStringAndSize(data, (char **)&view->buf, &view->len);
    }
    if (PyUnicode_Check(data)) {
        PyErr_SetString(PyExc_TypeError, "a payload is bytes, not str; encode the text first");
        return -1;
    }
    if (PyObject_GetBuffer(data, view, PyBUF_SIMPLE) == 0)
        return 0;
    if (PyErr_ExceptionMatches(PyExc_TypeError))
        return -1; /* no buffer at all; of one with gaps memoryview says BufferError, and NumPy ValueError */
    PyErr_Clear();
    PyObject *contiguous = PyMemoryView_GetContiguous(data, PyBUF_READ, 'C');
    if (!contiguous)
        return -1;
    PyObject *bytes = PyBytes_FromObject(contiguous);
    Py_DECREF(contiguous);
    int result = bytes ? PyObject_GetBuffer(bytes, view, PyBUF_SIMPLE) : -1;
    Py_XDECREF(bytes);
    return result;
}

void unpin(Py_buffer *view)
{
    if (view->obj && PyBytes_CheckExact(view->obj))
        Py_DECREF(view->obj);
    else
        PyBuffer_Release(view);
}

const void *address(const Py_buffer *view) { return view->buf ? view->buf : ""; }

int parse_int(PyObject *object, int *out)
{
    long value = PyLong_AsLong(object);
    if (value == -1 && PyErr_Occurred())
        return -1;
    *out = (int)value;
    return 0;
}

int expect(Py_ssize_t count, Py_ssize_t expected)
{
    if (count == expected)
        return 0;
    PyErr_Format(PyExc_TypeError, "expected %zd arguments, got %zd", expected, count);
    return -1;
}

int parse_message(PyObject *const *arguments, Py_ssize_t count, int *instance, const char **channel)
{
    if (expect(count, 3) || parse_int(arguments[0], instance))
        return -1;
    *channel = PyBytes_AsString(arguments[1]);
    return *channel ? 0 : -1;
}

/* send(instance, channel, data) -> 0 or a negative code. Never waits for room. */
static PyObject *calls_send(PyObject *object, PyObject *const *arguments, Py_ssize_t count)
{
    calls *self = (calls *)object;
    int instance, result;
    const char *channel;
    Py_buffer view;
    peerbus_loan loan;
    loans_end();
    if (parse_message(arguments, count, &instance, &channel))
        return NULL;
    if (loan_begin(arguments[2], &loan)) {
        Py_BEGIN_ALLOW_THREADS
        result = self->send_lent(instance, channel, &loan, 0);
        Py_END_ALLOW_THREADS
        loan_answered(&loan, result);
        return PyLong_FromLong(result);
    }
    if (pin(arguments[2], &view))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    result = self->send(instance, channel, address(&view), (size_t)view.len, 0);
    Py_END_ALLOW_THREADS
    unpin(&view);
    return PyLong_FromLong(result);
}

/* channel_send(instance, handle, data) -> the id of the message or a negative code. Never waits for room. */
static PyObject *calls_channel_send(PyObject *object, PyObject *const *arguments, Py_ssize_t count)
{
    calls *self = (calls *)object;
    int instance, handle, result;
    uint64_t id = 0;
    Py_buffer view;
    peerbus_loan loan;
    loans_end();
    if (expect(count, 3) || parse_int(arguments[0], &instance) || parse_int(arguments[1], &handle))
        return NULL;
    if (loan_begin(arguments[2], &loan)) {
        Py_BEGIN_ALLOW_THREADS
        result = self->channel_send_lent(instance, handle, &loan, 0, &id);
        Py_END_ALLOW_THREADS
        loan_answered(&loan, result);
    } else {
        if (pin(arguments[2], &view))
            return NULL;
        Py_BEGIN_ALLOW_THREADS
        result = self->channel_send(instance, handle, address(&view), (size_t)view.len, 0, &id);
        Py_END_ALLOW_THREADS
        unpin(&view);
    }
    return result < 0 ? PyLong_FromLong(result) : PyLong_FromUnsignedLongLong(id);
}

/* Payloads of a sequence, held in place for one call, and longer those that are lent. */
typedef struct {
    int count;
    Py_buffer *views;
    peerbus_loan *loans; /* without a release: copied */
} packed;

/* The end of a call that answered how many were taken, or a code. */
static void unpack(packed *self, int result)
{
    while (self->count > 0) {
        int i = --self->count;
        unpin(&self->views[i]);
        if (self->loans[i].release)
            loan_answered(&self->loans[i], result < 0 ? result : i < result ? PEERBUS_OK : PEERBUS_WOULD_BLOCK);
    }
    PyMem_Free(self->views);
    PyMem_Free(self->loans);
}

static int pack(packed *self, PyObject *payloads, int first, int count)
{
    self->count = 0;
    self->views = PyMem_Malloc((size_t)count * sizeof *self->views);
    self->loans = PyMem_Malloc((size_t)count * sizeof *self->loans);
    if (!self->views || !self->loans) {
        PyErr_NoMemory();
        goto failed;
    }
    for (int i = 0; i < count; i++) {
        PyObject *data = PySequence_GetItem(payloads, first + i);
        int result = data ? pin(data, &self->views[i]) : -1;
        if (!result && (self->views[i].len < LEND_FROM || !loan_begin(data, &self->loans[i])))
            self->loans[i] = (peerbus_loan){address(&self->views[i]), (size_t)self->views[i].len, NULL, NULL};
        Py_XDECREF(data);
        if (result)
            goto failed;
        self->count++;
    }
    return 0;
failed:
    unpack(self, PEERBUS_INVALID_ARGUMENT);
    return -1;
}

/* channel_send_many(instance, handle, payloads, first, count) -> (taken, id of the first one) or a negative code, of the messages
 * payloads[first : first + count]. Never waits for room. */
static PyObject *calls_channel_send_many(PyObject *object, PyObject *const *arguments, Py_ssize_t given)
{
    calls *self = (calls *)object;
    int instance, handle, first, count, result;
    uint64_t id = 0;
    packed messages;
    loans_end();
    if (expect(given, 5) || parse_int(arguments[0], &instance) || parse_int(arguments[1], &handle) ||
        parse_int(arguments[3], &first) || parse_int(arguments[4], &count) || pack(&messages, arguments[2], first, count))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    result = self->channel_send_batch_lent(instance, handle, messages.loans, messages.count, 0, &id);
    Py_END_ALLOW_THREADS
    unpack(&messages, result);
    return result < 0 ? PyLong_FromLong(result) : Py_BuildValue("iK", result, (unsigned long long)id);
}

static PyObject *calls_publish(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    return publish(((calls *)self)->publish_batch, arguments, count);
}

static PyObject *calls_publish_many(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    return publish_many(((calls *)self)->publish_batch, arguments, count);
}

/* The str of a text; the same one for each message of a channel. */
static PyObject *text(calls *self, const char *raw)
{
    uint32_t hash = 2166136261u;
    size_t length = 0;
    for (; raw[length]; length++)
        hash = (hash ^ (uint8_t)raw[length]) * 16777619u;
    PyObject **slot = &self->texts[(hash ^ hash >> 16) % TEXTS];
    if (*slot) {
        Py_ssize_t size;
        const char *known = PyUnicode_AsUTF8AndSize(*slot, &size);
        if (known && (size_t)size == length && memcmp(known, raw, length) == 0) {
            Py_INCREF(*slot);
            return *slot;
        }
        if (!known)
            PyErr_Clear();
    }
    PyObject *made = PyUnicode_DecodeUTF8(raw, (Py_ssize_t)length, "replace");
    if (made) {
        PyObject *before = *slot;
        Py_INCREF(made);
        *slot = made;
        Py_XDECREF(before);
    }
    return made;
}

/* A text of a message: that of the message before, if it lies at the same place. */
static PyObject *shared_text(calls *self, const char *raw, const char *raw_before, PyObject *before)
{
    if (before && raw == raw_before) {
        Py_INCREF(before);
        return before;
    }
    return text(self, raw);
}

static int fill(calls *self, record *made, const peerbus_message *message, const record *before)
{
    const peerbus_message *last = before ? message - 1 : message;
    made->sender = shared_text(self, message->from, last->from, before ? before->sender : NULL);
    made->channel = shared_text(self, message->channel, last->channel, before ? before->channel : NULL);
    made->protocol = shared_text(self, message->protocol, last->protocol, before ? before->protocol : NULL);
    if (message->flags & PEERBUS_VERIFIED)
        made->node_id = text(self, message->node_id);
    if (PyErr_Occurred())
        return -1;
    made->gap = message->gap;
    made->id = message->id;
    made->inspector = (message->flags & PEERBUS_INSPECTOR) != 0;
    return 0;
}

/* A message whose payload lies in memory, which starts there. The garbage collector, which looks at all young objects again and
 * again while a large batch comes, has no use for it: it would not look inside. */
static record *new_message(calls *self, const peerbus_message *message, PyObject *memory, const uint8_t *start)
{
    record *made = (record *)PyType_GenericAlloc((PyTypeObject *)self->message, 0);
    if (!made)
        return NULL;
    PyObject_GC_UnTrack(made);
    Py_INCREF(memory);
    made->memory = memory;
    made->start = message->data;
    made->offset = message->data - start;
    made->size = (Py_ssize_t)message->size;
    return made;
}

static PyObject *messages_of(calls *self, const peerbus_batch *batch, PyObject *memory, const uint8_t *start)
{
    PyObject *list = PyList_New((Py_ssize_t)batch->count);
    record *before = NULL;
    for (uint64_t i = 0; list && i < batch->count; i++) {
        record *made = new_message(self, &batch->messages[i], memory, start);
        if (made)
            PyList_SetItem(list, (Py_ssize_t)i, (PyObject *)made);
        if (!made || fill(self, made, &batch->messages[i], before)) {
            Py_CLEAR(list);
            break;
        }
        before = made;
    }
    return list;
}

/* messages(batch) -> the messages of a batch, which it takes over; None, and nothing taken over, if one is to be confirmed. */
static PyObject *calls_messages(PyObject *object, PyObject *argument)
{
    calls *self = (calls *)object;
    peerbus_batch *batch = PyLong_AsVoidPtr(argument);
    if (!batch && PyErr_Occurred())
        return NULL;
    loans_end();
    for (uint64_t i = 0; i < batch->count; i++)
        if (batch->messages[i].flags & ~(uint64_t)PLAIN_FLAGS)
            Py_RETURN_NONE;
    const uint8_t *start;
    PyObject *memory = batch_memory(self->batch, batch, self->free_batch, &start);
    PyObject *list = memory ? messages_of(self, batch, memory, start) : NULL;
    Py_XDECREF(memory);
    return list;
}

static PyMethodDef calls_methods[] = {
    {"send", (PyCFunction)(void (*)(void))calls_send, METH_FASTCALL, NULL},
    {"channel_send", (PyCFunction)(void (*)(void))calls_channel_send, METH_FASTCALL, NULL},
    {"channel_send_many", (PyCFunction)(void (*)(void))calls_channel_send_many, METH_FASTCALL, NULL},
    {"publish", (PyCFunction)(void (*)(void))calls_publish, METH_FASTCALL, NULL},
    {"publish_many", (PyCFunction)(void (*)(void))calls_publish_many, METH_FASTCALL, NULL},
    {"messages", calls_messages, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot calls_slots[] = {
    {Py_tp_new, calls_new},
    {Py_tp_dealloc, calls_dealloc},
    {Py_tp_methods, calls_methods},
    {0, NULL},
};

PyType_Spec calls_spec = {
    .name = "peerbus._accelerator.Calls",
    .basicsize = sizeof(calls),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = calls_slots,
};
