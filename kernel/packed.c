/* Trees packed into eight bytes a node, so that all of them stay in the processor's cache.

   A node says which column of ranks it looks at and up to which rank the walk goes left. The rank of a value is
   how many of the column's thresholds it passes, so that comparing ranks is comparing values, to the last bit.
   A column belongs to a feature and to one way of treating what is missing: it then has the lowest rank,
   which goes left at every node, or one above all, which goes right. */
#include "packed.h"

#include <stdlib.h>
#include <string.h>

#define HIGHEST UINT16_MAX
#define LANES 8

typedef struct {
    uint16_t column, rank;
    uint16_t child[2]; /* right, left: from the root of the tree */
} Small;

typedef struct {
    int32_t feature;
    uint8_t missing_left, zero_missing;
    double *thresholds; /* sorted, none twice */
    Py_ssize_t n;
} Column;

struct Packed {
    Small *nodes;
    Column *columns;
    double *thresholds;
    Py_ssize_t n_columns;
};

typedef struct {
    double threshold;
    int32_t feature, node;
    uint8_t missing_left, zero_missing;
} Split;

static int by_column(const void *a, const void *b)
{
    const Split *x = a, *y = b;
    if (x->feature != y->feature)
        return x->feature < y->feature ? -1 : 1;
    if (x->missing_left != y->missing_left)
        return x->missing_left < y->missing_left ? -1 : 1;
    if (x->zero_missing != y->zero_missing)
        return x->zero_missing < y->zero_missing ? -1 : 1;
    return (x->threshold > y->threshold) - (x->threshold < y->threshold);
}

static int is_same_column(const Split *a, const Split *b)
{
    return a->feature == b->feature && a->missing_left == b->missing_left && a->zero_missing == b->zero_missing;
}

/* Give columns and ranks to the sorted splits; 0 where there are too many of either. */
static int with_columns(Packed *packed, const Split *splits, Py_ssize_t n)
{
    Column *column = NULL;
    Py_ssize_t n_thresholds = 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        const Split *split = &splits[i];
        if (i == 0 || !is_same_column(split, split - 1)) {
            if (packed->n_columns == HIGHEST)
                return 0;
            column = &packed->columns[packed->n_columns++];
            *column = (Column){split->feature, split->missing_left, split->zero_missing,
                               packed->thresholds + n_thresholds, 0};
        }
        if (column->n == 0 || column->thresholds[column->n - 1] != split->threshold) {
            if (column->n == HIGHEST - 1)
                return 0;
            column->thresholds[column->n++] = split->threshold;
            n_thresholds++;
        }
        packed->nodes[split->node].column = (uint16_t)(packed->n_columns - 1);
        packed->nodes[split->node].rank = (uint16_t)(column->n - 1);
    }
    return packed->n_columns > 0;
}

/* Put the nodes of one tree; return how many of them split, or -1 where the tree cannot be packed. */
static Py_ssize_t with_tree(Packed *packed, const Node *nodes, int32_t root, int32_t end, Split *splits)
{
    Py_ssize_t n = 0;
    if (end - root > UINT16_MAX)
        return -1;
    for (int32_t i = root; i < end; i++) {
        const Node *node = &nodes[i];
        for (int side = 0; side < 2; side++) {
            if (node->child[side] < root || node->child[side] >= end)
                return -1;
            packed->nodes[i].child[side] = (uint16_t)(node->child[side] - root);
        }
        if (node->child[0] == i && node->child[1] == i)
            continue; /* a leaf: whatever it compares leads to itself */
        if (node->threshold != node->threshold)
            return -1;
        splits[n++] =
            (Split){node->threshold, node->feature, i, node->missing_left != 0, node->zero_missing != 0};
    }
    return n;
}

