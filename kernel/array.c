/* Views of arrays that Python hands in: their type and length are checked before they are read. */
#include "kernel.h"

#include <string.h>

static int is_format(const char *found, char wanted)
{
    if (found == NULL)
        return wanted == 'B';
    if (*found == '@' || *found == '=')
        found++;
    if (found[0] == '\0' || found[1] != '\0')
        return 0;
    if (wanted == 'i') /* a 32-bit whole number, by whichever name */
        return (found[0] == 'i' && sizeof(int) == 4) || (found[0] == 'l' && sizeof(long) == 4);
    if (wanted == 'q')
        return found[0] == 'q' || (found[0] == 'l' && sizeof(long) == 8);
    if (wanted == 'B')
        return found[0] == 'B' || found[0] == '?';
    return found[0] == wanted;
}

int held_array(Array *array, PyObject *object, char format, Py_ssize_t n, int writable, const char *name)
{
    int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0);

    array->held = 0;
    if (PyObject_GetBuffer(object, &array->view, flags) < 0)
        return -1;
    array->held = 1;
    if (!is_format(array->view.format, format)) {
        PyErr_Format(PyExc_TypeError, "%s holds items of type %s, not %c", name,
                     array->view.format ? array->view.format : "B", format);
        release_array(array);
        return -1;
    }
    if (n >= 0 && array_length(array) != n) {
        PyErr_Format(PyExc_ValueError, "%s has %zd items, not %zd", name, array_length(array), n);
        release_array(array);
        return -1;
    }
    return 0;
}

void release_array(Array *array)
{
    if (array->held)
        PyBuffer_Release(&array->view);
    array->held = 0;
}

Py_ssize_t array_length(const Array *array)
{
    return array->view.len / array->view.itemsize;
}

int held_rows(Array *X, Array *out, PyObject *args, Py_ssize_t n_features, Py_ssize_t n_outputs,
              Py_ssize_t *n_rows)
{
    PyObject *features, *scores;
    if (!PyArg_ParseTuple(args, "OO", &features, &scores) ||
        held_array(X, features, 'd', -1, 0, "features") < 0)
        return -1;
    *n_rows = array_length(X) / n_features;
    if (array_length(X) != *n_rows * n_features) {
        PyErr_SetString(PyExc_ValueError, "the features are no whole rows");
    } else if (held_array(out, scores, 'd', *n_rows * n_outputs, 1, "scores") == 0) {
        return 0;
    }
    release_array(X);
    return -1;
}
