"""Where things lie in the pictures of a model report: lines, bands, dots and bars with their axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loopwright.evaluate.dependence import DependenceReading
from loopwright.evaluate.examination import (
    GainPoint,
    LearningCurve,
    Reliability,
    ResidualReading,
    ThresholdCurve,
)

WIDTH, HEIGHT = 520.0, 250.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 14.0, 12.0, 40.0
_N_TICKS = 5
_MOST_CURVES = 12

Place = Callable[[float], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A mark of an axis: its place in the picture and its text."""

    at: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stroke:
    """A line or an area through `points`, drawn in the style `look`."""

    look: str
    points: str
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """A point with whiskers from `low` to `high`, and what a pointer over it says."""

    x: float
    y: float
    low: float
    high: float
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A bar that stands on the axis."""

    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture ready to be drawn; `rule` is the place of a line straight up, with its text."""

    title: str
    x_name: str
    y_name: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    areas: tuple[Stroke, ...] = ()
    lines: tuple[Stroke, ...] = ()
    dots: tuple[Dot, ...] = ()
    bars: tuple[Bar, ...] = ()
    rule: tuple[float, str] | None = None
    keys: tuple[tuple[str, str], ...] = ()


def trade_off(curve: ThresholdCurve) -> tuple[Picture, ...]:
    """Return what is earned, and what is right and found, from each threshold on."""
    points = curve.points
    if len(points) < 2:
        return ()
    pictures = []
    chosen = f"chosen: {curve.chosen:.2f}"
    earned = [(p.threshold, p.profit, p.profit_lower, p.profit_upper) for p in points]
    known = [(t, v, low, up) for t, v, low, up in earned if v is not None]
    if len(known) > 1:
        lows = [low if low is not None else v for _, v, low, _ in known]
        ups = [up if up is not None else v for _, v, _, up in known]
        x = _linear([t for t, *_ in known], _LEFT, WIDTH - _RIGHT)
        y = _linear([*lows, *ups], HEIGHT - _BOTTOM, _TOP)
        pictures.append(
            Picture(
                title="What is earned per case",
                x_name="probability from which it acts",
                y_name="money per case",
                x_ticks=_ticks([t for t, *_ in known], x),
                y_ticks=_ticks([*lows, *ups], y),
                areas=(_band([t for t, *_ in known], lows, ups, x, y),),
                lines=(_line("main", [(t, v) for t, v, *_ in known], x, y),),
                rule=(round(x(curve.chosen), 1), chosen),
            )
        )
    thresholds = [p.threshold for p in points]
    x, y = _linear(thresholds, _LEFT, WIDTH - _RIGHT), _linear([0.0, 1.0], HEIGHT - _BOTTOM, _TOP)
    named: dict[str, list[tuple[float, float | None]]] = {
        "right among those acted on (precision)": [(p.threshold, p.precision) for p in points],
        "found among those that matter (recall)": [(p.threshold, p.recall) for p in points],
        "acted on": [(p.threshold, p.share_said) for p in points],
    }
    looks = ("main", "second", "third")
    pictures.append(
        Picture(
            title="What is right and what is found",
            x_name="probability from which it acts",
            y_name="share of cases",
            x_ticks=_ticks(thresholds, x),
            y_ticks=_ticks([0.0, 1.0], y, percent=True),
            lines=tuple(
                _line(look, [(t, v) for t, v in values if v is not None], x, y, title=name)
                for look, (name, values) in zip(looks, named.items(), strict=True)
            ),
            rule=(round(x(curve.chosen), 1), chosen),
            keys=tuple(zip(looks, named, strict=True)),
        )
    )
    return tuple(pictures)


