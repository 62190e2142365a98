/* Values to and from Python. */
#include "plan.h"

PyObject *to_python(const Value *value)
{
    switch (value->kind) {
    case 'n':
        return PyFloat_FromDouble(value->x);
    case 'b':
        return PyBool_FromLong(value->x != 0.0);
    case 't':
        return PyUnicode_FromStringAndSize(value->text, value->n);
    case 'o':
        return Py_NewRef(value->object);
    default:
        return Py_NewRef(Py_None);
    }
}

int from_python(Value *value, PyObject *object, PyObject *keep)
{
    *value = (Value){.kind = '-'};
    if (object == Py_None)
        return 0;
    if (PyBool_Check(object)) {
        value->kind = 'b';
        value->x = object == Py_True;
        return 0;
    }
    if (PyFloat_CheckExact(object) || PyLong_CheckExact(object)) {
        value->kind = 'n';
        value->x = PyFloat_AsDouble(object);
        return value->x == -1.0 && PyErr_Occurred() ? -1 : 0;
    }
    if (PyList_Append(keep, object) < 0)
        return -1;
    value->object = object;
    value->kind = 'o';
    if (PyUnicode_CheckExact(object)) {
        value->kind = 't';
        value->text = PyUnicode_AsUTF8AndSize(object, &value->n);
        return value->text == NULL ? -1 : 0;
    }
    return 0;
}
