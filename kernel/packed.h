/* Trees packed into eight bytes a node; see packed.c. */
#ifndef LOOPWRIGHT_PACKED_H
#define LOOPWRIGHT_PACKED_H

#include "kernel.h"

typedef struct {
    double threshold;
    int32_t feature;
    uint8_t missing_left;
    uint8_t zero_missing;
    int32_t child[2]; /* right, left */
} Node;

typedef struct Packed Packed;

/* Return checked trees packed; NULL, without an exception, where they cannot be or there is no memory. */
Packed *packed_made(const Node *nodes, Py_ssize_t n_nodes, const int32_t *roots, Py_ssize_t n_trees);
void packed_freed(Packed *packed);
Py_ssize_t packed_width(const Packed *packed); /* how many ranks a row has */

/* Fill the ranks of a row of features. */
void packed_ranks(const Packed *packed, const double *x, int or_equal, uint16_t *ranks);

/* Walk up to eight trees, each with the ranks of a row, and set the leaves they end in. */
void packed_walk(const Packed *packed, const int32_t *roots, const uint16_t *const *ranks, int32_t depth, int n,
                 int32_t *leaves);

#endif
