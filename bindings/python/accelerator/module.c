#include "accelerator.h"

accelerator_state *state_of(PyTypeObject *type) { return PyType_GetModuleState(type); }

static PyObject *add_type(PyObject *module, PyType_Spec *spec, const char *name)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    if (type && name) {
        Py_INCREF(type);
        if (PyModule_AddObject(module, name, type) < 0) {
            Py_DECREF(type);
            Py_CLEAR(type);
        }
    }
    return type;
}

static int execute(PyObject *module)
{
    accelerator_state *state = PyModule_GetState(module);
    state->batch = add_type(module, &batch_spec, NULL);
    state->record = add_type(module, &record_spec, "Record");
    PyObject *calls = add_type(module, &calls_spec, "Calls");
    Py_XDECREF(calls);
    if (!state->batch || !state->record || !calls)
        return -1;
    return PyModule_AddIntConstant(module, "ABI", PEERBUS_ABI);
}

static int traverse(PyObject *module, visitproc visit, void *arg)
{
    accelerator_state *state = PyModule_GetState(module);
    Py_VISIT(state->batch);
    Py_VISIT(state->record);
    return 0;
}

static int clear(PyObject *module)
{
    accelerator_state *state = PyModule_GetState(module);
    Py_CLEAR(state->batch);
    Py_CLEAR(state->record);
    return 0;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, execute}, {0, NULL}};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "peerbus._accelerator",
    .m_size = sizeof(accelerator_state),
    .m_slots = slots,
    .m_traverse = traverse,
    .m_clear = clear,
};

PyMODINIT_FUNC PyInit__accelerator(void) { return PyModuleDef_Init(&definition); }
