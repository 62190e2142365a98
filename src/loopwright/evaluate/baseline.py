"""Should this be machine learning? Constants, a rule and a linear model, before any training job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from loopwright.core.lazy import LazyModule
from loopwright.evaluate.comparison import Comparison, compare
from loopwright.evaluate.figure import Figure, Verdict, figure, verdicts
from loopwright.evaluate.rule import ReadableTable, Rule, fitted_rule, readable_tables, rule_answers
from loopwright.evaluate.threshold import best_threshold
from loopwright.problem import (
    Answers,
    Criterion,
    Metric,
    class_answers,
    metric_named,
    value_answers,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

    Array = npt.NDArray[np.float64]
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

Decision = Literal["ml_worth_it", "rule_enough", "no_signal"]
# three entrants are held against the constant, so each must be sure at a higher level
_SIGNAL_CONFIDENCE = 0.99
# simple ways learn little from more rows than this
_MOST_ROWS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrant:
    """One simple way to answer, judged on validation rows."""

    name: str
    how: str
    figures: dict[str, dict[str, Any]]
    verdicts: tuple[Verdict, ...]

    @property
    def meets_criteria(self) -> bool:
        """Whether there are criteria and all of them hold."""
        return bool(self.verdicts) and all(verdict.holds for verdict in self.verdicts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Framing:
    """The answer to "should this be machine learning?" with its evidence."""

    decision: Decision
    reason: str
    entrants: tuple[Entrant, ...]
    rule: Rule
    signal: Comparison

    def to_json(self) -> dict[str, Any]:
        """Return the framing as JSON types."""
        return {
            "decision": self.decision,
            "reason": self.reason,
            "entrants": [
                {
                    "name": entrant.name,
                    "how": entrant.how,
                    "figures": entrant.figures,
                    "meets_criteria": entrant.meets_criteria,
                }
                for entrant in self.entrants
            ],
            "rule": {
                "python": self.rule.to_python(),
                "sql": self.rule.to_sql(),
                "n_conditions": self.rule.n_conditions,
            },
            "signal": self.signal.to_json(),
        }


def framing(
    train: pl.DataFrame,
    validation: pl.DataFrame,
    *,
    y_train: Array,
    y_validation: Array,
    classes: tuple[str, ...],
    criteria: Sequence[Criterion],
    metrics: Sequence[Metric],
    confidence: float,
    today: tuple[str, Answers] | None = None,
    seed: int = 0,
) -> Framing:
    """Return whether machine learning is worth it here.

    Every entrant learns from `train` (at most 20,000 of its rows) and is judged on `validation`.

    Parameters
    ----------
    train, validation
        The input columns, without the target.
    y_train, y_validation
        The target: values, or class indices.
    classes
        Class names, the positive one last when there are two; empty for regression.
    criteria, metrics
        What must hold, in the same order.
    confidence
        Level at which the criteria must hold.
    today
        Today's way in words and its answers for the validation rows, if there is such a column.
    seed
        Of everything random.
    """
    import sklearn.ensemble
    import sklearn.linear_model  # noqa: F401 the limit holds for libraries that are loaded
    from threadpoolctl import threadpool_limits

    # small fits: a second thread saves little, and costs seconds where the processors are busy
    with threadpool_limits(1):
        return _framing(
            train,
            validation,
            y_train,
            y_validation,
            classes,
            criteria,
            metrics,
            confidence,
            today,
            seed,
        )


def _framing(
    train: pl.DataFrame,
    validation: pl.DataFrame,
    y_train: Array,
    y_validation: Array,
    classes: tuple[str, ...],
    criteria: Sequence[Criterion],
    metrics: Sequence[Metric],
    confidence: float,
    today: tuple[str, Answers] | None,
    seed: int,
) -> Framing:
    if not train.width:  # a table without columns has no rows either
        train, validation = (pl.DataFrame({"": [None] * len(y)}) for y in (y_train, y_validation))
    if train.height > _MOST_ROWS:
        chosen = np.sort(np.random.default_rng(seed).permutation(train.height)[:_MOST_ROWS])
        train, y_train = train[chosen.tolist()], y_train[chosen]
    ours, theirs = readable_tables(train, validation)
    rule = fitted_rule(ours, y_train, classes=classes, seed=seed)
    measure = metrics[0] if metrics else metric_named("log_loss" if classes else "mae")
    conditions = f"{rule.n_conditions} condition{'s' if rule.n_conditions != 1 else ''}"
    constant = _constant(y_train, len(y_train) + len(y_validation), classes, measure)
    both = _stacked(ours, theirs)
    said_by = {
        "constant": (constant, "one answer for all"),
        "rule": (_answers(rule_answers(rule, both), classes), conditions),
        "linear": (_linear(ours, y_train, both, classes), "a weighted sum of the columns"),
        "boosted": (_boosted(ours, y_train, both, classes, seed), "a quick boosted model"),
    }
    answered = {
        name: (_decided_answers(said, y_train, metrics), how)
        for name, (said, how) in said_by.items()
    }
    if today:
        answered["today"] = (today[1], today[0] or "today's way")
    entrants = tuple(
        _entrant(
            name,
            how,
            verdicts(criteria, metrics, y_validation, said, confidence=confidence, seed=seed),
            figure(measure, y_validation, said, confidence=confidence, seed=seed),
        )
        for name, (said, how) in answered.items()
    )
    signal = _signal(answered, y_train, y_validation, classes, measure, seed)
    decision, reason = _decision(entrants, signal)
    return Framing(decision=decision, reason=reason, entrants=entrants, rule=rule, signal=signal)


def _stacked(ours: ReadableTable, theirs: ReadableTable) -> ReadableTable:
    """Return the training rows with the validation rows below."""
    return replace(ours, matrix=np.concatenate([ours.matrix, theirs.matrix]))


def _decided_answers(said: Answers, y_train: Array, metrics: Sequence[Metric]) -> Answers:
    """Return the answers for the validation rows, which stand below the training rows.

    Where a criterion is money, every way to answer says yes from where it earned most on the
    training rows, as the model will.
    """
    n = len(y_train)
    profit = next((metric for metric in metrics if metric.name == "profit_per_case"), None)
    below = said.rows(np.arange(n, len(said)))
    if profit is None:
        return below
    threshold = best_threshold(profit, y_train, said.probability()[:n])
    return replace(below, threshold=threshold)


def _entrant(name: str, how: str, judged: Sequence[Verdict], measured: Figure) -> Entrant:
    figures = {measured.metric: measured.to_json()}
    figures |= {verdict.figure.metric: verdict.figure.to_json() for verdict in judged}
    return Entrant(name=name, how=how, figures=figures, verdicts=tuple(judged))


def _decision(entrants: Sequence[Entrant], signal: Comparison) -> tuple[Decision, str]:
    simple = [e for e in entrants if e.name in ("constant", "today", "rule") and e.meets_criteria]
    if simple:
        return "rule_enough", (
            f"No model needed: the {simple[0].name} ({simple[0].how}) meets every criterion."
        )
    if not signal.is_better:
        return "no_signal", (
            f"Nothing tried beats a constant answer on {signal.n_rows:,} validation rows "
            f"({signal.metric}: constant {signal.champion:.4g}, best {signal.challenger:.4g}): "
            "these columns do not tell the target."
        )
    return "ml_worth_it", (
        f"The columns tell the target ({signal.metric} {signal.champion:.4g} for a constant, "
        f"{signal.challenger:.4g} for a quick model), and no simple rule meets the criteria."
    )


def _signal(
    answered: dict[str, tuple[Answers, str]],
    y_train: Array,
    y: Array,
    classes: tuple[str, ...],
    measure: Metric,
    seed: int,
) -> Comparison:
    # thresholded metrics can be flat where there is signal, so the usual loss is asked as well
    asked = [measure, metric_named("log_loss" if classes else "rmse")]
    found = [
        compare(
            metric,
            y,
            # each metric has its own best constant: a model must beat that one
            champion=_constant(y_train, len(y), classes, metric),
            challenger=answered[name][0],
            confidence=_SIGNAL_CONFIDENCE,
            seed=seed,
        )
        for metric in asked
        for name in ("rule", "linear", "boosted")
    ]
    sure = [comparison for comparison in found if comparison.is_better]
    return max(
        sure or found[:3],
        key=lambda c: (c.metric == measure.name, c.probability_better, c.gain),
    )


def _answers(said: Array, classes: tuple[str, ...]) -> Answers:
    return class_answers(said) if classes else value_answers(said)


def _constant(y: Array, n_rows: int, classes: tuple[str, ...], measure: Metric) -> Answers:
    """Return the constant that does best on the training rows."""
    if classes:
        shares = np.bincount(y.astype(np.int64), minlength=len(classes)) / len(y)
        return class_answers(np.tile(shares, (n_rows, 1)))
    order = np.sort(y)
    weights = np.cumsum(1 / np.maximum(np.abs(order), 1e-9))
    tried = [
        float(y.mean()),
        float(np.median(y)),
        # the weighted median by 1/|y| is the constant of least relative error
        float(order[np.searchsorted(weights, weights[-1] / 2)]),
    ]
    ones, sign = np.ones((1, len(y))), 1.0 if measure.higher_is_better else -1.0
    best = max(
        tried,
        key=lambda value: (
            sign * float(measure.resampled(y, value_answers(np.full(len(y), value)), ones)[0])
        ),
    )
    return value_answers(np.full(n_rows, best))


def _linear(
    ours: ReadableTable, y: Array, theirs: ReadableTable, classes: tuple[str, ...]
) -> Answers:
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if classes:
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2_000))
        model.fit(ours.matrix, y.astype(np.int64))
        return class_answers(_spread(model.predict_proba(theirs.matrix), model.classes_, classes))
    logarithmic = bool(np.all(y > 0))
    model = make_pipeline(StandardScaler(), Ridge(alpha=1.0))
    model.fit(ours.matrix, np.log(y) if logarithmic else y)
    said = model.predict(theirs.matrix)
    if logarithmic:
        said = np.exp(np.clip(said, np.log(y.min()) - 5, np.log(y.max()) + 5))
    return value_answers(said)


def _boosted(
    ours: ReadableTable, y: Array, theirs: ReadableTable, classes: tuple[str, ...], seed: int
) -> Answers:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    shape = {"max_iter": 60, "early_stopping": False, "random_state": seed}
    if classes:
        model = HistGradientBoostingClassifier(**shape).fit(ours.matrix, y.astype(np.int64))
        return class_answers(_spread(model.predict_proba(theirs.matrix), model.classes_, classes))
    logarithmic = bool(np.all(y > 0))
    regressor = HistGradientBoostingRegressor(**shape).fit(
        ours.matrix, np.log(y) if logarithmic else y
    )
    said = regressor.predict(theirs.matrix)
    return value_answers(np.exp(said) if logarithmic else said)


def _spread(probabilities: Array, known: Array, classes: tuple[str, ...]) -> Array:
    """Return probabilities with a column for every class, also those not seen in training."""
    wide = np.zeros((len(probabilities), len(classes)))
    wide[:, np.asarray(known, dtype=np.int64)] = probabilities
    return wide
