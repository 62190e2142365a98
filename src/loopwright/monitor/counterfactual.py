"""Live rows as they would be had a column not moved: the rest of every row stays as it came."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule
from loopwright.monitor.reference import StreamReference, bin_codes
from loopwright.monitor.value import to_labels, to_numbers

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")


def can_be_moved_back(stream: StreamReference) -> bool:
    """Return whether values of a stream can be made up: those of texts and dates cannot."""
    return stream.role == "input" and stream.kind in ("number", "category", "boolean")


def moved_back(stream: StreamReference, values: pl.Series, *, seed: int = 0) -> pl.Series:
    """Return live values as the reference would have had them, each row changed as little as can be.

    Numbers keep their order: the value at a share of the live values becomes the reference value at
    the same share, which is the cheapest way from one distribution to the other (optimal transport
    on the line). Of categories only as many rows change as a category has too many. A share of
    missing values beyond that of the reference is filled; a smaller one is left.

    Parameters
    ----------
    values
        Raw live values of the column.
    seed
        Decides which of equal rows change.

    Returns
    -------
    polars.Series
        Of the type of `values` where that holds the reference's values, else of text or float.
    """
    rng = np.random.default_rng(seed)
    if stream.kind == "number":
        return _numbers_back(stream, values, rng)
    return _labels_back(stream, values, rng)


def _numbers_back(
    stream: StreamReference, values: pl.Series, rng: np.random.Generator
) -> pl.Series:
    numbers = to_numbers(values, kind="number").astype(np.float64).copy()
    present = np.isfinite(numbers)
    counts = np.array(stream.counts, dtype=np.float64)
    if not stream.edges or not counts[:-1].sum() or not len(numbers):
        return values
    n_filled = max(0, round((~present).sum() - counts[-1] / counts.sum() * len(numbers)))
    filled = rng.choice(np.flatnonzero(~present), min(n_filled, int((~present).sum())), False)
    numbers[present] = _at_shares(stream, counts, _shares(numbers[present], rng))
    numbers[filled] = _at_shares(stream, counts, rng.random(len(filled)))
    whole = values.dtype.is_integer()
    back = pl.Series(values.name, np.round(numbers) if whole else numbers).fill_nan(None)
    return back.cast(values.dtype) if whole else back


def _shares(numbers: Numbers, rng: np.random.Generator) -> Numbers:
    """Return the share of the values below each, equal values in a random order."""
    order = np.lexsort((rng.random(len(numbers)), numbers))
    shares = np.empty(len(numbers))
    shares[order] = (np.arange(len(numbers)) + 0.5) / len(numbers)
    return shares


def _at_shares(stream: StreamReference, counts: Numbers, shares: Numbers) -> Numbers:
    """Return reference values at some shares; a bin of few distinct values gives its upper edge."""
    edges = np.array(stream.edges)
    if len(edges) < 2:
        return np.full(len(shares), edges[0])
    inner = counts[1:-2]
    if len(inner) != len(edges) - 1 or not inner.sum():
        return np.full(len(shares), float(np.median(edges)))
    up_to = np.concatenate([[0.0], np.cumsum(inner)]) / inner.sum()
    place = np.clip(np.searchsorted(up_to, shares, side="left") - 1, 0, len(inner) - 1)
    width = np.maximum(up_to[place + 1] - up_to[place], 1e-12)
    part = np.clip((shares - up_to[place]) / width, 0.0, 1.0)
    if _is_discrete(edges):
        return edges[place + 1]
    values: Numbers = edges[place] + part * (edges[place + 1] - edges[place])
    return values


def _is_discrete(edges: Numbers) -> bool:
    """Return whether the bins are single values, such as numbers of rooms."""
    return bool(edges[0] == edges[1] and (4 * edges == np.round(4 * edges)).all())


def _labels_back(stream: StreamReference, values: pl.Series, rng: np.random.Generator) -> pl.Series:
    codes = bin_codes(stream, values)
    counts = np.array(stream.counts, dtype=np.float64)
    n_rows = len(codes)
    if not n_rows or not counts.sum():
        return values
    live = np.bincount(codes, minlength=stream.n_bins).astype(np.float64)
    surplus = live - counts / counts.sum() * n_rows
    names = (*stream.values, stream.rare[0] if stream.rare else None, None, None)
    wanted = np.array(
        [max(-s, 0.0) if name is not None else 0.0 for s, name in zip(surplus, names, strict=True)]
    )
    if not wanted.sum():
        return values
    labels: list[Any] = to_labels(values).to_list()
    leaving = np.concatenate(
        [
            rng.choice(np.flatnonzero(codes == code), min(int(extra), int(live[code])), False)
            for code, extra in enumerate(np.round(np.maximum(surplus, 0.0)))
        ]
    ).astype(np.int64)
    arriving = rng.choice(len(names), len(leaving), p=wanted / wanted.sum())
    for row, code in zip(leaving.tolist(), arriving.tolist(), strict=True):
        labels[row] = names[code]
    text = pl.Series(values.name, labels, dtype=pl.String)
    if values.dtype == pl.Boolean:
        return text == "true"
    if values.dtype.is_numeric():
        return text.cast(values.dtype, strict=False)
    return text
