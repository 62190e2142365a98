"""What is remarkable about a table as a whole, its target, and all its columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from loopwright.explore.association import Pair
from loopwright.explore.column import ColumnProfile
from loopwright.explore.column_review import (
    about_personal,
    about_range,
    about_size,
    about_skew,
    about_spread,
    about_time,
    about_use,
    about_values,
    rows,
)
from loopwright.explore.finding import Facts, Finding
from loopwright.explore.missing import MissingTogether
from loopwright.explore.trend import Trend

_ORDER = {"serious": 0, "warning": 1, "info": 2}
_SCALE_RATIO = 1_000.0
_RARE_CLASS = 0.1
_FEW_OF_CLASS = 20
_SHOWN_PARTNERS = 3


def findings(facts: Facts) -> tuple[Finding, ...]:
    """Return everything remarkable, the most serious first, else in the order of the columns."""
    found = [*_about_table(facts)]
    for column in facts.columns:
        if column.name == facts.target:
            found += _about_target(column, facts)
        else:
            found += about_use(column, facts.n_rows)
            found += about_values(column, facts.n_rows, facts.mixed.get(column.name))
            found += about_spread(column, facts.n_rows)
        if column.name in facts.personal:
            found.append(about_personal(column.name, facts.personal[column.name]))
        if column.name in facts.outside:
            found += about_range(column, facts.outside[column.name])
        found += about_time(column)
    return tuple(sorted(found, key=lambda finding: _ORDER[finding.severity]))


def _about_table(facts: Facts) -> Iterator[Finding]:
    n_twice = facts.n_duplicate_rows
    if n_twice:
        yield Finding(
            column=None,
            kind="duplicate_rows",
            severity="warning",
            evidence=f"{rows(n_twice)} ({n_twice / facts.n_rows:.1%}) repeat an earlier row exactly.",
            recommendation="Remove them before splitting: a copy in the test part flatters the model.",
        )
    for pair in facts.pairs:
        yield _near_duplicate(pair)
    yield from _related(facts)
    for group in facts.together:
        # what is missing everywhere is said of each column
        if group.n_rows == facts.n_rows:
            continue
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


def _related(facts: Facts) -> Iterator[Finding]:
    """Give a finding for each column that goes with others and less with the target than they do."""
    strength = {
        column.name: column.association.value if column.association is not None else 0.0
        for column in facts.columns
    }
    partners: dict[str, list[Pair]] = {}
    for pair in facts.related:
        # of equals the later one
        weaker = pair.first if strength[pair.first] < strength[pair.second] else pair.second
        partners.setdefault(weaker, []).append(pair)
    for name, pairs in partners.items():
        ordered = sorted(pairs, key=lambda pair: -pair.value)
        others = [pair.first if pair.second == name else pair.second for pair in ordered]
        told = [
            f"{other!r} ({pair.relation} {pair.value:.2f})"
            for other, pair in zip(others[:_SHOWN_PARTNERS], ordered, strict=False)
        ]
        n_more = len(others) - len(told)
        more = f" and {n_more} more" if n_more else ""
        yield Finding(
            column=name,
            kind="correlated",
            severity="info",
            evidence=f"It goes with {', '.join(told)}{more}.",
            recommendation=f"If one has to go, {name!r} goes less with the target than {others[0]!r}."
            if strength[name] < strength[others[0]]
            else f"See whether the model needs both: try it without {name!r}.",
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
    if column.kind == "constant":
        has_values = column.n_distinct > 0
        yield Finding(
            column=column.name,
            kind="constant",
            severity="serious",
            evidence="It has the same value in every row."
            if has_values
            else "It has no values at all.",
            recommendation="There is nothing to learn: bring rows with other answers.",
        )
    if column.number is not None and column.number.n_infinite:
        yield Finding(
            column=column.name,
            kind="infinite",
            severity="serious",
            evidence=f"{column.number.n_infinite:,} values are infinite.",
            recommendation="Correct them at the source or leave those rows out: nothing can be learned from them.",
        )
    if column.n_missing:
        yield Finding(
            column=column.name,
            kind="target_missing",
            severity="warning",
            evidence=f"{rows(column.n_missing)} ({column.missing_share:.1%}) have no target.",
            recommendation="Leave those rows out: they can neither teach nor test.",
        )
    if facts.classes:
        yield from _imbalance(column.name, facts.classes)
    elif column.number is not None:
        yield from about_size(column)
        yield from about_skew(column, "Try learning its logarithm; errors then count as shares.")


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
