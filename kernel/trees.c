/* Trees: the walk of `train/trees_predictor.py`, with the same arithmetic to the last bit. */
#include "packed.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* so many walks go on at once: one waits for memory while the others compute */
#define LANES 8
#define BLOCK_ROWS 32
/* LightGBM's kZeroThreshold, 1e-35 as a 32-bit float */
#define ALMOST_ZERO 0x1.a95a5cp-117
#define WORTH_RELEASING 200000

typedef struct {
    PyObject_HEAD
    Node *nodes;
    Packed *packed; /* the same, smaller; NULL where that cannot be */
    double *values; /* (n_nodes) or (n_nodes, n_outputs) */
    int32_t *roots;
    int32_t *outputs;
    int32_t *depths;
    double *base;
    double *divisors;
    Py_ssize_t n_nodes, n_trees, n_outputs, n_features;
    int all_outputs;     /* every tree adds to every output */
    int single_sums;     /* sums are rounded to 32 bits after every tree */
    int single_features; /* features are rounded to 32 bits */
    int or_equal;        /* left where feature <= threshold */
    int averaged;
} Trees;

static int filled(Trees *trees, PyObject **given);

static PyObject *trees_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"feature", "left", "right", "threshold", "missing_left", "zero_missing",
                            "value", "roots", "outputs", "base", "n_features", "single_sums",
                            "single_features", "or_equal", "averaged", NULL};
    PyObject *given[10];
    Py_ssize_t n_features;
    int single_sums, single_features, or_equal, averaged;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOOOOOOOnpppp", names, &given[0], &given[1], &given[2],
                                     &given[3], &given[4], &given[5], &given[6], &given[7], &given[8],
                                     &given[9], &n_features, &single_sums, &single_features, &or_equal,
                                     &averaged))
        return NULL;
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Trees *trees = (Trees *)alloc(type, 0);
    if (trees == NULL)
        return NULL;
    trees->n_features = n_features;
    trees->single_sums = single_sums;
    trees->single_features = single_features;
    trees->or_equal = or_equal;
    trees->averaged = averaged;
    if (filled(trees, given) < 0) {
        Py_DECREF(trees);
        return NULL;
    }
    return (PyObject *)trees;
}

static void *copied(const Array *array)
{
    void *copy = PyMem_Malloc(array->view.len ? (size_t)array->view.len : 1);
    if (copy == NULL)
        PyErr_NoMemory();
    else
        memcpy(copy, array->view.buf, (size_t)array->view.len);
    return copy;
}

/* Set the depth of every tree; children come after their parent, so one pass from the end is enough. */
static int measured(Trees *trees)
{
    int32_t *height = PyMem_Calloc((size_t)trees->n_nodes, sizeof(int32_t));
    trees->depths = PyMem_Malloc((size_t)trees->n_trees * sizeof(int32_t));
    if (height == NULL || trees->depths == NULL) {
        PyMem_Free(height);
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = trees->n_nodes - 1; i >= 0; i--) {
        const Node *node = &trees->nodes[i];
        if (node->child[0] == i)
            continue;
        int32_t right = height[node->child[0]], left = height[node->child[1]];
        height[i] = 1 + (left > right ? left : right);
    }
    for (Py_ssize_t t = 0; t < trees->n_trees; t++)
        trees->depths[t] = height[trees->roots[t]];
    PyMem_Free(height);
    return 0;
}

/* Refuse what would read outside the arrays or walk for ever, whoever calls. */
static int checked(const Trees *trees)
{
    for (Py_ssize_t i = 0; i < trees->n_nodes; i++) {
        const Node *node = &trees->nodes[i];
        int is_leaf = node->child[0] == i && node->child[1] == i;
        if (node->feature < 0 || node->feature >= trees->n_features)
            return -1;
        for (int side = 0; side < 2; side++)
            if (!is_leaf && (node->child[side] <= i || node->child[side] >= trees->n_nodes))
                return -1;
    }
    for (Py_ssize_t t = 0; t < trees->n_trees; t++) {
        if (trees->roots[t] < 0 || trees->roots[t] >= trees->n_nodes)
            return -1;
        if (trees->outputs[t] < 0 || trees->outputs[t] >= trees->n_outputs)
            return -1;
    }
    return 0;
}

