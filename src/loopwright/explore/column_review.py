"""What is remarkable about one column: its use, its values, its spread, its time."""

from __future__ import annotations

from collections.abc import Iterator

from loopwright.explore.column import ColumnProfile
from loopwright.explore.finding import Finding, FindingKind, Severity
from loopwright.explore.mixture import Mixture

LEAK = 0.98
_MUCH_MISSING = 0.05
_MOST_MISSING = 0.6
_MANY_VALUES = 50
_FEW_VALUES = 10
_SKEWED = 2.0
_VERY_SKEWED = 10.0
_FEW_FAR_OUT = 0.001
_MANY_ZEROS = 0.05
_DOMINANT = 0.9
# squares of what is greater overflow
_HUGE = 1e150


def about_use(column: ColumnProfile, n_rows: int) -> Iterator[Finding]:
    """Give what is remarkable about what the column is and says: leaks, kinds, gaps."""

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
    if column.kind == "other":
        yield found(
            "nested",
            "warning",
            f"It holds {column.dtype} values, which no step of a recipe can read.",
            "Drop it, or turn it into columns of numbers, text or dates at the source.",
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
    if column.kind == "identifier":
        advice = (
            "Nothing can stand for a name: find out what those rows are and where they came from."
        )
    elif share >= _MOST_MISSING:
        advice = "Drop it, or keep only whether it is missing, unless someone knows why it is."
    return Finding(
        column=column.name,
        kind="missing",
        severity="warning" if share >= _MUCH_MISSING else "info",
        evidence=f"{column.n_missing:,} values ({share:.1%}) are missing.",
        recommendation=advice,
    )


def about_values(column: ColumnProfile, n_rows: int, mixture: Mixture | None) -> Iterator[Finding]:
    """Give what is remarkable about the values: one that prevails, zeros, numbers or dates as text."""
    if column.kind == "constant":
        return
    number, n_present = column.number, n_rows - column.n_missing
    if mixture is not None:
        yield Finding(
            column=column.name,
            kind="mixed",
            severity="warning" if mixture.is_mixed else "info",
            evidence=mixture.evidence,
            recommendation=mixture.recommendation,
        )
    prevails = column.top and column.top[0].share >= _DOMINANT
    if prevails and column.kind in ("boolean", "category", "ordinal", "number"):
        first = column.top[0]
        yield Finding(
            column=column.name,
            kind="dominant",
            severity="info",
            evidence=f"{first.share:.1%} of its values are "
            f"{first.value if number is not None else repr(first.value)}.",
            recommendation="It tells few rows apart; see whether those few matter before keeping it.",
        )
    elif number is not None and column.kind in ("number", "ordinal"):
        if number.n_negative or number.n_zeros < _MANY_ZEROS * n_present:
            return
        yield Finding(
            column=column.name,
            kind="zeros",
            severity="info",
            evidence=f"{number.n_zeros:,} values ({number.n_zeros / n_present:.1%}) are 0.",
            recommendation="Ask whether 0 means none or not known; if not known, mark it as missing.",
        )


def about_size(column: ColumnProfile) -> Iterator[Finding]:
    """Give a finding if numbers are so large that computing with them overflows."""
    number = column.number
    if number is None or max(-number.minimum, number.maximum) < _HUGE:
        return
    yield Finding(
        column=column.name,
        kind="huge",
        severity="warning",
        evidence=f"It runs from {number.minimum:.3g} to {number.maximum:.3g}: sums and squares of such "
        "numbers overflow.",
        recommendation="They may stand for missing or endless: correct them, or take the logarithm.",
    )


def _told(value: float) -> str:
    """Return a number in full unless it is very large or small."""
    return f"{value:,.0f}" if 1e5 <= abs(value) < 1e12 else f"{value:,.6g}"


def rows(n: int) -> str:
    """Return a number of rows in words.

    Examples
    --------
    >>> rows(1), rows(1_200)
    ('1 row', '1,200 rows')
    """
    return "1 row" if n == 1 else f"{n:,} rows"


def about_spread(column: ColumnProfile, n_rows: int) -> Iterator[Finding]:
    """Give what is remarkable about the spread of numbers: infinite values, outliers, long tails."""
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
    yield from about_size(column)
    if column.kind != "number":
        return
    if number.n_far_out > _FEW_FAR_OUT * n_rows:
        yield Finding(
            column=column.name,
            kind="outliers",
            severity="info",
            evidence=f"{number.n_far_out:,} values lie more than 3 interquartile ranges outside the "
            f"quartiles; the extremes are {_told(number.minimum)} and {_told(number.maximum)}.",
            recommendation="Check the extremes; clip them for linear models if they are real.",
        )
    yield from about_skew(column, "Take its logarithm or ranks for linear models; trees need not.")


def about_skew(column: ColumnProfile, advice: str) -> Iterator[Finding]:
    """Give a finding if the values have a long tail."""
    number = column.number
    if (
        number is None
        or number.skew is None
        or abs(number.skew) < (_SKEWED if column.n_distinct > _FEW_VALUES else _VERY_SKEWED)
        or column.n_distinct <= 2
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


def about_personal(name: str, what: str) -> Finding:
    """Return the finding of personal data."""
    return Finding(
        column=name,
        kind="personal_data",
        severity="serious",
        evidence=f"It holds what looks like {what}.",
        recommendation="Drop or pseudonymise it, unless there is a reason and a right to use it.",
    )


def about_range(column: ColumnProfile, n_outside: int) -> Iterator[Finding]:
    """Give the finding of values outside the range that a note allows."""
    note, number = column.note, column.number
    if note is None:
        return
    extremes = ""
    if number is not None:
        extremes = f"; the extremes are {_told(number.minimum)} and {_told(number.maximum)}"
    yield Finding(
        column=column.name,
        kind="out_of_range",
        severity="warning",
        evidence=f"{n_outside:,} values lie outside the allowed range "
        f"{note.bounds}{note.signed}{extremes}.",
        recommendation="Correct them at the source or leave those rows out; they cannot be right.",
    )


def about_time(column: ColumnProfile) -> Iterator[Finding]:
    """Give the stretch of time that dates cover, and its holes."""
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
