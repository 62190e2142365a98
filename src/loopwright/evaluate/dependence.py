"""How answers change with one column while the others stay: partial dependence, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from loopwright.core.lazy import LazyModule
from loopwright.train.reason import told_cell

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

    from loopwright.train import ServingModel

    Array = npt.NDArray[np.float64]
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

Course = Literal["rises", "falls", "mixed", "flat", "none"]
N_ROWS = 120
N_VALUES = 11
N_CURVES = 12
_FLAT = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class DependencePoint:
    """The answers when a column has one value: their mean, and where the middle 80 % lie."""

    value: str
    at: float | None
    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DependenceReading:
    """How answers change with one raw column.

    Parameters
    ----------
    column
        The column, through the whole recipe.
    of
        What changes: `prediction`, or the probability of a class.
    points
        By rising value; categories by falling frequency.
    curves
        The answers of single rows (individual conditional expectation), one number a point.
    course
        `rises` or `falls` if that holds for every row at every step, `mixed` if not, `flat` if
        nothing changes, `none` for categories, which have no order.
    share_against
        Share of rows that somewhere go against what most steps do, 0 to 1.
    n_rows
        Rows it was found on.
    """

    column: str
    of: str
    points: tuple[DependencePoint, ...]
    curves: tuple[tuple[float, ...], ...]
    course: Course
    share_against: float
    n_rows: int


def dependence(
    model: ServingModel,
    frame: pl.DataFrame,
    columns: Sequence[str],
    *,
    output: int = -1,
    of: str = "prediction",
    n_rows: int = N_ROWS,
) -> tuple[DependenceReading, ...]:
    """Return how answers change with each of some raw columns.

    Parameters
    ----------
    model
        What answers.
    frame
        Raw rows, at least 1; of more than `n_rows` so many are used, at equal steps.
    columns
        Those to vary; ones that hold nothing to vary are left out.
    output
        Which number of the answer.

    Notes
    -----
    Friedman, "Greedy function approximation", Annals of Statistics 29 (2001), and Goldstein et
    al., "Peeking inside the black box", JCGS 24 (2015). Values are quantiles of the column, so
    that none is tried that does not occur; combinations with other columns may still be such as
    never occur.
    """
    rows = frame[np.unique(np.linspace(0, frame.height - 1, n_rows).astype(np.int64)).tolist()]
    found = []
    for column in columns:
        values = _tried(frame[column])
        if len(values) < 2:
            continue
        said = _answers(model, rows, column, values, output)
        is_ordered = _is_ordered(frame[column])
        course, against = _course(said) if is_ordered else ("none", 0.0)
        found.append(
            DependenceReading(
                column=column,
                of=of,
                points=_points(values, said, frame[column] if is_ordered else None),
                curves=tuple(tuple(line) for line in said[_few(len(said))].tolist()),
                course=course,
                share_against=against,
                n_rows=len(said),
            )
        )
    return tuple(found)


def _few(n_rows: int) -> npt.NDArray[np.int64]:
    return np.unique(np.linspace(0, n_rows - 1, N_CURVES).astype(np.int64))


def _is_ordered(values: pl.Series) -> bool:
    return values.dtype.is_numeric() or values.dtype.is_temporal()


def _tried(values: pl.Series) -> list[Any]:
    """Return the values to try: quantiles of what has an order, else the commonest."""
    known = values.drop_nulls()
    if known.dtype.is_float():
        known = known.drop_nans()
    if not len(known):
        return []
    if not _is_ordered(values):
        counted = known.value_counts(sort=True, name="n rows").rows()
        ordered = sorted(counted, key=lambda each: (-each[1], str(each[0])))
        return [value for value, _ in ordered[:N_VALUES]]
    ordered_values = known.sort()
    # the outermost hundredths are not shown: what lies there is seldom and stretches the chart
    places = np.linspace(0.01, 0.99, N_VALUES) * (len(known) - 1)
    return list(dict.fromkeys(ordered_values[np.round(places).astype(np.int64).tolist()].to_list()))


def _answers(
    model: ServingModel, rows: pl.DataFrame, column: str, values: Sequence[Any], output: int
) -> Array:
    """Return the answers for every value in place of the column's, `(n_rows, n_values)`."""
    dtype = rows.schema[column]
    raw = model.predict_frame(
        pl.concat([rows.with_columns(pl.lit(v, dtype=dtype).alias(column)) for v in values])
    )
    said = raw if raw.ndim == 1 else raw[:, output]
    return np.ascontiguousarray(said.reshape(len(values), rows.height).T)


def _points(
    values: Sequence[Any], said: Array, ordered: pl.Series | None
) -> tuple[DependencePoint, ...]:
    places: list[float | None] = [None] * len(values)
    if ordered is not None:
        series = pl.Series(values, dtype=ordered.dtype)
        physical = series.to_physical() if series.dtype.is_temporal() else series
        places = [float(each) for each in physical.to_list()]
    low, high = np.quantile(said, [0.1, 0.9], axis=0).tolist()
    return tuple(
        DependencePoint(value=told_cell(value), at=at, mean=mean, low=down, high=up)
        for value, at, mean, down, up in zip(
            values, places, said.mean(axis=0).tolist(), low, high, strict=True
        )
    )


def _course(said: Array) -> tuple[Course, float]:
    """Return whether all rows go the same way, and the share that somewhere does not."""
    steps = np.diff(said, axis=1)
    room = _FLAT * max(1e-300, float(np.abs(said).max()))
    up, down = steps > room, steps < -room
    if not up.any() and not down.any():
        return "flat", 0.0
    rises = np.where(up, steps, 0).sum() >= -np.where(down, steps, 0).sum()
    against = float((down if rises else up).any(axis=1).mean())
    if against:
        return "mixed", against
    return ("rises" if rises else "falls"), 0.0
