"""What is known of labels, drawn for the monitor's page: quality over stretches of time and by the hour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loopwright.monitor.bullet import told_value
from loopwright.monitor.ground_truth import GroundTruth, OverTime, told_truth

_WIDTH, _HEIGHT = 640.0, 90.0
_FEWEST_POINTS = 3


def truth_view(truth: GroundTruth | None) -> dict[str, Any] | None:
    """Return what the page shows of the labels; None where nothing is known."""
    if truth is None:
        return None
    charts = [
        _chart(
            "Mean loss of labelled predictions, by when they were made", truth.over_time, "loss"
        ),
        _chart("Distance of predictions from the reference", truth.over_time, "prediction"),
        _chart("Largest distance of any column from the reference", truth.over_time, "largest"),
    ]
    view = {
        "told": told_truth(truth),
        "windows": [
            {
                "period": each.period,
                "to_at": each.to_at,
                "metric": each.metric,
                "value": "" if each.estimate is None else told_value(each.metric, each.estimate),
                "bounds": _bounds(each.metric, each.lower, each.upper),
                "target": f"{each.direction.replace('_', ' ')} "
                f"{told_value(each.metric, each.target)}",
                "labelled": f"{each.n:,} of {each.n_predictions:,}",
                "verdict": each.verdict,
            }
            for each in truth.windows
        ],
        "charts": [chart for chart in charts if chart is not None],
    }
    return view if view["told"] or view["windows"] or view["charts"] else None


def _bounds(metric: str, lower: float | None, upper: float | None) -> str:
    if lower is None or upper is None:
        return "too few"
    return f"{told_value(metric, lower)} to {told_value(metric, upper)}"


def _chart(title: str, points: Sequence[OverTime], field: str) -> dict[str, Any] | None:
    """Return one line over time; None with fewer than three points."""
    known = [(each.start, getattr(each, field)) for each in points]
    known = [(start, value) for start, value in known if value is not None]
    if len(known) < _FEWEST_POINTS:
        return None
    first, last = known[0][0], known[-1][0]
    span_s = (last - first).total_seconds() or 1.0
    top = max(value for _, value in known) * 1.15 or 1.0
    places = [
        (_WIDTH * (start - first).total_seconds() / span_s, _HEIGHT * (1 - value / top))
        for start, value in known
    ]
    drawn = {
        "width": _WIDTH,
        "height": _HEIGHT,
        "line": None,
        "series": [("data", " ".join(f"{x:.1f},{y:.1f}" for x, y in places))],
        "first": first,
        "last": last,
    }
    return {"title": f"{title}: {known[-1][1]:.4g} last, {top / 1.15:.4g} at most", "drawn": drawn}
