"""What these rows cannot do: criteria out of reach, and how many more rows would help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule
from loopwright.evaluate.entrant import MOST_TAUGHT, Entrant, Jury
from loopwright.evaluate.layout import Layout
from loopwright.evaluate.learning_curve import (
    LearningCurve,
    RowsNeeded,
    curve_sizes,
    learning_curve,
)
from loopwright.evaluate.quick import QUICK_MODELS, QuickModel, as_answers, quick_said
from loopwright.evaluate.readable import ReadableTable
from loopwright.evaluate.resampling import measured
from loopwright.problem import Answers, Criterion, Metric

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.int64]
else:
    np = LazyModule("numpy")

# a searched model may take away so much of what a quick one is still wrong by
TUNING_GAIN = 0.25
# where quick models did not see all columns or rows, a trained one may find much more
_UNSEEN_GAIN = 0.55
_MOST_LEARNT = 4_000
_FEW_ROWS = 400
# the hope is a guess: a test part is called too small only where it is so by far
_CLEARLY_TOO_FEW, _HOPELESSLY_FEW = 3.0, 30.0
# below half of the draws nothing is said of how many rows; below this they will not do
_SOME_CHANCE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """A criterion that models from these rows cannot be expected to meet, or to be shown to meet.

    Parameters
    ----------
    criterion, metric, target
        What was asked.
    reached
        What the best quick model has on rows it did not learn from.
    hoped
        What a searched model might have at best.
    why
        `too far`: not even that meets the target. `cannot be shown`: the test part is too small.
    more_rows, more_low, more_high
        About how many more rows would do, and the range; None where no number of rows will, or
        where the range has no end.
    curve
        The learning curve, where there is one.
    needed
        What the curve says of the rows to learn from.
    """

    criterion: str
    metric: str
    target: float
    reached: float
    hoped: float
    why: str
    more_rows: int | None
    more_low: int | None
    more_high: int | None
    curve: LearningCurve | None = None
    needed: RowsNeeded | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the shortfall as JSON types."""
        names = [name for name in self.__slots__ if name not in ("curve", "needed")]
        return {
            **{name: getattr(self, name) for name in names},
            "curve": self.curve.to_json() if self.curve else None,
            "needed": self.needed.to_json() if self.needed else None,
        }

    def __str__(self) -> str:
        if self.why == "cannot be shown":
            return (
                f"{self.criterion} cannot be shown on so few test rows; "
                f"about {self.more_rows:,} more rows would do"
            )
        told = (
            f"{self.criterion} is out of reach: a quick model has {self.reached:.4g}, "
            f"and a searched one can hardly get beyond {self.hoped:.4g}"
        )
        return f"{told}; {self._rows_told()}"

    def _rows_told(self) -> str:
        if self.curve is None:
            return "there are too few rows to say how many would do"
        low, high = sorted((self.curve.plateau_low, self.curve.plateau_high))
        chance = self.needed.chance if self.needed else 0.0
        if self.more_rows is None and chance >= _SOME_CHANCE:
            return (
                "whether more rows of this kind would do cannot be told yet: the learning curve "
                f"levels off somewhere between {low:.4g} and {high:.4g}"
            )
        if self.more_rows is None:
            return (
                f"more rows of this kind will not do: the learning curve levels off near "
                f"{self.curve.plateau:.4g} ({low:.4g} to {high:.4g})"
            )
        span = f"at least {self.more_low:,}"
        if self.more_high is not None:
            span = f"{self.more_low:,} to {self.more_high:,}"
        return f"about {self.more_rows:,} more rows would do ({span})"


