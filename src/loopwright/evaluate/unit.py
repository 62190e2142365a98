"""Units of rows that are drawn together: groups, or blocks of time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

    Units = npt.NDArray[np.int64]
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")


def row_units(values: pl.Series, *, by: Literal["group", "time"]) -> Units:
    """Return the unit of each row, `(n_rows,)`, counted from 0 without gaps.

    Parameters
    ----------
    values
        What groups the rows, or when each was; a missing group is a unit of its own.
    by
        `group`: rows with the same value are one unit. `time`: rows that follow each other are;
        rows of one moment always are.

    Notes
    -----
    Blocks of time hold about n^(1/3) rows each, the length at which the error of a block bootstrap
    falls fastest (Hall, Horowitz and Jing, Biometrika 82, 1995); there are at least 10 of them
    where there are so many moments.
    """
    if by == "group":
        return _group_units(values)
    moments = values.to_physical() if values.dtype.is_temporal() else values
    order = moments.rank("dense").fill_null(0).to_numpy().astype(np.int64)
    n_rows = len(order)
    n_blocks = max(min(10, n_rows), round(n_rows ** (2 / 3)))
    # the share of rows that came before a moment decides its block
    before = np.concatenate([[0], np.cumsum(np.bincount(order))[:-1]])[order]
    block = before * n_blocks // max(1, n_rows)
    return _without_gaps(block)


def _group_units(values: pl.Series) -> Units:
    codes = values.rank("dense").to_numpy().astype(np.float64)
    missing = np.isnan(codes)
    codes[missing] = np.nanmax(codes, initial=0) + 1 + np.arange(missing.sum())
    return _without_gaps(codes)


def _without_gaps(codes: npt.NDArray[np.generic]) -> Units:
    units: Units = np.unique(codes, return_inverse=True)[1].astype(np.int64)
    return units
