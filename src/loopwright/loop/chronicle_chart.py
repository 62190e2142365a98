"""Where things lie in the picture of a loop's history: lanes of time, and quality below them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from loopwright.loop.alarm import AlarmRecord
from loopwright.loop.chronicle import Chronicle, Period, QualityPoint
from loopwright.monitor.bullet import axis_end, metric_words, told_value

LEFT, RIGHT = 130.0, 1_100.0
_LANE, _LANE_GAP, _TOP = 20.0, 12.0, 12.0
_CHART, _MOST_POINTS = 130.0, 400
_LEAST_PX = 2.5
_LABEL_PX = 7.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A period in a lane; `label` is empty where there is no room for it."""

    x: float
    width: float
    tone: str
    label: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """A row of bars."""

    name: str
    y: float
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """A measured value."""

    x: float
    y: float
    tone: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityChart:
    """A criterion over time.

    Parameters
    ----------
    band
        The points of a polygon, the bounds of the figures; one for each version.
    lines
        The points of a line through the estimates; one for each version.
    target_y
        Where the agreed value lies.
    """

    title: str
    height: float
    target_y: float
    target: str
    low: str
    high: str
    bands: tuple[str, ...]
    lines: tuple[str, ...]
    dots: tuple[Dot, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """The whole picture: `ticks` are places along x with their dates."""

    lanes: tuple[Lane, ...]
    height: float
    ticks: tuple[tuple[float, str], ...]
    charts: tuple[QualityChart, ...]


def timeline(found: Chronicle) -> Timeline | None:
    """Return the picture of a history; None before anything happened."""
    start = found.start
    if start is None:
        return None
    span = _Span(start, max(found.until, start + timedelta(minutes=1)))
    named = [
        ("state", found.states),
        ("rounds", found.rounds),
        ("champion", found.champions),
        *_alarm_lanes(found.alarms),
    ]
    lanes = tuple(
        Lane(
            name=name,
            y=_TOP + place * (_LANE + _LANE_GAP),
            bars=tuple(_bar(span, each) for each in periods),
        )
        for place, (name, periods) in enumerate(named)
    )
    return Timeline(
        lanes=lanes,
        height=_TOP + len(named) * (_LANE + _LANE_GAP) + 18,
        ticks=span.ticks(),
        charts=tuple(_charts(span, found.quality)),
    )


@dataclass(frozen=True, slots=True)
class _Span:
    start: datetime
    end: datetime

    def x(self, at: datetime) -> float:
        whole = (self.end - self.start).total_seconds()
        share = min(max((at - self.start).total_seconds() / whole, 0.0), 1.0)
        return round(LEFT + share * (RIGHT - LEFT), 1)

    def ticks(self) -> tuple[tuple[float, str], ...]:
        days = (self.end - self.start) / timedelta(days=1)
        form = (
            "%H:%M:%S"
            if days < 0.01
            else "%H:%M"
            if days < 2
            else "%d %b"
            if days < 300
            else "%b %Y"
        )
        moments = [self.start + (self.end - self.start) * (n / 6) for n in range(7)]
        return tuple((self.x(at), f"{at:{form}}") for at in moments)


def _bar(span: _Span, period: Period) -> Bar:
    x, end = span.x(period.start), span.x(period.end or span.end)
    width = max(end - x, _LEAST_PX)
    lasted = f"{period.start:%Y-%m-%d %H:%M} to " + (
        f"{period.end:%Y-%m-%d %H:%M}" if period.end else "now"
    )
    room = int((width - 8) / _LABEL_PX)
    return Bar(
        x=min(x, RIGHT - width),
        width=round(width, 1),
        tone=period.tone,
        label=period.label if len(period.label) <= room else "",
        title=f"{period.label}, {lasted}. {period.told}".strip(),
    )


def _alarm_lanes(alarms: Sequence[AlarmRecord]) -> list[tuple[str, tuple[Period, ...]]]:
    """Return a lane for each kind of alarm there was: several are often open at once."""
    lanes = []
    for kind in dict.fromkeys(alarm.kind for alarm in alarms):
        tone = "warn" if kind in ("data", "operation") else "bad"
        periods = tuple(
            Period(
                label=alarm.subject,
                start=alarm.opened_at,
                end=alarm.closed_at,
                tone=tone,
                told=alarm.message,
            )
            for alarm in alarms
            if alarm.kind == kind
        )
        lanes.append((f"{kind.replace('_', ' ')} alarms", periods))
    return lanes


def _charts(span: _Span, points: Sequence[QualityPoint]) -> list[QualityChart]:
    """Return a chart for each criterion, over the most recent rows where that is known."""
    charts = []
    for metric in dict.fromkeys(point.metric for point in points):
        own = [point for point in points if point.metric == metric]
        periods = list(dict.fromkeys(point.period for point in own))
        # what is measured since deployment hardly moves; a window does
        period = next((each for each in periods if each != "since deployment"), periods[0])
        charts.append(_chart(span, [p for p in own if p.period == period], metric, period))
    return charts


def _chart(span: _Span, points: Sequence[QualityPoint], metric: str, period: str) -> QualityChart:
    shown = _thinned(points)
    target = shown[-1].target
    values = [v for p in shown for v in (p.estimate, p.lower, p.upper) if v is not None]
    core = [*(p.estimate for p in shown), target]
    low, high = _range(core, [*values, target])
    high = axis_end(metric, high, core)

    def y(value: float) -> float:
        share = min(max((value - low) / (high - low), 0.0), 1.0)
        return round(_CHART - 10 - share * (_CHART - 20), 1)

    lines, bands = [], []
    for version in dict.fromkeys(point.version for point in shown):
        own = [point for point in shown if point.version == version]
        lines.append(" ".join(f"{span.x(p.at)},{y(p.estimate)}" for p in own))
        bounded = [p for p in own if p.lower is not None and p.upper is not None]
        upper = [f"{span.x(p.at)},{y(p.upper or 0.0)}" for p in bounded]
        lower = [f"{span.x(p.at)},{y(p.lower or 0.0)}" for p in reversed(bounded)]
        if len(bounded) > 1:
            bands.append(" ".join([*upper, *lower]))
    limit = "at most" if shown[-1].wants_low else "at least"
    tones = {"missed": "bad", "holds": "good"}
    return QualityChart(
        title=f"{metric_words(metric)}, {period}",
        height=_CHART,
        target_y=y(target),
        target=f"agreed: {limit} {told_value(metric, target)}",
        low=told_value(metric, low),
        high=told_value(metric, high),
        bands=tuple(bands),
        lines=tuple(lines),
        dots=tuple(
            Dot(
                x=span.x(p.at),
                y=y(p.estimate),
                tone=tones.get(p.verdict, "none"),
                title=f"{p.at:%Y-%m-%d %H:%M}, version {p.version}: "
                f"{told_value(metric, p.estimate)} on {p.n:,} rows, {p.verdict}",
            )
            for p in shown
        ),
    )


def _thinned(points: Sequence[QualityPoint]) -> list[QualityPoint]:
    """Return at most so many points, every so many-th and the last, and those that miss."""
    step = -(-len(points) // _MOST_POINTS)
    last = len(points) - 1
    return [point for n, point in enumerate(points) if n % step == 0 or n == last]


def _range(core: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of the axis: wide bounds of the first few rows do not press the rest flat."""
    low, high = min(core), max(core)
    room = max(high - low, abs(high) * 0.05, 1e-9)
    return max(min(values), low - room), min(max(values), high + room)