static int with_nodes(Trees *trees, Array *a)
{
    const int32_t *feature = a[0].view.buf, *left = a[1].view.buf, *right = a[2].view.buf;
    const double *threshold = a[3].view.buf;
    const uint8_t *missing_left = a[4].view.buf, *zero_missing = a[5].view.buf;
    trees->nodes = PyMem_Malloc((size_t)trees->n_nodes * sizeof(Node));
    if (trees->nodes == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < trees->n_nodes; i++)
        trees->nodes[i] = (Node){threshold[i], feature[i], missing_left[i] != 0, zero_missing[i] != 0,
                                 {right[i], left[i]}};
    return 0;
}

static int with_divisors(Trees *trees)
{
    trees->divisors = PyMem_Calloc((size_t)trees->n_outputs, sizeof(double));
    if (trees->divisors == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t t = 0; t < trees->n_trees; t++)
        trees->divisors[trees->outputs[t]] += 1.0;
    for (Py_ssize_t k = 0; k < trees->n_outputs; k++)
        if (trees->all_outputs)
            trees->divisors[k] = (double)trees->n_trees;
        else if (trees->divisors[k] < 1.0)
            trees->divisors[k] = 1.0;
    return 0;
}

static int filled(Trees *trees, PyObject **given)
{
    static const char *names[] = {"feature", "left", "right", "threshold", "missing_left", "zero_missing",
                                  "value", "roots", "outputs", "base"};
    static const char formats[] = "iiidBBdiid";
    Array a[10];
    int outcome = -1;
    memset(a, 0, sizeof(a));
    for (int i = 0; i < 10; i++) {
        Py_ssize_t n = (i >= 1 && i <= 5) ? array_length(&a[0]) : (i == 8 ? array_length(&a[7]) : -1);
        if (held_array(&a[i], given[i], formats[i], n, 0, names[i]) < 0)
            goto end;
    }
    trees->n_nodes = array_length(&a[0]);
    trees->n_trees = array_length(&a[7]);
    trees->n_outputs = array_length(&a[9]);
    Py_ssize_t n_values = array_length(&a[6]);
    trees->all_outputs = n_values != trees->n_nodes || a[6].view.ndim == 2;
    if (trees->n_nodes < 1 || trees->n_nodes > INT32_MAX || trees->n_trees < 1 || trees->n_outputs < 1 ||
        n_values != trees->n_nodes * (trees->all_outputs ? trees->n_outputs : 1)) {
        PyErr_SetString(PyExc_ValueError, "the arrays of the trees do not fit together");
        goto end;
    }
    if (with_nodes(trees, a) < 0)
        goto end;
    if ((trees->values = copied(&a[6])) == NULL || (trees->roots = copied(&a[7])) == NULL ||
        (trees->outputs = copied(&a[8])) == NULL || (trees->base = copied(&a[9])) == NULL)
        goto end;
    if (checked(trees) < 0) {
        PyErr_SetString(PyExc_ValueError, "an index of the trees leaves its range");
        goto end;
    }
    outcome = with_divisors(trees) < 0 ? -1 : measured(trees);
    if (outcome == 0)
        trees->packed = packed_made(trees->nodes, trees->n_nodes, trees->roots, trees->n_trees);
end:
    for (int i = 0; i < 10; i++)
        release_array(&a[i]);
    return outcome;
}

