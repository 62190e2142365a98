/* The module `loopwright.core._kernel`: what costs most when a model answers, in C. */
#include "kernel.h"

/* what the kernel and its callers agree on; see core/kernel.py */
#define VERSION 2

static PyMethodDef functions[] = {
    {"linked", linked, METH_VARARGS, "linked(scores, link, n_outputs): answers in the place of scores."},
    {NULL, NULL, 0, NULL},
};

static int filled(PyObject *module)
{
    static const struct {
        const char *name;
        PyType_Spec *spec;
    } types[] = {{"Trees", &trees_spec}, {"Linear", &linear_spec}, {"Points", &points_spec}, {"Rows", &rows_spec},
                 {"Plan", &plan_spec}};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        PyObject *type = PyType_FromSpec(types[i].spec);
        if (type == NULL || PyModule_AddObjectRef(module, types[i].name, type) < 0) {
            Py_XDECREF(type);
            return -1;
        }
        Py_DECREF(type);
    }
    return PyModule_AddIntConstant(module, "VERSION", VERSION);
}

static const char doc[] = "What costs most when a model answers, in C; see core/kernel.py.";

static PyModuleDef_Slot slots[] = {{Py_mod_exec, filled}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "loopwright.core._kernel", doc, 0, functions, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__kernel(void)
{
    return PyModuleDef_Init(&definition);
}
