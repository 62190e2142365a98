"""A profile for people: one HTML page without scripts or network, and lines for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from importlib import resources
from typing import TYPE_CHECKING, Any

from loopwright.explore.column import ColumnProfile
from loopwright.explore.finding import Finding
from loopwright.explore.missing import MOST_COLUMNS
from loopwright.explore.profile import Profile
from loopwright.explore.spread import Histogram
from loopwright.explore.trend import Trend

if TYPE_CHECKING:
    from jinja2 import Template

_WIDTH, _HEIGHT = 300.0, 72.0
_SHOWN_FINDINGS = 12
# of very many columns or findings a page shows these, so that a browser still opens it
_MOST_CARDS = 200
# a notebook keeps what it shows
_MOST_FRAMED = 40
_MOST_ALIKE = 40
_MARKS = {"serious": "!!", "warning": "! ", "info": "  "}


def profile_frame(profile: Profile) -> str:
    """Return the page in a frame of its own, for a notebook; its scripts, had it any, cannot run."""
    page = escape(profile_page(profile, most_cards=_MOST_FRAMED), quote=True)
    return f'<iframe srcdoc="{page}" sandbox style="width:100%;height:640px;border:0"></iframe>'


def profile_page(
    profile: Profile, *, title: str = "Data profile", most_cards: int = _MOST_CARDS
) -> str:
    """Return one self-contained HTML page: findings, associations, and a card for every column.

    Of more than `most_cards` columns the most telling get a card, the others a line; of more than 40
    findings of one kind the first are listed. `Profile.to_json` holds them all.

    Everything that comes from the data (names, values, notes) is escaped.
    """
    strengths = sorted(
        (column for column in profile.columns if column.association is not None),
        key=lambda column: -(column.association.value if column.association else 0.0),
    )
    by_column: dict[str | None, list[Finding]] = {}
    for finding in profile.findings:
        by_column.setdefault(finding.column, []).append(finding)
    shown = _shown(profile, strengths, by_column, most_cards)
    return _template().render(
        title=title,
        profile=profile,
        counts=_counts(profile),
        strengths=strengths[:15],
        findings=_listed(profile.findings),
        cards=[
            _card(column, by_column.get(column.name, []), is_target=column.name == profile.target)
            for column in profile.columns
            if column.name in shown
        ],
        others=[column for column in profile.columns if column.name not in shown],
        n_followed=sum(column.n_missing > 0 for column in profile.columns) - MOST_COLUMNS,
        trends=[_line(trend) for trend in profile.trends],
        width=_WIDTH,
        height=_HEIGHT,
    )


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["short"] = short
    text = resources.files("loopwright.explore").joinpath("profile.html.j2").read_text("utf-8")
    return environment.from_string(text)


def _counts(profile: Profile) -> list[tuple[str, str]]:
    n_missing = sum(column.n_missing for column in profile.columns)
    n_cells = profile.n_rows * len(profile.columns)
    return [
        ("rows", f"{profile.n_rows:,}"),
        ("columns", f"{len(profile.columns):,}"),
        ("missing cells", f"{n_missing / n_cells:.1%}" if n_cells else "none"),
        ("repeated rows", f"{profile.n_duplicate_rows:,}"),
        ("findings", f"{len(profile.findings):,}"),
    ]


def _shown(
    profile: Profile,
    strengths: Sequence[ColumnProfile],
    by_column: Mapping[str | None, Sequence[Finding]],
    most: int,
) -> set[str]:
    """Return the columns that get a card: all, or of very many the most telling."""
    names = [column.name for column in profile.columns]
    if len(names) <= most:
        return set(names)
    noted = [column.name for column in profile.columns if column.note is not None]
    strong = [column.name for column in strengths[: most // 2]]
    grave = [name for name in names if any(f.severity != "info" for f in by_column.get(name, ()))]
    first = [profile.target] if profile.target is not None else []
    # a dict, so that the first of each name decides
    return set(list(dict.fromkeys([*first, *noted, *strong, *grave, *names]))[:most])


def _listed(found: Sequence[Finding]) -> list[tuple[Finding, int]]:
    """Return findings to be listed, and how many more of the kind each stands for."""
    counts = Counter((finding.kind, finding.severity) for finding in found)
    seen: Counter[tuple[str, str]] = Counter()
    listed = []
    for finding in found:
        kind = finding.kind, finding.severity
        seen[kind] += 1
        if seen[kind] <= _MOST_ALIKE:
            is_last = seen[kind] == _MOST_ALIKE
            listed.append((finding, counts[kind] - _MOST_ALIKE if is_last else 0))
    return listed


def _card(column: ColumnProfile, found: Sequence[Finding], *, is_target: bool) -> dict[str, Any]:
    return {
        "column": column,
        "is_target": is_target,
        "bars": _bars(column.histogram) if column.histogram else [],
        "ends": _ends(column),
        "facts": _facts(column),
        "findings": found,
    }


def _bars(histogram: Histogram) -> list[tuple[float, float, float, str]]:
    """Return x, height, width and a title for every bar of an SVG histogram."""
    highest = max(histogram.counts) or 1
    step = _WIDTH / len(histogram.counts)
    bars = []
    for index, n_rows in enumerate(histogram.counts):
        # a bin with rows stays visible beside a bin with very many
        height = max(1.5, _HEIGHT * n_rows / highest) if n_rows else 0.0
        low, high = histogram.edges[index], histogram.edges[index + 1]
        title = f"{short(low)} to {short(high)}: {n_rows:,} rows"
        bars.append((round(index * step, 2), round(height, 2), round(step - 1, 2), title))
    return bars


def _line(trend: Trend) -> dict[str, Any]:
    """Return a line through the levels of the target and, for the pointer, a zone for each."""
    low, high = min(trend.levels), max(trend.levels)
    step = _WIDTH / max(1, len(trend.levels) - 1)
    # a line along the very edge would be cut in half
    room, scale = _HEIGHT * 0.06, _HEIGHT * 0.88 / ((high - low) or 1.0)
    heights = [_HEIGHT - room - (level - low) * scale for level in trend.levels]
    points = " ".join(f"{place * step:.2f},{y:.2f}" for place, y in enumerate(heights))
    zones = [
        (round((place - 0.5) * step, 2), round(step, 2), f"{start}: {short(level)} ({n:,} rows)")
        for place, (start, level, n) in enumerate(
            zip(trend.starts, trend.levels, trend.n_rows, strict=True)
        )
    ]
    return {
        "label": trend.label,
        "column": trend.column,
        "period": trend.period,
        "starts": trend.starts,
        "points": points,
        "zones": zones,
        "low": short(low),
        "high": short(high),
    }


def _ends(column: ColumnProfile) -> tuple[str, str]:
    if column.date is not None:
        return column.date.first, column.date.last
    if column.number is not None:
        return short(column.number.minimum), short(column.number.maximum)
    return "", ""


def _facts(column: ColumnProfile) -> list[tuple[str, str]]:
    facts = [("distinct", f"{column.n_distinct:,}"), ("missing", f"{column.missing_share:.1%}")]
    if column.number is not None and column.kind != "boolean":
        number = column.number
        facts += [
            ("mean", short(number.mean)),
            ("sd", short(number.sd)),
            ("median", short(number.quantiles["0.5"])),
            (
                "1% to 99%",
                f"{short(number.quantiles['0.01'])} to {short(number.quantiles['0.99'])}",
            ),
        ]
    if column.text is not None:
        facts.append(("mean length", short(column.text.mean_length)))
    if column.association is not None:
        facts.append((column.association.measure, f"{column.association.value:.2f}"))
    return facts


def short(value: float | None) -> str:
    """Return a number in few characters, for tables and axes.

    Examples
    --------
    >>> [short(x) for x in (7700000.0, 1234.5, 0.25, 3.0, 1e-9, None)]
    ['7.7M', '1,234', '0.25', '3', '1e-09', '–']
    """
    if value is None:
        return "–"
    for size, unit in ((1e9, "G"), (1e6, "M")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}" if abs(value) < 1e15 else f"{value:.2e}"
    if abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def profile_summary(profile: Profile) -> list[str]:
    """Return the profile as lines for a terminal: the table, its findings, its strongest columns."""
    lines = [
        f"{profile.n_rows:,} rows, {len(profile.columns)} columns: {_kinds(profile.columns)}",
    ]
    strengths = sorted(
        (
            (column.association.value, column.association.measure, column.name)
            for column in profile.columns
            if column.association is not None
        ),
        reverse=True,
    )
    if strengths:
        best = ", ".join(f"{name} {value:.2f}" for value, _, name in strengths[:5])
        lines.append(f"Goes with {profile.target} most (0 to 1): {best}")
    for finding in profile.findings[:_SHOWN_FINDINGS]:
        subject = f"{finding.column}: " if finding.column is not None else ""
        advice = "" if finding.severity == "info" else f" {finding.recommendation}"
        lines.append(f"{_MARKS[finding.severity]} {subject}{finding.evidence}{advice}")
    n_more = len(profile.findings) - _SHOWN_FINDINGS
    if n_more > 0:
        lines.append(f"   and {n_more} more")
    lines += [f"note on {c.name}: {c.note.line}" for c in profile.columns if c.note is not None]
    return lines


def _kinds(columns: Sequence[ColumnProfile]) -> str:
    counts: dict[str, int] = {}
    for column in columns:
        counts[column.kind] = counts.get(column.kind, 0) + 1
    plurals = {
        "category": "categories",
        "boolean": "yes/no",
        "other": "other",
        "ordinal": "ordinal",
    }
    parts = []
    for kind, n in sorted(counts.items(), key=lambda item: -item[1]):
        name = kind if n == 1 and kind != "boolean" else plurals.get(kind, f"{kind}s")
        parts.append(f"{n} {name}")
    return ", ".join(parts)
