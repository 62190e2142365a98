"""Products of tall tables with small matrices, in pieces for which no thread is woken."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = LazyModule("numpy")

Number = TypeVar("Number", "np.float32", "np.float64")

# OpenBLAS multiplies alone below this many steps; threads that wait for work take processor time
_STEPS = 1 << 18


def product(rows: NDArray[Number], matrix: NDArray[Number]) -> NDArray[Number]:
    """Return `rows @ matrix` for (n, k) and (k, m), with n large and k and m at most a few hundred.

    On a busy machine the threads of the linear algebra library wait actively for each other; for
    such products that takes more time than the product.
    """
    (n, k), m = rows.shape, matrix.shape[1]
    size = max(_STEPS // max(k * m, 1), 1)
    if n <= size:
        return rows @ matrix
    whole = n // size * size
    found = np.empty((n, m), dtype=rows.dtype)
    found[:whole] = (rows[:whole].reshape(-1, size, k) @ matrix).reshape(whole, m)
    found[whole:] = rows[whole:] @ matrix
    return found
