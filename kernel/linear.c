/* Weighted sums: the arithmetic of `train/linear_predictor.py`, in the order in which NumPy adds. */
#include "kernel.h"

#include <string.h>

#define LARGEST 1e100
#define BLOCK 128

typedef struct {
    PyObject_HEAD
    double *coefficients; /* (n_outputs, n_features) */
    double *intercepts;
    Py_ssize_t n_outputs, n_features;
} Linear;

static PyObject *linear_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"coefficients", "intercepts", NULL};
    PyObject *given[2];
    Array coefficients, intercepts;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO", names, &given[0], &given[1]))
        return NULL;
    if (held_array(&coefficients, given[0], 'd', -1, 0, "coefficients") < 0)
        return NULL;
    if (held_array(&intercepts, given[1], 'd', -1, 0, "intercepts") < 0) {
        release_array(&coefficients);
        return NULL;
    }
    Linear *linear = NULL;
    Py_ssize_t n_outputs = array_length(&intercepts), n = array_length(&coefficients);
    if (n_outputs < 1 || n < n_outputs || n % n_outputs) {
        PyErr_SetString(PyExc_ValueError, "the coefficients do not go with the intercepts");
        goto end;
    }
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    linear = (Linear *)alloc(type, 0);
    if (linear == NULL)
        goto end;
    linear->n_outputs = n_outputs;
    linear->n_features = n / n_outputs;
    linear->coefficients = PyMem_Malloc((size_t)n * sizeof(double));
    linear->intercepts = PyMem_Malloc((size_t)n_outputs * sizeof(double));
    if (linear->coefficients == NULL || linear->intercepts == NULL) {
        Py_DECREF(linear);
        linear = (Linear *)PyErr_NoMemory();
        goto end;
    }
    memcpy(linear->coefficients, coefficients.view.buf, (size_t)n * sizeof(double));
    memcpy(linear->intercepts, intercepts.view.buf, (size_t)n_outputs * sizeof(double));
end:
    release_array(&coefficients);
    release_array(&intercepts);
    return (PyObject *)linear;
}

static void linear_dealloc(PyObject *self)
{
    Linear *linear = (Linear *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyMem_Free(linear->coefficients);
    PyMem_Free(linear->intercepts);
    freefunc free_ = (freefunc)PyType_GetSlot(type, Py_tp_free);
    free_(self);
    Py_DECREF(type);
}

double summed(const double *a, Py_ssize_t n)
{
    if (n < 8) {
        double total = -0.0;
        for (Py_ssize_t i = 0; i < n; i++)
            total += a[i];
        return total;
    }
    if (n <= BLOCK) {
        double r[8];
        Py_ssize_t i;
        for (int k = 0; k < 8; k++)
            r[k] = a[k];
        for (i = 8; i < n - n % 8; i += 8)
            for (int k = 0; k < 8; k++)
                r[k] += a[i + k];
        double total = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
        for (; i < n; i++)
            total += a[i];
        return total;
    }
    Py_ssize_t half = n / 2;
    half -= half % 8;
    return summed(a, half) + summed(a + half, n - half);
}

static inline double completed(double x)
{
    if (x != x)
        return 0.0;
    return x > LARGEST ? LARGEST : (x < -LARGEST ? -LARGEST : x);
}

int linear_of(PyObject *object, Py_ssize_t *n_features, Py_ssize_t *n_outputs)
{
    if (PyType_GetSlot(Py_TYPE(object), Py_tp_new) != (void *)linear_new)
        return 0;
    *n_features = ((Linear *)object)->n_features;
    *n_outputs = ((Linear *)object)->n_outputs;
    return 1;
}

int linear_scored(PyObject *object, const double *X, Py_ssize_t n_rows, double *out)
{
    const Linear *linear = (const Linear *)object;
    Py_ssize_t n_features = linear->n_features;
    double *products = PyMem_Malloc((size_t)n_features * sizeof(double));
    if (products == NULL) {
        PyErr_NoMemory();
        return 0;
    }
    for (Py_ssize_t r = 0; r < n_rows; r++) {
        const double *x = X + r * n_features;
        for (Py_ssize_t k = 0; k < linear->n_outputs; k++) {
            const double *weight = linear->coefficients + k * n_features;
            for (Py_ssize_t i = 0; i < n_features; i++)
                products[i] = completed(x[i]) * weight[i];
            out[r * linear->n_outputs + k] = summed(products, n_features) + linear->intercepts[k];
        }
    }
    PyMem_Free(products);
    return 1;
}

static PyObject *linear_score(PyObject *self, PyObject *args)
{
    const Linear *linear = (Linear *)self;
    Array X, out;
    Py_ssize_t n_rows;
    if (held_rows(&X, &out, args, linear->n_features, linear->n_outputs, &n_rows) < 0)
        return NULL;
    int is_done = linear_scored(self, X.view.buf, n_rows, out.view.buf);
    release_array(&X);
    release_array(&out);
    return is_done ? Py_NewRef(Py_None) : NULL;
}

static PyMethodDef methods[] = {
    {"score", linear_score, METH_VARARGS, "score(features, scores): fill scores (n_rows, n_outputs)."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Weighted sums of features; see train/linear_predictor.py."},
    {Py_tp_new, linear_new},
    {Py_tp_dealloc, linear_dealloc},
    {Py_tp_methods, methods},
    {0, NULL},
};

PyType_Spec linear_spec = {"loopwright.core._kernel.Linear", sizeof(Linear), 0, Py_TPFLAGS_DEFAULT, slots};