def gains(points: Sequence[GainPoint]) -> Picture | None:
    """Return the share of positives among the cases with the highest probability."""
    if len(points) < 2:
        return None
    x, y = _linear([0, 1], _LEFT, WIDTH - _RIGHT), _linear([0, 1], HEIGHT - _BOTTOM, _TOP)
    ends = [(0.0, 0.0), *((p.share, p.captured) for p in points)]
    return Picture(
        title="Whom to take first",
        x_name="share of all cases, the likeliest first",
        y_name="share of the positives among them",
        x_ticks=_ticks([0, 1], x, percent=True),
        y_ticks=_ticks([0, 1], y, percent=True),
        lines=(
            _line("fair", [(0.0, 0.0), (1.0, 1.0)], x, y, title="picked at random"),
            _line("main", ends, x, y, title="picked by the model"),
        ),
        keys=(("main", "picked by the model"), ("fair", "picked at random")),
    )


def calibration(found: Reliability) -> Picture | None:
    """Return what was said beside what happened."""
    if not found.bins:
        return None
    x, y = _linear([0, 1], _LEFT, WIDTH - _RIGHT), _linear([0, 1], HEIGHT - _BOTTOM, _TOP)
    return Picture(
        title="Is a probability what it says?",
        x_name="probability that was said",
        y_name="how often it came true",
        x_ticks=_ticks([0, 1], x, percent=True),
        y_ticks=_ticks([0, 1], y, percent=True),
        lines=(_line("fair", [(0.0, 0.0), (1.0, 1.0)], x, y, title="as it should be"),),
        dots=tuple(
            Dot(
                x=round(x(b.said), 1),
                y=round(y(b.happened), 1),
                low=round(y(b.lower), 1),
                high=round(y(b.upper), 1),
                title=f"said {b.said:.0%}, came true {b.happened:.0%} of {b.n_rows:,} times",
            )
            for b in found.bins
        ),
        keys=(("fair", "as it should be"),),
    )


def residuals(found: ResidualReading) -> Picture | None:
    """Return how far answers lie from the truth."""
    bins = [b for b in found.bins if math.isfinite(b.low) and math.isfinite(b.high)]
    if len(bins) < 2:
        return None
    edges, counts = [bins[0].low, bins[-1].high], [0, max(b.n_rows for b in bins)]
    x, y = _linear(edges, _LEFT, WIDTH - _RIGHT), _linear(counts, HEIGHT - _BOTTOM, _TOP)
    floor = y(0.0)
    return Picture(
        title="How far from the truth",
        x_name="truth less answer",
        y_name="cases",
        x_ticks=_ticks(edges, x),
        y_ticks=_ticks(counts, y),
        bars=tuple(
            Bar(
                x=round(x(b.low), 1),
                y=round(y(b.n_rows), 1),
                width=round(max(1.0, x(b.high) - x(b.low) - 1), 1),
                height=round(floor - y(b.n_rows), 1),
                title=f"{told(b.low)} to {told(b.high)}: {b.n_rows:,} cases",
            )
            for b in bins
        ),
        rule=(round(x(0.0), 1), "exact") if edges[0] <= 0 <= edges[1] else None,
    )


def learning(curve: LearningCurve) -> Picture | None:
    """Return how the model got better with rows or iterations."""
    values = [
        v for p in curve.points for v in (p.train, p.validation, p.lower, p.upper) if v is not None
    ]
    if len(curve.points) < 2 or not values:
        return None
    ats = [float(p.at) for p in curve.points]
    x, y = _linear(ats, _LEFT, WIDTH - _RIGHT), _linear(values, HEIGHT - _BOTTOM, _TOP)
    train = [(float(p.at), p.train) for p in curve.points if p.train is not None]
    validation = [(float(p.at), p.validation) for p in curve.points if p.validation is not None]
    by = "rows it learnt from" if curve.by == "rows" else "steps of training"
    spread = [(float(p.at), p.lower, p.upper) for p in curve.points]
    known = [(at, low, up) for at, low, up in spread if low is not None and up is not None]
    keys = [("main", "on rows it did not learn from")]
    if train:
        keys.append(("second", "on rows it learnt from"))
    return Picture(
        title=f"Would more rows help? {curve.metric} of a quick model"
        if curve.by == "rows"
        else f"How it learnt: {curve.metric} by {by}",
        areas=(_band([k[0] for k in known], [k[1] for k in known], [k[2] for k in known], x, y),)
        if known
        else (),
        x_name=by,
        y_name=curve.metric,
        x_ticks=_ticks(ats, x),
        y_ticks=_ticks(values, y),
        lines=(
            *((_line("second", train, x, y),) if train else ()),
            _line("main", validation, x, y),
        ),
        keys=tuple(keys),
    )


