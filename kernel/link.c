/* From scores to answers: the links of `train/link.py`. */
#include "kernel.h"

#include <math.h>
#include <string.h>

/* exp(700) is near 1e304: a wild extrapolation of a logarithm stays a number that JSON can say */
#define LARGEST_LOGARITHM 700.0

static void softmax(double *row, Py_ssize_t n)
{
    double greatest = row[0];
    for (Py_ssize_t k = 1; k < n; k++)
        if (row[k] > greatest || row[k] != row[k])
            greatest = row[k];
    double total = 0.0;
    for (Py_ssize_t k = 0; k < n; k++) {
        row[k] = exp(row[k] - greatest);
        total = k ? total + row[k] : row[k];
    }
    for (Py_ssize_t k = 0; k < n; k++)
        row[k] /= total;
}

static double sigmoid(double score)
{
    double small = exp(-fabs(score)); /* exp of a negative number never overflows */
    return (score >= 0 ? 1.0 : small) / (1.0 + small);
}

void link_scores(double *scores, Py_ssize_t n, Py_ssize_t n_outputs, char link)
{
    if (link == 'e')
        for (Py_ssize_t i = 0; i < n; i++)
            scores[i] = exp(scores[i] > LARGEST_LOGARITHM ? LARGEST_LOGARITHM : scores[i]);
    else if (link == 's')
        for (Py_ssize_t i = 0; i < n; i++)
            scores[i] = sigmoid(scores[i]);
    else if (link == 'x')
        for (Py_ssize_t i = 0; i < n; i += n_outputs)
            softmax(scores + i, n_outputs);
}

PyObject *linked(PyObject *module, PyObject *args)
{
    PyObject *scores;
    const char *link;
    Py_ssize_t n_outputs;
    Array array;
    (void)module;
    if (!PyArg_ParseTuple(args, "Osn", &scores, &link, &n_outputs))
        return NULL;
    if (held_array(&array, scores, 'd', -1, 1, "scores") < 0)
        return NULL;
    Py_ssize_t n = array_length(&array);
    int is_softmax = strcmp(link, "softmax") == 0;
    int is_known = is_softmax ? n_outputs > 0 && n % n_outputs == 0
                              : strcmp(link, "exp") == 0 || strcmp(link, "sigmoid") == 0;
    if (is_known)
        link_scores(array.view.buf, n, n_outputs, is_softmax ? 'x' : *link);
    release_array(&array);
    if (!is_known) {
        PyErr_Format(PyExc_ValueError, "no link %s for %zd outputs", link, n_outputs);
        return NULL;
    }
    return Py_NewRef(Py_None);
}
