"""Why the best model misses a criterion: what it gets right on rows it learnt from, and where it errs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from loopwright.core.lazy import LazyModule
from loopwright.evaluate.layout import layout_of
from loopwright.evaluate.quick import QUICK_MODELS
from loopwright.evaluate.readable import readable_table
from loopwright.evaluate.resampling import measured
from loopwright.evaluate.shortfall import quick_curve
from loopwright.evaluate.weak_segment import weak_segments
from loopwright.loop.candidate import Candidate, candidate_model
from loopwright.loop.file import LoopFile
from loopwright.loop.framing import read_part, truth
from loopwright.loop.judging import as_answers, loss_metric
from loopwright.loop.sourcing import Target
from loopwright.loop.step import StepResult
from loopwright.loop.workspace import Workspace
from loopwright.loop.worth import row_money
from loopwright.problem import Metric, checked_problem, primary_metric

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

Fit = Literal["overfitting", "underfitting", "balanced", "unknown"]
_MOST_ROWS = 5_000
_MOST_CURVE_ROWS = 10_000
# what is left to gain on new rows, in times of what is left on the rows learnt from
_MUCH_WORSE, _NO_WORSE = 1.6, 1.15
_WEAK_SHARE = 0.002
_MOST_WEAK = 20
_NEARLY_ALL = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What the best model so far shows of itself.

    Parameters
    ----------
    metric, on_training, on_validation
        The primary metric on rows it learnt from (at most 5,000) and on validation rows.
    fit
        `overfitting` where it does much worse on new rows, `underfitting` where it does not, and a
        criterion is missed all the same.
    weak_columns
        Columns that together carry almost nothing of the model.
    leaks
        Columns that seem to be known only when the answer is.
    segments
        Rows of which more would help, in words.
    has_places
        Whether there are a latitude and a longitude.
    """

    metric: str
    on_training: float
    on_validation: float
    fit: Fit
    weak_columns: tuple[str, ...]
    leaks: tuple[str, ...]
    segments: tuple[str, ...]
    has_places: bool

    def to_json(self) -> dict[str, Any]:
        """Return the diagnosis as JSON types."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Diagnosis:
        """Return the diagnosis that `to_json` wrote."""
        fields: dict[str, Any] = {
            name: tuple(each) if isinstance(each, list) else each for name, each in value.items()
        }
        return cls(**fields)

    def __str__(self) -> str:
        told = (
            f"{self.metric} {self.on_training:.4g} on rows it learnt from, "
            f"{self.on_validation:.4g} on new ones: {self.fit}"
        )
        if self.weak_columns:
            told += f"; {len(self.weak_columns)} columns carry almost nothing"
        if self.leaks:
            told += f"; {', '.join(self.leaks)} may be known only with the answer"
        return told


def diagnosed(
    workspace: Workspace,
    loop: LoopFile,
    target: Target,
    parts: dict[str, Any],
    best: Candidate,
    *,
    importance: Sequence[Sequence[Any]] = (),
    leaks: Sequence[str] = (),
) -> Diagnosis:
    """Return what is the matter with the best model so far.

    Parameters
    ----------
    importance
        Features and their shares, as the training job told them.
    leaks
        Columns that exploring found to be leaks.
    """
    model = candidate_model(workspace, loop, target, best)
    train = read_part(workspace, parts["windows"][best.window])
    if train.height > _MOST_ROWS:
        train = train.gather_every(-(-train.height // _MOST_ROWS))
    validation = read_part(workspace, parts["validation"])
    metric = primary_metric(loop.problem, task=target.task)

    def answers(rows: pl.DataFrame) -> Any:
        money = row_money(loop.problem, target, rows)
        raw = model.predict_frame(rows)
        return as_answers(raw, target, threshold=best.threshold, money=money)

    said = answers(validation)
    y = truth(validation, target)
    loss = loss_metric(loop.problem, task=target.task).per_row(y, said)
    inputs = [name for name in train.columns if name != target.column]
    on_training = measured(metric, truth(train, target), answers(train))
    on_validation = measured(metric, y, said)
    segments = (
        weak_segments(readable_table(validation.select(inputs)), loss) if loss is not None else []
    )
    return Diagnosis(
        metric=metric.name,
        on_training=on_training,
        on_validation=on_validation,
        fit=_fit(metric, on_training, on_validation),
        weak_columns=_weak_columns(importance, model.fitted.inputs),
        leaks=tuple(name for name in leaks if name in model.fitted.inputs),
        segments=tuple(str(each) for each in segments),
        has_places=_has_places(train),
    )


def _fit(metric: Metric, on_training: float, on_validation: float) -> Fit:
    if metric.best is None or not np.isfinite([on_training, on_validation]).all():
        return "unknown"
    left, learnt = abs(on_validation - metric.best), abs(on_training - metric.best)
    if left > _MUCH_WORSE * learnt:
        return "overfitting"
    return "underfitting" if left < _NO_WORSE * learnt else "balanced"


def _weak_columns(
    importance: Sequence[Sequence[Any]], inputs: Mapping[str, Any]
) -> tuple[str, ...]:
    """Return the columns whose features carry less than a five-hundredth of the model each."""
    # the job tells its twenty greatest: the others are known to be weak only if these are nearly all
    if sum(float(part) for _, part in importance) < _NEARLY_ALL:
        return ()
    share = dict.fromkeys(inputs, 0.0)
    for feature, part in importance:
        own = [name for name in inputs if str(feature).startswith(name)]
        if own:
            share[max(own, key=len)] += float(part)
    weak = [name for name, part in share.items() if part < _WEAK_SHARE]
    # a model needs something to go by, and one weak column does no harm
    enough = 2 <= len(weak) <= len(share) - 2
    return tuple(weak[:_MOST_WEAK]) if enough else ()


def _has_places(train: pl.DataFrame) -> bool:
    from loopwright.prepare.place import find_place

    return find_place(train.get_columns()) is not None


def what_would_help(
    workspace: Workspace,
    loop: LoopFile,
    target: Target,
    parts: dict[str, Any],
    winner: Candidate,
    *,
    missed: Sequence[str],
    dropped: Sequence[str],
) -> StepResult:
    """Return what would help when nothing tried did: more rows and how many, or other columns.

    Parameters
    ----------
    winner
        The best model, which misses a criterion.
    missed
        Metrics of the criteria that were missed.
    dropped
        Columns no model may see.
    """
    rows = pl.concat(
        [read_part(workspace, parts["windows"]["all"]), read_part(workspace, parts["validation"])]
    )
    if rows.height > _MOST_CURVE_ROWS:
        rows = rows.gather_every(-(-rows.height // _MOST_CURVE_ROWS))
    split, problem = loop.data.split, loop.problem
    left_out = {target.column, *dropped}
    if problem.today and problem.today.column:
        left_out.add(problem.today.column)
    table = readable_table(rows.select([name for name in rows.columns if name not in left_out]))
    layout = layout_of(rows[split.column] if split.column else None, split.by)
    y, money = truth(rows, target), row_money(problem, target, rows)
    metrics = checked_problem(problem, task=target.task)
    n_train = parts["n_rows"]["train"]
    share = n_train / max(1, sum(parts["n_rows"].values()))
    advice, curves = [], []
    for criterion, metric in zip(problem.criteria, metrics, strict=True):
        if metric.name not in missed:
            continue
        drawn = [
            quick_curve(
                kind,
                table,
                y,
                metric=metric,
                classes=target.classes,
                layout=layout,
                money=money,
                seed=loop.train.seed,
            )
            for kind in QUICK_MODELS
        ]
        found = [(curve, curve.needed(criterion.target)) for curve in drawn if curve is not None]
        if not found:
            continue
        curve, needed = min(
            found, key=lambda pair: (pair[1].n_rows is None, pair[1].n_rows or 0, -pair[1].chance)
        )
        curves.append({**curve.to_json(), "needed": needed.to_json()})
        if needed.n_rows is None:
            advice.append(
                f"more rows of this kind will hardly reach {criterion}: the learning curve of a "
                f"quick model levels off near {curve.plateau:.4g}; look for other columns"
            )
        elif needed.n_rows > n_train:
            more = (needed.n_rows - n_train) / share
            advice.append(f"about {_two_digits(more):,} more rows may reach {criterion}")
        else:
            advice.append(
                f"{criterion} is within reach of these rows; more rows would show it with more "
                "certainty"
            )
    segments = diagnosed(workspace, loop, target, parts, winner).segments
    if segments:
        advice.append(f"collect above all rows where {'; '.join(segments)}")
    return StepResult(
        output={"advice": advice, "curves": curves},
        summary="; ".join(advice) or "nothing that these rows could tell",
        reason=f"{', '.join(missed)} missed",
    )


def _two_digits(n: float) -> int:
    unit = 10 ** max(0, len(str(int(n))) - 2)
    return int(-(-n // unit) * unit)