def shortfalls(
    table: ReadableTable,
    y: Array,
    *,
    jury: Jury,
    answers: Mapping[str, Answers],
    entrants: Sequence[Entrant],
    layout: Layout,
    parts: Mapping[str, int],
    money: Array | None = None,
) -> list[Shortfall]:
    """Return the criteria that models from these rows cannot be expected to meet.

    Parameters
    ----------
    table, y
        The rows, and the truth of all of them.
    jury
        By whom ways were judged.
    answers
        What quick models and rules said about the judged rows, by entrant.
    entrants
        The same ways with their figures.
    layout
        How the rows hang together.
    parts
        Rows in `train`, `validation` and `test`.
    money
        What each of all rows earns; see `Answers.money`.
    """
    is_seen = not table.texts and parts["train"] <= MOST_TAUGHT
    unseen = table.unread_share if is_seen else 1.0
    gain = TUNING_GAIN + unseen * (_UNSEEN_GAIN - TUNING_GAIN)
    found = []
    for criterion, metric in zip(jury.criteria, jury.metrics, strict=True):
        best = _best_there_is(metric, jury)
        ways = [each for each in entrants if each.name in answers and each.name != "today"]
        if best is None or not ways:
            continue
        entrant = _nearest(ways, metric)
        stands = entrant.figures[metric.name]
        edge = stands["upper" if metric.higher_is_better else "lower"]
        if edge is None:
            edge = stands["value"]
        hoped = best + (edge - best) * (1 - gain)
        n_shown = _rows_to_show(criterion, metric, stands, best, hoped, jury.confidence)
        n_test = parts.get("test") or n_shown
        if not criterion.holds_for(hoped) or n_shown > _HOPELESSLY_FEW * n_test:
            curve, needed = _curve_to(
                table, y, criterion, metric, jury, answers[entrant.name].threshold, layout, money
            )
            if needed is None or not _is_here(needed, parts):
                found.append(
                    _too_far(criterion, metric, stands["value"], hoped, curve, needed, parts)
                )
        elif n_shown > _CLEARLY_TOO_FEW * n_test:
            found.append(
                _cannot_be_shown(criterion, metric, stands["value"], hoped, n_shown, parts)
            )
    return found


def _nearest(ways: Sequence[Entrant], metric: Metric) -> Entrant:
    sign = 1.0 if metric.higher_is_better else -1.0
    return max(ways, key=lambda each: sign * each.figures[metric.name]["value"])


def _best_there_is(metric: Metric, jury: Jury) -> float | None:
    """Return what perfect answers would have."""
    if metric.best is not None:
        return metric.best
    if not jury.classes:
        return None
    perfect = jury.answers(np.eye(len(jury.classes))[jury.y.astype(np.int64)])
    return measured(metric, jury.y, perfect)


def _is_here(needed: RowsNeeded, parts: Mapping[str, int]) -> bool:
    return needed.n_rows is not None and needed.n_rows <= parts["train"]


def _too_far(
    criterion: Criterion,
    metric: Metric,
    reached: float,
    hoped: float,
    curve: LearningCurve | None,
    needed: RowsNeeded | None,
    parts: Mapping[str, int],
) -> Shortfall:
    def more(n_taught: int | None) -> int | None:
        # what is shared out: a part of every new row goes to validation and test
        if n_taught is None:
            return None
        share = parts["train"] / max(1, sum(parts.values()))
        return _two_digits(max(1.0, (n_taught - parts["train"]) / share))

    return Shortfall(
        criterion=str(criterion),
        metric=metric.name,
        target=criterion.target,
        reached=reached,
        hoped=hoped,
        why="too far",
        more_rows=more(needed.n_rows) if needed else None,
        more_low=more(needed.low) if needed else None,
        more_high=more(needed.high) if needed else None,
        curve=curve,
        needed=needed,
    )


def _rows_to_show(
    criterion: Criterion,
    metric: Metric,
    stands: Mapping[str, Any],
    best: float,
    hoped: float,
    confidence: float,
) -> float:
    """Return how many test rows would show the criterion for a model that has what is hoped."""
    bound = stands["lower" if metric.higher_is_better else "upper"]
    if bound is None:
        return 0.0
    z = max(NormalDist().inv_cdf(confidence), 0.1)
    per_row = abs(stands["value"] - bound) / z * stands["n_rows"] ** 0.5
    ratio = abs(hoped - best) / max(abs(stands["value"] - best), 1e-12)
    margin = abs(criterion.target - hoped)
    return float((z * per_row * min(1.0, ratio) / max(margin, 1e-12)) ** 2)


