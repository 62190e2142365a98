"""Places of many numbers among a few edges, by a table: a fifth of the time of a binary search."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = LazyModule("numpy")

_N_CELLS = 4_096
_CHUNK = 16_384  # numbers at a time, which stay in the processor's cache
_LEAST = 10_000  # fewer are searched before the table is made


def places(edges: NDArray[np.float64], numbers: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return `np.searchsorted(edges, numbers, side="left")`, (n_numbers,); of NaN any place.

    Parameters
    ----------
    edges
        In ascending order, at most 100.

    Notes
    -----
    The range of the edges is cut into equal cells. Because the cell of a number never falls when
    the number grows, a number in a cell without an edge has the place of that cell; those in a cell
    with one are searched.
    """
    if len(numbers) < _LEAST or not 2 <= len(edges) <= 100:
        return np.searchsorted(edges, numbers, side="left")
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        scale = _N_CELLS / (edges[-1] - edges[0])
        if not 0 < scale < np.inf:
            return np.searchsorted(edges, numbers, side="left")
        edge_cells = np.empty(len(edges), dtype=np.int32)
        _cells(edges, float(edges[0]), scale, np.empty(len(edges)), edge_cells)
        table = np.searchsorted(edge_cells, np.arange(_N_CELLS + 3)).astype(np.int8)
        table[edge_cells] = -1
        found = np.empty(len(numbers), dtype=np.int64)
        held, cells = np.empty(_CHUNK), np.empty(_CHUNK, dtype=np.int32)
        for first in range(0, len(numbers), _CHUNK):
            some = numbers[first : first + _CHUNK]
            n = len(some)
            _cells(some, float(edges[0]), scale, held[:n], cells[:n])
            place = table[cells[:n]]
            unsure = np.flatnonzero(place < 0)
            found[first : first + n] = place
            found[first + unsure] = np.searchsorted(edges, some[unsure], side="left")
    return found


def _cells(
    numbers: NDArray[np.float64],
    start: float,
    scale: float,
    held: NDArray[np.float64],
    cells: NDArray[np.int32],
) -> None:
    """Write the cell of each number: 0 below the edges and for NaN, then up to one above them."""
    np.subtract(numbers, start, out=held)
    held *= scale
    np.fmax(held, -1.0, out=held)
    np.fmin(held, _N_CELLS + 1.0, out=held)
    held += 1.0
    cells[:] = held
