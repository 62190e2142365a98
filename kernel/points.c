/* The nearest of many points: those that `train/knn_predictor.py` finds, nearest first. */
#include "kernel.h"

#include <math.h>
#include <string.h>

/* so many coordinates are added before a point is given up */
#define STRIDE 16
/* more than rounding can make of a sum of squares, relative to it */
#define ROOM 1e-9

typedef struct {
    PyObject_HEAD
    Array points; /* (n_points, n_features), held as long as this lives */
    Py_ssize_t n_features;
} Points;

/* The nearest found so far: a heap with the farthest of them on top. */
typedef struct {
    double squared;
    int64_t point;
} Found;

static inline int is_nearer(Found a, Found b)
{
    return a.squared < b.squared || (a.squared == b.squared && a.point < b.point);
}

static void sunk(Found *heap, Py_ssize_t n, Py_ssize_t at)
{
    for (;;) {
        Py_ssize_t below = 2 * at + 1;
        if (below >= n)
            return;
        if (below + 1 < n && is_nearer(heap[below], heap[below + 1]))
            below++;
        if (!is_nearer(heap[at], heap[below]))
            return;
        Found other = heap[at];
        heap[at] = heap[below];
        heap[below] = other;
        at = below;
    }
}

/* Return whether a point may be nearer than `limit`; what is added here only rules points out. */
static inline int may_be_near(const double *x, const double *point, Py_ssize_t n, double limit)
{
    double total = 0.0;
    for (Py_ssize_t start = 0; start < n; start += STRIDE) {
        Py_ssize_t end = n - start < STRIDE ? n : start + STRIDE;
        double even = 0.0, odd = 0.0;
        Py_ssize_t i = start;
        for (; i + 1 < end; i += 2) {
            double a = x[i] - point[i], b = x[i + 1] - point[i + 1];
            even += a * a;
            odd += b * b;
        }
        if (i < end)
            even += (x[i] - point[i]) * (x[i] - point[i]);
        total += even + odd;
        if (total > limit)
            return 0;
    }
    return 1;
}

static double squared_distance(const double *x, const double *point, Py_ssize_t n, double *squares)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        double difference = x[i] - point[i];
        squares[i] = difference * difference;
    }
    return summed(squares, n);
}

/* Fill `heap` with the k nearest of the points from `first` to before `end`, nearest first. */
static void nearest_of(const Points *points, const double *x, Py_ssize_t first, Py_ssize_t end, Py_ssize_t k,
                       Found *heap, double *squares)
{
    Py_ssize_t n = points->n_features, held = 0;
    const double *all = points->points.view.buf;
    double limit = INFINITY;
    for (Py_ssize_t p = first; p < end; p++) {
        const double *point = all + p * n;
        if (held == k && !may_be_near(x, point, n, limit))
            continue;
        Found found = {squared_distance(x, point, n, squares), p};
        if (held < k) {
            heap[held++] = found;
            if (held == k)
                for (Py_ssize_t at = k / 2; at-- > 0;)
                    sunk(heap, k, at);
        } else if (is_nearer(found, heap[0])) {
            heap[0] = found;
            sunk(heap, k, 0);
        }
        if (held == k)
            limit = heap[0].squared + ROOM * heap[0].squared;
    }
    for (Py_ssize_t left = held; left > 1;) { /* the farthest goes to the end, again and again */
        left--;
        Found other = heap[0];
        heap[0] = heap[left];
        heap[left] = other;
        sunk(heap, left, 0);
    }
}

static PyObject *points_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"points", "n_features", NULL};
    PyObject *given;
    Py_ssize_t n_features;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "On", names, &given, &n_features))
        return NULL;
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Points *points = (Points *)alloc(type, 0);
    if (points == NULL)
        return NULL;
    points->n_features = n_features;
    if (held_array(&points->points, given, 'd', -1, 0, "points") < 0) {
        Py_DECREF(points);
        return NULL;
    }
    if (n_features < 1 || array_length(&points->points) % n_features) {
        Py_DECREF(points);
        PyErr_SetString(PyExc_ValueError, "the points are no whole rows");
        return NULL;
    }
    return (PyObject *)points;
}

static void points_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    release_array(&((Points *)self)->points);
    freefunc free_ = (freefunc)PyType_GetSlot(type, Py_tp_free);
    free_(self);
    Py_DECREF(type);
}

static void found_by_row(const Points *points, const double *X, Py_ssize_t n_rows, Py_ssize_t first,
                         Py_ssize_t end, Py_ssize_t k, Found *heap, double *squares, int64_t *places,
                         double *squared)
{
    for (Py_ssize_t r = 0; r < n_rows; r++) {
        nearest_of(points, X + r * points->n_features, first, end, k, heap, squares);
        for (Py_ssize_t i = 0; i < k; i++) {
            places[r * k + i] = heap[i].point;
            squared[r * k + i] = heap[i].squared;
        }
    }
}

static PyObject *points_nearest(PyObject *self, PyObject *args)
{
    const Points *points = (const Points *)self;
    PyObject *features, *places, *distances;
    Py_ssize_t first, end, k;
    Array a[3] = {{.held = 0}, {.held = 0}, {.held = 0}};
    if (!PyArg_ParseTuple(args, "OnnnOO", &features, &first, &end, &k, &places, &distances))
        return NULL;
    Py_ssize_t n_points = array_length(&points->points) / points->n_features;
    if (first < 0 || end > n_points || k < 1 || k > end - first) {
        PyErr_SetString(PyExc_ValueError, "there are not so many points");
        return NULL;
    }
    int is_done = 0;
    Found *heap = PyMem_Malloc((size_t)k * sizeof(Found));
    double *squares = PyMem_Malloc((size_t)points->n_features * sizeof(double));
    if (heap == NULL || squares == NULL) {
        PyErr_NoMemory();
    } else if (held_array(&a[0], features, 'd', -1, 0, "features") == 0) {
        Py_ssize_t n_rows = array_length(&a[0]) / points->n_features;
        if (array_length(&a[0]) != n_rows * points->n_features) {
            PyErr_SetString(PyExc_ValueError, "the features are no whole rows");
        } else if (held_array(&a[1], places, 'q', n_rows * k, 1, "places") == 0 &&
                   held_array(&a[2], distances, 'd', n_rows * k, 1, "distances") == 0) {
            Py_BEGIN_ALLOW_THREADS
            found_by_row(points, a[0].view.buf, n_rows, first, end, k, heap, squares, a[1].view.buf,
                         a[2].view.buf);
            Py_END_ALLOW_THREADS
            is_done = 1;
        }
    }
    PyMem_Free(heap);
    PyMem_Free(squares);
    for (int i = 0; i < 3; i++)
        release_array(&a[i]);
    return is_done ? Py_NewRef(Py_None) : NULL;
}

static PyMethodDef methods[] = {
    {"nearest", points_nearest, METH_VARARGS,
     "nearest(features, first, end, k, places, squared): fill places and squared distances (n_rows, k) with "
     "the nearest points from first to before end; of equally near ones the first."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "The nearest of many points; see train/knn_predictor.py."},
    {Py_tp_new, points_new},
    {Py_tp_dealloc, points_dealloc},
    {Py_tp_methods, methods},
    {0, NULL},
};

PyType_Spec points_spec = {"loopwright.core._kernel.Points", sizeof(Points), 0, Py_TPFLAGS_DEFAULT, slots};