Packed *packed_made(const Node *nodes, Py_ssize_t n_nodes, const int32_t *roots, Py_ssize_t n_trees)
{
    Packed *packed = PyMem_Calloc(1, sizeof(Packed));
    Split *splits = PyMem_Calloc((size_t)n_nodes, sizeof(Split));
    Py_ssize_t n = 0;
    int is_done = packed != NULL && splits != NULL && roots[0] == 0;
    if (is_done) {
        packed->nodes = PyMem_Calloc((size_t)n_nodes, sizeof(Small));
        packed->columns = PyMem_Calloc((size_t)n_nodes, sizeof(Column));
        packed->thresholds = PyMem_Calloc((size_t)n_nodes, sizeof(double));
        is_done = packed->nodes != NULL && packed->columns != NULL && packed->thresholds != NULL;
    }
    for (Py_ssize_t t = 0; is_done && t < n_trees; t++) {
        int32_t end = t + 1 < n_trees ? roots[t + 1] : (int32_t)n_nodes;
        Py_ssize_t found = end > roots[t] ? with_tree(packed, nodes, roots[t], end, splits + n) : -1;
        is_done = found >= 0;
        n += is_done ? found : 0;
    }
    if (is_done && n) {
        qsort(splits, (size_t)n, sizeof(Split), by_column);
        is_done = with_columns(packed, splits, n);
    }
    PyMem_Free(splits);
    if (is_done && n)
        return packed;
    packed_freed(packed);
    return NULL;
}

void packed_freed(Packed *packed)
{
    if (packed == NULL)
        return;
    PyMem_Free(packed->nodes);
    PyMem_Free(packed->columns);
    PyMem_Free(packed->thresholds);
    PyMem_Free(packed);
}

Py_ssize_t packed_width(const Packed *packed)
{
    return packed->n_columns;
}

/* Return how many thresholds are below a value; where they are not passed by an equal one, or equal. */
static inline uint16_t ranked(const Column *column, double value, int or_equal)
{
    const double *first = column->thresholds;
    Py_ssize_t n = column->n;
    while (n > 0) { /* halves without a branch that could be guessed wrong */
        Py_ssize_t half = n / 2;
        int is_passed = or_equal ? first[half] < value : first[half] <= value;
        first += is_passed ? half + 1 : 0;
        n = is_passed ? n - half - 1 : half;
    }
    return (uint16_t)(first - column->thresholds);
}

void packed_ranks(const Packed *packed, const double *x, int or_equal, uint16_t *ranks)
{
    for (Py_ssize_t i = 0; i < packed->n_columns; i++) {
        const Column *column = &packed->columns[i];
        double value = x[column->feature];
        if (value != value || (value == 0.0 && column->zero_missing))
            ranks[i] = column->missing_left ? 0 : HIGHEST;
        else
            ranks[i] = ranked(column, value, or_equal);
    }
}

static inline uint32_t stepped(const Small *nodes, uint32_t at, const uint16_t *ranks)
{
    const Small *node = &nodes[at];
    return node->child[ranks[node->column] <= node->rank];
}

void packed_walk(const Packed *packed, const int32_t *roots, const uint16_t *const *ranks, int32_t depth, int n,
                 int32_t *leaves)
{
    const Small *nodes[LANES];
    uint32_t at[LANES] = {0};
    for (int lane = 0; lane < n; lane++)
        nodes[lane] = packed->nodes + roots[lane];
    if (n == LANES) {
        for (int32_t level = 0; level < depth; level++) {
            uint32_t moved = 0;
            for (int lane = 0; lane < LANES; lane++) {
                uint32_t next = stepped(nodes[lane], at[lane], ranks[lane]);
                moved |= next ^ at[lane];
                at[lane] = next;
            }
            if (!moved) /* most leaves lie far above the deepest one */
                break;
        }
    } else {
        for (int lane = 0; lane < n; lane++)
            for (int32_t level = 0; level < depth; level++)
                at[lane] = stepped(nodes[lane], at[lane], ranks[lane]);
    }
    for (int lane = 0; lane < n; lane++)
        leaves[lane] = roots[lane] + (int32_t)at[lane];
}
