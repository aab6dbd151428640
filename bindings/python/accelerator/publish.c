#include "accelerator.h"

/* publish(instance, channel, data) -> (id, peers, missed) or a negative code. Never waits for room. */
PyObject *publish(publish_function function, PyObject *const *arguments, Py_ssize_t given)
{
    int instance, result;
    const char *channel;
    peerbus_publication publication;
    Py_buffer view;
    if (parse_message(arguments, given, &instance, &channel) || pin(arguments[2], &view))
        return NULL;
    peerbus_slice slice = {address(&view), (size_t)view.len};
    Py_BEGIN_ALLOW_THREADS
    result = function(instance, channel, &slice, 1, 0, &publication);
    Py_END_ALLOW_THREADS
    unpin(&view);
    if (result < 0)
        return PyLong_FromLong(result);
    return Py_BuildValue("KKK", publication.id, publication.peers, publication.missed);
}

/* Payloads held in place for one call, and room for what becomes of them. */
typedef struct {
    int count;
    Py_buffer *views;
    peerbus_slice *slices;
    PyObject *publications; /* bytes */
} list;

static void release(list *self)
{
    while (self->count > 0)
        unpin(&self->views[--self->count]);
    PyMem_Free(self->views);
    PyMem_Free(self->slices);
    Py_CLEAR(self->publications);
}

static int hold(list *self, PyObject *payloads, int first, int count)
{
    self->count = 0;
    self->views = PyMem_Malloc((size_t)count * sizeof *self->views);
    self->slices = PyMem_Malloc((size_t)count * sizeof *self->slices);
    self->publications = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)count * (Py_ssize_t)sizeof(peerbus_publication));
    if (!self->views || !self->slices)
        PyErr_NoMemory();
    for (int i = 0; i < count && !PyErr_Occurred(); i++) {
        PyObject *data = PySequence_GetItem(payloads, first + i);
        if (data && !pin(data, &self->views[i])) {
            self->slices[i] = (peerbus_slice){address(&self->views[i]), (size_t)self->views[i].len};
            self->count++;
        }
        Py_XDECREF(data);
    }
    if (!PyErr_Occurred())
        return 0;
    release(self);
    return -1;
}

/* publish_many(instance, channel, payloads, first, count, timeout_ms) -> the peerbus_publication of those of the messages
 * payloads[first : first + count] that were published, as bytes, or a negative code. */
PyObject *publish_many(publish_function function, PyObject *const *arguments, Py_ssize_t given)
{
    int instance, first, count, timeout, result;
    list messages;
    if (expect(given, 6) || parse_int(arguments[0], &instance) || parse_int(arguments[3], &first) ||
        parse_int(arguments[4], &count) || parse_int(arguments[5], &timeout))
        return NULL;
    const char *channel = PyBytes_AsString(arguments[1]);
    if (!channel || hold(&messages, arguments[2], first, count))
        return NULL;
    peerbus_publication *out = (peerbus_publication *)PyBytes_AsString(messages.publications);
    Py_BEGIN_ALLOW_THREADS
    result = function(instance, channel, messages.slices, count, timeout, out);
    Py_END_ALLOW_THREADS
    PyObject *answer = result < 0 ? PyLong_FromLong(result)
                                  : PyBytes_FromStringAndSize((char *)out, result * (Py_ssize_t)sizeof *out);
    release(&messages);
    return answer;
}
