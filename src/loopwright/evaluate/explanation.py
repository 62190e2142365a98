"""What a model goes by: the columns that count, example rows with their reasons, dependence."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core.lazy import LazyModule
from loopwright.evaluate.dependence import DependenceReading, dependence
from loopwright.train.attribution import Attributions, Attributor
from loopwright.train.reason import told_cell, told_reason

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

    from loopwright.train import ServingModel

    Array = npt.NDArray[np.float64]
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

MOST_ROWS = 1_000
LEAST_ROWS = 20
# processor time that explaining rows may take
_BUDGET_US = 400_000.0
_SHOWN_COLUMNS = 30
_VARIED_COLUMNS = 6
_REASONS = 6
_STRONG = 0.3
MASKED = "•••"


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnInfluence:
    """How much a raw column moves the answers.

    `mean` is the mean size of what it adds, in units of the answer; `share` that of all columns
    together. `direction` is `up` or `down` if greater values clearly add or take away, else empty.
    """

    column: str
    mean: float
    share: float
    direction: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """What one value of a row adds to its answer; `told` says it in words."""

    column: str
    value: str
    adds: float
    told: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedRow:
    """A row with its answer and the reasons; what is not shown adds `others`."""

    title: str
    answer: float
    reasons: tuple[Reason, ...]
    others: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplanationReading:
    """What a model goes by on rows it never saw.

    Parameters
    ----------
    of
        What is explained: `prediction`, or the probability of a class.
    is_share
        Whether that is a probability.
    base
        The answer when nothing is known of a row.
    columns
        By falling influence.
    n_columns
        How many there are in all.
    examples
        Rows with a high, a middle and a low answer.
    dependence
        For the columns with most influence.
    is_exact
        Whether values are exact; otherwise `error` is their typical standard error.
    largest_gap
        Greatest difference between base plus values and the answer, in units of the answer.
    n_rows
        Rows it was found on.
    """

    of: str
    is_share: bool
    base: float
    columns: tuple[ColumnInfluence, ...]
    n_columns: int
    examples: tuple[ExplainedRow, ...]
    dependence: tuple[DependenceReading, ...]
    is_exact: bool
    error: float
    largest_gap: float
    n_rows: int
    remarks: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the reading as JSON types."""
        value: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ExplanationReading:
        """Return the reading that `to_json` wrote; `msgspec.ValidationError` if it is none."""
        return msgspec.convert(value, cls)


def explanation(
    model: ServingModel,
    attributor: Attributor,
    frame: pl.DataFrame,
    *,
    masked: Collection[str] = (),
    seed: int = 0,
) -> ExplanationReading:
    """Return what a model goes by.

    Parameters
    ----------
    model, attributor
        What answers and what explains its answers.
    frame
        Raw rows that it never saw, at least 1. Of many, at most 1,000 are drawn, and so few that
        explaining them takes about half a second.
    masked
        Columns with personal data: their values are not shown.
    seed
        Of the draw.
    """
    n_rows = int(np.clip(_BUDGET_US / attributor.row_cost_us, LEAST_ROWS, MOST_ROWS))
    rows = frame
    if frame.height > n_rows:
        drawn = np.sort(np.random.default_rng(seed).choice(frame.height, n_rows, replace=False))
        rows = frame[drawn.tolist()]
    features = model.fitted.transform(rows)
    raw = model.outcome.calibrated(model.predictor.predict_raw(features)).reshape(rows.height, -1)
    found = attributor.attributions(features)
    output = int(np.bincount(raw.argmax(axis=1)).argmax()) if raw.shape[1] > 1 else 0
    classes = model.classes or ()
    named = classes[-1 if model.task == "binary" else output] if classes else None
    of = "prediction" if named is None else f"probability of {named}"
    answers, values = raw[:, output], found.values[:, :, output]
    influences = _influences(attributor.columns, values, rows)
    varied = [each.column for each in influences if each.share > 0 and each.column not in masked]
    return ExplanationReading(
        of=of,
        is_share=named is not None,
        base=float(found.base[output]),
        columns=tuple(influences[:_SHOWN_COLUMNS]),
        n_columns=len(influences),
        examples=_examples(
            attributor.columns, values, answers, rows, masked=masked, is_share=named is not None
        ),
        dependence=dependence(
            model,
            frame,
            varied[:_VARIED_COLUMNS],
            output=output,
            of=of,
            n_rows=_varied_rows(attributor),
        ),
        is_exact=attributor.is_exact,
        error=found.error,
        largest_gap=_gap(found, raw),
        n_rows=rows.height,
        remarks=_remarks(rows.height, frame.height, is_exact=attributor.is_exact),
    )


