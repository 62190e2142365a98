"""Where things lie in the charts of a comparison: scatter, parallel coordinates, curves."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loopwright.explore.page import short
from loopwright.tune.comparison import JobComparison, shown
from loopwright.tune.entry import Curve

WIDTH, HEIGHT = 560.0, 300.0
WIDE, TALL = 1100.0, 330.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 62.0, 16.0, 14.0, 34.0
_MOST_AXES = 9
_MOST_CURVES = 30
_MOST_LINES = 200
_MOST_PANELS = 6
_N_TICKS = 5
# so much longer a range is shown by its orders of magnitude
_LOG_FROM = 50.0

Place = Callable[[float], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A point or a line of a chart: `n` is the rank of its job, from 0."""

    n: int
    title: str
    at: str = ""
    x: float = 0.0
    y: float = 0.0
    is_front: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A mark of an axis: its place in the picture and its text."""

    at: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """An axis of parallel coordinates."""

    name: str
    x: float
    ticks: tuple[Tick, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A picture: its marks, its ticks along x and y, and what the axes are about."""

    title: str
    marks: tuple[Mark, ...]
    x_ticks: tuple[Tick, ...] = ()
    y_ticks: tuple[Tick, ...] = ()
    axes: tuple[Axis, ...] = ()
    line: str = ""
    n_left_out: int = 0