def _cannot_be_shown(
    criterion: Criterion,
    metric: Metric,
    reached: float,
    hoped: float,
    n_shown: float,
    parts: Mapping[str, int],
) -> Shortfall:
    share = parts["test"] / sum(parts.values())
    more = _two_digits((n_shown - parts["test"]) / share)
    return Shortfall(
        criterion=str(criterion),
        metric=metric.name,
        target=criterion.target,
        reached=reached,
        hoped=hoped,
        why="cannot be shown",
        more_rows=more,
        more_low=more,
        more_high=None,
    )


def _curve_to(
    table: ReadableTable,
    y: Array,
    criterion: Criterion,
    metric: Metric,
    jury: Jury,
    threshold: float,
    layout: Layout,
    money: Array | None,
) -> tuple[LearningCurve | None, RowsNeeded | None]:
    """Return the curve of the quick model that gets to the target with the fewest rows."""
    best: tuple[LearningCurve | None, RowsNeeded | None] = (None, None)
    for kind in QUICK_MODELS:
        curve = quick_curve(
            kind,
            table,
            y,
            metric=metric,
            classes=jury.classes,
            layout=layout,
            money=money,
            threshold=threshold,
            seed=jury.seed,
        )
        if curve is None:
            continue
        needed = curve.needed(criterion.target)
        if best[1] is None or _ease(needed, curve, metric) > _ease(best[1], best[0], metric):
            best = (curve, needed)
    return best


def _ease(needed: RowsNeeded, curve: LearningCurve | None, metric: Metric) -> tuple[float, float]:
    if needed.n_rows is not None:
        return 1.0, -float(needed.n_rows)
    sign = 1.0 if metric.higher_is_better else -1.0
    return 0.0, sign * (curve.plateau if curve else 0.0)


def quick_curve(
    kind: QuickModel,
    table: ReadableTable,
    y: Array,
    *,
    metric: Metric,
    classes: tuple[str, ...],
    layout: Layout,
    money: Array | None = None,
    threshold: float = 0.5,
    seed: int = 0,
    most_repeats: int = 10,
) -> LearningCurve | None:
    """Return the learning curve of a quick model; None where there are too few rows for one.

    At most 4,000 rows are learnt from. Every repeat, of at most so many, judges rows of a fold of
    its own.
    """
    few = len(y) <= _FEW_ROWS
    folds = layout.folds(y, n_folds=5, is_class=bool(classes), seed=seed)
    if few and layout.by != "time":
        folds += layout.folds(y, n_folds=5, is_class=bool(classes), seed=seed + 1)
    if layout.by == "time":
        folds = folds[len(folds) // 2 :]  # what little the first ones learn from says little
    folds = folds[-most_repeats:]
    if len(folds) < 2:
        return None
    rng = np.random.default_rng(seed)
    orders = [learnt[rng.permutation(len(learnt))] for learnt, _ in folds]
    n_most = min(_MOST_LEARNT, min(len(order) for order in orders))

    def value(size: int, repeat: int) -> float:
        taught, judged = orders[repeat][:size], folds[repeat][1]
        if classes and len(np.unique(y[taught])) < 2:
            return float("nan")
        said = quick_said(
            kind, table.matrix[taught], y[taught], table.matrix[judged], classes, seed=seed
        )
        answers = as_answers(said, classes, threshold=threshold)
        if money is not None:
            answers = Answers(
                values=answers.values,
                probabilities=answers.probabilities,
                threshold=threshold,
                money=money[judged],
            )
        return measured(metric, y[judged], answers)

    return learning_curve(
        value,
        sizes=curve_sizes(n_most),
        n_repeats=len(folds),
        metric=metric.name,
        higher_is_better=metric.higher_is_better,
        best=metric.best,
        seed=seed,
    )


def _two_digits(n: float) -> int:
    unit = 10 ** max(0, len(str(int(n))) - 2)
    return int(-(-n // unit) * unit)
