"""Should this be machine learning? Constants, rules and quick models, before any training job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule
from loopwright.evaluate.comparison import Comparison, compare
from loopwright.evaluate.decision import (
    Decision,
    decided,
    enough_told,
    is_worth,
    told_figure,
)
from loopwright.evaluate.entrant import Entrant, Jury, OutOfFold, out_of_fold
from loopwright.evaluate.layout import Layout
from loopwright.evaluate.learning_curve import LearningCurve
from loopwright.evaluate.quick import QUICK_MODELS, QuickModel, constant_said
from loopwright.evaluate.readable import ReadableTable, readable_table
from loopwright.evaluate.rule import MOST_CONDITIONS, Rule, fitted_rule
from loopwright.evaluate.shortfall import Shortfall, quick_curve, shortfalls
from loopwright.evaluate.signal import Signal, signal_of
from loopwright.evaluate.unit import row_units
from loopwright.evaluate.weak_segment import WeakSegment, weak_segments
from loopwright.problem import Answers, Criterion, Metric, metric_named

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

    Array = npt.NDArray[np.float64]
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

SIMPLE = ("constant", "today", "rule")
MOST_ROWS = 30_000
_LEAST_LEVEL = 0.01
_WITH_CURVE = ("ml_worth_it", "not_with_this_data")
_FEW_REPEATS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Framing:
    """The answer to "should this be machine learning?" with its evidence.

    Parameters
    ----------
    decision
        `ml_worth_it`, `rule_enough`, `no_signal` or `not_with_this_data`.
    way
        For `rule_enough`: which simple way is enough (`constant`, `today` or `rule`).
    reason
        In one or two sentences.
    evidence
        What was found, a sentence each.
    entrants
        The ways to answer, judged on rows they did not learn from.
    rule
        The best rule, learnt from all rows: the simplest that meets the criteria, if one does; the
        constant, where that is enough.
    signal
        Whether there is anything to learn.
    advantage
        The best quick model beside the best simple way, in money if there is a payoff.
    shortfalls
        Criteria out of reach with these rows.
    segments
        Rows of which more would help.
    learning
        How the best quick model gets better with rows; None where there are too few for a curve,
        or nothing to learn.
    n_rows
        Rows that ways were judged on.
    """

    decision: Decision
    way: str
    reason: str
    evidence: tuple[str, ...]
    entrants: tuple[Entrant, ...]
    rule: Rule
    signal: Signal
    advantage: Comparison
    shortfalls: tuple[Shortfall, ...]
    segments: tuple[WeakSegment, ...]
    learning: LearningCurve | None
    n_rows: int

    def to_json(self) -> dict[str, Any]:
        """Return the framing as JSON types."""
        return {
            "decision": self.decision,
            "way": self.way,
            "reason": self.reason,
            "evidence": list(self.evidence),
            "entrants": [entrant.to_json() for entrant in self.entrants],
            "rule": {
                "words": self.rule.to_words(),
                "python": self.rule.to_python(),
                "sql": self.rule.to_sql(),
                "n_conditions": self.rule.n_conditions,
                "tree": self.rule.to_json(),
            },
            "signal": self.signal.to_json(),
            "advantage": self.advantage.to_json(),
            "shortfalls": [each.to_json() for each in self.shortfalls],
            "segments": [each.to_json() for each in self.segments],
            "learning": self.learning.to_json() if self.learning else None,
            "n_rows": self.n_rows,
        }


def framing(
    rows: pl.DataFrame,
    y: Array,
    *,
    classes: tuple[str, ...],
    criteria: Sequence[Criterion],
    metrics: Sequence[Metric],
    confidence: float,
    layout: Layout | None = None,
    parts: Mapping[str, int] | None = None,
    earnings: Metric | None = None,
    money: Array | None = None,
    cost_per_case: float | None = None,
    today: tuple[str, Answers] | None = None,
    seed: int = 0,
) -> Framing:
    """Return whether machine learning is worth it here.

    Every way to answer is judged on rows it did not learn from, by cross-validation. At most 30,000
    rows are looked at.

    Parameters
    ----------
    rows
        The input columns of the rows that may be looked at, without the target.
    y
        The target, `(n_rows,)`: values, or class indices.
    classes
        Class names, the positive one last when there are two; empty for regression.
    criteria, metrics
        What must hold, in the same order.
    confidence
        Level at which the criteria must hold.
    layout
        How the rows hang together; they stand alone when absent.
    parts
        Rows in `train`, `validation` and `test`, for how many more would do.
    earnings, money
        What a case earns and, by row, true class and class said, what each row earns; both only
        with a payoff.
    cost_per_case
        What a case costs today.
    today
        Today's way in words and its answers for all rows, if there is such a column.
    seed
        Of everything random.
    """
    import lightgbm
    import sklearn.linear_model
    import sklearn.tree
    from threadpoolctl import threadpool_limits

    del lightgbm, sklearn  # the limit below holds for libraries that are loaded
    layout = layout or Layout()
    parts = dict(parts) if parts else {"train": len(y), "validation": 0, "test": 0}
    if not rows.width:  # a table without columns has no rows either
        rows = pl.DataFrame({"": pl.Series([None] * len(y), dtype=pl.Float64)})
    if len(y) > MOST_ROWS:
        chosen = np.sort(np.random.default_rng(seed).permutation(len(y))[:MOST_ROWS])
        rows, y, layout = rows[chosen.tolist()], y[chosen], layout.rows(chosen)
        money = money[chosen] if money is not None else None
        today = (today[0], today[1].rows(chosen)) if today else None
    measure = metrics[0] if metrics else metric_named("log_loss" if classes else "mae")
    # small fits: a second thread saves little, and costs seconds where the processors are busy
    with threadpool_limits(1):
        table = readable_table(rows)
        found = out_of_fold(table, y, classes=classes, measure=measure, layout=layout, seed=seed)
        jury = Jury(
            y=y[found.judged],
            classes=classes,
            measure=measure,
            criteria=criteria,
            metrics=metrics,
            confidence=confidence,
            earnings=earnings,
            money=money[found.judged] if money is not None else None,
            cost_per_case=cost_per_case,
            seed=seed,
            units=_units(layout.rows(found.judged)),
        )
        return _Inquiry(table, y, layout, found, jury, parts, today, money).framing()


def _units(layout: Layout) -> npt.NDArray[np.int64] | None:
    if layout.by == "random":
        return None
    return row_units(pl.Series(layout.codes), by=layout.by)


class _Inquiry:
    """One question put to one table: its ways to answer, in the order in which they are asked."""

    def __init__(
        self,
        table: ReadableTable,
        y: Array,
        layout: Layout,
        found: OutOfFold,
        jury: Jury,
        parts: Mapping[str, int],
        today: tuple[str, Answers] | None,
        money: Array | None,
    ) -> None:
        self.table, self.y, self.layout = table, y, layout
        self.found, self.jury, self.parts, self.money = found, jury, parts, money
        self.answers: dict[str, Answers] = {}
        self.entrants: dict[str, Entrant] = {}
        self._enter("constant", "one answer for all", self._said("constant"))
        self.n_conditions = self._simplest_rule()
        if today is not None:
            own = replace(today[1].rows(found.judged), money=jury.money)
            self._enter("today", today[0] or "today's way", own)
        self._enter("linear", "a weighted sum of the columns", self._said("linear"))
        self._enter("boosted", "a quick boosted model", self._said("boosted"))

    def _said(self, name: str) -> Answers:
        return self.jury.answers(self.found.said[name][self.found.judged])

    def _enter(self, name: str, how: str, answers: Answers) -> Entrant:
        self.answers[name] = answers
        self.entrants[name] = self.jury.entrant(name, how, answers)
        return self.entrants[name]

    def _simplest_rule(self) -> int:
        """Enter the rule, and return how many conditions it may ask.

        With fewer conditions only while those with more meet every criterion: tests in a fixed
        order, each only after the one before held, need no higher level.
        """
        kept = MOST_CONDITIONS
        for n in range(MOST_CONDITIONS, 0, -1):
            how = f"at most {n} condition{'s' if n > 1 else ''}"
            tried = self.jury.entrant("rule", how, answers := self._said(f"rule-{n}"))
            if n < MOST_CONDITIONS and not (tried.meets_criteria and not self._costs(answers)):
                break
            kept = n
            self.answers["rule"], self.entrants["rule"] = answers, tried
            if not tried.meets_criteria:
                break
        return kept

    def _costs(self, simpler: Answers) -> bool:
        """Tell whether a simpler rule earns less than the one entered, beyond doubt."""
        return self.jury.earns_more(simpler, self.answers["rule"])

    def _enough(self) -> Entrant | None:
        """Return the simple way that is enough, if one is: the simplest that no other out-earns."""
        chosen: Entrant | None = None
        for each in self.entrants.values():
            if each.name not in SIMPLE or not each.meets_criteria:
                continue
            ours = self.answers[each.name]
            if chosen is None or self.jury.earns_more(self.answers[chosen.name], ours):
                chosen = each
        return chosen

    def _kept_rule(self, enough: Entrant | None) -> Rule:
        """Return the rule that is shown, learnt from all rows."""
        classes = self.jury.classes
        if enough is not None and enough.name == "constant":
            said = constant_said(self.y, 1, classes, self.jury.measure)[0]
            rule = Rule(root={"answer": said.tolist(), "n_rows": len(self.y)}, classes=classes)
            return replace(rule, threshold=self.answers["constant"].threshold)
        rule = fitted_rule(
            self.table,
            self.y,
            classes=classes,
            n_conditions=self.n_conditions,
            seed=self.jury.seed,
        )
        return replace(rule, threshold=self.answers["rule"].threshold)

    def framing(self) -> Framing:
        """Return the verdict with its evidence."""
        jury = self.jury
        signal = signal_of(
            self.table.matrix,
            self.y,
            [self.found.said[name] for name in (f"rule-{self.n_conditions}", *QUICK_MODELS)],
            n_classes=len(jury.classes),
            layout=self.layout,
            level=max(_LEAST_LEVEL, round(1 - jury.confidence, 9)),
            seed=jury.seed,
        )
        advantage = self._advantage()
        entrants = tuple(self.entrants.values())
        enough = self._enough()
        beside = ""
        if enough is not None and jury.earnings is not None:
            beside, advantage = enough.name, self._advantage(enough.name)
        earns_more = bool(beside) and signal.found and is_worth(advantage)
        missing: list[Shortfall] = []
        if enough is None and signal.found and jury.criteria:
            missing = shortfalls(
                self.table,
                self.y,
                jury=jury,
                answers=self.answers,
                entrants=entrants,
                layout=self.layout,
                parts=self.parts,
                money=self.money,
            )
        segments = self._segments() if signal.found and enough is None else []
        rule = self._kept_rule(enough)
        if enough is not None:
            decision, reason = enough_told(enough, rule, advantage if earns_more else None)
        else:
            decision, reason = decided(signal, missing, segments, jury, self.entrants)
        return Framing(
            decision=decision,
            way=enough.name if enough is not None and decision == "rule_enough" else "",
            reason=reason,
            evidence=tuple(self._evidence(signal, advantage, missing, segments, beside)),
            entrants=entrants,
            rule=rule,
            signal=signal,
            advantage=advantage,
            shortfalls=tuple(missing),
            segments=tuple(segments),
            learning=self._learning(missing) if decision in _WITH_CURVE else None,
            n_rows=len(jury.y),
        )

    def _advantage(self, simple: str = "") -> Comparison:
        """Hold the best quick model against a simple way, the best one where none is named."""
        metric = self.jury.earnings or self.jury.measure
        sign = 1.0 if metric.higher_is_better else -1.0

        def best(names: Sequence[str]) -> str:
            there = [name for name in names if name in self.entrants]
            return max(
                there, key=lambda name: sign * self.entrants[name].figures[metric.name]["value"]
            )

        return compare(
            metric,
            self.jury.y,
            champion=self.answers[simple or best(SIMPLE)],
            challenger=self.answers[best(QUICK_MODELS)],
            confidence=self.jury.confidence,
            seed=self.jury.seed,
            units=self.jury.units,
        )

    def _best_quick(self) -> QuickModel:
        metric = self.jury.measure
        sign = 1.0 if metric.higher_is_better else -1.0
        return max(
            QUICK_MODELS,
            key=lambda name: sign * self.entrants[name].figures[metric.name]["value"],
        )

    def _learning(self, missing: Sequence[Shortfall]) -> LearningCurve | None:
        """Return the learning curve of the measure: one that is there, or a short one."""
        for each in missing:
            if each.curve is not None and each.metric == self.jury.measure.name:
                return each.curve
        best = self._best_quick()
        return quick_curve(
            best,
            self.table,
            self.y,
            metric=self.jury.measure,
            classes=self.jury.classes,
            layout=self.layout,
            money=self.money,
            threshold=self.answers[best].threshold,
            seed=self.jury.seed,
            most_repeats=_FEW_REPEATS,
        )

    def _segments(self) -> list[WeakSegment]:
        metric, best = self.jury.measure, self._best_quick()
        asked = (metric, metric_named("log_loss" if self.jury.classes else "mae"))
        for each in asked:
            loss = each.per_row(self.jury.y, self.answers[best])
            if loss is not None and not each.higher_is_better:
                return weak_segments(self.table.rows(self.found.judged), loss)
        return []

    def _evidence(
        self,
        signal: Signal,
        advantage: Comparison,
        missing: Sequence[Shortfall],
        segments: Sequence[WeakSegment],
        beside: str = "",
    ) -> list[str]:
        name = self.jury.measure.name
        figures = ", ".join(
            f"{each.name} {told_figure(each.figures[name])}" for each in self.entrants.values()
        )
        told = [f"{name} on {len(self.jury.y):,} rows: {figures}", f"signal: {signal}"]
        if self.jury.earnings is not None:
            told.append(
                f"money: a quick model earns {advantage.gain:+,.4g} a case "
                f"({advantage.lower:+,.4g} to {advantage.upper:+,.4g}) beside "
                + (f"the {beside}" if beside else "the best simple way")
            )
            told += [
                f"beside today's {self.jury.cost_per_case:,.6g} a case, {each.name} is worth "
                f"{each.against_today:+,.4g} a case"
                for each in self.entrants.values()
                if each.against_today is not None
            ]
        told += [str(each) for each in missing]
        if segments:
            told.append("answered worst, and rare: " + "; ".join(str(each) for each in segments))
        return told
