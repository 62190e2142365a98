"""Ways to answer, each judged on rows it did not learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule
from loopwright.evaluate.comparison import compare
from loopwright.evaluate.figure import Figure, Verdict, figure, verdicts
from loopwright.evaluate.layout import Layout
from loopwright.evaluate.quick import QUICK_MODELS, as_answers, constant_said, quick_said
from loopwright.evaluate.readable import ReadableTable
from loopwright.evaluate.rule import MOST_CONDITIONS, fitted_rule, rule_answers
from loopwright.problem import Answers, Criterion, Metric

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.int64]
else:
    np = LazyModule("numpy")

# simple ways learn little from more rows than this
MOST_TAUGHT = 8_000
_FEW_ROWS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrant:
    """One simple way to answer, judged on rows it did not learn from.

    Parameters
    ----------
    name
        `constant`, `today`, `rule`, `linear` or `boosted`.
    how
        What it does, in words.
    figures
        The measure and the criteria's metrics, by name.
    verdicts
        Whether each criterion holds.
    money
        What a case earns, with its bounds; None without a payoff.
    against_today
        How much more a case earns than it costs today; None where either is not stated.
    """

    name: str
    how: str
    figures: dict[str, dict[str, Any]]
    verdicts: tuple[Verdict, ...]
    money: Figure | None = None
    against_today: float | None = None

    @property
    def meets_criteria(self) -> bool:
        """Whether there are criteria and all of them hold."""
        return bool(self.verdicts) and all(verdict.holds for verdict in self.verdicts)

    def to_json(self) -> dict[str, Any]:
        """Return the entrant as JSON types."""
        return {
            "name": self.name,
            "how": self.how,
            "figures": self.figures,
            "meets_criteria": self.meets_criteria,
            "money": self.money.to_json() if self.money else None,
            "against_today": self.against_today,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class OutOfFold:
    """What every way says about rows it did not learn from.

    Parameters
    ----------
    said
        By way: `(n_rows,)` values or `(n_rows, n_classes)` probabilities; NaN where nothing was
        said. Rules go by `rule` and the number of their conditions, such as `rule-2`.
    judged
        The rows about which something was said.
    """

    said: dict[str, Array]
    judged: Indices


def out_of_fold(
    table: ReadableTable,
    y: Array,
    *,
    classes: tuple[str, ...],
    measure: Metric,
    layout: Layout,
    seed: int,
) -> OutOfFold:
    """Return what constants, rules and quick models say about rows they did not learn from.

    Five folds up to 2,000 rows, three above; each learns from at most 8,000 rows.
    """
    shape = (len(y), len(classes)) if classes else (len(y),)
    names = ["constant", *(f"rule-{n}" for n in range(1, MOST_CONDITIONS + 1)), *QUICK_MODELS]
    said = {name: np.full(shape, np.nan) for name in names}
    n_folds = 5 if len(y) <= _FEW_ROWS else 3
    rng = np.random.default_rng(seed)
    folds = layout.folds(y, n_folds=n_folds, is_class=bool(classes), seed=seed)
    for learnt, judged in folds:
        taught = learnt
        if len(taught) > MOST_TAUGHT:
            taught = np.sort(rng.choice(learnt, MOST_TAUGHT, replace=False))
        ours, theirs, truth = table.rows(taught), table.rows(judged), y[taught]
        said["constant"][judged] = constant_said(truth, len(judged), classes, measure)
        for n in range(1, MOST_CONDITIONS + 1):
            rule = fitted_rule(ours, truth, classes=classes, n_conditions=n, seed=seed)
            said[f"rule-{n}"][judged] = rule_answers(rule, theirs)
        for kind in QUICK_MODELS:
            said[kind][judged] = quick_said(
                kind, ours.matrix, truth, theirs.matrix, classes, seed=seed
            )
    judged = np.sort(np.concatenate([judged for _, judged in folds]))
    return OutOfFold(said=said, judged=judged)


@dataclass(frozen=True, slots=True, kw_only=True)
class Jury:
    """The rows, the criteria and the money by which every way is judged.

    Parameters
    ----------
    y
        The truth of the judged rows.
    classes
        Class names; empty for regression.
    measure
        What is shown besides the criteria's metrics.
    criteria, metrics
        What must hold, in the same order.
    confidence
        Level of every bound.
    earnings
        What a case earns; None without a payoff.
    money
        What each judged row earns; see `Answers.money`.
    cost_per_case
        What a case costs today.
    seed
        Of the resampling.
    units
        Group or block of time of each judged row; None where rows stand alone.
    """

    y: Array
    classes: tuple[str, ...]
    measure: Metric
    criteria: Sequence[Criterion]
    metrics: Sequence[Metric]
    confidence: float
    earnings: Metric | None = None
    money: Array | None = None
    cost_per_case: float | None = None
    seed: int = 0
    units: Indices | None = None

    def answers(self, said: Array) -> Answers:
        """Return numbers as answers with their money; yes is said from where it earned most."""
        answers = replace(as_answers(said, self.classes), money=self.money)
        if self.money is None or len(self.classes) != 2:
            return answers
        rows, true = np.arange(len(self.y)), self.y.astype(np.int64)
        gain = self.money[rows, true, 1] - self.money[rows, true, 0]
        return replace(answers, threshold=earning_threshold(gain, said[:, 1]))

    def entrant(self, name: str, how: str, answers: Answers) -> Entrant:
        """Return a way to answer with its figures and verdicts."""
        judged = verdicts(
            self.criteria,
            self.metrics,
            self.y,
            answers,
            confidence=self.confidence,
            seed=self.seed,
            units=self.units,
        )
        figures = {verdict.figure.metric: verdict.figure for verdict in judged}
        for metric in (self.measure, self.earnings):
            if metric is not None and metric.name not in figures:
                figures[metric.name] = self.figure(metric, answers)
        earned = figures[self.earnings.name] if self.earnings is not None else None
        against = None
        if earned is not None and self.cost_per_case is not None:
            # today's way is paid for each case; its own answers may earn something too
            paid = self.cost_per_case if name == "today" else 0.0
            against = earned.value - paid + self.cost_per_case
        return Entrant(
            name=name,
            how=how,
            figures={metric: each.to_json() for metric, each in figures.items()},
            verdicts=tuple(judged),
            money=earned,
            against_today=against,
        )

    def earns_more(self, one: Answers, other: Answers) -> bool:
        """Tell whether the other answers earn more beyond doubt; never without a payoff."""
        return (
            self.earnings is not None
            and compare(
                self.earnings,
                self.y,
                champion=one,
                challenger=other,
                confidence=self.confidence,
                seed=self.seed,
                units=self.units,
            ).is_better
        )

    def figure(self, metric: Metric, answers: Answers) -> Figure:
        """Return a metric of some answers with its bounds."""
        return figure(
            metric,
            self.y,
            answers,
            confidence=self.confidence,
            seed=self.seed,
            units=self.units,
        )


def earning_threshold(gain: Array, probability: Array) -> float:
    """Return the probability from which saying yes earns most, 0 to 1.

    Parameters
    ----------
    gain
        What a row earns more by a yes than by a no, `(n_rows,)`.
    probability
        Of the positive class, `(n_rows,)`.
    """
    levels, place = np.unique(probability, return_inverse=True)
    at_level = np.bincount(place, weights=gain, minlength=len(levels))
    # yes from each level on, or never
    earned = np.append(np.cumsum(at_level[::-1])[::-1], 0.0)
    cuts = np.concatenate([[0.0], (levels[1:] + levels[:-1]) / 2, [1.0]])
    best = np.flatnonzero(earned >= earned.max() - 1e-9)
    return float(cuts[best[len(best) // 2]])