static void trees_dealloc(PyObject *self)
{
    Trees *trees = (Trees *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyMem_Free(trees->nodes);
    packed_freed(trees->packed);
    PyMem_Free(trees->values);
    PyMem_Free(trees->roots);
    PyMem_Free(trees->outputs);
    PyMem_Free(trees->depths);
    PyMem_Free(trees->base);
    PyMem_Free(trees->divisors);
    freefunc free_ = (freefunc)PyType_GetSlot(type, Py_tp_free);
    free_(self);
    Py_DECREF(type);
}

static inline int32_t stepped(const Node *nodes, int32_t at, const double *x, int or_equal)
{
    const Node *node = &nodes[at];
    double value = x[node->feature];
    int is_missing = (value != value) | ((value == 0.0) & node->zero_missing);
    int is_below = or_equal ? value <= node->threshold : value < node->threshold;
    return node->child[is_missing ? node->missing_left : is_below];
}

static inline void walk(const Node *nodes, const double *const *x, int32_t *at, int n, int32_t depth,
                        int or_equal)
{
    if (n == LANES) {
        for (int32_t level = 0; level < depth; level++) {
            int32_t moved = 0;
            for (int lane = 0; lane < LANES; lane++) {
                int32_t next = stepped(nodes, at[lane], x[lane], or_equal);
                moved |= next ^ at[lane];
                at[lane] = next;
            }
            if (!moved) /* most leaves lie far above the deepest one */
                return;
        }
        return;
    }
    for (int lane = 0; lane < n; lane++)
        for (int32_t level = 0; level < depth; level++) {
            int32_t next = stepped(nodes, at[lane], x[lane], or_equal);
            if (next == at[lane])
                break;
            at[lane] = next;
        }
}

/* Set the leaf of every tree for one row: trees side by side. */
static void leaves_of_row(const Trees *trees, const double *x, int32_t *leaves)
{
    const double *rows[LANES];
    for (int lane = 0; lane < LANES; lane++)
        rows[lane] = x;
    for (Py_ssize_t t = 0; t < trees->n_trees; t += LANES) {
        int n = trees->n_trees - t < LANES ? (int)(trees->n_trees - t) : LANES;
        int32_t depth = 0;
        for (int lane = 0; lane < n; lane++) {
            leaves[t + lane] = trees->roots[t + lane];
            if (trees->depths[t + lane] > depth)
                depth = trees->depths[t + lane];
        }
        if (trees->or_equal)
            walk(trees->nodes, rows, leaves + t, n, depth, 1);
        else
            walk(trees->nodes, rows, leaves + t, n, depth, 0);
    }
}

/* Set the leaves of some rows, `(n_rows, n_trees)`: rows side by side, one tree after the other. */
static void leaves_of_rows(const Trees *trees, const double *X, Py_ssize_t n_rows, int32_t *leaves)
{
    for (Py_ssize_t t = 0; t < trees->n_trees; t++)
        for (Py_ssize_t r = 0; r < n_rows; r += LANES) {
            int n = n_rows - r < LANES ? (int)(n_rows - r) : LANES;
            const double *rows[LANES];
            int32_t at[LANES];
            for (int lane = 0; lane < n; lane++) {
                rows[lane] = X + (r + lane) * trees->n_features;
                at[lane] = trees->roots[t];
            }
            if (trees->or_equal)
                walk(trees->nodes, rows, at, n, trees->depths[t], 1);
            else
                walk(trees->nodes, rows, at, n, trees->depths[t], 0);
            for (int lane = 0; lane < n; lane++)
                leaves[(r + lane) * trees->n_trees + t] = at[lane];
        }
}

/* Set the leaves of some rows by the packed trees: the one row's trees side by side, or the rows. */
static void packed_leaves(const Trees *trees, const uint16_t *ranks, Py_ssize_t n_rows, int32_t *leaves)
{
    Py_ssize_t n_trees = trees->n_trees, width = packed_width(trees->packed);
    const uint16_t *rows[LANES];
    int32_t roots[LANES], found[LANES];
    int by_tree = n_rows < LANES;
    Py_ssize_t outer = by_tree ? n_rows : n_trees, inner = by_tree ? n_trees : n_rows;
    for (Py_ssize_t o = 0; o < outer; o++)
        for (Py_ssize_t i = 0; i < inner; i += LANES) {
            int n = inner - i < LANES ? (int)(inner - i) : LANES;
            int32_t depth = 0;
            for (int lane = 0; lane < n; lane++) {
                Py_ssize_t tree = by_tree ? i + lane : o, row = by_tree ? o : i + lane;
                rows[lane] = ranks + row * width;
                roots[lane] = trees->roots[tree];
                depth = trees->depths[tree] > depth ? trees->depths[tree] : depth;
            }
            packed_walk(trees->packed, roots, rows, depth, n, found);
            for (int lane = 0; lane < n; lane++)
                leaves[by_tree ? o * n_trees + i + lane : (i + lane) * n_trees + o] = found[lane];
        }
}

/* Add up one row, tree by tree in their order, in the type of the library. */
static void added_up(const Trees *trees, const int32_t *leaves, double *out)
{
    Py_ssize_t n_outputs = trees->n_outputs;
    memcpy(out, trees->base, (size_t)n_outputs * sizeof(double));
    for (Py_ssize_t t = 0; t < trees->n_trees; t++) {
        Py_ssize_t first = trees->all_outputs ? 0 : trees->outputs[t];
        Py_ssize_t end = trees->all_outputs ? n_outputs : first + 1;
        const double *value = trees->values + (trees->all_outputs ? leaves[t] * n_outputs : leaves[t] - first);
        for (Py_ssize_t k = first; k < end; k++)
            out[k] = trees->single_sums ? (double)((float)out[k] + (float)value[k]) : out[k] + value[k];
    }
    if (trees->averaged)
        for (Py_ssize_t k = 0; k < n_outputs; k++)
            out[k] /= trees->divisors[k];
}

static void typed(const Trees *trees, const double *X, Py_ssize_t n, double *to)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        double value = trees->single_features ? (double)(float)X[i] : X[i];
        to[i] = trees->or_equal && fabs(value) <= ALMOST_ZERO ? 0.0 : value;
    }
}

