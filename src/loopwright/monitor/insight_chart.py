"""What explains a report, ready to be drawn: numbers as text, places on charts as numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from loopwright.monitor.attribution import Attribution
from loopwright.monitor.bullet import Bullet, bullet, told_value
from loopwright.monitor.estimate import Estimate
from loopwright.monitor.fairness_drift import FairnessDrift
from loopwright.monitor.insight import Insight, TrailPoint
from loopwright.monitor.loss_split import LossSplit

WIDTH, HEIGHT = 640.0, 120.0
_PAD = 6.0
_FEWEST_POINTS = 2


def estimate_bullets(estimates: Sequence[Estimate]) -> list[Bullet]:
    """Return the estimates that there are as bullets."""
    return [
        bullet(
            each.metric,
            estimate=each.value,
            lower=each.lower,
            upper=each.upper,
            target=each.target,
            wants_low=each.direction == "at_most",
            standing=each.verdict if each.standing != "wrong" else "undecided",
            note=_estimate_note(each),
        )
        for each in estimates
        if each.value is not None
    ]


def attribution_view(attribution: Attribution) -> dict[str, Any]:
    """Return an attribution for the page: its sentences, a table of columns, the split of the loss."""
    loss = attribution.loss
    return {
        "told": attribution.told,
        "advice": attribution.advice,
        "columns": [
            {
                "stream": column.stream,
                "moved": f"{column.floor_ratio:.1f} ×",
                "since": column.since_at,
                "prediction": _shift(column.prediction_shift, column.prediction_error),
                "loss": _shift(column.loss_shift, None),
            }
            for column in attribution.columns
        ],
        "of": attribution.of,
        "split": None if loss is None else split_bars(loss),
        "n_rows": f"{attribution.n_rows:,}",
    }


def split_bars(loss: LossSplit) -> dict[str, Any]:
    """Return the change of a loss as four bars from left to right, each starting where one ended."""
    steps = [
        ("at release", 0.0, loss.before, "before"),
        ("other inputs", loss.before, loss.before + loss.covariate, "part"),
        ("another truth", loss.before + loss.covariate, loss.now, "part"),
        ("now", 0.0, loss.now, "live"),
    ]
    high = max(*(max(start, end) for _, start, end, _ in steps), 1e-300) * 1.1
    low = min(0.0, *(min(start, end) for _, start, end, _ in steps))
    span = high - low
    bars = []
    for name, start, end, kind in steps:
        left, right = min(start, end), max(start, end)
        change = kind == "part"
        bars.append(
            {
                "name": name,
                "kind": ("worse" if end > start else "better") if change else kind,
                "left": round(100 * (left - low) / span, 2),
                "width": round(max(100 * (right - left) / span, 0.4), 2),
                "value": f"{end - start:+.3g}" if change else told_value(loss.metric, end),
            }
        )
    return {"metric": loss.metric, "bars": bars, "n_rows": f"{loss.n_rows:,}"}


def evidence_lines(trail: Sequence[TrailPoint]) -> dict[str, Any] | None:
    """Return evidence over time as shares of what raises an alarm; None with fewer than two looks."""
    if len(trail) < _FEWEST_POINTS:
        return None
    series = {
        "data": [each.data / max(each.data_threshold, 1e-9) for each in trail],
        "error": [each.error / max(each.error_threshold, 1e-9) for each in trail],
    }
    top = max(1.25, *(max(values) for values in series.values()))
    return _lines(trail, series, low=0.0, high=min(top, 10.0), line=1.0)


def gap_lines(trail: Sequence[TrailPoint], fairness: FairnessDrift) -> dict[str, Any] | None:
    """Return a gap between groups over time; None with fewer than two looks."""
    points = [each for each in trail if fairness.limit in each.gaps]
    if len(points) < _FEWEST_POINTS:
        return None
    gaps = [each.gaps[fairness.limit][0] for each in points]
    return _lines(points, {"data": gaps}, low=0.0, high=max(*gaps, 1e-9) * 1.2, line=None)


def fairness_view(insight: Insight) -> list[dict[str, Any]]:
    """Return the groups of every fairness limit, and the gap over time."""
    return [
        {
            "drift": each,
            "groups": [
                {
                    "name": group.name,
                    "n_rows": f"{group.n_rows:,}",
                    "value": told_value(each.metric, group.value),
                    "bounds": _bounds(each.metric, group.lower, group.upper),
                }
                for group in each.groups
            ],
            "lines": gap_lines(insight.trail, each),
        }
        for each in insight.fairness
    ]


def influence_bars(insight: Insight) -> list[dict[str, Any]]:
    """Return the share of each column in the influence before and now, 0 to 100 of the largest."""
    explanation = insight.explanation
    if explanation is None:
        return []
    largest = max((max(e.before, e.now) for e in explanation.columns), default=0.0) or 1.0
    return [
        {
            "column": each.column,
            "before": round(100 * each.before / largest, 1),
            "now": round(100 * each.now / largest, 1),
            "told": f"{each.before:.0%} → {each.now:.0%}",
        }
        for each in explanation.columns
        if max(each.before, each.now) >= 0.005
    ]


def newest_checks(insight: Insight) -> list[Any]:
    """Return the newest check of every metric."""
    newest = {check.metric: check for check in insight.checks}
    return list(newest.values())


def _lines(
    points: Sequence[TrailPoint],
    series: dict[str, list[float]],
    *,
    low: float,
    high: float,
    line: float | None,
) -> dict[str, Any]:
    times = [each.at.timestamp() if each.at else 0.0 for each in points]
    span = times[-1] - times[0]
    n = len(points)

    def x(at: int) -> float:
        share = (times[at] - times[0]) / span if span > 0 else at / (n - 1)
        return round(_PAD + share * (WIDTH - 2 * _PAD), 1)

    def y(value: float) -> float:
        share = min(max((value - low) / (high - low), 0.0), 1.0)
        return round(HEIGHT - _PAD - share * (HEIGHT - 2 * _PAD), 1)

    return {
        "series": [(kind, _points(values, x, y)) for kind, values in series.items()],
        "ends": [(kind, x(n - 1), y(values[-1])) for kind, values in series.items()],
        "line": None if line is None else y(line),
        "first": points[0].at,
        "last": points[-1].at,
        "width": WIDTH,
        "height": HEIGHT,
    }


def _points(values: Sequence[float], x: Callable[[int], float], y: Callable[[float], float]) -> str:
    return " ".join(f"{x(at)},{y(value)}" for at, value in enumerate(values))


def _estimate_note(each: Estimate) -> str:
    note = f"newest {each.n_rows:,} rows, without their labels; {each.assumes}"
    if each.reference is not None:
        note += f"; {told_value(each.metric, each.reference)} at release"
    if each.standing == "wrong":
        note += "; earlier estimates were wrong, so this one has no say"
    return note


def _shift(value: float | None, error: float | None) -> str:
    if value is None:
        return "–"
    if value == 0:
        return "none"
    shown = f"{value:+,.0f}" if abs(value) >= 1_000 else f"{value:+.3g}"
    if error is None or not math.isfinite(error) or error == 0:
        return shown
    return f"{shown} ± {error:,.0f}" if abs(value) >= 1_000 else f"{shown} ± {error:.2g}"


def _bounds(metric: str, lower: float | None, upper: float | None) -> str:
    if lower is None or upper is None:
        return "no bounds"
    return f"{told_value(metric, lower)} to {told_value(metric, upper)}"