def dependent(found: DependenceReading, *, is_share: bool) -> Picture | None:
    """Return how answers change with a column that has an order; None for categories."""
    if any(point.at is None for point in found.points) or len(found.points) < 2:
        return None
    ats = [float(point.at) for point in found.points if point.at is not None]
    values = [v for curve in found.curves for v in curve]
    values += [v for point in found.points for v in (point.low, point.high)]
    x, y = _linear(ats, _LEFT, WIDTH - _RIGHT), _linear(values, HEIGHT - _BOTTOM, _TOP)
    means = [(at, point.mean) for at, point in zip(ats, found.points, strict=True)]
    band = _band(ats, [p.low for p in found.points], [p.high for p in found.points], x, y)
    single = tuple(
        _line("one", list(zip(ats, curve, strict=True)), x, y)
        for curve in found.curves[:_MOST_CURVES]
    )
    return Picture(
        title=found.column,
        x_name=found.column,
        y_name=found.of,
        # the values are quantiles: as many as do not run into each other
        x_ticks=_apart(
            [Tick(at=round(x(a), 1), text=p.value) for a, p in zip(ats, found.points, strict=True)]
        ),
        y_ticks=_ticks(values, y, percent=is_share),
        areas=(band,),
        lines=(*single, _line("main", means, x, y, title="on average")),
    )


def told(value: float) -> str:
    """Return a number in few characters."""
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"


def _apart(ticks: Sequence[Tick]) -> tuple[Tick, ...]:
    kept: list[Tick] = []
    for tick in ticks:
        room = 7.0 * max(len(tick.text), len(kept[-1].text) if kept else 0) + 6
        if not kept or tick.at - kept[-1].at >= room:
            kept.append(tick)
    return tuple(kept)


def _linear(values: Sequence[float], start: float, end: float) -> Place:
    low, high = _range(values)
    return lambda value: start + (end - start) * (value - low) / (high - low)


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = float(min(values)), float(max(values))
    if low == high:
        margin = abs(low) * 0.05 or 0.5
        return low - margin, high + margin
    return low, high


def _ticks(values: Sequence[float], place: Place, *, percent: bool = False) -> tuple[Tick, ...]:
    low, high = _range(values)
    rough = (high - low) / _N_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * each for each in (1, 2, 2.5, 5, 10) if power * each >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    marks = [(first + n) * step for n in range(2 * _N_TICKS + 1)]
    round_marks = ((0.0 if abs(mark) < step / 1e6 else mark) for mark in marks)
    return tuple(
        Tick(at=round(place(mark), 1), text=f"{mark:.0%}" if percent else short_number(mark))
        for mark in round_marks
        if mark <= high + step * 1e-9
    )


def short_number(value: float) -> str:
    """Return a round number in few characters.

    Examples
    --------
    >>> [short_number(value) for value in (0.25, 2_500.0, 40_000.0, -1_500_000.0)]
    ['0.25', '2,500', '40k', '-1.5M']
    """
    if abs(value) >= 1e6:
        return f"{value / 1e6:.4g}M"
    if abs(value) >= 1e4:
        return f"{value / 1e3:.4g}k"
    return told(value)


def _line(
    look: str, points: Sequence[tuple[float, float]], x: Place, y: Place, *, title: str = ""
) -> Stroke:
    return Stroke(look=look, points=_points(points, x, y), title=title)


def _band(
    ats: Sequence[float], lows: Sequence[float], ups: Sequence[float], x: Place, y: Place
) -> Stroke:
    forth = list(zip(ats, ups, strict=True))
    back = list(zip(reversed(ats), reversed(lows), strict=True))
    return Stroke(look="band", points=_points([*forth, *back], x, y))


def _points(points: Sequence[tuple[float, float]], x: Place, y: Place) -> str:
    return " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in points)
