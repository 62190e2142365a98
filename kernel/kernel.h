/* What the files of the kernel share. See docs/decisions/0006-a-compiled-row-path.md. */
#ifndef LOOPWRIGHT_KERNEL_H
#define LOOPWRIGHT_KERNEL_H

#define PY_SSIZE_T_CLEAN
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030b0000
#endif
#include <Python.h>
#include <stdint.h>

/* A view of a caller's array; `release_array` may be called on one that was never filled. */
typedef struct {
    Py_buffer view;
    int held;
} Array;

/* Fill `array` with a C-contiguous view of `object`, whose items have the format `format` ('d', 'i', 'q', 'B');
   `n` items, or any number where n < 0. Returns -1 with an exception where it is something else. */
int held_array(Array *array, PyObject *object, char format, Py_ssize_t n, int writable, const char *name);
void release_array(Array *array);
Py_ssize_t array_length(const Array *array);

/* Fill views of features (n_rows, n_features) and of scores (n_rows, n_outputs), which will be written.
   Returns -1 with an exception, and holds neither, where they do not fit. */
int held_rows(Array *X, Array *out, PyObject *args, Py_ssize_t n_features, Py_ssize_t n_outputs,
              Py_ssize_t *n_rows);

/* NumPy's sum of a contiguous row: in pairs, in blocks of at most 128 with eight partial sums. */
double summed(const double *a, Py_ssize_t n);

PyObject *linked(PyObject *module, PyObject *args);

/* Replace `n` scores by answers: i(dentity), e(xp), s(igmoid), or softma(x) over every `n_outputs`. */
void link_scores(double *scores, Py_ssize_t n, Py_ssize_t n_outputs, char link);

/* Trees and weighted sums, asked without arrays of Python's. `..._of` says whether an object is one, and how
   many features and outputs it has; `..._scored` returns 0 with an exception where there is no memory. */
int trees_of(PyObject *object, Py_ssize_t *n_features, Py_ssize_t *n_outputs);
int trees_scored(PyObject *trees, const double *X, Py_ssize_t n_rows, double *out);
int linear_of(PyObject *object, Py_ssize_t *n_features, Py_ssize_t *n_outputs);
int linear_scored(PyObject *linear, const double *X, Py_ssize_t n_rows, double *out);

extern PyType_Spec trees_spec;
extern PyType_Spec linear_spec;
extern PyType_Spec points_spec;
extern PyType_Spec rows_spec;
extern PyType_Spec plan_spec;

#endif