def _varied_rows(attributor: Attributor) -> int:
    """Return on how many rows columns are varied: fewer where an answer takes long."""
    return 120 if attributor.row_cost_us < 10_000 else 40


def _gap(found: Attributions, raw: Array) -> float:
    return float(np.abs(found.answers() - raw).max(initial=0.0))


def _remarks(n_rows: int, n_all: int, *, is_exact: bool) -> tuple[str, ...]:
    told = []
    if n_rows < n_all:
        told.append(f"Explained on {n_rows:,} of {n_all:,} test rows, drawn at random.")
    if not is_exact:
        told.append(
            "The values are sampled, because nothing exact is known for this kind of model."
        )
    return tuple(told)


def _influences(columns: Sequence[str], values: Array, rows: pl.DataFrame) -> list[ColumnInfluence]:
    mean = np.abs(values).mean(axis=0)
    whole = float(mean.sum()) or 1.0
    order = sorted(range(len(columns)), key=lambda at: (-mean[at], columns[at]))
    return [
        ColumnInfluence(
            column=columns[at],
            mean=float(mean[at]),
            share=float(mean[at]) / whole,
            direction=_direction(rows[columns[at]], values[:, at]),
        )
        for at in order
    ]


def _direction(column: pl.Series, adds: Array) -> str:
    """Return whether greater values add or take away, by the rank correlation."""
    if not (column.dtype.is_numeric() or column.dtype.is_temporal()):
        return ""
    pairs = pl.DataFrame(
        {"value": column.to_physical().cast(pl.Float64).fill_nan(None), "adds": adds}
    ).drop_nulls()
    if pairs.height < LEAST_ROWS or pairs["value"].n_unique() < 2 or pairs["adds"].n_unique() < 2:
        return ""
    rank = pairs.select(pl.corr("value", "adds", method="spearman")).item()
    if rank is None or abs(rank) < _STRONG:
        return ""
    return "up" if rank > 0 else "down"


def _examples(
    columns: Sequence[str],
    values: Array,
    answers: Array,
    rows: pl.DataFrame,
    *,
    masked: Collection[str],
    is_share: bool,
) -> tuple[ExplainedRow, ...]:
    order = np.argsort(answers, kind="stable")
    places = {"a high answer": 0.95, "an answer in the middle": 0.5, "a low answer": 0.05}
    found = []
    for title, share in places.items():
        at = int(order[round(share * (len(order) - 1))])
        cells = rows.row(at, named=True)
        strongest = np.argsort(-np.abs(values[at]), kind="stable")[:_REASONS].tolist()
        reasons = []
        for column in strongest:
            name, adds = columns[column], float(values[at, column])
            if adds == 0:
                continue
            cell = MASKED if name in masked else cells[name]
            reasons.append(
                Reason(
                    column=name,
                    value=told_cell(cell),
                    adds=adds,
                    told=told_reason(name, cell, adds, is_share=is_share),
                )
            )
        found.append(
            ExplainedRow(
                title=title,
                answer=float(answers[at]),
                reasons=tuple(reasons),
                others=float(values[at].sum()) - sum(each.adds for each in reasons),
            )
        )
    return tuple(found)
