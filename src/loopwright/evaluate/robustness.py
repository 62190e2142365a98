"""What a model loses when a column goes wrong: empty, shifted, or of other rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from loopwright.core.lazy import LazyModule
from loopwright.evaluate.examination import RobustnessReading
from loopwright.evaluate.resampling import N_RESAMPLES, drawn_counts, measured
from loopwright.problem import Answers, Metric

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

    Array = npt.NDArray[np.float64]
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

Kind = Literal["missing", "shifted", "shuffled"]
_MOST_ROWS = 2_000
# all that is asked of the model, over columns and kinds
_MOST_ANSWERS = 20_000
_FEWEST_ROWS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    column: str
    kind: Kind
    frame: pl.DataFrame


def robustness(
    predict: Callable[[pl.DataFrame], Array],
    as_answers: Callable[[Array, npt.NDArray[np.int64]], Answers],
    frame: pl.DataFrame,
    y: Array,
    *,
    metric: Metric,
    columns: Sequence[str],
    refused: Sequence[str] = (),
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[tuple[RobustnessReading, ...], int]:
    """Return what each column's going wrong costs in the main metric, and on how many rows.

    At most 2,000 rows are used, fewer where there are many columns: the model is asked for at most
    20,000 answers, but for 200 rows a column at least; the first 60 columns are looked at.

    Parameters
    ----------
    predict
        Returns the numbers behind the answers for a table.
    as_answers
        Returns what such numbers say for some of the rows.
    frame, y
        The rows, `n_rows`, and the truth.
    metric
        What is measured.
    columns
        Those the model reads.
    refused
        Those that may not be missing: an endpoint refuses such rows.
    confidence
        Level of each bound.
    seed
        Of the rows, the shuffling and the resampling.
    """
    columns = list(columns)[:60]
    n_rows = max(_FEWEST_ROWS, min(_MOST_ROWS, _MOST_ANSWERS // max(1, 3 * len(columns))))
    rng = np.random.default_rng(seed)
    chosen = np.arange(frame.height)
    if frame.height > n_rows:
        chosen = np.sort(rng.permutation(frame.height)[:n_rows])
    rows, true = frame[chosen.tolist()], y[chosen]
    changes = list(_changes(rows, columns, frozenset(refused), rng))
    said = predict(pl.concat([rows, *(change.frame for change in changes)]))
    counts = drawn_counts(len(true), N_RESAMPLES, seed)

    def drawn(place: int) -> tuple[float, Array]:
        answers = as_answers(said[place * len(true) : (place + 1) * len(true)], chosen)
        found, of_means = metric.linearised(true, answers)
        return measured(metric, true, answers), of_means((counts @ found) / len(true))

    sign = -1.0 if metric.higher_is_better else 1.0
    value, resampled = drawn(0)
    readings = []
    for place, change in enumerate(changes, start=1):
        changed, redrawn = drawn(place)
        loss = sign * (redrawn - resampled)
        loss = loss[np.isfinite(loss)] if np.isfinite(loss).any() else np.zeros(1)
        lower, upper = np.quantile(loss, [1 - confidence, confidence])
        total = sign * (changed - value)
        readings.append(
            RobustnessReading(
                column=change.column,
                kind=change.kind,
                loss=total if np.isfinite(total) else None,
                lower=float(min(lower, total)),
                upper=float(max(upper, total)),
            )
        )
    readings += [
        RobustnessReading(
            column=name, kind="missing", loss=None, lower=None, upper=None, refused=True
        )
        for name in columns
        if name in refused
    ]
    order = {name: place for place, name in enumerate(columns)}
    readings.sort(key=lambda each: (order[each.column], each.kind))
    return tuple(readings), len(true)


def _changes(
    rows: pl.DataFrame, columns: Sequence[str], refused: frozenset[str], rng: np.random.Generator
) -> Iterator[_Change]:
    for name in columns:
        values = rows[name]
        if name not in refused and values.null_count() < len(values):
            empty = rows.with_columns(pl.lit(None, dtype=values.dtype).alias(name))
            yield _Change(column=name, kind="missing", frame=empty)
        shuffled = values.gather(rng.permutation(len(values)))
        yield _Change(column=name, kind="shuffled", frame=rows.with_columns(shuffled.alias(name)))
        shifted = _shifted(values)
        if shifted is not None:
            yield _Change(column=name, kind="shifted", frame=rows.with_columns(shifted.alias(name)))


def _shifted(values: pl.Series) -> pl.Series | None:
    """Return numbers grown by one standard deviation; None for what is no number or never varies."""
    if not values.dtype.is_numeric():
        return None
    deviation = values.cast(pl.Float64).fill_nan(None).std()
    if not isinstance(deviation, int | float) or not 0 < deviation < float("inf"):
        return None
    if values.dtype.is_float():
        return (values + deviation).cast(values.dtype)
    shifted = values.cast(pl.Float64) + max(1.0, round(deviation))
    return shifted.cast(values.dtype, strict=False).fill_null(values)