def scale(values: Sequence[float], start: float, end: float) -> tuple[Place, tuple[Tick, ...]]:
    """Return where a value lies between two ends of a picture, and marks for the axis.

    A range of more than a factor of 50 above 0 is laid out by its logarithm.
    """
    low, high = min(values), max(values)
    if low == high:
        margin = abs(low) * 0.05 or 0.5
        low, high = low - margin, high + margin
    if low > 0 and high / low > _LOG_FROM:
        first, last = math.log10(low), math.log10(high)

        def logarithmic(value: float) -> float:
            return start + (end - start) * (math.log10(value) - first) / (last - first)

        powers = range(math.ceil(first), math.floor(last) + 1)
        every = max(1, -(-len(powers) // _N_TICKS))
        marks = [10.0**power for power in powers][::every] or [low, high]
        return logarithmic, _ticks(logarithmic, marks)

    def linear(value: float) -> float:
        return start + (end - start) * (value - low) / (high - low)

    return linear, _ticks(linear, _nice(low, high))


def _ticks(place: Place, marks: Sequence[float]) -> tuple[Tick, ...]:
    """Return the marks of an axis, with as many digits as tell them apart."""
    texts = [short(mark) for mark in marks]
    for digits in range(4, 16):
        if len(set(texts)) == len(texts):
            break
        texts = [f"{mark:.{digits}g}" for mark in marks]
    return tuple(
        Tick(at=round(place(mark), 1), text=text) for mark, text in zip(marks, texts, strict=True)
    )


def _nice(low: float, high: float) -> list[float]:
    """Return round numbers within a range."""
    rough = (high - low) / _N_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * each for each in (1, 2, 2.5, 5, 10) if power * each >= rough)
    first = math.ceil(low / step - 1e-9)
    marks = [(first + n) * step for n in range(_N_TICKS + 2)]
    return [0.0 if abs(mark) < step / 1e6 else mark for mark in marks if mark <= high + step * 1e-9]


def scatter(comparison: JobComparison) -> Chart | None:
    """Return quality against latency, with the front; None if fewer than two were measured."""
    known = [
        (n, entry, value, comparison.latencies[entry.job].median_us)
        for n, entry in enumerate(comparison.entries)
        if entry.job in comparison.latencies and (value := comparison.value(entry)) is not None
    ]
    if len(known) < 2:
        return None
    x_of, x_ticks = scale([each[3] for each in known], _LEFT + 14, WIDTH - _RIGHT - 14)
    y_of, y_ticks = scale([each[2] for each in known], HEIGHT - _BOTTOM - 10, _TOP + 10)
    marks = [
        Mark(
            n=n,
            title=f"{_title(n, entry.name)}: {comparison.metric} {value:.6g}, {time:,.0f} µs a row",
            x=round(x_of(time), 1),
            y=round(y_of(value), 1),
            is_front=entry.job in comparison.front,
        )
        for n, entry, value, time in known
    ]
    front = sorted((mark.x, mark.y) for mark in marks if mark.is_front)
    return Chart(
        title="quality against latency",
        marks=tuple(marks),
        x_ticks=x_ticks,
        y_ticks=y_ticks,
        line=_points(front),
    )


def parallel(comparison: JobComparison) -> Chart | None:
    """Return a line a job through its parameters to its metric; None if nothing differs."""
    judged = [
        (n, entry, value)
        for n, entry in enumerate(comparison.entries)
        if (value := comparison.value(entry)) is not None
    ]
    shared = _shared_parameters(comparison)
    columns: list[tuple[str, list[Any]]] = []
    if len({entry.algorithm for _, entry, _ in judged}) > 1:
        columns.append(("algorithm", [entry.algorithm for _, entry, _ in judged]))
    columns += [(name, [entry.parameters.get(name) for _, entry, _ in judged]) for name in shared][
        : _MOST_AXES - 1 - len(columns)
    ]
    if len(judged) < 2 or not columns:
        return None
    columns.append((comparison.metric, [value for _, _, value in judged]))
    step = (WIDE - 140) / (len(columns) - 1)
    axes, ways = [], []
    for place, (name, values) in enumerate(columns):
        x = round(70 + place * step, 1)
        y_of, ticks = _mixed_scale(values)
        axes.append(Axis(name=name, x=x, ticks=ticks))
        ways.append([(x, y_of(value)) for value in values])
    lines = [
        Mark(
            n=n,
            title=f"{_title(n, entry.name)}: {comparison.metric} {value:.6g}",
            at=_points([way[row] for way in ways]),
        )
        for row, (n, entry, value) in enumerate(judged)
    ]
    # the best are drawn last, on top
    return Chart(
        title="parallel coordinates",
        marks=tuple(reversed(lines[:_MOST_LINES])),
        axes=tuple(axes),
        n_left_out=max(0, len(lines) - _MOST_LINES),
    )


def _shared_parameters(comparison: JobComparison) -> list[str]:
    """Return the parameters to draw: those that mattered first, and that most jobs have."""
    half = len(comparison.entries) / 2
    ranked = [
        name for each in reversed(comparison.importances) for name, share in each.shares if share
    ]
    names = [name for name in (*ranked, *comparison.varying) if name in comparison.varying]
    return [
        name
        for name in dict.fromkeys(names)
        if sum(name in entry.parameters for entry in comparison.entries) >= half
    ]


def _mixed_scale(values: Sequence[Any]) -> tuple[Callable[[Any], float], tuple[Tick, ...]]:
    """Return a scale for numbers, or places for words; what is absent lies at the bottom."""
    bottom = TALL - 26.0
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    finite = [float(v) for v in numbers if math.isfinite(v)]
    others = [v for v in values if v is not None]
    if finite and len(finite) == len(others):
        y_of, ticks = scale(finite, bottom - 18, 34.0)
        return lambda value: bottom if value is None else y_of(float(value)), ticks
    words = sorted({shown(value) for value in values})
    gap = (bottom - 46) / max(1, len(words) - 1)
    places = {word: round(34 + gap * n, 1) for n, word in enumerate(words)}
    every = max(1, -(-len(words) // 12))
    ticks = tuple(Tick(at=places[word], text=word[:22]) for word in words[::every])
    return lambda value: places[shown(value)], ticks


def curves(comparison: JobComparison) -> list[Chart]:
    """Return a picture for each metric that jobs told step by step, of the 30 best jobs."""
    found: dict[str, list[tuple[int, str, Curve]]] = {}
    for n, entry in enumerate(comparison.entries):
        for name, points in entry.curves.items():
            if len(points) > 1:
                found.setdefault(name, []).append((n, entry.name, points))
    order = sorted(found, key=lambda name: (not name.startswith("validation"), -len(found[name])))
    return [_curve(name, found[name]) for name in order[:_MOST_PANELS]]


def _curve(name: str, told: Sequence[tuple[int, str, Curve]]) -> Chart:
    drawn = told[:_MOST_CURVES]
    x_of, x_ticks = scale(
        [float(step) for _, _, points in drawn for step, _ in points],
        _LEFT,
        WIDTH - _RIGHT,
    )
    y_of, y_ticks = scale(
        [value for _, _, points in drawn for _, value in points], HEIGHT - _BOTTOM, _TOP + 12
    )
    lines = [
        Mark(
            n=n,
            title=f"{_title(n, of)}: last {points[-1][1]:.6g}",
            at=_points([(x_of(float(step)), y_of(value)) for step, value in points]),
        )
        for n, of, points in drawn
    ]
    return Chart(
        title=name,
        marks=tuple(reversed(lines)),
        x_ticks=x_ticks,
        y_ticks=y_ticks,
        n_left_out=len(told) - len(drawn),
    )


def bars(shares: Mapping[str, float] | Sequence[tuple[str, float]]) -> list[tuple[str, float, str]]:
    """Return name, width in percent and text of bars, the greatest first."""
    pairs = list(shares.items() if isinstance(shares, Mapping) else shares)[:12]
    most = max((share for _, share in pairs), default=0.0) or 1.0
    return [(name, round(100 * share / most, 1), f"{share:.0%}") for name, share in pairs]


def _title(n: int, name: str) -> str:
    return f"#{n + 1} {name}"


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