static void scored(const Trees *trees, const double *X, Py_ssize_t n_rows, double *out, double *x,
                   uint16_t *ranks, int32_t *leaves)
{
    for (Py_ssize_t start = 0; start < n_rows; start += BLOCK_ROWS) {
        Py_ssize_t n = n_rows - start < BLOCK_ROWS ? n_rows - start : BLOCK_ROWS;
        typed(trees, X + start * trees->n_features, n * trees->n_features, x);
        if (trees->packed != NULL) {
            Py_ssize_t width = packed_width(trees->packed);
            for (Py_ssize_t r = 0; r < n; r++)
                packed_ranks(trees->packed, x + r * trees->n_features, trees->or_equal, ranks + r * width);
            packed_leaves(trees, ranks, n, leaves);
        } else if (n < LANES)
            for (Py_ssize_t r = 0; r < n; r++)
                leaves_of_row(trees, x + r * trees->n_features, leaves + r * trees->n_trees);
        else
            leaves_of_rows(trees, x, n, leaves);
        for (Py_ssize_t r = 0; r < n; r++)
            added_up(trees, leaves + r * trees->n_trees, out + (start + r) * trees->n_outputs);
    }
}

int trees_of(PyObject *object, Py_ssize_t *n_features, Py_ssize_t *n_outputs)
{
    if (PyType_GetSlot(Py_TYPE(object), Py_tp_new) != (void *)trees_new)
        return 0;
    *n_features = ((Trees *)object)->n_features;
    *n_outputs = ((Trees *)object)->n_outputs;
    return 1;
}

int trees_scored(PyObject *object, const double *X, Py_ssize_t n_rows, double *out)
{
    const Trees *trees = (const Trees *)object;
    Py_ssize_t block = n_rows < BLOCK_ROWS ? n_rows : BLOCK_ROWS;
    double *x = PyMem_Malloc((size_t)(block * trees->n_features + 1) * sizeof(double));
    int32_t *leaves = PyMem_Malloc((size_t)(block * trees->n_trees + 1) * sizeof(int32_t));
    Py_ssize_t width = trees->packed == NULL ? 0 : packed_width(trees->packed);
    uint16_t *ranks = PyMem_Malloc((size_t)(block * width + 1) * sizeof(uint16_t));
    int is_done = x != NULL && leaves != NULL && ranks != NULL;
    if (!is_done) {
        PyErr_NoMemory();
    } else if (n_rows * trees->n_trees > WORTH_RELEASING) {
        Py_BEGIN_ALLOW_THREADS
        scored(trees, X, n_rows, out, x, ranks, leaves);
        Py_END_ALLOW_THREADS
    } else {
        scored(trees, X, n_rows, out, x, ranks, leaves);
    }
    PyMem_Free(x);
    PyMem_Free(ranks);
    PyMem_Free(leaves);
    return is_done;
}

static PyObject *trees_score(PyObject *self, PyObject *args)
{
    const Trees *trees = (Trees *)self;
    Array X, out;
    Py_ssize_t n_rows;
    if (held_rows(&X, &out, args, trees->n_features, trees->n_outputs, &n_rows) < 0)
        return NULL;
    int is_done = trees_scored(self, X.view.buf, n_rows, out.view.buf);
    release_array(&X);
    release_array(&out);
    return is_done ? Py_NewRef(Py_None) : NULL;
}

static PyMethodDef methods[] = {
    {"score", trees_score, METH_VARARGS, "score(features, scores): fill scores (n_rows, n_outputs)."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "A walk of many trees, and the sum of their leaves; see train/trees_predictor.py."},
    {Py_tp_new, trees_new},
    {Py_tp_dealloc, trees_dealloc},
    {Py_tp_methods, methods},
    {0, NULL},
};

PyType_Spec trees_spec = {"loopwright.core._kernel.Trees", sizeof(Trees), 0, Py_TPFLAGS_DEFAULT, slots};
