"""What is remarkable about a table: each finding with its evidence and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from loopwright.explore.association import Pair
from loopwright.explore.column import ColumnProfile
from loopwright.explore.missing import MissingTogether
from loopwright.explore.trend import Trend

Severity = Literal["serious", "warning", "info"]
FindingKind = Literal[
    "leak",
    "personal_data",
    "target_missing",
    "imbalance",
    "duplicate_rows",
    "constant",
    "identifier",
    "missing",
    "missing_together",
    "infinite",
    "ordinal",
    "out_of_range",
    "near_duplicate",
    "code",
    "high_cardinality",
    "outliers",
    "skew",
    "scale",
    "time",
    "trend",
]
LEAK = 0.98
_ORDER = {"serious": 0, "warning": 1, "info": 2}
_MUCH_MISSING = 0.05
_MOST_MISSING = 0.6
_MANY_VALUES = 50
_SKEWED = 2.0
_FEW_FAR_OUT = 0.001
_SCALE_RATIO = 1_000.0
_RARE_CLASS = 0.1
_FEW_OF_CLASS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something remarkable about one column, or about the whole table when `column` is None."""

    column: str | None
    kind: FindingKind
    severity: Severity
    evidence: str
    recommendation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What findings are drawn from.

    `classes` holds the number of rows of every class of the target, empty for a regression;
    `personal` what personal data a column seems to hold, by column; `outside` the number of values
    outside the range that its note allows, by column; `together` the groups of columns that are
    missing in the same rows; `trends` how the target moves over date columns.
    """

    n_rows: int
    n_duplicate_rows: int
    columns: Sequence[ColumnProfile]
    target: str | None
    classes: Mapping[str, int]
    pairs: Sequence[Pair]
    personal: Mapping[str, str]
    outside: Mapping[str, int]
    together: Sequence[MissingTogether]
    trends: Sequence[Trend]


def findings(facts: Facts) -> tuple[Finding, ...]:
    """Return everything remarkable, the most serious first, else in the order of the columns."""
    found = [*_about_table(facts)]
    for column in facts.columns:
        if column.name == facts.target:
            found += _about_target(column, facts)
        else:
            found += _about_use(column, facts.n_rows)
            found += _about_spread(column, facts.n_rows)
        if column.name in facts.personal:
            found.append(_personal(column.name, facts.personal[column.name]))
        if column.name in facts.outside:
            found += _out_of_range(column, facts.outside[column.name])
        found += _about_time(column)
    return tuple(sorted(found, key=lambda finding: _ORDER[finding.severity]))


def _about_table(facts: Facts) -> Iterator[Finding]:
    n_twice = facts.n_duplicate_rows
    if n_twice:
        yield Finding(
            column=None,
            kind="duplicate_rows",
            severity="warning",
            evidence=f"{n_twice:,} rows ({n_twice / facts.n_rows:.1%}) repeat an earlier row exactly.",
            recommendation="Remove them before splitting: a copy in the test part flatters the model.",
        )
    for pair in facts.pairs:
        yield _near_duplicate(pair)
    for group in facts.together:
        yield _missing_together(group)
    for trend in facts.trends:
        if trend.is_trend:
            yield _trend(trend)
    yield from _scale(facts)


def _near_duplicate(pair: Pair) -> Finding:
    how = {
        "identical": f"identical to {pair.first!r}",
        "rising": f"nearly the same order as {pair.first!r} (|Spearman| {pair.value:.3f})",
        "falling": f"nearly the opposite order of {pair.first!r} (|Spearman| {pair.value:.3f})",
    }.get(pair.relation, f"{pair.relation} as {pair.first!r}")
    return Finding(
        column=pair.second,
        kind="near_duplicate",
        severity="warning",
        evidence=f"It is {how}.",
        recommendation=f"Keep one of {pair.first!r} and {pair.second!r}; two blur what each contributes.",
    )


def _missing_together(group: MissingTogether) -> Finding:
    shown = ", ".join(repr(name) for name in group.columns[:8])
    if len(group.columns) > 8:
        shown += f" and {len(group.columns) - 8} more"
    nearly = "" if group.share == 1 else "nearly "
    return Finding(
        column=None,
        kind="missing_together",
        severity="info",
        evidence=f"{shown} are missing in {nearly}the same {group.n_rows:,} rows.",
        recommendation="Ask what those rows have in common; one column that says so is enough.",
    )


def _trend(trend: Trend) -> Finding:
    way = "rises" if trend.shift > 0 else "falls"
    third = max(1, len(trend.levels) // 3)
    early, late = sum(trend.levels[:third]) / third, sum(trend.levels[-third:]) / third
    return Finding(
        column=trend.column,
        kind="trend",
        severity="warning",
        evidence=f"The {trend.label} {way} over it, from {early:,.4g} to {late:,.4g} by {trend.period} "
        f"({abs(trend.shift):.2f} standard deviations; p {_p_value(trend.p_value)}).",
        recommendation="Split by time and train again often: what was true early is not true late.",
    )


def _p_value(p: float) -> str:
    return f"{p:.1g}" if p >= 1e-4 else "below 0.0001"


def _scale(facts: Facts) -> Iterator[Finding]:
    spreads = {
        column.name: column.number.sd
        for column in facts.columns
        if column.kind == "number" and column.name != facts.target
        if column.number is not None and column.number.sd
    }
    if len(spreads) < 2:
        return
    least, most = min(spreads, key=spreads.__getitem__), max(spreads, key=spreads.__getitem__)
    ratio = spreads[most] / spreads[least]
    if ratio >= _SCALE_RATIO:
        yield Finding(
            column=None,
            kind="scale",
            severity="info",
            evidence=f"{most!r} spreads {ratio:,.0f} times as wide as {least!r}.",
            recommendation="Standardise numbers for linear models and nearest neighbours; trees need not.",
        )


def _about_target(column: ColumnProfile, facts: Facts) -> Iterator[Finding]:
    if column.n_missing:
        yield Finding(
            column=column.name,
            kind="target_missing",
            severity="warning",
            evidence=f"{column.n_missing:,} rows ({column.missing_share:.1%}) have no target.",
            recommendation="Leave those rows out: they can neither teach nor test.",
        )
    if facts.classes:
        yield from _imbalance(column.name, facts.classes)
    elif column.number is not None:
        yield from _skew(column, "Try learning its logarithm; errors then count as shares.")


def _imbalance(target: str, classes: Mapping[str, int]) -> Iterator[Finding]:
    total = sum(classes.values())
    rarest = min(classes, key=lambda label: classes[label])
    n_rarest, share = classes[rarest], classes[rarest] / total
    n_rare = sum(n_rows < _FEW_OF_CLASS for n_rows in classes.values())
    if n_rare:
        yield Finding(
            column=target,
            kind="imbalance",
            severity="serious",
            evidence=f"{n_rare} of {len(classes)} classes have fewer than {_FEW_OF_CLASS} rows; "
            f"{rarest!r} has {n_rarest:,}.",
            recommendation="Collect more rows of them, or merge rare classes; none can be tested well.",
        )
    elif share < _RARE_CLASS and share * len(classes) < 0.5:
        yield Finding(
            column=target,
            kind="imbalance",
            severity="warning",
            evidence=f"Class {rarest!r} has {n_rarest:,} rows, {share:.1%} of all.",
            recommendation="Judge by recall, precision or a payoff, not by accuracy; weigh the classes.",
        )


def _about_use(column: ColumnProfile, n_rows: int) -> Iterator[Finding]:
    def found(kind: FindingKind, severity: Severity, evidence: str, do: str) -> Finding:
        return Finding(
            column=column.name, kind=kind, severity=severity, evidence=evidence, recommendation=do
        )

    n_present = n_rows - column.n_missing
    association = column.association
    if association is not None and association.value > LEAK:
        yield found(
            "leak",
            "serious",
            f"It alone gives the target away ({association.measure} {association.value:.3f}).",
            "Ask whether it is known before the prediction is needed; if not, drop it.",
        )
    if column.kind == "constant":
        empty = column.n_distinct == 0
        evidence = "It has no values at all." if empty else "It has the same value in every row."
        yield found("constant", "warning", evidence, "Drop it: it cannot tell rows apart.")
        return
    if column.kind == "identifier":
        yield found(
            "identifier",
            "warning",
            f"{column.n_distinct:,} distinct values in {n_present:,} rows: it names rows.",
            "Drop it as a feature; keep it to join labels and to spot repeats.",
        )
    elif column.kind == "category" and column.number is not None:
        yield found(
            "code",
            "info",
            f"{column.n_distinct:,} distinct whole numbers that name things, by the column's name.",
            "Treat it as a category: its size means nothing.",
        )
    if column.kind == "ordinal":
        words = " < ".join(column.order)
        number = column.number
        low, high = (number.minimum, number.maximum) if number is not None else (0.0, 0.0)
        yield found(
            "ordinal",
            "info",
            f"Its values have an order: {words}."
            if words
            else f"{column.n_distinct} whole numbers from {low:g} to {high:g} that look like grades.",
            "Keep the order: encode it as 1, 2, 3, ... rather than one column each."
            if words
            else "They have an order, but a step need not mean the same everywhere.",
        )
    if column.kind == "category" and column.n_distinct > _MANY_VALUES:
        yield found(
            "high_cardinality",
            "info",
            f"{column.n_distinct:,} categories, {n_present / column.n_distinct:.1f} rows each.",
            "Encode it by the mean of the target, out of fold, rather than one column each.",
        )
    if column.n_missing:
        yield _missing(column)


def _missing(column: ColumnProfile) -> Finding:
    share = column.missing_share
    advice = "Fill it with a typical value and add a column that says where it was missing."
    if share >= _MOST_MISSING:
        advice = "Drop it, or keep only whether it is missing, unless someone knows why it is."
    return Finding(
        column=column.name,
        kind="missing",
        severity="warning" if share >= _MUCH_MISSING else "info",
        evidence=f"{column.n_missing:,} values ({share:.1%}) are missing.",
        recommendation=advice,
    )


def _about_spread(column: ColumnProfile, n_rows: int) -> Iterator[Finding]:
    number = column.number
    if number is None:
        return
    if number.n_infinite:
        yield Finding(
            column=column.name,
            kind="infinite",
            severity="warning",
            evidence=f"{number.n_infinite:,} values are infinite.",
            recommendation="Find the division by zero behind them; they are treated as missing.",
        )
    if column.kind != "number":
        return
    if number.n_far_out > _FEW_FAR_OUT * n_rows:
        yield Finding(
            column=column.name,
            kind="outliers",
            severity="info",
            evidence=f"{number.n_far_out:,} values lie more than 3 interquartile ranges outside the "
            f"quartiles; the extremes are {number.minimum:,.6g} and {number.maximum:,.6g}.",
            recommendation="Check the extremes; clip them for linear models if they are real.",
        )
    yield from _skew(column, "Take its logarithm or ranks for linear models; trees need not.")


def _skew(column: ColumnProfile, advice: str) -> Iterator[Finding]:
    number = column.number
    if (
        number is None
        or number.skew is None
        or abs(number.skew) < _SKEWED
        or column.n_distinct <= 10
    ):
        return
    side = "right" if number.skew > 0 else "left"
    if number.n_negative or side == "left":
        advice = "Use ranks or a power transform for linear models; trees need not."
    yield Finding(
        column=column.name,
        kind="skew",
        severity="info",
        evidence=f"It has a long tail to the {side} (skew {number.skew:.1f}).",
        recommendation=advice,
    )


def _personal(name: str, what: str) -> Finding:
    return Finding(
        column=name,
        kind="personal_data",
        severity="serious",
        evidence=f"It holds what looks like {what}.",
        recommendation="Drop or pseudonymise it, unless there is a reason and a right to use it.",
    )


def _out_of_range(column: ColumnProfile, n_outside: int) -> Iterator[Finding]:
    note, number = column.note, column.number
    if note is None:
        return
    extremes = ""
    if number is not None:
        extremes = f"; the extremes are {number.minimum:,.6g} and {number.maximum:,.6g}"
    yield Finding(
        column=column.name,
        kind="out_of_range",
        severity="warning",
        evidence=f"{n_outside:,} values lie outside the allowed range "
        f"{note.bounds}{note.signed}{extremes}.",
        recommendation="Correct them at the source or leave those rows out; they cannot be right.",
    )


def _about_time(column: ColumnProfile) -> Iterator[Finding]:
    date = column.date
    if date is None or column.kind != "date":
        return
    gap = ""
    if date.largest_gap_days > 7 and date.largest_gap_days > 0.1 * date.n_days:
        gap = f" Its largest hole is {date.largest_gap_days:,.0f} days."
    yield Finding(
        column=column.name,
        kind="time",
        severity="warning" if gap else "info",
        evidence=f"It runs from {date.first} to {date.last} ({date.n_days:,.0f} days).{gap}",
        recommendation="If the model will predict later rows, split by this column, not at random.",
    )
